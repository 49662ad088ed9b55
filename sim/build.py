"""The build directory: everything that is generated for one design point; each file names its configuration."""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

import chessrnn.hdl
import chessrnn.model
from chessrnn.hdl.namespace import prefix_of
from chessrnn.hdl.shell.axi_shell import shell_ports
from chessrnn.hdl.verilog import SHELLS, generate, ports, top_module
from chessrnn.model.config import Config
from chessrnn.model.cost.design_report import design_report
from chessrnn.model.errors import InvalidFileError, UserError, require
from chessrnn.model.files import replaced_directory, require_replaceable
from chessrnn.model.load_layout import weight_file
from chessrnn.model.memory_image import (
    FINGERPRINT_LABEL,
    MemorySpec,
    initialised_memories,
    mem_text,
    memory_words,
    read_mem,
)
from chessrnn.model.progress import elapsed
from chessrnn.model.shell.drivers import driver_files
from chessrnn.model.text_file import read_json
from chessrnn.model.weights import NetworkWeights
from chessrnn.sim import litex_module, plain_testbench, project_files, scenarios
from chessrnn.sim.folder_lock import locked_folder
from chessrnn.sim.manifest import CONFIG_FILE, MANIFEST_FILE, check_files, foreign_names, is_generated, write_files
from chessrnn.sim.project_files import TESTBENCH_FILE, VERILOG_FILE
from chessrnn.sim.scenarios import Scenario, random_sequences

# Steps of the test sequences: they cover a state that is carried over, a single step, and resets in between.
VECTOR_LENGTHS = (4, 1, 3)
VECTOR_SEED = 0


@dataclass(frozen=True)
class Build:
    """A build directory whose files were checked.

    Attributes
    ----------
    path : Path
        Location of the directory.
    config : Config
        Design point of all its files.
    prefix : str
        Begins the name of every module and memory file.
    weights_sha256 : str
        Digest of the weights in its memory files.
    generator : str
        Digest of the sources that wrote it.
    shell : str or None
        Bus shell that is among the modules.
    """

    path: Path
    config: Config
    prefix: str
    weights_sha256: str
    generator: str
    shell: str | None = None

    @property
    def top(self) -> str:
        """Name of the top module."""
        return top_module(self.prefix)

    @property
    def shell_top(self) -> str | None:
        """Name of the bus shell's module."""
        return f"{self.prefix}_{self.shell}" if self.shell else None

    @property
    def tops(self) -> list[str]:
        """Names of all top modules."""
        return [self.top, *([self.shell_top] if self.shell_top else [])]


def mem_file(prefix: str, name: str) -> str:
    """File name of a memory's words."""
    return f"{prefix}_{name}.mem" if prefix else f"{name}.mem"


def weight_file_name(prefix: str) -> str:
    """Name of the file that is loaded at run time."""
    return f"{prefix}_weights.bin" if prefix else "weights.bin"


def weights_digest(weights: NetworkWeights) -> str:
    """SHA-256 of all weights as little-endian int64: those of each layer, then those of an output layer."""
    digest = hashlib.sha256()
    for layer in weights.layers:
        others = [values for values in (layer.peephole, layer.projection, layer.scale) if values is not None]
        for values in (layer.defining, layer.bias, *others):
            digest.update(np.ascontiguousarray(values, dtype="<i8").tobytes())
    if weights.output is not None:
        for values in (weights.output.weight, weights.output.bias):
            digest.update(np.ascontiguousarray(values, dtype="<i8").tobytes())
    return digest.hexdigest()


def generator_sources() -> list[Path]:
    """Sources that decide what :func:`emit` writes: ``model`` without the trainer, ``hdl``, vectors and testbench."""
    own = (scenarios, plain_testbench, project_files, litex_module)
    found = [*(Path(str(module.__file__)) for module in own), Path(__file__)]
    for package in (chessrnn.model, chessrnn.hdl):
        root = Path(package.__path__[0])
        trainer = root / "training"
        found += [source for source in sorted(root.rglob("*.py")) if trainer not in source.parents]
    return found


