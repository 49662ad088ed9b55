"""Memories as macros: their Liberty text and their energy per access, from SRAM files or from assumptions."""

import re
from dataclasses import dataclass
from pathlib import Path

from chessrnn.model.cost.area import SRAM_IHP130, UTILISATION, SramModel, scaled_sram
from chessrnn.model.errors import InvalidFileError
from chessrnn.sim.synthesis.liberty import Liberty, input_capacitance, parse, read_text
from chessrnn.sim.synthesis.netlist import MEMORY_MODULES, MEMORY_PIN_LOAD, Instance, MemoryMacro, Netlist, memory_of

# Assumed timing of a compiled memory in the process of the logic.
ACCESS_FO4 = 20.0
SETUP_FO4 = 4.0
# Model of the energy of a read, in units of C·V² with C the input of the weakest inverter: bit lines and sense
# amplifiers for each bit of the word, and decoder and word line for each access.  It is calibrated on the SRAM macros
# of a 130 nm process, whose own tables replace the model where they are given.
READ_ENERGY_PER_BIT = 180.0
READ_ENERGY_FIXED = 2000.0
WRITE_OVER_READ = 1.28


@dataclass(frozen=True)
class SramMacro:
    """A characterised single-port SRAM macro.

    Attributes
    ----------
    access_ns : float
        Delay from clock to output at the smallest load.
        read_pj, write_pj : float
        Energy of an access, including the internal power of the clock pin.
    """

    name: str
    words: int
    width: int
    area: float
    access_ns: float
    read_pj: float
    write_pj: float


def read_sram(path: Path) -> SramMacro:
    """Read the SRAM macro that a Liberty file describes."""
    text = read_text(path)
    library = parse(text)
    cells = library.all("cell")
    memory = [(cell, cell.all("memory")[0]) for cell in cells if cell.all("memory")]
    if len(memory) != 1:
        raise InvalidFileError(f"{path} must hold one memory cell, not {len(memory)}")
    cell, details = memory[0]
    delays = re.findall(r"cell_(?:rise|fall)\s*\([^)]*\)\s*\{.*?values\s*\(\s*\"([\d.]+)", text, re.DOTALL)
    energies = {}
    for condition, value in re.findall(
        r"when\s*:\s*\"([^\"]*)\"\s*;\s*rise_power\s*\(\s*\"?scalar\"?\s*\)\s*\{\s*values\s*\(\s*\"?([\d.]+)", text
    ):
        key = re.sub(r"\s+", "", condition)
        energies.setdefault(key, float(value))
    if not delays:
        raise InvalidFileError(f"{path} must hold the delay of its outputs")
    return SramMacro(
        cell.arguments,
        1 << int(details.number("address_width")),
        int(details.number("word_width")),
        cell.number("area"),
        max(map(float, delays)),
        energies.get("A_MEN&!A_WEN&A_REN", 0.0),
        energies.get("A_MEN&A_WEN&!A_REN", 0.0),
    )


