"""Training texts: the English text that every Python installation contains, or a file, cleaned and split.

The text of a Python installation is its documentation: the help topics of ``pydoc_data.topics`` and the docstrings of
the standard library, read from the sources without importing them.  It is deterministic for a given Python, changes
little between patch versions, and is identified by its SHA-256.
"""

import ast
import hashlib
import importlib.util
import re
import sys
import sysconfig
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import cleandoc
from pathlib import Path

from chessrnn.model.errors import InvalidFileError, InvalidValueError, require
from chessrnn.model.text_file import read_text

# Newline, then printable ASCII in order; the code of a symbol is its index.
SYMBOLS = "\n" + "".join(chr(code) for code in range(32, 127))
FOREIGN = re.compile(r"[^\n -~]")
STDLIB_NAME = "stdlib"
# Generated docstrings, ciphers and demonstrations teach no English.
EXCLUDED_MODULES = ("__phello__", "antigravity", "encodings", "idlelib", "pydoc_data", "this", "turtledemo")
EXCLUDED_FOLDERS = ("test", "tests", "idle_test", "site-packages", "__pycache__")
SHORTEST_DOCSTRING = 40
# Characters that the NFKD decomposition does not turn into ASCII, and their replacements.
REPLACEMENTS = str.maketrans(
    {
        "\t": "    ",
        "\r": "\n",
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2010": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\u2212": "-",
        "\u2192": "->",
        "\u00d7": "x",
        "\u2022": "*",
    }
)
VALIDATION_SHARE = TEST_SHARE = 0.05
# The validation text consists of excerpts: at most this many, of at least so many symbols.
EXCERPTS, EXCERPT_SYMBOLS = 64, 200


