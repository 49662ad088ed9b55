"""The documents: links and names in them exist, and what they show is what happens."""

import dataclasses
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from chessrnn.model.config import Config
from chessrnn.model.presets import preset
from chessrnn.scripts.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [README, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", ROOT / "constraints" / "README.md", *PAGES]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
# Written by docs/tools/pages.py when the site is built.
GENERATED = {ROOT / "docs" / "reference" / f"{name}.md" for name in ("api", "commands", "config")}
MAX_README_WORDS = 700
# A line of shown output that stands for any number of lines.
ELLIPSIS = "..."


def fields(value, prefix: str = "") -> set[str]:
    """Dotted names of all fields of a configuration."""
    names = set()
    for field in dataclasses.fields(value):
        name, content = f"{prefix}{field.name}", getattr(value, field.name)
        names.add(name)
        if dataclasses.is_dataclass(content):
            names |= fields(content, f"{name}.")
    return names


FIELDS = fields(preset("tiny"))


def blocks(text: str, language: str) -> list[str]:
    """Contents of the fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document(path):
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"@[A-Z]+@", text)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        found = (path.parent / target).resolve()
        assert target.startswith("https://") or found.exists() or found in GENERATED, target
    for target in re.findall(r"(?:`|\$ )make ([a-z][a-z-]*)", text):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
    for verb in re.findall(r"(?:`|\$ )chessrnn ([a-z][a-z-]*)", text):
        assert verb in COMMANDS, verb
    sections = "|".join(field.name for field in dataclasses.fields(Config))
    for name in re.findall(rf"(?<![\w./-])((?:{sections})\.[a-z_.]*[a-z])(?![\w(])", text):
        assert name in FIELDS, name
    for name in re.findall(r"`((?:hdl|model|sim|scripts|tests|constraints|docs)/[\w./*]+)`", text):
        assert (ROOT / name).exists(), name


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = {ROOT / "docs" / name for name in re.findall(r"([\w/-]+\.md)$", text, re.MULTILINE)}
    assert listed == {*PAGES, *GENERATED}


def test_json_of_documents():
    for path in PAGES:
        for block in blocks(path.read_text(encoding="utf-8"), "json"):
            json.loads(block)


# -- the README ------------------------------------------------------------------------------------------------


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").split()) <= MAX_README_WORDS


def commands() -> list[tuple[str, list[str]]]:
    """Commands of the README with the output that it shows."""
    found = []
    for block in blocks(README.read_text(encoding="utf-8"), "console"):
        command, *output = block.splitlines()
        assert command.startswith("$ "), command
        found.append((command[2:], output))
    return found


def shows(expected: list[str], printed: list[str]) -> bool:
    """Whether lines were printed as shown; ``...`` stands for any lines, or for the rest of one."""
    if not expected:
        return not printed
    first, *rest = expected
    if first == ELLIPSIS:
        return any(shows(rest, printed[start:]) for start in range(len(printed) + 1))
    if not printed:
        return False
    if first.endswith(ELLIPSIS):
        same = printed[0].startswith(first.removesuffix(ELLIPSIS).rstrip())
    else:
        same = printed[0].rstrip() == first.rstrip()
    return same and shows(rest, printed[1:])


def run(arguments: list[str]) -> list[str]:
    """Lines that a command prints on standard output."""
    folder = str(Path(sys.executable).parent)
    # Below `make test-slow`, make would print the folders that it enters and leaves, and take the options of the tests.
    outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS"}
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    environment["PATH"] = f"{folder}{os.pathsep}{environment['PATH']}"
    result = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_readme_shows_commands():
    assert len(commands()) >= 3


@pytest.mark.slow(first=True)
@pytest.mark.needs("verilator")
@pytest.mark.parametrize(("command", "output"), commands(), ids=[command.split()[1] for command, _ in commands()])
def test_readme_command(command, output):
    program, *arguments = shlex.split(command)
    if program == "make":
        # The packages are those of this test, so that it installs nothing.
        stamps = [word for name in re.findall(r"\.venv/\.[a-z]+", MAKEFILE) for word in ("-o", name)]
        arguments = [*stamps, f"RUN={sys.executable}", *arguments]
    printed = run([program, *arguments])
    assert shows(output, printed), "\n".join(printed)


@pytest.mark.slow
@pytest.mark.needs("icarus")
def test_readme_example(tmp_path):
    text = README.read_text(encoding="utf-8")
    (example,) = blocks(text, "python")
    (output,) = blocks(text, "text")
    path = tmp_path / "example.py"
    path.write_text(example.replace("build/lstm", str(tmp_path / "lstm")), encoding="utf-8")
    assert run([sys.executable, str(path)]) == output.splitlines()


# -- the site --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_site(tmp_path):
    """Builds without a warning, and nothing in it is fetched from elsewhere."""
    run([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)])
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= len(PAGES) + len(GENERATED)
    fetched = re.compile(r'<(?:script|img|iframe)[^>]+src="https?:|<link rel="(?:stylesheet|preconnect)" href="https?:')
    for page in pages:
        assert not fetched.search(page.read_text(encoding="utf-8")), page


@pytest.mark.slow(first=True)
def test_pictures_are_those_of_the_generator():
    path = ROOT / "docs" / "tools" / "pictures.py"
    spec = importlib.util.spec_from_file_location("pictures", path)
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    for name, draw in pictures.PICTURES.items():
        assert (pictures.FOLDER / f"{name}.svg").read_text(encoding="utf-8") == str(draw()), name
