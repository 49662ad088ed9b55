"""Names of emitted modules and memory files: a prefix that keeps two designs apart, and the folder of the files.

Yosys prints one statement per line, so definitions and instances are found without a Verilog parser.  A line that
should contain a name and does not is an internal error and is not skipped.
"""

import re

from chessrnn.hdl.memory import ROM_MODULE, WEIGHT_RAM_MODULE

# ``module name(…)`` or ``module name #(``; ``  name instance (`` or ``  name #(``.
_DEFINITION = re.compile(r"^module (\S+?)(?: (#)?)?\(")
_INSTANCE = re.compile(r"^  (\S+) (#\(|\S+ +\()")
MEM_DIR = "MEM_DIR"


def prefix_of(name: str) -> str:
    """The Verilog identifier that a configuration's name is turned into, used as a prefix."""
    identifier = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return identifier if identifier[:1].isalpha() or identifier.startswith("_") else f"n{identifier}"


def with_prefix(verilog: str, prefix: str) -> str:
    """Put a prefix in front of every module and memory file, and pass the folder of the files down from the top.

    Every module that contains an initialised memory, directly or in a submodule, gets the parameter ``MEM_DIR``: the
    folder of the ``$readmemh`` files.  Its default is the folder in which the tool runs.

    Parameters
    ----------
    verilog : str
        Text printed by Yosys, followed by the wrappers of the memories.
    prefix : str
        A Verilog identifier; ``prefix_`` goes in front of every name.
    """
    lines = verilog.split("\n")
    owner, defined, instances = None, set(), {}
    for line in lines:
        if found := _DEFINITION.match(line):
            owner = found[1]
            defined.add(owner)
            instances[owner] = set()
        elif (found := _INSTANCE.match(line)) and owner is not None:
            instances[owner].add(found[1])
    wrappers = {ROM_MODULE, WEIGHT_RAM_MODULE} & defined
    assert wrappers, "the wrappers of the memories belong to the text"
    initialised = set(wrappers)
    while grown := {name for name, below in instances.items() if below & initialised} - initialised:
        initialised |= grown
    return "\n".join(_renamed(line, prefix, defined, initialised, wrappers) for line in lines)


def _renamed(line: str, prefix: str, defined: set[str], initialised: set[str], wrappers: set[str]) -> str:
    """One line with its module's name, memory file and parameter list replaced."""
    if found := _DEFINITION.match(line):
        name = found[1]
        if name in initialised and name not in wrappers:
            assert not found[2], f"{name} has parameters already"
            return f'module {prefix}_{name} #(parameter {MEM_DIR} = ".") (' + line[found.end() :]
        return line.replace(f"module {name}", f"module {prefix}_{name}", 1)
    if (found := _INSTANCE.match(line)) and found[1] in defined:
        name, rest = found[1], line[2 + len(found[1]) + 1 :]
        if name not in initialised:
            return f"  {prefix}_{name} {rest}"
        if rest.startswith("#("):
            return f"  {prefix}_{name} #(\n    .{MEM_DIR}({MEM_DIR}),{rest[2:]}"
        return f"  {prefix}_{name} #(.{MEM_DIR}({MEM_DIR})) {rest}"
    return re.sub(r'^(    \.INIT_FILE\(")', rf"\1{prefix}_", line)
