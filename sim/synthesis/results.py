"""Figures of a synthesized design as the plain JSON values of ``report.json``."""

from chessrnn.model.config import Config
from chessrnn.model.cost import area as silicon
from chessrnn.model.cost.design_report import design_report
from chessrnn.model.schedule import Schedule
from chessrnn.sim.synthesis import opensta
from chessrnn.sim.synthesis.flow import Synthesis
from chessrnn.sim.synthesis.netlist import is_clock_gate
from chessrnn.sim.synthesis.timing import Stage
from chessrnn.sim.synthesis.units import role_of
from chessrnn.sim.synthesis.yosys import yosys_version

REPORTED_STAGES, REPORTED_MEMORY_STAGES = 200, 5


def nand2_area(result: Synthesis) -> float:
    """Area of a NAND2 in µm²; 1 without a library, where areas are in gate equivalents already."""
    return result.library.liberty.nand2.area if result.library else 1.0


def module_table(result: Synthesis) -> list[dict]:
    """Table of all modules from the top down, with the gate equivalents of one instance and of all."""
    netlist, unit = result.netlist, nand2_area(result)
    worst = result.timing.by_module() if result.timing else {}
    table = []
    for name in reversed(netlist.bottom_up):
        area, count = result.areas[name], netlist.counts[name]
        row = {
            "module": name,
            "role": role_of(name),
            "count": count,
            "own_gates": area.own / unit,
            "total_gates": area.total / unit,
            "own_sequential_gates": area.own_sequential / unit,
            "own_combinational_gates": area.own_combinational / unit,
            "total_sequential_gates": area.total_sequential / unit,
            "all_own_gates": area.own * count / unit,
            "flip_flops": area.flip_flops,
            "cells": area.cells,
            "depth": area.depth,
            "effort": result.efforts.get(name),
            "children": dict(netlist.children(name)),
        }
        if name in worst and result.timing is not None:
            stage = worst[name]
            row["worst_fo4"] = stage.period / result.timing.fo4
            row["worst_inside_fo4"] = stage.spent.get(name, 0.0) / result.timing.fo4
        table.append(row)
    return table


def timing_values(result: Synthesis, target_fo4: float) -> dict | None:
    """Shortest clock period and the longest paths; ``None`` for a design that is not timed."""
    timing = result.timing
    if timing is None:
        return None
    period, fo4 = timing.period, timing.fo4
    logic, memory = (timing.longest(from_memory=from_memory) for from_memory in (False, True))
    return {
        "fo4_ps": fo4 * 1e12,
        "target_fo4": target_fo4,
        "period_ps": period * 1e12,
        "period_fo4": period / fo4,
        "logic": _path(logic, fo4) if logic else None,
        "memory": _path(memory, fo4) if memory else None,
        "max_clock_mhz": 1e-6 / period if period else None,
        "stages": len(timing.stages),
        "stages_over_target": sum(stage.period > target_fo4 * fo4 for stage in timing.stages),
        "logic_stages_over_target": sum(
            stage.period > target_fo4 * fo4 and not stage.from_memory for stage in timing.stages
        ),
        "equal_instances_left_out": timing.reduced,
        "paths": [
            {
                **_path(stage, fo4),
                "cells": stage.cells,
                "fo4_by_module": {module: spent / fo4 for module, spent in stage.spent.items() if spent > 0.005 * fo4},
            }
            for stage in _reported(timing.stages)
        ],
    }


def _reported(stages: list[Stage]) -> list[Stage]:
    """Stages that are reported, longest first: the longest of logic and the longest from memories."""
    logic = [stage for stage in stages if not stage.from_memory][:REPORTED_STAGES]
    memory = [stage for stage in stages if stage.from_memory][:REPORTED_MEMORY_STAGES]
    return sorted([*logic, *memory], key=lambda stage: -stage.period)


def _path(stage: Stage, fo4: float) -> dict:
    """Start, end and length of a path."""
    period = stage.period
    return {"from": list(stage.start), "to": list(stage.end), "ps": period * 1e12, "fo4": period / fo4}


