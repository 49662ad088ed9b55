"""Every option of every command that names a file: a folder, a missing file, a name too long, a device, garbage."""

import argparse
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from chessrnn.scripts import cli
from chessrnn.scripts.main import COMMANDS, main
from chessrnn.scripts.weight_arguments import SHIPPED

# What else an option needs to be looked at.
MORE = {
    ("convert", "--calibrate"): ["{model}"],
    ("convert", "--inputs"): ["a.onnx"],
    ("inspect", "--inputs"): ["a.onnx"],
    ("train", "--state-dict"): ["--text", "{text}"],
    ("train", "--cmudict"): ["--task", "phones", "--fsdd", "{recordings}"],
    ("train", "--export"): ["--dense", "1", "--circulant", "1", "--approximate", "1", "--quantized", "1"],
    ("accuracy", "--cmudict"): ["--fsdd", "{recordings}", "--tasks", "phones", "--quick"],
    ("accuracy", "--text"): ["--quick"],
    ("explore", "--write-config"): ["--config", "tiny", "--cycles", "100"],
    ("fpga", "--config"): ["--board", "icebreaker"],
    ("fpga", "--weights"): ["--board", "icebreaker"],
    ("host", "--config"): ["--port", "loop://"],
    ("host", "--weights"): ["--port", "loop://"],
    ("host", "--text"): ["--port", "loop://"],
    ("weights", "--weights"): ["--set", "architecture.weight_memory=ram"],
    ("weights", "--output"): ["--set", "architecture.weight_memory=ram"],
    ("weights", "--check"): ["--set", "architecture.weight_memory=ram"],
}
MORE |= {
    ("predict", option): ["char64", "--inputs", "{x}", "--output", "y.npy"]
    for option in ("--weights", "--state-in", "--state-out", "--trace", "--plot")
}
MORE |= {
    ("predict", ""): ["--inputs", "{x}", "--output", "y.npy"],
    ("predict", "--inputs"): ["char64", "--output", "y.npy"],
    ("predict", "--output"): ["char64", "--inputs", "{x}"],
    ("predict", "--model"): ["char64", "--inputs", "{x}", "--output", "y.npy", "--plot", "p.png"],
}
# A model file need only be there to see what is said of the other files.
MORE |= {
    ("evaluate-model", ""): ["--weights", "{model}", "--inputs", "{x}"],
    ("evaluate-model", "--weights"): ["{x}", "--inputs", "{x}"],
    ("evaluate-model", "--config"): ["{x}", "--weights", "{model}", "--inputs", "{x}"],
    ("evaluate-model", "--inputs"): ["{x}", "--weights", "{model}"],
    ("evaluate-model", "--target"): ["{x}", "--weights", "{model}", "--inputs", "{x}", "--metric", "accuracy"],
    ("evaluate-model", "--plot"): ["{x}", "--weights", "{model}", "--inputs", "{x}"],
}
MORE |= {
    ("listen", ""): ["--weights", "{model}"],
    ("listen", "--weights"): ["-"],
    ("listen", "--config"): ["-", "--weights", "{model}"],
    ("listen", "--model"): ["-", "--weights", "{model}"],
}
IMAGE = SHIPPED / "char64.safetensors"
SUFFIXES = {"--config": ".json", "": ".pt", "--output": ".npy", "--state-out": ".npz", "--trace": ".npz"}
SUFFIXES |= {"--plot": ".png"}
WRITTEN = {"--export", "--write-config", "--output", "--state-out", "--trace", "--plot", "--results"}


class _Found(Exception):
    """Carries a parser out of a command."""


def parser_of(name: str) -> argparse.ArgumentParser:
    def stop(self, args=None, namespace=None):
        raise _Found(self)

    module = importlib.import_module(f"chessrnn.scripts.{COMMANDS[name][0]}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(_Found) as caught:
            module.main([])
    return caught.value.args[0]


def files_of(name: str) -> list[str]:
    """Options, or the position, that take a file, as argparse knows them."""
    actions = parser_of(name)._actions
    return [
        (action.option_strings or [""])[0]
        for action in actions
        if action.dest == "config" or (action.type is Path and action.metavar not in ("FOLDER", "DIR"))
    ]


FILES = [(name, option) for name in COMMANDS for option in files_of(name)]


def test_the_list_of_files_is_not_empty():
    assert {("verilog", "--weights"), ("train", "--export"), ("inspect", ""), ("synth", "--liberty")} <= set(FILES)
    assert len(FILES) > 25


def wrong(kind: str, path: Path) -> Path:
    """A path that names nothing that can be read or written."""
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "garbage":
        path.write_bytes(b"\xff\xfe\x00garbage\n" * 100)
    elif kind == "link":
        (path.parent / "target").touch()
        path.symlink_to("target")
    elif kind == "long":
        return path.with_stem("n" * 300)
    return path


READ_KINDS, WRITTEN_KINDS = ("folder", "missing", "long", "empty", "garbage"), ("folder", "long", "link")
CASES = [
    (name, option, kind) for name, option in FILES for kind in (WRITTEN_KINDS if option in WRITTEN else READ_KINDS)
]


@pytest.mark.parametrize(("name", "option", "kind"), CASES)
def test_wrong_files(name, option, kind, tmp_path, monkeypatch, capsys, recordings, text):
    monkeypatch.chdir(tmp_path)
    path = wrong(kind, tmp_path / f"file{SUFFIXES.get(option, '')}")
    np.save(tmp_path / "x.npy", np.zeros((3, 32)))
    before = sorted(tmp_path.rglob("*"))
    values = {"{x}": "x.npy", "{recordings}": str(recordings), "{text}": str(text), "{model}": str(IMAGE)}
    more = [values.get(word, word) for word in MORE.get((name, option), [])]
    try:
        status = main([name, *([option] if option else []), str(path), *more])
    except SystemExit as ended:
        status = ended.code
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert re.fullmatch(rf"chessrnn {name}: error: [^\n]+ must [^\n]+\n", captured.err), captured.err
    assert len(captured.err) < cli.MAX_MESSAGE + 50
    assert sorted(tmp_path.rglob("*")) == before
