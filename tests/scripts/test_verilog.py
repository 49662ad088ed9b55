"""`make verilog` as its user: what is written, and every kind of wrong input in one line, exit 2, nothing written."""

import json
from fnmatch import fnmatch

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from chessrnn.model.presets import preset
from chessrnn.scripts import verilog
from chessrnn.scripts.cli import run_command
from chessrnn.scripts.main import main
from chessrnn.scripts.weight_arguments import SHIPPED
from chessrnn.sim.build import load_build

IMAGE = SHIPPED / "char128.safetensors"


def run(arguments, tmp_path, capsys):
    """Exit status, stdout, stderr of the command, which would write to ``tmp_path/build``."""
    status = run_command(lambda: verilog.main([*arguments, "--output", str(tmp_path / "build")]), "verilog")
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_default_preset(tmp_path, capsys):
    status, out, err = run([], tmp_path, capsys)
    assert (status, err) == (0, f"page: {tmp_path / 'build' / 'report.html'}\n")
    build = load_build(tmp_path / "build")
    assert build.config.fingerprint in (tmp_path / "build" / "report.html").read_text(encoding="utf-8")
    assert build.config == preset("char128")
    rows = (
        "cycles per step",
        "55 and 127 cycles from the first beat of x to the first and last of h, 48 and 120 from the last beat of x",
        "products per cycle",
        "weight bank",
        "96.88 % removed",
        "pretrained/char128.safetensors",
    )
    for text in rows:
        assert text in out
    report = json.loads((tmp_path / "build" / "report.json").read_text())
    assert report["configuration"] == build.config.fingerprint
    # Another network's weights through the same RTL: the Verilog holds none of them.
    run(["--random-weights", "3"], tmp_path / "other", capsys)
    texts = [(folder / "build" / "accelerator.v").read_text() for folder in (tmp_path, tmp_path / "other")]
    assert texts[0] == texts[1]
    memories = [
        (folder / "build" / "char128_weights_r0_c0.mem").read_text() for folder in (tmp_path, tmp_path / "other")
    ]
    assert memories[0] != memories[1]


@pytest.mark.parametrize(
    "options", [[], pytest.param(["--shell", "axi", "--set", "architecture.weight_memory=ram"], marks=pytest.mark.slow)]
)
def test_every_file_is_listed_with_its_purpose(options, tmp_path, capsys):
    status, out, _ = run(
        ["--config", "tiny", "--set", "architecture.arithmetic=multiplier", *options], tmp_path, capsys
    )
    assert status == 0
    # Names and endings, separated from their purpose by two spaces.
    rows = [line.split("  ")[0] for line in out.split("\n\n")[-1].splitlines()]
    listed = [name for row in rows for name in row.split(", ") if name]
    stems = ("tiny", "tiny_driver", "tiny_registers")
    for path in (tmp_path / "build").iterdir():
        endings = {stem + name for stem in stems for name in listed if name[0] in "._"}
        assert path.name in endings or any(fnmatch(path.name, name) for name in listed), path.name


def test_json(tmp_path, capsys):
    status, out, _ = run(["--config", "tiny", "--json"], tmp_path, capsys)
    assert status == 0
    assert json.loads(out)["name"] == "tiny"


@pytest.mark.slow
def test_files_in_both_languages(tmp_path, capsys):
    (tmp_path / "a.json").write_text(preset("tiny").to_json())
    (tmp_path / "a.toml").write_text(
        'name = "tiny"\n[network]\ninput_size = 10\nhidden_size = 12\n[compression]\nblock_size = 4\n'
        "[architecture]\ntile_rows = 4\ntile_cols = 2\n"
    )
    for name in ("a.json", "a.toml"):
        file = ["--config", str(tmp_path / name)]
        assert run([*file, "--random-weights", "1"], tmp_path, capsys)[0] == 0
        assert load_build(tmp_path / "build").config == preset("tiny")
        status, out, err = run(file, tmp_path / "refused", capsys)
        assert (status, out) == (2, "")
        asked = "--weights or --random-weights must be given for tiny: no trained weights of this network are shipped"
        assert err == f"verilog: error: {asked}\n"


@pytest.mark.slow
def test_renamed_preset_keeps_its_weights(tmp_path, capsys):
    status, out, err = run(["--set", "name=soc128", "--set", "architecture.tile_rows=8"], tmp_path, capsys)
    assert (status, err) == (0, f"page: {tmp_path / 'build' / 'report.html'}\n")
    assert "pretrained/char128.safetensors" in out
    # Other numerics are another network, for which nothing was trained.
    status, _, err = run(["--set", "quantization.cell=Q4.13"], tmp_path / "changed", capsys)
    assert status == 2
    assert err.startswith("verilog: error: --weights or --random-weights must be given for char128: ")


