"""Liberty files: cells with their pins, functions and areas."""

import re
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import and_, or_, xor
from pathlib import Path

from chessrnn.model.errors import InvalidFileError, shown
from chessrnn.model.text_file import read_bytes

# Bytes of the largest file that is read; the largest public libraries have some 100 MB.
MAX_LIBERTY_BYTES = 1 << 30
# Delay cells, clock buffers and clock inverters have the functions of ordinary cells, but serve other purposes.
SPECIAL_NAMES = ("*dly*", "*DLY*", "*clkbuf*", "*CLKBUF*", "*clkinv*", "*CLKINV*")
MAX_TABLE_INPUTS = 6
# Truth tables of the sum and the carry of three inputs.
XOR3, MAJORITY = (0, 1, 1, 0, 1, 0, 0, 1), (0, 0, 0, 1, 0, 1, 1, 1)
# Liberty's kind of a clock gate whose latch holds the enable while the clock is high, and the attributes of its pins.
CLOCK_GATE = "latch_posedge"
GATE_ROLES = {"clock_gate_enable_pin": "enable", "clock_gate_clock_pin": "clock", "clock_gate_out_pin": "output"}
_STATEMENT = re.compile(r'\s*([\w\-]+)\s*(?:\(([^()]*)\)\s*([{;]?)|:\s*("[^"]*"|[^;{}\n]*)\s*;?)|\s*(\})|\s*;')
# Tables are most of a file and take most of the time to parse; OpenSTA and ABC read them themselves.
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
        """All subgroups called ``name``."""
        return [group for group in self.groups if group.name == name]

    def number(self, name: str, default: float = 0.0) -> float:
        """An attribute as a number."""
        try:
            return float(self.attributes.get(name, default))
        except ValueError:
            raise InvalidFileError(
                f"liberty attribute {name} must be a number, not {shown(self.attributes[name])}"
            ) from None


@dataclass(frozen=True)
class Pin:
    """A pin; ``function`` is the expression of an output, and capacitances are in farad.

    ``gate_role`` is what the pin does in a clock gate: one of :data:`GATE_ROLES`, or empty.
    """

    name: str
    direction: str
    function: str | None
    capacitance: float
    is_clock: bool
    three_state: bool
    max_capacitance: float
    gate_role: str = ""


