"""Liberty files: cells, their pins, what they compute, how large they are."""

import gzip
import itertools
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from model.errors import InvalidFileError

# Delay cells, clock buffers and clock gates compute what ordinary cells do, but are made for other purposes.
SPECIAL_NAMES = ("*dly*", "*DLY*", "*clkbuf*", "*CLKBUF*", "*clkinv*", "*CLKINV*")
_STATEMENT = re.compile(r'\s*([\w\-]+)\s*(?:\(([^()]*)\)\s*([{;]?)|:\s*("[^"]*"|[^;{}\n]*)\s*;?)|\s*(\})|\s*;')
# Tables take most of a file and most of the time to read it; OpenSTA and ABC read them themselves.
_TABLES = re.compile(r"\b(?:values|index_\d+)\s*\([^()]*\)\s*;?")
_COMMENTS = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_TOKEN = re.compile(r"\s*([A-Za-z_][\w\[\]]*'?|[01](?!\w)|[!()&|^+*']|\S)")


@dataclass
class Group:
    """A Liberty group ``name (arguments) { … }``."""

    name: str
    arguments: str
    attributes: dict[str, str] = field(default_factory=dict)
    groups: list["Group"] = field(default_factory=list)

    def all(self, name: str) -> list["Group"]:
        """Subgroups called ``name``."""
        return [group for group in self.groups if group.name == name]

    def number(self, name: str, default: float = 0.0) -> float:
        """Attribute as a number."""
        try:
            return float(self.attributes.get(name, default))
        except ValueError:
            raise InvalidFileError(
                f"liberty attribute {name} must be a number, not {self.attributes[name]!r}"
            ) from None


@dataclass(frozen=True)
class Pin:
    """A pin: ``function`` is the expression of an output, ``capacitance`` is in farad."""

    name: str
    direction: str
    function: str | None
    capacitance: float
    is_clock: bool
    three_state: bool
    max_capacitance: float


@dataclass(frozen=True)
class Cell:
    """A standard cell.

    Attributes
    ----------
    area : float
        µm².
    kind : str
        ``"comb"``, ``"flip-flop"``, ``"latch"`` or ``"other"`` (fillers, pads, clock gates).
    sequential : dict
        ``ff`` or ``latch`` group: the state variable's name under ``"state"``, and the attributes.
    """

    name: str
    area: float
    pins: dict[str, Pin]
    kind: str
    sequential: dict[str, str]
    dont_use: bool
    leakage: float

    @cached_property
    def inputs(self) -> list[str]:
        """Names of input pins in order."""
        return [pin.name for pin in self.pins.values() if pin.direction == "input"]

    @cached_property
    def outputs(self) -> list[str]:
        """Names of output pins in order."""
        return [pin.name for pin in self.pins.values() if pin.direction == "output"]

    @cached_property
    def truth_table(self) -> tuple[int, ...] | None:
        """Value of the only output for every input pattern (first input lowest); ``None`` where there is no such."""
        if self.kind != "comb" or len(self.outputs) != 1 or len(self.inputs) > 6:
            return None
        expression = to_python(self.pins[self.outputs[0]].function, self.inputs)
        code = compile(expression, self.name, "eval")
        return tuple(
            int(eval(code, {"__builtins__": {}}, {f"v_{n}": bit for n, bit in zip(self.inputs, bits, strict=True)})) & 1
            for bits in (reversed(p) for p in itertools.product((0, 1), repeat=len(self.inputs)))
        )


def _tokens(expression: str) -> list[str]:
    return [t for t in _TOKEN.findall(expression) if t.strip()]


def to_python(function: str, names) -> str:
    """A Liberty function as a Python expression over the variables ``v_<pin>``, each 0 or 1.

    Raises
    ------
    InvalidFileError
        An unknown name or a malformed expression.
    """
    return _Parser(function, set(names), "v_{}".format, ("&", "|", "^", "(1 ^ {})")).parse()


def to_verilog(function: str, names) -> str:
    """A Liberty function as a Verilog expression over the pins."""
    return _Parser(function, set(names), "{}".format, ("&", "|", "^", "(~{})")).parse()


