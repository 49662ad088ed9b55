"""Verilog models of a library's cells, from the functions in its Liberty file."""

from collections.abc import Iterable

from chessrnn.model.errors import InvalidFileError
from chessrnn.sim.synthesis.liberty import Cell, Expression, Liberty


def cell_models(liberty: Liberty, names: Iterable[str]) -> str:
    """Behavioural Verilog modules, without delays, of the cells called ``names``.

    Raises
    ------
    InvalidFileError
        The file does not give the function of a cell.
    """
    return "\n".join(_model(liberty.cells[name]) for name in sorted(set(names)))


def _model(cell: Cell) -> str:
    ports = [pin for pin in cell.pins.values() if pin.direction in ("input", "output")]
    lines = [f"module {cell.name}({', '.join(pin.name for pin in ports)});"]
    lines += [f"  {pin.direction} {pin.name};" for pin in ports]
    if cell.kind == "flip-flop":
        lines += _flip_flop(cell)
    elif cell.kind == "clock gate":
        return "\n".join([*lines, *_clock_gate(cell), "endmodule", ""])
    elif cell.kind != "comb":
        raise InvalidFileError(f"cell {cell.name} must be a gate or a flip-flop to be simulated, not {cell.kind!r}")
    states = {cell.sequential[key] for key in ("state", "inverse") if cell.sequential.get(key)}
    for pin in ports:
        if pin.direction == "output":
            if pin.function is None:
                raise InvalidFileError(f"output {pin.name} of cell {cell.name} must have a function")
            expression = Expression(pin.function, {*cell.inputs, *states})
            lines.append(f"  assign {pin.name} = {expression.verilog()};")
    return "\n".join([*lines, "endmodule", ""])


def _clock_gate(cell: Cell) -> list[str]:
    """Latch that is open while the clock is low, and holds the enable while it is high."""
    enable, clock, output = (cell.gate_pins[role] for role in ("enable", "clock", "output"))
    return [
        "  reg held_;",
        f"  always @* if (~{clock}) held_ = {enable};",
        f"  assign {output} = {clock} & held_;",
    ]


def _flip_flop(cell: Cell) -> list[str]:
    details = cell.sequential
    state, inverse = details["state"], details.get("inverse")
    names = {*cell.inputs, state, *([inverse] if inverse else [])}

    def expression(key: str) -> str | None:
        return Expression(details[key], names).verilog() if details.get(key) else None

    lines = [f"  reg {state};"]
    if inverse:
        lines.append(f"  wire {inverse} = ~{state};")
    lines += [f"  wire clock_ = {expression('clocked_on')};", f"  wire next_ = {expression('next_state')};"]
    clear, preset = expression("clear"), expression("preset")
    edges, body = ["posedge clock_"], f"{state} <= next_;"
    # Clear encloses preset and so wins where both are active, as in most libraries.
    for name, value, level in (("preset_", preset, "1'b1"), ("clear_", clear, "1'b0")):
        if value:
            lines.append(f"  wire {name} = {value};")
            edges.append(f"posedge {name}")
            body = f"if ({name}) {state} <= {level}; else {body}"
    return [*lines, f"  always @({' or '.join(edges)}) {body}"]