@dataclass(frozen=True)
class Cell:
    """A standard cell.

    Attributes
    ----------
    area : float
        Area in µm².
        kind : str
        ``"comb"``, ``"flip-flop"``, ``"latch"``, ``"clock gate"`` or ``"other"`` (fillers, pads, clock gates with test
        pins or of another kind).
    sequential : dict
        Attributes of the ``ff`` or ``latch`` group, with the names of the state variable and its inverse under
        ``"state"`` and ``"inverse"``.
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
        """Names of the input pins, in the order of the file."""
        return [pin.name for pin in self.pins.values() if pin.direction == "input"]

    @cached_property
    def outputs(self) -> list[str]:
        """Names of the output pins, in the order of the file."""
        return [pin.name for pin in self.pins.values() if pin.direction == "output"]

    @cached_property
    def gate_pins(self) -> dict[str, str]:
        """Name of the pin of each role in :data:`GATE_ROLES`; empty unless the cell is a clock gate."""
        return {pin.gate_role: pin.name for pin in self.pins.values() if pin.gate_role}

    def function(self, output: str) -> str:
        """Expression of an output that has one."""
        function = self.pins[output].function
        assert function is not None
        return function

    @cached_property
    def truth_tables(self) -> dict[str, tuple[int, ...]]:
        """Values of each output for every input pattern, first input lowest; empty unless combinational and small."""
        if self.kind != "comb" or len(self.inputs) > MAX_TABLE_INPUTS:
            return {}
        patterns = range(1 << len(self.inputs))
        # All patterns are evaluated at once: bit p of an input's vector is its value in pattern p.
        vectors = {
            name: sum((pattern >> number & 1) << pattern for pattern in patterns)
            for number, name in enumerate(self.inputs)
        }
        tables = {}
        for output in self.outputs:
            result = Expression(self.function(output), self.inputs).value(vectors, (1 << len(patterns)) - 1)
            tables[output] = tuple(result >> pattern & 1 for pattern in patterns)
        return tables

    @property
    def truth_table(self) -> tuple[int, ...] | None:
        """Truth table of a cell with a single output, otherwise ``None``."""
        return next(iter(self.truth_tables.values())) if len(self.truth_tables) == 1 else None


class Expression:
    """A Liberty function; its operators are ``'`` and ``!``, ``&`` (``*``, blank), ``^``, ``|`` (``+``), loosest last.

    Parameters
    ----------
    text : str
        Expression as the file writes it.
    names : iterable of str
        Pins and state variables that may occur.

    Raises
    ------
    InvalidFileError
        The expression is malformed or contains an unknown name.
    """

    def __init__(self, text: str, names):
        self.text, self.names = text, set(names)
        self._tokens, self._at = [t for t in _TOKEN.findall(text) if t.strip()], 0
        self.tree = self._level(("|", "+"), "|", lambda: self._level(("^",), "^", self._and))
        if self._at != len(self._tokens):
            self._fail()

    def value(self, values: dict[str, int], ones: int = 1) -> int:
        """Evaluate the function for bit vectors of the pins; ``ones`` is the vector with every bit set."""

        def visit(node):
            if isinstance(node, str):
                return {"0": 0, "1": ones}.get(node, values.get(node, 0))
            operator, *operands = node
            parts = [visit(operand) for operand in operands]
            if operator == "~":
                return ones ^ parts[0]
            return reduce({"&": and_, "|": or_, "^": xor}[operator], parts)

        return visit(self.tree)

    def verilog(self, rename=lambda name: name) -> str:
        """Verilog expression of the function, with the names that ``rename`` gives."""

        def visit(node) -> str:
            if isinstance(node, str):
                return f"1'b{node}" if node in "01" else rename(node)
            operator, *operands = node
            parts = [visit(operand) for operand in operands]
            return f"(~{parts[0]})" if operator == "~" else "(" + f" {operator} ".join(parts) + ")"

        return visit(self.tree)

    def _fail(self):
        raise InvalidFileError(
            f"liberty function must be an expression of {sorted(self.names)}, not {shown(self.text)}"
        )

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1] if self._at <= len(self._tokens) else ""

    def _level(self, spellings: tuple[str, ...], operator: str, operand):
        terms = [operand()]
        while self._peek() in spellings:
            self._next()
            terms.append(operand())
        return terms[0] if len(terms) == 1 else (operator, *terms)

    def _and(self):
        terms = [self._unary()]
        while self._peek() not in ("", ")", "|", "+", "^"):
            if self._peek() in ("&", "*"):
                self._next()
            terms.append(self._unary())
        return terms[0] if len(terms) == 1 else ("&", *terms)

    def _unary(self):
        token = self._next()
        if token == "!":
            return ("~", self._unary())
        if token == "(":
            result = self._level(("|", "+"), "|", lambda: self._level(("^",), "^", self._and))
            if self._next() != ")":
                self._fail()
        elif token in ("0", "1"):
            result = token
        else:
            name = token.removesuffix("'")
            if name not in self.names:
                self._fail()
            result = ("~", name) if token.endswith("'") else name
        while self._peek() == "'":
            self._next()
            result = ("~", result)
        return result


def read_text(path: str | Path) -> str:
    """Read the text of a plain or gzip-compressed Liberty file.

    Raises
    ------
    InvalidFileError
        The file is missing, unreadable, or not a Liberty file.
    """
    text = read_bytes(path, MAX_LIBERTY_BYTES, "a readable Liberty file").decode("latin-1")
    if not re.search(r"\blibrary\s*\(", text):
        raise InvalidFileError(f"{path} must be a Liberty file, but it has no library group")
    return text


def parse(text: str) -> Group:
    """Parse a Liberty text without its tables, and return its library group.

    Raises
    ------
    InvalidFileError
        The text is malformed, or its groups are not closed.
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


def _leakage_unit(library: Group) -> float:
    """Unit of leakage power, in watt."""
    match = re.match(r"([\d.]+)\s*(pw|nw|uw|mw)", library.attributes.get("leakage_power_unit", "1nW").lower())
    if match is None:
        raise InvalidFileError("liberty leakage_power_unit must be a number of pW, nW, uW or mW")
    return float(match[1]) * {"pw": 1e-12, "nw": 1e-9, "uw": 1e-6, "mw": 1e-3}[match[2]]


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
                next((role for key, role in GATE_ROLES.items() if attributes.get(key) == "true"), ""),
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
    elif _is_clock_gate(group, pins):
        kind = "clock gate"
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