def without_excerpts(symbols: Sequence[str], validation_share: float) -> tuple[list[str], list[str]]:
    """Divide all symbols that precede the test split into those of the training and of the validation split.

    The validation split is made of excerpts at equal distances.  One contiguous part would lie between training and
    test, and a network would then be tested on chapters or plays of which it has read nothing.

    Parameters
    ----------
    symbols : sequence
        Characters or words in their order.
    validation_share : float
        Share of them that the excerpts have together.
    """
    size = round(len(symbols) * validation_share)
    count = max(1, min(EXCERPTS, size // EXCERPT_SYMBOLS))
    train, validation, end = [], [], 0
    for number in range(count):
        first, last = (len(symbols) * place // count for place in (number, number + 1))
        length = size * (number + 1) // count - size * number // count
        begin = (first + last - length) // 2
        train += symbols[end:begin]
        end = begin + length
        validation += symbols[begin:end]
    return train + list(symbols[end:]), validation


@dataclass(frozen=True)
class Corpus:
    """A cleaned text and its split into training, validation and test.

    Attributes
    ----------
    name : str
        ``"stdlib"``, or the name of the file.
    text : str
        The text, which consists of :data:`SYMBOLS` only.
    test_share : float
        Share of the text that is the test set, 5 % by default.  Validation always has 5 %, and training the rest.
    """

    name: str
    text: str
    test_share: float = TEST_SHARE

    @property
    def sha256(self) -> str:
        """SHA-256 of the cleaned text, 64 hexadecimal digits."""
        return hashlib.sha256(self.text.encode("ascii")).hexdigest()

    @property
    def _test_begin(self) -> int:
        # As earlier versions rounded it, so that the test text stays the same.
        return int(len(self.text) * (round(1 - VALIDATION_SHARE - self.test_share, 9) + VALIDATION_SHARE))

    @property
    def validation_share(self) -> float:
        """Share of the validation text in all that precedes the test text."""
        return VALIDATION_SHARE / (1 - self.test_share)

    @property
    def development(self) -> str:
        """All text that precedes the test text."""
        return self.text[: self._test_begin]

    @property
    def train(self) -> str:
        """Training text: all before the test text but the excerpts of the validation text."""
        return "".join(without_excerpts(self.development, self.validation_share)[0])

    @property
    def validation(self) -> str:
        """Validation text: excerpts at equal distances, by which training chooses the checkpoint to keep."""
        return "".join(without_excerpts(self.development, self.validation_share)[1])

    @property
    def test(self) -> str:
        """Test text: the share ``test_share`` at the end, which no choice depends on."""
        return self.text[self._test_begin :]


def clean(text: str) -> str:
    """Reduce ``text`` to characters of :data:`SYMBOLS`.

    Typographic characters become similar ASCII characters, accents are removed, and so are all other characters that
    are not symbols.  Trailing blanks are removed, and several blank lines become one.
    """
    text = text.replace("\r\n", "\n").translate(REPLACEMENTS)
    text = unicodedata.normalize("NFKD", text).translate(REPLACEMENTS)
    lines = [line.rstrip(" ") for line in FOREIGN.sub("", text).split("\n")]
    kept = [line for index, line in enumerate(lines) if line or (index > 0 and lines[index - 1])]
    return "\n".join(kept).strip("\n") + "\n"


def _paragraphs(document: str) -> list[str]:
    return [part.strip("\n") for part in document.split("\n\n") if part.strip()]


def _join_once(documents: dict[str, str]) -> str:
    """Join documents in a fixed shuffled order, and keep only the first occurrence of each paragraph.

    The order by digest mixes the kinds of text, so that the contiguous splits are similar, and stays the same for all
    other documents when one is added or removed.  Repeated paragraphs (help topics quote one another) would leak from
    the training split into the test split.
    """
    seen, out = set(), []
    for name in sorted(documents, key=lambda n: hashlib.sha256(n.encode()).digest()):
        for paragraph in _paragraphs(clean(documents[name])):
            key = " ".join(paragraph.split())
            if key not in seen:
                seen.add(key)
                out.append(paragraph)
    return "\n\n".join(out) + "\n"


def _docstrings(source: str) -> list[str]:
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node, clean=False) for node in ast.walk(ast.parse(source)) if isinstance(node, nodes)]
    return [cleandoc(text) for text in found if text and len(text) >= SHORTEST_DOCSTRING]


def _stdlib_sources() -> list[tuple[str, Path]]:
    """List (module path, file) of all sources of the standard library in this installation."""
    root = Path(sysconfig.get_paths()["stdlib"])
    sources = []
    for module in sorted(sys.stdlib_module_names - set(EXCLUDED_MODULES)):
        candidates = [root / f"{module}.py", *(root / module).rglob("*.py")]
        for file in candidates:
            relative = file.relative_to(root)
            if file.is_file() and not set(relative.parts) & set(EXCLUDED_FOLDERS):
                sources.append((relative.as_posix(), file))
    return sorted(sources)


def stdlib_corpus() -> Corpus:
    """Collect the text of the documentation of the running Python.

    Raises
    ------
    InvalidFileError
        This installation contains neither help topics nor sources.
    """
    documents = {}
    if importlib.util.find_spec("pydoc_data.topics") is not None:
        from pydoc_data.topics import topics

        documents.update({f"topic {name}": text for name, text in topics.items()})
    for name, file in _stdlib_sources():
        try:
            parts = _docstrings(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, SyntaxError):
            continue  # A template or a file in a legacy encoding holds no prose.
        if parts:
            documents[name] = "\n\n".join(parts)
    if not documents:
        raise InvalidFileError("text must be given with --text FILE, as this Python contains no documentation")
    return Corpus(STDLIB_NAME, _join_once(documents))


def file_corpus(path: Path) -> Corpus:
    """Read a UTF-8 text file and clean it.

    Raises
    ------
    InvalidFileError
        The file is missing, not UTF-8 or too large.
    """
    return Corpus(path.name, clean(read_text(path)))


def load_corpus(path: Path | None = None, min_chars: int = 1000, test_share: float = TEST_SHARE) -> Corpus:
    """Load the text of the standard library, or of a file.

    Parameters
    ----------
    path : Path, optional
        Text file; the documentation of the running Python if left out.
    min_chars : int
        Least number of characters after cleaning.
    test_share : float
        Share of the text, at its end, that is the test set; at most 0.5.

    Raises
    ------
    InvalidFileError
        The file cannot be read.
    InvalidValueError
        The text is too short, or the share is out of range.
    """
    require(0 < test_share <= 0.5, "test share", "more than 0 and at most 0.5", test_share)
    corpus = replace(stdlib_corpus() if path is None else file_corpus(path), test_share=test_share)
    rule = f"of at least {min_chars} characters of {corpus.name!r} after cleaning"
    # The line feed at the end is added by cleaning.
    num_chars = len(corpus.text.removesuffix("\n"))
    if num_chars < min_chars:
        raise InvalidValueError(f"--text must be {rule}, not {num_chars}")
    require(set(corpus.text) <= set(SYMBOLS), "text", "made of SYMBOLS only", corpus.name)
    return corpus