class _Parser:
    """Recursive descent over Liberty's operators: ``'`` and ``!``, then ``&`` (``*``, blank), ``^``, ``|`` (``+``)."""

    def __init__(self, text: str, names: set[str], variable, operators):
        self.text, self.names, self.variable, self.operators = text, names, variable, operators
        self.tokens, self.at = _tokens(text), 0

    def parse(self) -> str:
        result = self._or()
        if self.at != len(self.tokens):
            self._fail()
        return result

    def _fail(self):
        raise InvalidFileError(f"liberty function must be an expression of {sorted(self.names)}, not {self.text!r}")

    def _peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self.at += 1
        return token

    def _or(self) -> str:
        terms = [self._xor()]
        while self._peek() in ("|", "+"):
            self._next()
            terms.append(self._xor())
        return terms[0] if len(terms) == 1 else "(" + f" {self.operators[1]} ".join(terms) + ")"

    def _xor(self) -> str:
        terms = [self._and()]
        while self._peek() == "^":
            self._next()
            terms.append(self._and())
        return terms[0] if len(terms) == 1 else "(" + f" {self.operators[2]} ".join(terms) + ")"

    def _and(self) -> str:
        terms = [self._unary()]
        while self._peek() not in ("", ")", "|", "+", "^"):
            if self._peek() in ("&", "*"):
                self._next()
            terms.append(self._unary())
        return terms[0] if len(terms) == 1 else "(" + f" {self.operators[0]} ".join(terms) + ")"

    def _unary(self) -> str:
        token = self._next()
        if token == "!":
            return self.operators[3].format(self._unary())
        if token == "(":
            result = self._or()
            if self._next() != ")":
                self._fail()
        elif token in ("0", "1"):
            result = token if self.operators[3] == "(1 ^ {})" else f"1'b{token}"
        else:
            name, inverted = (token[:-1], True) if token.endswith("'") else (token, False)
            if name not in self.names:
                self._fail()
            result = self.variable(name)
            if inverted:
                result = self.operators[3].format(result)
        while self._peek() == "'":
            self._next()
            result = self.operators[3].format(result)
        return result