def _is_clock_gate(group: Group, pins: dict[str, Pin]) -> bool:
    """Tell whether a cell is a clock gate with an enable and a clock, and no other input such as one for tests."""
    roles = sorted(pin.gate_role for pin in pins.values() if pin.direction in ("input", "output"))
    return group.attributes.get("clock_gating_integrated_cell") == CLOCK_GATE and roles == sorted(GATE_ROLES.values())


class Liberty:
    """A standard-cell library.

    Parameters
    ----------
    path : str or Path
        File, plain or gzip-compressed.

        Raises
        ------
        InvalidFileError
            The file is unreadable or lacks a cell that synthesis needs: a NAND2, an inverter, a buffer or a D
            flip-flop, each found by its function.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.text = read_text(path)
        group = parse(self.text)
        self.name = group.arguments
        self.cap_unit = _cap_unit(group)
        self.leakage_unit = _leakage_unit(group)
        self.voltage = group.number("nom_voltage", 1.0)
        default = group.number("default_input_pin_cap")
        self.cells = {cell.name: cell for cell in (_cell(g, self.cap_unit, default) for g in group.all("cell"))}
        usable = [cell for cell in self.cells.values() if not cell.dont_use and cell.area > 0 and not _is_special(cell)]
        if not usable:
            raise InvalidFileError(f"{self.path} must be a standard-cell library, but none of its cells has an area")
        # The smallest of several drive strengths is the unit; buffers and inverters are all kept, weakest first.
        self.nand2 = self._smallest(usable, (1, 1, 1, 0), "a two-input NAND")
        self.inverter = self._smallest(usable, (1, 0), "an inverter")
        self.buffers = self._all(usable, (0, 1))
        self.inverters = self._all(usable, (1, 0))
        self._smallest(usable, (0, 1), "a buffer")
        self.flip_flop = self._flip_flop(usable)
        # The smallest full adder, if there is one: (cell, output of the sum, output of the carry).
        self.full_adder = min(filter(None, map(_full_adder, usable)), key=lambda f: f[0].area, default=None)
        # The smallest clock gate, if there is one.  Libraries often mark them dont_use, as a mapper cannot choose them.
        gates = [cell for cell in self.cells.values() if cell.kind == "clock gate" and cell.area > 0]
        self.clock_gate = min(gates, key=lambda cell: (cell.area, cell.name), default=None)
        # Tie cells are often marked dont_use, as no mapper should choose them for logic.
        self.tie_low, self.tie_high = (next(iter(self._all(self.cells.values(), (bit,))), None) for bit in (0, 1))

    def _all(self, cells, table) -> list[Cell]:
        return sorted((cell for cell in cells if cell.truth_table == table), key=lambda cell: (cell.area, cell.name))

    def _smallest(self, cells, table, what: str) -> Cell:
        found = self._all(cells, table)
        if not found:
            raise InvalidFileError(f"{self.path} must have {what}, but no cell computes {table}")
        return found[0]

    def _flip_flop(self, cells) -> Cell:
        found = [cell for cell in cells if cell.kind == "flip-flop"]
        plain = [c for c in found if c.sequential.get("next_state", "").strip("()") in c.inputs]
        if not plain:
            raise InvalidFileError(f"{self.path} must have a D flip-flop, but no cell is one")
        return min(plain, key=lambda cell: (cell.area, cell.name))

    def drive(self, cell: Cell) -> float:
        """Drive strength of a buffer relative to the weakest one, from the largest loads that both may drive."""
        carried = [cell.pins[cell.outputs[0]].max_capacitance for cell in (cell, self.buffers[0])]
        return carried[0] / carried[1] if all(carried) else 1.0


def input_capacitance(cell: Cell) -> float:
    """Largest capacitance of an input pin, in farad."""
    return max((cell.pins[name].capacitance for name in cell.inputs), default=0.0)


def _full_adder(cell: Cell) -> tuple[Cell, str, str] | None:
    found = {table: output for output, table in cell.truth_tables.items()}
    return (cell, found[XOR3], found[MAJORITY]) if set(found) == {XOR3, MAJORITY} else None


def _is_special(cell: Cell) -> bool:
    lower = cell.name.lower()
    return any(pattern.strip("*").lower() in lower for pattern in SPECIAL_NAMES)