def memory_values(result: Synthesis, word_bits: int) -> dict:
    """Memories as macros of words of up to ``word_bits``, with their area in the library's process and in 90 nm."""
    rows = []
    for macro, count, names in result.netlist.memories():
        area_90nm, kind = silicon.memory_area_90nm(macro.width, macro.depth, macro.two_port, word_bits)
        row = {
            "name": names[0] if count == 1 else f"{names[0]} and {count - 1} alike",
            "count": count,
            "words": macro.depth,
            "width": macro.width,
            "ports": "read, write" if macro.two_port else "read",
            "bits": macro.bits * count,
            "area_90nm_mm2": area_90nm * count / 1e6,
            "built_as_90nm": kind,
        }
        if result.memory:
            layout = result.liberty.nand2.area / silicon.UTILISATION
            area, kind = result.memory.sram.area(macro.width, macro.depth, macro.two_port, layout, word_bits)
            row |= {"area_mm2": area * count / 1e6, "built_as": kind}
        rows.append(row)
    return {
        "rows": rows,
        "bits": sum(row["bits"] for row in rows),
        "area_90nm_mm2": sum(row["area_90nm_mm2"] for row in rows),
        "area_mm2": sum(row["area_mm2"] for row in rows) if result.memory else None,
        "model_90nm": silicon.SRAM_90NM.describe(word_bits),
        "model": result.memory.sram.describe(word_bits) if result.memory else None,
        "timing": result.memory.timing_text() if result.memory else None,
    }


def comparison(config: Config, gates: float, memory_90nm_mm2: float, bits: int, clock_mhz: float | None) -> dict:
    """Comparison of the design with the paper's, in 90 nm equivalents."""
    cycles, paper = Schedule(config).initiation_interval, silicon.PAPER
    logic = silicon.logic_area_90nm(gates) / 1e6
    low, high = (area / 1e6 for area in silicon.logic_area_90nm_range(gates))
    total, total_low, total_high = (area + memory_90nm_mm2 for area in (logic, low, high))
    tops = silicon.tera_operations(config, cycles)
    values = {
        "cycles_per_step": cycles,
        "clock_mhz": silicon.CLOCK_HZ / 1e6,
        "step_us": cycles / silicon.CLOCK_HZ * 1e6,
        "tops": tops,
        "logic_mm2": logic,
        "logic_mm2_range": [low, high],
        "memory_mm2": memory_90nm_mm2,
        "area_mm2": total,
        "area_mm2_range": [total_low, total_high],
        "tops_per_mm2": tops / total,
        "tops_per_mm2_range": [tops / total_high, tops / total_low],
        "on_chip_kilobytes": bits / 8 / 1000,
        "paper": {
            "name": paper.name,
            "step_us": paper.step_us,
            "tops": paper.tops,
            "area_mm2": paper.area_mm2,
            "tops_per_mm2": paper.tops_per_mm2,
            "on_chip_kilobytes": paper.on_chip_kilobytes,
        },
    }
    if clock_mhz:
        values["at_the_library_clock"] = {
            "clock_mhz": clock_mhz,
            "step_us": cycles / clock_mhz,
            "tops": silicon.tera_operations(config, cycles, clock_mhz * 1e6),
        }
    return values


def report_values(result: Synthesis, config: Config, target_fo4: float, whole: bool) -> dict:
    """All figures that the reports show.

    Parameters
    ----------
    whole : bool
        Whether the result is the whole accelerator rather than one unit of it.
    """
    netlist, unit = result.netlist, nand2_area(result)
    top = result.areas[netlist.top]
    timing = timing_values(result, target_fo4)
    memory = memory_values(result, silicon.macro_word_bits(config))
    gates = top.total / unit
    library = result.library
    return {
        "name": config.name,
        "configuration": config.fingerprint,
        "top": netlist.top,
        "engine": config.architecture.engine,
        "design": design_report(config) if whole else None,
        "tools": {"pyosys": yosys_version(), "opensta": opensta.version() if result.timing else None},
        "library": {
            "name": library.name,
            "nand2": library.liberty.nand2.name,
            "nand2_area_um2": library.liberty.nand2.area,
            "flip_flop": library.liberty.flip_flop.name,
            "sram_macros": [macro.name for macro in library.macros],
        }
        if library
        else None,
        "logic": {
            "gates": gates,
            "sequential_gates": top.total_sequential / unit,
            "combinational_gates": top.total_combinational / unit,
            "flip_flops": top.flip_flops,
            "clock_gates": sum(
                number
                for kind, number in netlist.cell_counts().items()
                if is_clock_gate(kind, library.liberty if library else None)
            ),
            "cells": top.cells,
            "area_mm2": top.total / 1e6 if library else None,
            "layout_mm2": top.total / silicon.UTILISATION / 1e6 if library else None,
        },
        "modules": module_table(result),
        "memory": memory,
        "timing": timing,
        "timing_note": result.note,
        "comparison": comparison(
            config, gates, memory["area_90nm_mm2"], memory["bits"], timing["max_clock_mhz"] if timing else None
        )
        if whole
        else None,
        "seconds": {name: round(value, 1) for name, value in result.seconds.items()},
    }