SETTINGS = [
    ("--config=char", "preset must be one of tiny, char128,"),
    ("--config=missing.toml", "missing.toml"),
    ("--set=architecture.tiles=3", "architecture.tiles"),
    ("--set=compression.block_size=6", "compression.block_size must be a power of two from 1 to 16, not 6"),
    ("--set=quantization.accumulator_bits=12", "quantization.accumulator_bits must be at least "),
    ("--set=architecture.tile_rows=0", "architecture.tile_rows must be from 1 to 4096, not 0"),
    ("--set=architecture.tile_rows=two", "architecture.tile_rows must be "),
    ("--set=architecture.arithmetic=abacus", "architecture.arithmetic must be one of carry_save, multiplier"),
    ("--set=architecture.pipeline.compressor_terms=1", "architecture.pipeline.compressor_terms must be from 2 to 64"),
    ("--set=architecture.pipeline.inverse_levels=-1", "architecture.pipeline.inverse_levels must be from 0 to 16"),
]


@pytest.mark.parametrize(("argument", "text"), SETTINGS)
def test_wrong_settings(argument, text, tmp_path, capsys):
    check_refused(run([argument], tmp_path, capsys), text, tmp_path)


def check_refused(result, text, tmp_path):
    status, out, err = result
    assert status == 2
    assert out == ""
    assert err.startswith("verilog: error: ")
    assert err.count("\n") == 1
    assert text in err
    assert not (tmp_path / "build").exists()


def damaged(name: str, path) -> None:
    """A weight image that is not what it must be."""
    if name == "missing":
        return
    if name == "truncated":
        path.write_bytes(IMAGE.read_bytes()[:-100])
    elif name == "pickle":
        path.write_bytes(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.")
    else:
        arrays = load_file(IMAGE)
        key = max(arrays, key=lambda key: arrays[key].size)
        arrays[key] = np.full(arrays[key].shape, np.nan, dtype=np.float32)
        save_file(arrays, path)


@pytest.mark.parametrize("name", ["missing", "truncated", "pickle", "nan"])
def test_wrong_weights(name, tmp_path, capsys):
    path = tmp_path / f"{name}.safetensors"
    damaged(name, path)
    check_refused(run(["--weights", str(path)], tmp_path, capsys), path.name, tmp_path)


def test_weights_of_another_network(tmp_path, capsys):
    result = run(["--config", "tiny", "--weights", str(IMAGE)], tmp_path, capsys)
    check_refused(result, "char128.safetensors", tmp_path)


def test_a_folder_of_another_program_is_kept(tmp_path, capsys):
    """Files of the same names do not make a folder ours; a damaged build of ours is replaced."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    (other / "manifest.json").write_text('{"name": "a web page", "files": {"index": "index.html"}}')
    command = ["--config", "tiny", "--random-weights", "1", "--output"]
    assert run_command(lambda: verilog.main([*command, str(other)])) == 2
    captured = capsys.readouterr()
    rule = "a new directory, an empty one or one that holds manifest.json of this program"
    assert captured.err.endswith(f"error: output must be {rule}, not {str(other)!r}\n")
    assert "generating" not in captured.err
    assert sorted(path.name for path in other.iterdir()) == ["config.json", "manifest.json"]
    own = tmp_path / "own"
    for name in ("", "manifest.json", "config.json"):
        if name:
            (own / name).write_text("{")
        assert run_command(lambda: verilog.main([*command, str(own)])) == 0


def test_files_of_others_in_a_build_stay(tmp_path, capsys):
    folder = tmp_path / "build"
    assert main(["verilog", "--config", "tiny", "--output", str(folder)]) == 0
    (folder / "own.v").write_text("module own; endmodule\n", encoding="ascii")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("a", encoding="ascii")
    # What a simulator compiled belongs to the old Verilog.
    (folder / "sim").mkdir()
    other = ["--set", "architecture.tile_rows=1", "--prefix", "other"]
    assert main(["verilog", "--config", "tiny", "--output", str(folder), *other]) == 0
    assert (folder / "own.v").read_text(encoding="ascii") == "module own; endmodule\n"
    assert (folder / "notes" / "a.txt").read_text(encoding="ascii") == "a"
    assert not (folder / "sim").exists() and not list(folder.glob("tiny*.mem"))
    # Without a manifest nobody knows whose a file is.
    (folder / "manifest.json").unlink()
    assert main(["verilog", "--config", "tiny", "--output", str(folder)]) == 0
    assert (folder / "own.v").exists() and (folder / "tiny_bias.mem").exists()


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("/", "a folder that is locked must be one inside another, not '/'"),
        ("/proc/x", "/proc/x must be a folder that can be locked: No such file or directory"),
    ],
)
def test_folders_that_nothing_can_be_written_beside(output, text, capsys):
    assert main(["verilog", "--config", "tiny", "--output", output]) == 2
    assert capsys.readouterr().err == f"chessrnn verilog: error: {text}\n"


def test_an_empty_prefix_is_refused(tmp_path, capsys):
    assert main(["verilog", "--config", "tiny", "--prefix", "", "--output", str(tmp_path / "build")]) == 2
    assert "--prefix must be a name that modules and files begin with, not ''" in capsys.readouterr().err


def test_a_failure_keeps_the_earlier_build(tmp_path, capsys):
    run(["--config", "tiny"], tmp_path, capsys)
    before = {path.name: path.read_bytes() for path in (tmp_path / "build").iterdir()}
    assert run(["--config", "tiny", "--weights", str(IMAGE)], tmp_path, capsys)[0] == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "build").iterdir()} == before
