"""Roles of modules in the block diagram, which ``--unit`` may name and by which reports group modules."""

import fnmatch

from chessrnn.model.errors import InvalidValueError, shown

# Patterns of module names in the emitted Verilog, by role.  No other place knows them.
ROLES = {
    "pe": ("pe_*",),
    "weight": ("weight_direct_*", "weight_fast_*", "slot_select_*"),
    "dot_product": ("dot_product_*",),
    "join": ("carry_save_join_*",),
    "multiplier": ("multiplier_*", "carry_save_product_*"),
    "adder_tree": ("adder_tree_*",),
    "accumulator": ("accumulator_*",),
    "row": ("row",),
    "operand": ("operand_*",),
    "transform": ("forward_transform_*",),
    "inverse": ("inverse_transform_*",),
    "activation": ("sigmoid_*", "tanh_*"),
    "cell": ("cell_lane*", "reset_first_lane*"),
    "projection": ("projection*",),
    "cell_update": ("cell_update*", "staged_update*"),
    "drain": ("drain*",),
    "matvec": ("matvec*",),
    "controller": ("controller*", "pass_controller*"),
    "vectors": ("vector_memory*", "pass_vector_memory*"),
    "state": ("state_access*",),
    "sequencer": ("sequencer*",),
    "output": ("output_buffer*",),
    "output_layer": ("output_layer*", "output_lane*", "step_memory*", "largest*", "result_queue*"),
    "address": ("weight_address", "unit_address", "bank_writer_*"),
}


def role_of(module: str) -> str | None:
    """Role of a module, or ``None`` for one that belongs to no role."""
    for role, patterns in ROLES.items():
        if any(fnmatch.fnmatchcase(module, pattern) for pattern in patterns):
            return role
    return None


def modules_of(unit: str, modules: list[str]) -> list[str]:
    """Modules that have a role or an exact name.

    Raises
    ------
    InvalidValueError
        The design has no such module.
    """
    found = [name for name in modules if name == unit or role_of(name) == unit]
    if not found:
        present = sorted({role for role in map(role_of, modules) if role})
        raise InvalidValueError(
            f"unit must be one of {', '.join(present)} or a module of the design, not {shown(unit)}"
        )
    return found
