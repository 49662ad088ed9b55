"""Docstrings are sentences: their first line names its subject."""

import ast
import re
from pathlib import Path

import pytest

from chessrnn.hdl.verilog import ports
from chessrnn.model.presets import preset

ROOT = Path(__file__).resolve().parents[1]
# Folders whose prose has been revised; the test covers these.
FOLDERS = ("constraints", "hdl", "model", "scripts", "sim", "tests")
# A line that begins so leaves the reader to guess what it describes.
WITHOUT_SUBJECT = re.compile(r"(Of|That|As) ")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
SOURCES = sorted({path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")})


def docstrings(source: str) -> list[str]:
    """All docstrings of a module, its classes and its functions."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED))
    return [found for node in nodes if (found := ast.get_docstring(node)) is not None]


def lines_without_subject(docstring: str) -> list[str]:
    """First lines without a subject: that of the docstring, and that of every described parameter or member."""
    first, *rest = docstring.splitlines()
    found = [first] if WITHOUT_SUBJECT.match(first) else []
    for before, line in zip([first, *rest], rest, strict=False):
        # A description is indented below its name.
        begins = len(line) - len(line.lstrip()) > len(before) - len(before.lstrip()) and before.strip()
        if begins and WITHOUT_SUBJECT.match(line.lstrip()):
            found.append(line.strip())
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_name_their_subject(path):
    found = [line for text in docstrings(path.read_text(encoding="utf-8")) for line in lines_without_subject(text)]
    assert found == []


def test_the_check_sees_lines_without_subject():
    docstring = "Of h in a step.\n\nParameters\n----------\nx : int\n    As there.\n    Of it.\ny : int\n    Blocks."
    assert lines_without_subject(docstring) == ["Of h in a step.", "As there."]
    assert lines_without_subject("Offsets of a step.\n\nThat is the sum\nOf all.") == []
    assert docstrings('"""A."""\nclass B:\n    """C."""\n    def d(self):\n        """E."""') == ["A.", "C.", "E."]


@pytest.mark.parametrize(
    "settings",
    [{"architecture.state_ports": True}, {"network.bidirectional": True}, {"architecture.output_layer": 10}],
)
def test_ports_are_described_by_sentences_that_say_when_a_payload_is_valid(settings):
    for port in ports(preset("tiny").replace(settings)):
        stream, _, member = port["name"].rpartition("_")
        is_payload = member in ("data", "last", "load", "index", "logit")
        begin = re.escape(f"Valid with {stream}_valid") + "[:.] " if is_payload else "[A-Z1]"
        assert re.match(begin, port["meaning"]) and port["meaning"].endswith("."), port