@lru_cache(maxsize=1)
def generator_digest() -> str:
    """Digest, 16 hexadecimal digits, of the sources that decide what is emitted."""
    digest = hashlib.sha256()
    for source in generator_sources():
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def emit(
    weights: NetworkWeights, path: str | Path, source: str, prefix: str | None = None, shell: str | None = None
) -> dict:
    """Write the build directory of a configuration with weights, either completely or not at all.

    Parameters
    ----------
    weights : NetworkWeights
        Weights and, as their attribute ``config``, the design point.
    path : str or Path
        Directory to write; an earlier build there is replaced, and files of others in it stay.
    source : str
        Origin of the weights, for the report.
    prefix : str, optional
        Begins the name of every module and memory file; left out, the configuration's name.  An empty one, for tools
        of this package that know the modules by name, leaves all names as they are.
    shell : str, optional
        ``"axi"`` adds the bus shell, and its drivers, to the files.

    Returns
    -------
    dict
        The content of ``report.json``.
    """
    config = weights.config
    prefix = prefix_of(config.name) if prefix is None else prefix
    rule = "a Verilog identifier of at most 64 letters, digits and '_'"
    require(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}|", prefix) is not None, "--prefix", rule, prefix)
    require(shell is None or shell in SHELLS, "--shell", f"one of {', '.join(SHELLS)}", shell)
    require(shell is None or prefix != "", "--prefix", "a name with --shell", prefix)
    # Before the work, and again when the directory is replaced.
    require_replaceable(path, MANIFEST_FILE, is_generated)
    scenario = Scenario(weights, random_sequences(config, np.random.default_rng(VECTOR_SEED), VECTOR_LENGTHS))
    digest = weights_digest(weights)
    report = design_report(config) | {"weights": {"source": source, "sha256": digest}}
    values = {
        "configuration": config.fingerprint,
        "prefix": prefix,
        "top": top_module(prefix),
        "weights_sha256": digest,
        "generator": generator_digest(),
        "config": config.to_dict(),
    }
    ports_of = {"configuration": config.fingerprint, "ports": ports(config)}
    if shell is not None:
        values["shell"] = shell
        ports_of["shell_ports"] = shell_ports(config)
    with elapsed(f"generating the Verilog of {config.name}"):
        verilog = generate(config, prefix, shell)
    texts: dict[str, str | bytes] = {
        CONFIG_FILE: _json_text(values),
        VERILOG_FILE: verilog,
        "ports.json": _json_text(ports_of),
        "report.json": _json_text(report),
    }
    if shell is not None:
        texts |= driver_files(config, prefix)
    words = memory_words(weights)
    for spec in initialised_memories(config):
        texts[mem_file(prefix, spec.name)] = mem_text(spec, words[spec.name], config.fingerprint)
    if config.architecture.weight_memory == "ram":
        texts[weight_file_name(prefix)] = weight_file(weights)
    k, q = config.block_size, config.quantization
    for name, beats, fmt in (("vectors_x", scenario.x_beats, q.x), ("vectors_h", scenario.h_beats, q.h)):
        spec = MemorySpec(name, len(beats), 1 + k * fmt.width)
        texts[mem_file(prefix, name)] = mem_text(spec, beats, config.fingerprint)
    counts = len(scenario.x_beats), len(scenario.h_beats)
    texts[TESTBENCH_FILE] = plain_testbench.testbench(config, prefix, top_module(prefix), *counts)
    memories = [mem_file(prefix, spec.name) for spec in initialised_memories(config)]
    vectors = [mem_file(prefix, name) for name in ("vectors_x", "vectors_h")]
    texts |= project_files.project_files(config, prefix, shell, memories, vectors)
    with locked_folder(path), replaced_directory(path, MANIFEST_FILE, is_generated, foreign_names) as directory:
        write_files(directory, texts)
    return report


def load_build(path: str | Path) -> Build:
    """Read a build directory and check that all its files belong to the same configuration and are as generated.

    Raises
    ------
    InvalidFileError
        A file is missing, changed or belongs to another configuration; the message names it.
    """
    path = Path(path)
    values = _read_json(path / CONFIG_FILE)
    try:
        config = Config.from_dict(values["config"])
        stated, digest, generator = values["configuration"], values["weights_sha256"], values["generator"]
        prefix, shell = str(values["prefix"]), values.get("shell")
    except (KeyError, TypeError) as error:
        raise InvalidFileError(f"{path / CONFIG_FILE} must be written by this program: {error} is missing") from None
    fingerprint = config.fingerprint
    _check_fingerprint(path / CONFIG_FILE, stated, fingerprint)
    try:
        header = (path / VERILOG_FILE).read_text(encoding="utf-8")[:1000]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFileError(f"{path / VERILOG_FILE} must be a readable text file: {error}") from None
    found = re.search(rf"{FINGERPRINT_LABEL} ([0-9a-f]+)", header)
    _check_fingerprint(path / VERILOG_FILE, found[1] if found else None, fingerprint)
    memories = {mem_file(prefix, spec.name): spec for spec in initialised_memories(config)}
    for name, spec in memories.items():
        read_mem(path / name, spec, fingerprint)
    # Last: where a file breaks a rule of its own, that says more than its digest.
    check_files(path, (CONFIG_FILE, VERILOG_FILE, *memories))
    return Build(path, config, prefix, digest, generator, shell)


def is_current(path: str | Path, weights: NetworkWeights) -> bool:
    """Whether the directory holds what :func:`emit` would write for these weights."""
    return why_not_current(path, weights) is None


def why_not_current(path: str | Path, weights: NetworkWeights) -> str | None:
    """Reason why the directory does not hold what :func:`emit` would write, or ``None`` where it does."""
    if not (Path(path) / CONFIG_FILE).exists():
        return "nothing was generated before"
    try:
        build = load_build(path)
    except UserError as error:  # damaged, or by a version whose configurations had other fields
        return str(error)
    if build.generator != generator_digest():
        return "another version of the generator wrote it"
    if build.config != weights.config:
        return "it is of another configuration"
    return None if build.weights_sha256 == weights_digest(weights) else "it holds other weights"


def _check_fingerprint(path: Path, found: str | None, expected: str) -> None:
    if found != expected:
        raise InvalidFileError(f"{path} must be of {FINGERPRINT_LABEL} {expected}, not {found or 'without one'}")


def _read_json(path: Path) -> dict:
    values = read_json(path)
    if not isinstance(values, dict):
        raise InvalidFileError(f"{path} must hold a JSON object, not {type(values).__name__}")
    return values


def _json_text(values: dict) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
