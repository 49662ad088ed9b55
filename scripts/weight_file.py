"""Write the file of a network's weights that is loaded into a running accelerator, or check such a file."""

import argparse
import json
import zlib
from pathlib import Path

from chessrnn.hdl.namespace import prefix_of
from chessrnn.model.config import Config
from chessrnn.model.files import write_atomic
from chessrnn.model.load_layout import CHUNK_BYTES, HEADER, load_layout, read_weight_file, require_ram, weight_file
from chessrnn.scripts.cli import add_config_arguments, command_parser, config_from, print_table
from chessrnn.scripts.weight_arguments import add_weight_arguments, note_random, weights_from

EXAMPLES = """examples:
  chessrnn weights --config build/char128 --weights other.safetensors
  chessrnn weights --set architecture.weight_memory=ram --output char128.bin
  chessrnn weights --config build/char128 --check char128.bin

The design must have architecture.weight_memory=ram, and the weights its numerics."""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("weights", __doc__, EXAMPLES)
    add_config_arguments(parser)
    add_weight_arguments(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--output", type=Path, metavar="FILE", help="file to write; default <name>_weights.bin in this folder"
    )
    group.add_argument("--check", type=Path, metavar="FILE", help="check a file of this design, and write none")
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    return parser.parse_args(argv)


def _figures(config: Config, content: bytes) -> dict:
    layout = load_layout(config)
    return {
        "configuration": config.fingerprint,
        "memories": len(layout.memories),
        "writes": layout.total_chunks,
        "bytes": HEADER.size + CHUNK_BYTES * layout.total_chunks,
        "crc32": f"{zlib.crc32(content):08x}",
    }


def main(argv: list[str] | None = None) -> int:
    """Write or check a weight file, and print its figures."""
    args = parse(argv)
    config = config_from(args)
    require_ram(config)
    rows: list[tuple[str, object]]
    if args.check is not None:
        chunks = read_weight_file(args.check, config)
        data = b"".join(chunk.to_bytes(CHUNK_BYTES, "little") for chunk in chunks)
        rows, path = [("checked", args.check)], args.check
    else:
        chosen = weights_from(args, config)
        path = args.output or Path(f"{prefix_of(config.name)}_weights.bin")
        content = weight_file(chosen.weights)
        data = content[HEADER.size :]
        write_atomic(path, content)
        note_random(chosen)
        rows = [("weights from", chosen.source), ("written to", path)]
    figures = _figures(config, data)
    if args.json:
        print(json.dumps(figures | {"file": str(path)}, indent=2))
    else:
        texts = {"writes": "words of 32 bits", "crc32": "CRC-32"}
        named: list[tuple[str, object]] = [(texts.get(name) or name, value) for name, value in figures.items()]
        print_table(named + rows)
    return 0
