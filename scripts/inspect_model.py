"""List the recurrent layers of a model file, with their sizes and bytes, and whether the accelerator supports them."""

import argparse
import json

from chessrnn.model.config_sections import layers_text
from chessrnn.model.imported.summary import summary
from chessrnn.scripts.cli import command_parser, print_table, printable
from chessrnn.scripts.model_arguments import add_model_arguments, block_size_from, network_from

EXAMPLES = """examples:
  chessrnn inspect lstm.pt
  chessrnn inspect model.safetensors --prefix encoder.rnn --k 16 --weight-bits 4
  chessrnn inspect model.onnx --json

Which sizes fit is known from the file; what compression costs is not.  chessrnn convert measures it on your inputs.

No code in a file is executed; .pt files are read with weights_only."""

ACCURACY = "not known from a file: chessrnn convert --calibrate FILE measures it; k above 1 needs --retrain"


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("inspect", __doc__, EXAMPLES)
    add_model_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print results as JSON")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Read a model file, and print a summary of it."""
    args = parse(argv)
    network = network_from(args, args.prefix)
    result = summary(network, block_size_from(args, network.layers), args.weight_bits)
    if args.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        _print(result)
    return 0


def _print(result: dict) -> None:
    rows = [("layer", "cell", "x", "h", "output", "weights", "float32 bytes", "compressed", "removed", "fits")]
    for layer in result["layers"]:
        cell = [layer["cell"]]
        if layer["cell"] == "gru" and not layer["linear_before_reset"]:
            cell.append("reset before linear")
        cell += ["peepholes"] if layer["peepholes"] else []
        cell += [f"projection {layer['projection_size']}"] if layer["projection_size"] else []
        cell += [layer["activation"]] if layer["activation"] else []
        cell += [layer["direction"]] if layer["direction"] != "forward" else []
        missing = layer["not_in_hardware"]
        rows.append(
            (
                printable(layer["name"]), ", ".join(cell),
                layer["input_size"], layer["hidden_size"], layer["output_size"],
                f"{layer['weights']:,}", f"{layer['dense_float32_bytes']:,}", f"{layer['compressed_bytes']:,}",
                f"{layer['removed_percent']:.1f} %", f"not {', '.join(missing)}" if missing else "yes",
            )
        )  # fmt: skip
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if column in (0, 1, len(row) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    limits, output = result["not_in_hardware"], ""
    if result["output_layer"] is not None:
        name, count = result["output_layer"]["name"], result["output_layer"]["outputs"]
        output = f"{printable(name)}, {count} value{'s' * (count > 1)}: in integers, on the host or on chip"
    print()
    print_table(
        [
            ("weights", f"{result['dense_float32_bytes']:,} bytes in dense float32"),
            (
                "compressed",
                f"{result['compressed_bytes']:,} bytes with k = {result['block_size']}, "
                f"{layers_text(result['weight_bits'])} bit: "
                f"{result['removed_percent']:.1f} % removed",
            ),
            (
                "bytes by k",
                ", ".join(f"{k}: {count:,}" for k, count in result["bytes_by_block_size"].items())
                + f"; k = {result['paying_block_size']} pays",
            ),
            (
                "fits the hardware",
                "yes" if result["supported"] else "no" + (f": {', '.join(limits)}" if limits else ": see the layers"),
            ),
            ("accuracy", ACCURACY),
            *([("output layer", output)] if output else []),
            *(("note", printable(note)) for note in result["notes"]),
            *(("ignored", printable(name)) for name in result["ignored"]),
        ]
    )