def read_text(path: str | Path) -> str:
    """Text of a plain or gzip-compressed Liberty file.

    Raises
    ------
    InvalidFileError
        Missing, unreadable, or not a Liberty file.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        text = raw.decode("latin-1")
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        raise InvalidFileError(f"liberty must be a readable file, not {str(path)!r} ({error})") from None
    if not re.search(r"\blibrary\s*\(", text):
        raise InvalidFileError(f"{path} must be a Liberty file, but it has no library group")
    return text


def parse(text: str) -> Group:
    """The library group of a Liberty text, without its tables.

    Raises
    ------
    InvalidFileError
        Groups that do not close.
    """
    text = _TABLES.sub("", _COMMENTS.sub(" ", text.replace("\\\n", " ").replace("\\\r\n", " ")))
    root = Group("", "")
    stack = [root]
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _STATEMENT.match(text, position)
        if match is None:
            raise InvalidFileError(
                f"liberty must consist of groups and attributes, not {text[position : position + 40]!r}"
            )
        position = match.end()
        name, arguments, opener, value, closer = match.groups()
        if closer:
            if len(stack) == 1:
                raise InvalidFileError("liberty must close no more groups than it opens")
            stack.pop()
        elif name is None:
            continue
        elif opener == "{":
            group = Group(name, arguments.strip().strip('"'))
            stack[-1].groups.append(group)
            stack.append(group)
        elif arguments is not None:
            stack[-1].attributes[name] = arguments.strip().strip('"')
        else:
            stack[-1].attributes[name] = value.strip().strip('"').strip()
    libraries = root.all("library")
    if len(stack) != 1 or len(libraries) != 1:
        raise InvalidFileError("liberty must hold one library group that is closed")
    return libraries[0]


def _cap_unit(library: Group) -> float:
    match = re.match(
        r"\s*([\d.]+)\s*,\s*\"?(ff|pf)", library.attributes.get("capacitive_load_unit", "1,pf"), re.IGNORECASE
    )
    if match is None:
        raise InvalidFileError("liberty capacitive_load_unit must be a number of ff or pf")
    return float(match[1]) * {"ff": 1e-15, "pf": 1e-12}[match[2].lower()]


def _cell(group: Group, unit: float, default_cap: float) -> Cell:
    pins = {}
    for pin in group.all("pin"):
        attributes = pin.attributes
        for name in re.split(r"[\s,]+", pin.arguments.replace('"', "")):
            pins[name] = Pin(
                name,
                attributes.get("direction", "internal"),
                attributes.get("function"),
                pin.number("capacitance", default_cap) * unit,
                attributes.get("clock", "false") == "true",
                "three_state" in attributes,
                pin.number("max_capacitance") * unit,
            )
    flip_flops, latches = group.all("ff") + group.all("ff_bank"), group.all("latch") + group.all("latch_bank")
    sequential = {}
    if flip_flops or latches:
        state = (flip_flops or latches)[0]
        sequential = {"state": state.arguments.replace('"', "").split(",")[0].strip(), **state.attributes}
        sequential["inverse"] = state.arguments.replace('"', "").split(",")[1].strip() if "," in state.arguments else ""
    outputs = [pin for pin in pins.values() if pin.direction == "output"]
    if flip_flops:
        kind = "flip-flop"
    elif latches:
        kind = "latch"
    elif (
        outputs
        and "clock_gating_integrated_cell" not in group.attributes
        and not group.all("statetable")
        and all(pin.function is not None and not pin.three_state for pin in outputs)
    ):
        kind = "comb"
    else:
        kind = "other"
    return Cell(
        group.arguments,
        group.number("area"),
        pins,
        kind,
        sequential,
        group.attributes.get("dont_use", "false") == "true",
        group.number("cell_leakage_power"),
    )


class Liberty:
    """A standard-cell library.

    Parameters
    ----------
    path : str or Path
        Plain or gzip-compressed.

    Raises
    ------
    InvalidFileError
        Unreadable, or without what synthesis needs: NAND2, inverter, buffer, D flip-flop, each found by function.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.text = read_text(path)
        group = parse(self.text)
        self.name = group.arguments
        self.cap_unit = _cap_unit(group)
        default = group.number("default_input_pin_cap")
        self.cells = {cell.name: cell for cell in (_cell(g, self.cap_unit, default) for g in group.all("cell"))}
        usable = [cell for cell in self.cells.values() if not cell.dont_use and cell.area > 0 and not _is_special(cell)]
        if not usable:
            raise InvalidFileError(f"{self.path} must be a standard-cell library, but none of its cells has an area")
        # Of several drive strengths the smallest is the unit; buffers keep all, weakest first.
        self.nand2 = self._smallest(usable, (1, 1, 1, 0), "two-input NAND")
        self.inverter = self._smallest(usable, (1, 0), "inverter")
        self.buffers = self._all(usable, (0, 1))
        self.inverters = self._all(usable, (1, 0))
        self._smallest(usable, (0, 1), "buffer")
        self.flip_flop = self._flip_flop(usable)
        # Tie cells are often marked dont_use, as no mapper should choose them for logic.
        self.tie_low, self.tie_high = (next(iter(self._all(self.cells.values(), (bit,))), None) for bit in (0, 1))

    def _all(self, cells, table) -> list[Cell]:
        return sorted((cell for cell in cells if cell.truth_table == table), key=lambda cell: (cell.area, cell.name))

    def _smallest(self, cells, table, what: str) -> Cell:
        found = self._all(cells, table)
        if not found:
            raise InvalidFileError(f"{self.path} must have a {what}, but no cell computes {table}")
        return found[0]

    def _flip_flop(self, cells) -> Cell:
        found = [cell for cell in cells if cell.kind == "flip-flop"]
        plain = [c for c in found if c.sequential.get("next_state", "").strip("()") in c.inputs]
        if not plain:
            raise InvalidFileError(f"{self.path} must have a D flip-flop, but no cell is one")
        return min(plain, key=lambda cell: (cell.area, cell.name))

    def drive(self, cell: Cell) -> float:
        """Strength of a buffer, counted in the weakest one, by what each may carry at most."""
        carried = [cell.pins[cell.outputs[0]].max_capacitance for cell in (cell, self.buffers[0])]
        return carried[0] / carried[1] if all(carried) else 1.0


def input_capacitance(cell: Cell) -> float:
    """Greatest capacitance of an input pin."""
    return max((cell.pins[name].capacitance for name in cell.inputs), default=0.0)


def _is_special(cell: Cell) -> bool:
    lower = cell.name.lower()
    return any(pattern.strip("*").lower() in lower for pattern in SPECIAL_NAMES)
