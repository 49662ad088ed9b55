"""The register map as files for other tools: a C header, SystemRDL, and a table for people."""

from collections.abc import Sequence

from chessrnn.model.shell.registers import ACCESS_TEXT, CLEAR_BY_ONE, COMMAND, PASSED_ON, READ_ONLY, Register

RDL_ACCESS = {
    READ_ONLY: "sw = r; hw = w;",
    "rw": "sw = rw; hw = r; reset = 0;",
    CLEAR_BY_ONE: "sw = rw; hw = w; onwrite = woclr; reset = 0;",
    PASSED_ON: "sw = rw; hw = rw; swmod;",
    COMMAND: "sw = w; hw = r; singlepulse; reset = 0;",
}


def c_header(registers: Sequence[Register], prefix: str, label: str) -> str:
    """C header with the offset of every register, and shift and mask of every field."""
    name = prefix.upper()
    lines = [f"/* Registers of {prefix}_axi, {label}. */", f"#ifndef {name}_REGISTERS_H", f"#define {name}_REGISTERS_H"]
    for register in registers:
        own = f"{name}_{register.name.upper()}"
        lines += ["", f"/* {register.meaning} */", f"#define {own} 0x{register.offset:03x}u"]
        if register.constant is not None:
            lines.append(f"#define {own}_VALUE_EXPECTED 0x{register.constant:08x}u")
        for field in register.fields:
            lines.append(f"#define {own}_{field.name.upper()}_SHIFT {field.low}u  /* {field.meaning} */")
            lines.append(f"#define {own}_{field.name.upper()}_MASK 0x{((1 << field.width) - 1) << field.low:08x}u")
    return "\n".join([*lines, "", "#endif", ""])


def system_rdl(registers: Sequence[Register], prefix: str, label: str) -> str:
    """SystemRDL 2.0 of the map, for the generators of other flows."""
    lines = [f"// Registers of {prefix}_axi, {label}.", f"addrmap {prefix}_axi {{", "  default regwidth = 32;"]
    for register in registers:
        lines.append(f'  reg {{\n    desc = "{register.meaning}";')
        for field in register.fields:
            access = RDL_ACCESS[field.access] if field.value is None else f"sw = r; hw = na; reset = {field.value};"
            place = f"{field.low + field.width - 1}:{field.low}"
            lines.append(f'    field {{ desc = "{field.meaning}"; {access} }} {field.name}[{place}];')
        lines.append(f"  }} {register.name} @ 0x{register.offset:x};")
    return "\n".join([*lines, "};", ""])


def register_table(registers: Sequence[Register], with_values: bool = True) -> str:
    """Markdown table of every field; a page about all designs leaves out the values of constant ones."""
    rows = ["| address | register | bits | field | access | meaning |", "|---|---|---|---|---|---|"]
    for register in registers:
        for number, field in enumerate(register.fields):
            place = [f"`0x{register.offset:03x}`", f"`{register.name}`"] if number == 0 else ["", ""]
            value = "" if field.value is None or not with_values else f": {field.value:#x}"
            access = "constant" if field.value is not None else ACCESS_TEXT[field.access]
            rows.append(
                f"| {place[0]} | {place[1]} | {field.bits} | `{field.name}` | {access} | {field.meaning}{value} |"
            )
    return "\n".join(rows) + "\n"