class MemoryModel:
    """Model of the area, timing and energy of memories in the process of a library.

    Parameters
    ----------
    liberty : Liberty
        Standard cells of the process.
    fo4 : float or None
        Measured fan-out-of-four delay in seconds; ``None`` where timing is not wanted.
    macros : list of SramMacro
        Characterised macros of the same process; may be empty.
    access_fo4 : float
        Delay from clock to output where no macro gives it.
    """

    def __init__(self, liberty: Liberty, fo4: float | None, macros: list[SramMacro], access_fo4: float = ACCESS_FO4):
        self.liberty, self.fo4, self.access_fo4 = liberty, fo4, access_fo4
        self.macros = sorted(macros, key=lambda macro: macro.words)

    @property
    def _fo4(self) -> float:
        """Measured fan-out-of-four delay in seconds, where timing is wanted."""
        assert self.fo4 is not None
        return self.fo4

    @property
    def sram(self) -> SramModel:
        """Area model, from the macros where they are given, else scaled from 90 nm."""
        if len(self.macros) >= 2:
            # The model is the line through the smallest and the largest macro.
            low, high = self.macros[0], self.macros[-1]
            bits = (low.words * low.width, high.words * high.width)
            slope = (high.area - low.area) / (bits[1] - bits[0])
            return SramModel(f"line through {low.name} and {high.name}", low.area - slope * bits[0], slope)
        if "sg13g2" in self.liberty.name.lower():
            return SRAM_IHP130
        return scaled_sram(self.liberty.name, self.liberty.nand2.area)

    def liberty_text(self, netlist: Netlist, stubs: set[str]) -> str:
        """Liberty text of a cell for every memory and for every module that is represented only by its input loads."""
        unit = input_capacitance(self.liberty.inverter)
        pin_cap = MEMORY_PIN_LOAD * unit * 1e12
        setup = SETUP_FO4 * self._fo4 * 1e9
        slew = self._fo4 * 1e9
        lines = [LIBRARY_HEADER]
        seen = set()
        for name in netlist.bottom_up:
            for instance in netlist.modules[name].instances:
                macro = memory_of(instance) if instance.type in MEMORY_MODULES else None
                if macro and macro not in seen:
                    seen.add(macro)
                    access = self.access_ns(macro)
                    lines.append(self._macro(instance, macro.cell_name, pin_cap, access, setup, slew))
        loads = netlist.input_loads(self.liberty)
        for name in sorted(stubs):
            lines.append(f"cell (load_{name}) {{ area : 0;")
            for port, caps in loads[name].items():
                for pin, cap in zip(_scalar(port, len(caps)), caps, strict=True):
                    # NaN marks a clock pin, whose load is 0, as the clock is ideal.
                    value = 0.0 if cap != cap else cap * 1e12
                    lines.append(f"pin ({pin}) {{ direction : input; capacitance : {value:.6f}; }}")
            lines.append("}")
        lines.append("}\n")
        return "\n".join(lines)

    def _macro(self, instance: Instance, name: str, pin_cap: float, access: float, setup: float, slew: float) -> str:
        lines = [f"cell ({name}) {{ area : 0;"]
        for port, bits in instance.pins.items():
            for pin in _scalar(port, len(bits)):
                if instance.directions.get(port) == "output":
                    lines.append(
                        f'pin ({pin}) {{ direction : output; max_capacitance : 1; timing () {{ related_pin : "clk"; '
                        f"timing_type : rising_edge; "
                        f'cell_rise (scalar) {{ values ("{access:.5f}"); }} '
                        f'cell_fall (scalar) {{ values ("{access:.5f}"); }} '
                        f'rise_transition (scalar) {{ values ("{slew:.5f}"); }} '
                        f'fall_transition (scalar) {{ values ("{slew:.5f}"); }} }} }}'
                    )
                elif port == "clk":
                    lines.append(f"pin ({pin}) {{ direction : input; clock : true; capacitance : {pin_cap:.6f}; }}")
                else:
                    lines.append(
                        f"pin ({pin}) {{ direction : input; capacitance : {pin_cap:.6f}; timing () {{ "
                        f'related_pin : "clk"; timing_type : setup_rising; '
                        f'rise_constraint (scalar) {{ values ("{setup:.5f}"); }} '
                        f'fall_constraint (scalar) {{ values ("{setup:.5f}"); }} }} }}'
                    )
        lines.append("}")
        return "\n".join(lines)

    def access_ns(self, memory: MemoryMacro) -> float:
        """Delay from clock to output of a memory, from a macro that is deep enough or, where there is none, assumed."""
        layout = self.liberty.nand2.area / UTILISATION
        _, kind = self.sram.area(memory.width, memory.depth, memory.two_port, layout)
        if self.macros and kind == "macro":
            return self._deep_enough(memory.depth).access_ns
        return self.access_fo4 * self._fo4 * 1e9

    def timing_text(self) -> str:
        """Description of the assumptions about the timing of memories."""
        text = f"memories are assumed to take {self.access_fo4:g} FO4 to their output and {SETUP_FO4:g} FO4 setup"
        if self.macros:
            text += f"; those built as macros take the output delay of {self.macros[0].name} and its larger versions"
        return text

    def _deep_enough(self, depth: int) -> SramMacro:
        return next((macro for macro in self.macros if macro.words >= depth), self.macros[-1])

    def energy_pj(self, width: int, depth: int, voltage: float) -> tuple[float, float, str]:
        """Energies of a read and a write of one word, and the origin of these figures."""
        if self.macros:
            macro = self._deep_enough(depth)
            share = width / macro.width
            return macro.read_pj * share, macro.write_pj * share, f"{macro.name}, {share:.2f} of its width"
        unit = input_capacitance(self.liberty.inverter) * voltage**2 * 1e12
        read = unit * (READ_ENERGY_FIXED + READ_ENERGY_PER_BIT * width * (0.5 + depth / 1024))
        return read, read * WRITE_OVER_READ, "model"


LIBRARY_HEADER = """\
library (chessrnn_macros) {
  delay_model : table_lookup; time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1mA";
  capacitive_load_unit (1, pf); pulling_resistance_unit : "1kohm"; leakage_power_unit : "1nW";
  nom_process : 1; nom_voltage : 1; nom_temperature : 25;
  input_threshold_pct_rise : 50; input_threshold_pct_fall : 50;
  output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;
  slew_lower_threshold_pct_rise : 30; slew_upper_threshold_pct_rise : 70;
  slew_lower_threshold_pct_fall : 30; slew_upper_threshold_pct_fall : 70;"""


def _scalar(port: str, width: int) -> list[str]:
    return [port] if width == 1 else [f"{port}_{i}_" for i in range(width)]
