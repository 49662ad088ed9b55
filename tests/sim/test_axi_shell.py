"""The bus shell on the emitted Verilog, and everything that is made from its register map."""

import json
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from cocotb_tools.runner import get_runner
from systemrdl import RDLCompiler
from systemrdl.node import FieldNode, RegNode

from chessrnn.hdl.verilog import generate
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.load_layout import weight_file
from chessrnn.model.presets import preset
from chessrnn.model.shell.drivers import driver_files
from chessrnn.model.shell.register_texts import register_table
from chessrnn.model.shell.registers import register_map
from chessrnn.model.shell.stream_beats import shell_streams
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import VERILOG_FILE, emit, load_build
from chessrnn.sim.scenarios import Scenario, random_sequences, to_beats

SMALL = {
    "network.input_size": 9, "network.hidden_size": 5, "architecture.engine": "direct",
    "architecture.arithmetic": "multiplier", "architecture.tile_rows": 4, "architecture.tile_cols": 2,
}  # fmt: skip
# Beats of x and h of 28 and 24 bits, which leaves bits of a byte unused.
DESIGNS = {
    "lstm": SMALL | {"quantization.x": "Q2.5", "quantization.h": "Q1.5"},
    "bidirectional": SMALL | {"network.bidirectional": True, "architecture.sequence_steps": 4},
    "loadable": SMALL | {"network.cell": "rnn", "quantization.weight_frac": 7, "compression.block_size": 2,
                         "architecture.tile_rows": 2, "architecture.weight_memory": "ram",
                         "architecture.parity": "word", "architecture.monitor": True},
}  # fmt: skip
# Flags under which the C driver must compile without a warning.
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]


