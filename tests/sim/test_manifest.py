"""Generated files: any change of any of them is noticed before use, and the message names the file."""

import json
import re
from functools import partial

import numpy as np
import pytest

from chessrnn.model.errors import InvalidFileError
from chessrnn.model.presets import preset
from chessrnn.model.weights import random_weights
from chessrnn.sim.build import emit, is_current, load_build, why_not_current
from chessrnn.sim.device_simulation import emit_device, simulated_device
from chessrnn.sim.manifest import MANIFEST_FILE, check_files, read_manifest, replace_file, write_files
from chessrnn.sim.runner import Run, _is_compiled, simulate
from chessrnn.sim.scenarios import Scenario, random_sequences


@pytest.fixture(scope="module")
def weights():
    return random_weights(preset("tiny"), np.random.default_rng(5))


@pytest.fixture(scope="module")
def emitted(weights, tmp_path_factory):
    """Files of a build, and of a device, by name."""
    root = tmp_path_factory.mktemp("emitted")
    emit(weights, root / "build", "a test")
    emit_device(weights, root / "device")
    return {kind: {p.name: p.read_text() for p in (root / kind).iterdir()} for kind in ("build", "device")}


def restore(emitted, kind, path):
    path.mkdir()
    for name, text in emitted[kind].items():
        (path / name).write_text(text)
    return path


def one_digit(text: str, rng) -> str:
    """Another last hexadecimal digit in one of the words: the least that can be damaged."""
    places = [match.end() - 1 for match in re.finditer(r"^[0-9a-f]+$", text, re.MULTILINE)]
    place = places[int(rng.integers(len(places)))]
    return text[:place] + f"{int(text[place], 16) ^ 1:x}" + text[place + 1 :]


def test_one_lsb_in_any_memory_is_noticed(emitted, weights, tmp_path, rng):
    build = restore(emitted, "build", tmp_path / "build")
    load_build(build)
    memories = [name for name in emitted["build"] if name.endswith(".mem")]
    assert len(memories) == 8 + 1 + 2
    for name in memories:
        (build / name).write_text(one_digit(emitted["build"][name], rng))
        with pytest.raises(InvalidFileError, match=re.escape(f"build/{name} must be as it was generated")):
            load_build(build)
        assert name in why_not_current(build, weights)
        (build / name).write_text(emitted["build"][name])
    assert is_current(build, weights)


@pytest.mark.parametrize("change", ["appended", "missing", "folder"])
def test_every_file_is_covered(change, emitted, weights, tmp_path):
    build = restore(emitted, "build", tmp_path / "build")
    assert {"config.json", "accelerator.v", "ports.json", "report.json", "testbench.v"} < set(read_manifest(build))
    assert set(read_manifest(build)) == set(emitted["build"]) - {MANIFEST_FILE}
    for name, text in emitted["build"].items():
        (build / name).unlink()
        if change == "appended":
            (build / name).write_text(text + ("\n" if name.endswith((".json", ".v")) else "0\n"))
        elif change == "folder":
            (build / name).mkdir()
        if (change, name) != ("appended", MANIFEST_FILE):
            with pytest.raises(InvalidFileError, match=re.escape(name)) as caught:
                load_build(build)
            assert "\n" not in str(caught.value)
            assert not is_current(build, weights)
        if change == "folder":
            (build / name).rmdir()
        (build / name).write_text(text)
    load_build(build)


def test_a_simulation_does_not_start_on_damaged_files(emitted, weights, tmp_path, rng):
    build = restore(emitted, "build", tmp_path / "build")
    scenario = Scenario(weights, random_sequences(weights.config, rng, (2,)))
    (name,) = [name for name in emitted["build"] if name.endswith("weights_r0_c0.mem")]
    (build / name).write_text(one_digit(emitted["build"][name], rng))
    with pytest.raises(InvalidFileError, match=f"{name} must be as it was generated"):
        simulate(build, [Run(scenario)], "icarus")
    assert not (build / "sim").exists()


def test_a_simulation_does_not_start_with_other_weights(emitted, weights, tmp_path, rng):
    build = restore(emitted, "build", tmp_path / "build")
    others = random_weights(weights.config, rng)
    with pytest.raises(InvalidFileError, match="must hold the weights of the run, not others"):
        simulate(build, [Run(Scenario(others, random_sequences(weights.config, rng, (2,))))], "icarus")


@pytest.mark.slow
def test_a_damaged_device_is_refused_and_emitted_again(emitted, weights, tmp_path, rng):
    device = restore(emitted, "device", tmp_path / "device")
    before = {path.name: path.stat().st_mtime_ns for path in device.iterdir()}
    emit_device(weights, device)
    assert {path.name: path.stat().st_mtime_ns for path in device.iterdir()} == before
    for name in ("bias.mem", "chessrnn_fpga.v"):
        text = emitted["device"][name]
        (device / name).write_text(one_digit(text, rng) if name.endswith(".mem") else text + "\n")
        message = f"device/{name} must be as it was generated"
        with pytest.raises(InvalidFileError, match=message), simulated_device(device, "icarus"):
            pytest.fail("the simulator must not start")
        emit_device(weights, device)
        assert (device / name).read_text() == text


def test_reasons(emitted, weights, tmp_path, rng):
    build = restore(emitted, "build", tmp_path / "build")
    assert why_not_current(build, weights) is None
    assert why_not_current(tmp_path / "none", weights) == "nothing was generated before"
    assert why_not_current(build, random_weights(weights.config, rng)) == "it holds other weights"
    faster = random_weights(weights.config.replace({"architecture.engine": "fast"}), rng)
    assert why_not_current(build, faster) == "it is of another configuration"


def test_a_replaced_file_is_the_new_one(tmp_path):
    write_files(tmp_path, {"a": "1", "b": "2"})
    replace_file(tmp_path, "a", "3")
    assert check_files(tmp_path, ("a", "b")) == ["a", "b"]
    (tmp_path / "a").write_text("1")
    with pytest.raises(InvalidFileError, match="a must be as it was generated, with a SHA-256 that "):
        check_files(tmp_path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "must be a readable UTF-8 text file: No such file"),
        ("{", "must be valid JSON"),
        ("[]", r"must hold the digests of the files beside it, not \[\]"),
        ('{"files": []}', "must hold the digests of the files beside it, not {'files': "),
        ('{"files": {"a": 3}}', "must hold the digests of the files beside it"),
        ('{"files": {"../a": "00"}}', "must name files beside it, not '../a'"),
        ('{"files": {}}', "must hold the digest of a, not leave it out"),
        ('{"files": {"a": "00", "a": "01"}}', "must have every key once in an object, not 'a' twice"),
    ],
)
def test_damaged_manifests(content, text, tmp_path):
    (tmp_path / "a").write_text("1")
    if content is not None:
        (tmp_path / MANIFEST_FILE).write_text(content)
    with pytest.raises(InvalidFileError, match=text):
        check_files(tmp_path, ("a",))


def test_a_compiled_simulation_is_used_only_unchanged(tmp_path):
    stamp = tmp_path / "compiled.json"
    (tmp_path / "sim.vvp").write_text("x")
    current = partial(_is_compiled, stamp)
    assert not current(["inputs"])
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    stamp.write_text(json.dumps({"inputs": ["inputs"], "products": {"sim.vvp": digest}}))
    assert current(["inputs"])
    assert not current(["others"])
    (tmp_path / "sim.vvp").write_text("y")
    assert not current(["inputs"])
    stamp.write_text(json.dumps({"inputs": ["inputs"], "products": {}}))
    assert not current(["inputs"])
