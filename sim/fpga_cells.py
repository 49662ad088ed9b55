"""Modules of a design that the build of a board replaces by cells of the FPGA.

They are multipliers, as DSP blocks whose own registers Yosys does not use by itself, and registers that it would merge.
The build reads the replacements after the device, in place of the modules of the same names.
"""

import json
import re
from collections import Counter
from pathlib import Path

from chessrnn.model.files import write_atomic

# chessrnn.hdl.arithmetic.multiplier names its modules by widths, registers of the product, and registers of operands.
MULTIPLIER = re.compile(r"^module (multiplier_(\d+)x(\d+)_s([01])(_r)?)\(", re.MULTILINE)
KEPT_REGISTER = re.compile(r"^module (kept_register_w(\d+))\(", re.MULTILINE)
OPERAND_BITS = 18


def fpga_cells(device: str, family: str) -> str:
    """Verilog of the modules of a device that are replaced for a family of FPGAs.

    Parameters
    ----------
    device : str
        Verilog of the device.
    family : str
        Family of the FPGA; the text is empty for all but ``"ecp5"``.
    """
    if family != "ecp5":
        return ""
    found = {match[1]: match for match in MULTIPLIER.finditer(device)}
    modules = [
        _ecp5_module(name, (int(match[2]), int(match[3])), bool(match[5]), match[4] == "1")
        for name, match in sorted(found.items())
        if (match[5] or match[4] == "1") and max(int(match[2]), int(match[3])) <= OPERAND_BITS
    ]
    kept = {match[1]: int(match[2]) for match in KEPT_REGISTER.finditer(device)}
    return "\n".join([*modules, *(_ecp5_register(name, width) for name, width in sorted(kept.items()))])


def _ecp5_module(name: str, widths: tuple[int, int], operand_register: bool, product_register: bool) -> str:
    """A multiplier as MULT18X18D (Lattice FPGA-TN-02205), with the ports of the module that it replaces."""
    clocks = {"REG_INPUTA_CLK": operand_register, "REG_INPUTB_CLK": operand_register}
    clocks |= {"REG_PIPELINE_CLK": False, "REG_OUTPUT_CLK": product_register}
    parameters = [f'.{clock}("{"CLK0" if used else "NONE"}")' for clock, used in clocks.items()]
    pins = [".CLK0(clk)", ".CE0(1'b1)", ".RST0(1'b0)", ".SIGNEDA(1'b1)", ".SIGNEDB(1'b1)"]
    pins += [".SOURCEA(1'b0)", ".SOURCEB(1'b0)"]
    # Narrow operands are extended by their sign; the product fits in as many bits as both have.
    for port, operand, width in (("A", "left", widths[0]), ("B", "right", widths[1])):
        pins += [f".{port}{bit}({operand}[{min(bit, width - 1)}])" for bit in range(OPERAND_BITS)]
    pins += [f".C{bit}(1'b0)" for bit in range(OPERAND_BITS)]
    pins += [f".P{bit}(product[{bit}])" for bit in range(sum(widths))]
    return (
        f"module {name}(input clk, input [{widths[0] - 1}:0] left, input [{widths[1] - 1}:0] right, "
        f"output [{sum(widths) - 1}:0] product);\n"
        f"  MULT18X18D #({', '.join(parameters)}) multiplier ({', '.join(pins)});\n"
        "endmodule\n"
    )


def _ecp5_register(name: str, width: int) -> str:
    """Flip-flops with the ports of the module that they replace."""
    parameters = '.GSR("AUTO"), .CEMUX("1"), .CLKMUX("CLK"), .LSRMUX("LSR"), .REGSET("RESET")'
    cells = "".join(
        f"  TRELLIS_FF #({parameters}) bit_{bit} (.CLK(clk), .LSR(1'b0), .DI(early[{bit}]), .Q(late[{bit}]));\n"
        for bit in range(width)
    )
    return f"module {name}(input clk, input [{width - 1}:0] early, output [{width - 1}:0] late);\n{cells}endmodule\n"


def end_carries(netlist: Path) -> None:
    """Disconnect the carry outputs of an ECP5 netlist that nothing reads, as nextpnr takes two LUTs for each of them.

    Parameters
    ----------
    netlist : Path
        Design in the JSON of Yosys, with one module that has cells of the FPGA; it is rewritten.
    """
    design = json.loads(netlist.read_text(encoding="utf-8"))
    for module in design["modules"].values():
        cells = module["cells"].values()
        read = Counter(bit for port in module["ports"].values() for bit in port["bits"])
        for cell in cells:
            inputs = (port for port, way in cell["port_directions"].items() if way != "output")
            read.update(bit for port in inputs for bit in cell["connections"].get(port, []))
        for cell in cells:
            if cell["type"] == "CCU2C" and not read[cell["connections"]["COUT"][0]]:
                cell["connections"]["COUT"] = ["x"]
    write_atomic(netlist, json.dumps(design))