def job_of(scenario: Scenario, folder: Path, library: Path, rng, clipped: dict) -> dict:
    """What the bench sends and expects: bytes on the streams, and integers for the C driver."""
    config = scenario.config
    before = sum(clipped.values())
    sequences, integers = texts_of(scenario)
    saturations = sum(clipped.values()) - before if config.architecture.monitor else None
    x, h = shell_streams(config)[:2]
    images, build = [], load_build(folder)
    for _ in range(3 if config.architecture.weight_memory == "ram" else 0):
        weights = random_weights(config, rng)
        other = texts_of(Scenario(weights, random_sequences(config, rng, (2, 1))))[0]
        images.append({"file": weight_file(weights).hex(), "sequences": other})
    bits = [field.low for register in register_map(config) if register.name == "events" for field in register.fields]
    return {
        "sequences": sequences, "integers": integers, "steps": scenario.num_steps, "prefix": build.prefix,
        "issues": config.bank_words, "id": 0x43524E4E, "driver": str(folder / f"{build.prefix}_driver.py"),
        "library": str(library), "images": images, "events": bits, "saturations": saturations,
        "step_bytes": [x.bus_bits // 8 * config.num_input_blocks, h.bus_bits // 8 * config.num_stream_blocks],
    }  # fmt: skip


def texts_of(scenario: Scenario) -> tuple[list[dict], list[dict]]:
    """Each sequence of x and h, as the bytes of its beats and as integers."""
    config = scenario.config
    x, h = shell_streams(config)[:2]
    k, q, halves = config.block_size, config.quantization, config.directions
    sequences, integers = [], []
    for sequence, expected in zip(scenario.sequences, scenario.expected, strict=True):
        # Beats of both directions alternate step by step.
        steps = expected.reshape(len(expected) * halves, -1)
        texts = {}
        for name, stream, values, fmt in (("x", x, sequence, q.x), ("h", h, steps, q.h)):
            words = to_beats(values, k, fmt.width)
            texts[name] = b"".join(word.to_bytes(stream.bus_bits // 8, "little") for word in words).hex()
        sequences.append(texts)
        integers.append({"x": sequence.tolist(), "h": expected.tolist()})
    return sequences, integers


def compiled_driver(folder: Path, prefix: str, output: Path) -> Path:
    """The C driver as a library whose accesses go through two function pointers."""
    access, pointers = output / "access.h", output / "pointers.c"
    access.write_text(
        "#include <stdint.h>\n"
        "extern uint32_t (*bus_read)(uintptr_t);\nextern void (*bus_write)(uintptr_t, uint32_t);\n"
        f"#define {prefix.upper()}_READ(base, offset) bus_read((base) + (offset))\n"
        f"#define {prefix.upper()}_WRITE(base, offset, value) bus_write((base) + (offset), (value))\n"
    )
    pointers.write_text("uint32_t (*bus_read)(uintptr_t);\nvoid (*bus_write)(uintptr_t, uint32_t);\n")
    library, driver = output / "driver.so", folder / f"{prefix}_driver.c"
    options = [*STRICT, "-shared", "-fPIC", "-include", access, "-o", library]
    subprocess.run(["gcc", *options, pointers, driver], check=True)
    return library


@pytest.mark.slow
@pytest.mark.needs("icarus")
@pytest.mark.parametrize("design", DESIGNS)
def test_shell_with_independent_masters(design, tmp_path, rng, monkeypatch, clipped):
    config = preset("tiny").replace(DESIGNS[design])
    scenario = Scenario(random_weights(config, rng), random_sequences(config, rng, (3, 1, 2)))
    folder = tmp_path / "build"
    emit(scenario.weights, folder, "a test", shell="axi")
    build = load_build(folder)
    library = compiled_driver(folder, build.prefix, tmp_path)
    (tmp_path / "job.json").write_text(json.dumps(job_of(scenario, folder, library, rng, clipped)))
    monkeypatch.syspath_prepend(Path(__file__).parent)
    runner = get_runner("icarus")
    runner.build(
        sources=[folder / VERILOG_FILE], hdl_toplevel=build.shell_top, build_dir=tmp_path / "sim",
        build_args=["-g2005"], timescale=("1ns", "1ps"), log_file=tmp_path / "build.log",
    )  # fmt: skip
    results = tmp_path / "results.xml"
    runner.test(
        hdl_toplevel=build.shell_top, test_module="tb_axi_shell", build_dir=tmp_path / "sim", test_dir=folder,
        results_xml=str(results), log_file=tmp_path / "run.log",
        extra_env={"CHESSRNN_JOB": str(tmp_path / "job.json"), "COCOTB_LOG_LEVEL": "WARNING"},
    )  # fmt: skip
    cases = list(ElementTree.parse(results).iter("testcase"))
    assert [
        case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None
    ] == []
    assert len(cases) == len(
        re.findall(r"^@timed", (Path(__file__).parent / "tb_axi_shell.py").read_text(), re.MULTILINE)
    )


@pytest.mark.parametrize("design", ["lstm", "loadable"])
def test_c_driver_compiles_without_warnings(design, tmp_path):
    for name, text in driver_files(preset("tiny").replace(DESIGNS[design]), "tiny").items():
        (tmp_path / name).write_text(text)
    subprocess.run(["gcc", *STRICT, "-c", "-o", "driver.o", "tiny_driver.c"], cwd=tmp_path, check=True)


@pytest.mark.parametrize("design", ["lstm", "loadable"])
def test_system_rdl_describes_the_same_map(design, tmp_path):
    config = preset("tiny").replace(DESIGNS[design])
    (tmp_path / "map.rdl").write_text(driver_files(config, "tiny")["tiny_registers.rdl"])
    compiler = RDLCompiler()
    compiler.compile_file(str(tmp_path / "map.rdl"))
    found = {}
    for node in compiler.elaborate().descendants():
        if isinstance(node, RegNode):
            found[node.inst_name] = [node.absolute_address]
        if isinstance(node, FieldNode):
            found[node.parent.inst_name].append((node.inst_name, node.low, node.width))
    assert found == {r.name: [r.offset, *((f.name, f.low, f.width) for f in r.fields)] for r in register_map(config)}


def test_fields_of_a_register_do_not_overlap():
    for design in DESIGNS.values():
        for register in register_map(preset("tiny").replace(design)):
            bits = [bit for field in register.fields for bit in range(field.low, field.low + field.width)]
            assert len(bits) == len(set(bits)) and max(bits) < 32


def test_page_of_the_documentation_has_the_register_table():
    page = (Path(__file__).parents[2] / "docs" / "integrate" / "axi.md").read_text(encoding="utf-8")
    plain = register_table(register_map(preset("tiny")), with_values=False)
    assert plain in page
    options = ("weight_memory", "ram"), ("parity", "word"), ("monitor", True)
    for name, value in options:
        more = register_map(preset("tiny").replace({f"architecture.{name}": value}))
        for row in register_table(more, with_values=False).splitlines():
            assert row in plain or row in page


def test_without_a_shell_nothing_is_added(tmp_path, rng):
    weights = random_weights(preset("tiny").replace(SMALL), rng)
    emit(weights, tmp_path / "plain", "a test")
    emit(weights, tmp_path / "shell", "a test", shell="axi")
    plain, shell = ((tmp_path / name / VERILOG_FILE).read_text() for name in ("plain", "shell"))
    # The wrappers of the memories come last in both.
    end = plain.index("// Read-only memory")
    assert shell.startswith(plain[:end].rstrip()) and shell.endswith(plain[end:])
    names = [set(re.findall(r"^module (\w+)", text, re.MULTILINE)) for text in (plain, shell)]
    assert names[1] - names[0] == {"tiny_axi", "tiny_register_file"}
    assert load_build(tmp_path / "plain").shell_top is None
    assert not [path.name for path in (tmp_path / "plain").iterdir() if path.suffix in (".c", ".h", ".rdl", ".py")]


@pytest.mark.slow
def test_the_shell_leaves_lm512_as_it_is():
    """Every module of the accelerator is the same to the letter, so that area and cycles are."""
    plain, shell = (generate(preset("lm512"), "lm512", kind) for kind in (None, "axi"))
    end = plain.index("// Read-only memory")
    assert shell.startswith(plain[:end].rstrip()) and shell.endswith(plain[end:])
    added = shell[len(plain[:end].rstrip()) : -len(plain[end:])]
    assert set(re.findall(r"^module (\w+)", added, re.MULTILINE)) == {"lm512_axi", "lm512_register_file"}


def test_a_size_that_fits_no_register_is_refused():
    config = preset("tiny").replace({"network.input_size": 65536})
    with pytest.raises(InvalidValueError, match="--shell must be left out for a configuration whose elements of x fit"):
        register_map(config)
