"""The predicted figures of a design point: ``report.json``, and the table that commands print."""

from chessrnn.model.config import Config
from chessrnn.model.config_values import to_plain
from chessrnn.model.cost import resources
from chessrnn.model.cost.estimate import parity_gates
from chessrnn.model.memory_image import initialised_memories, state_memories
from chessrnn.model.schedule import Schedule


def design_report(config: Config) -> dict:
    """Cycles, parallelism, memories and compression of a configuration, as plain JSON values.

    Block columns and column groups are counted over all layers, and over both directions of a bidirectional network.
    """
    schedule, arch, q = Schedule(config), config.architecture, config.quantization
    weights, state = initialised_memories(config), state_memories(config)
    parameters = {spec.name: spec.bits for spec in weights[config.num_weight_memories :]}
    return {
        "name": config.name,
        "configuration": config.fingerprint,
        "model_configuration": config.model_fingerprint,
        "network": {
            "cell": config.network.cell,
            "input_size": config.network.input_size,
            "hidden_size": to_plain(config.network.hidden_size),
            "num_layers": config.network.num_layers,
            "projection_size": config.network.projection_size,
            "bidirectional": config.network.bidirectional,
        },
        "division": {
            "block_size": config.block_size,
            "num_row_blocks": config.num_row_blocks,
            "num_col_blocks": config.directions * sum(part.blocks for part in config.parts),
            "tile_rows": arch.tile_rows,
            "tile_cols": arch.tile_cols,
            "num_row_groups": config.num_row_groups,
            "num_col_groups": config.directions * sum(part.col_groups for part in config.parts),
            "engine": arch.engine,
        },
        "cycles": {
            "initiation_interval": schedule.initiation_interval,
            "ideal_interval": schedule.ideal_interval,
            "overhead": schedule.overhead,
            "first_step_latency": schedule.first_step_latency,
            "latency": beat_latency(schedule),
            "matvec_latency": schedule.matvec_latency,
            "epilogue_latency": schedule.epilogue_latency(),
            **(_sequence_cycles(schedule) if config.network.bidirectional else {}),
            **({"output_latency": config.required_output_plan.latency} if arch.output_layer else {}),
        },
        "parallelism": {
            "macs_per_cycle": resources.macs_per_cycle(config),
            "matvec_multipliers": resources.matvec_multipliers(config),
            "cell_multipliers": resources.cell_multipliers(config),
            **({"output_multipliers": resources.output_multipliers(config)} if arch.output_layer else {}),
            "multipliers": resources.multipliers(config),
            "cell_lanes": schedule.cell_lanes,
            "lookahead": schedule.lookahead,
        },
        "numerics": {
            "weight_bits": to_plain(q.weight_bits),
            "accumulator_bits": config.accumulator_bits,
            "formats": config.formats,
        },
        "memories": [
            {"name": spec.name, "words": spec.depth, "bits_per_word": spec.width, "bits": spec.bits}
            for spec in (*weights, *state)
        ],
        "memory_bits": {
            "weights": sum(spec.bits for spec in weights[: config.num_weight_memories]),
            **parameters,
            "state": sum(spec.bits for spec in state),
            "total": sum(spec.bits for spec in (*weights, *state)),
        },
        **({"banks_per_memory": config.banks_per_memory} if config.banks_per_memory > 1 else {}),
        **(
            {"parity": {"bits": sum(spec.depth for spec in (*weights, *state)), "gates": round(parity_gates(config))}}
            if arch.parity == "word"
            else {}
        ),
        "compression": {
            "weight_bytes": config.weight_bytes,
            "dense_float32_bytes": config.dense_float_bytes,
            "ratio": round(config.dense_float_bytes / config.weight_bytes, 2),
            "removed_percent": round(100 * (1 - config.weight_bytes / config.dense_float_bytes), 2),
        },
    }


def _sequence_cycles(schedule: Schedule) -> dict:
    """Cycles of the longest sequence of a bidirectional network: of a single one, and of each of many in a row."""
    steps = schedule.config.sequence_steps
    ends = schedule.timeline([steps] * 3).last_beat[steps - 1 :: steps]
    return {"sequence_steps": steps, "sequence_latency": ends[0] + 1, "sequence_interval": ends[2] - ends[1]}


def beat_latency(schedule: Schedule) -> dict[str, int]:
    """Cycles from taking beats of x to sending beats of h, in the first step after a reset without pauses.

    A latency of n means that the beat of h leaves n clock edges after the edge that takes the beat of x.
    """
    trace = schedule.trace([1])
    return {
        f"{x}_x_to_{h}_h": trace.h_beats[to] - trace.x_beats[since]
        for x, since in (("first", 0), ("last", -1))
        for h, to in (("first", 0), ("last", -1))
    }


def table(report: dict) -> list[tuple[str, str]]:
    """Rows (name, value) of the table with the main figures of a report."""
    cycles, division, parallel = report["cycles"], report["division"], report["parallelism"]
    bits, compression = report["memory_bits"], report["compression"]
    kinds = " + ".join(f"{size} {kind}" for kind, size in bits.items() if kind != "total")
    tiles = f"{division['num_row_groups']} row groups x {division['num_col_groups']} column groups"
    if division["num_row_groups"] * division["num_col_groups"] != cycles["ideal_interval"]:
        # The parts differ in their number of rows, so the product of both groups is not the number of tiles.
        tiles = f"{cycles['ideal_interval']} tiles"
    rows = [
        ("configuration", f"{report['name']} {report['configuration']}"),
        ("cycles per step", f"{cycles['initiation_interval']} predicted = {tiles} + {cycles['overhead']} overhead"),
        ("first-step latency", f"{cycles['first_step_latency']} cycles"),
        ("latency", _latency_text(cycles["latency"])),
        *_sequence_rows(cycles),
        *(
            [("output layer", f"{cycles['output_latency']} cycles from a step's last beat of h to its result")]
            if "output_latency" in cycles
            else []
        ),
        (
            "products per cycle",
            f"{parallel['multipliers']} = {parallel['matvec_multipliers']} in {division['tile_rows']} x "
            f"{division['tile_cols']} processing elements (engine {division['engine']}) + "
            f"{parallel['cell_multipliers']} in the cell update"
            + (f" + {parallel['output_multipliers']} in the output layer" if "output_multipliers" in parallel else ""),
        ),
        ("multiply-accumulates", f"{parallel['macs_per_cycle']} per cycle, counted on the uncompressed network"),
        ("cell lanes", str(parallel["cell_lanes"])),
        ("lookahead", f"{parallel['lookahead']} row groups"),
        _weight_memory_row(report),
        (
            "memory",
            f"{bits['total']} bits = {kinds}, buffers",
        ),
        *(
            [("parity", f"{report['parity']['bits']} of these bits, about {report['parity']['gates']} gates")]
            if "parity" in report
            else []
        ),
        (
            "weights",
            f"{compression['weight_bytes']} bytes against {compression['dense_float32_bytes']} in dense float32: "
            f"{compression['removed_percent']} % removed ({compression['ratio']} x)",
        ),
    ]
    return rows


def _weight_memory_row(report: dict) -> tuple[str, str]:
    """Row of a weight bank or, where several share a memory, of such a memory."""
    memory = report["memories"][0]
    size = f"{memory['words']} words x {memory['bits_per_word']} bits = {memory['bits']} bits"
    if "banks_per_memory" not in report:
        return "weight bank", size
    banks = report["division"]["tile_rows"] * report["division"]["tile_cols"]
    held = report["banks_per_memory"]
    return "weight memory", f"{size}, of {held} banks; {-(-banks // held)} memories for {banks} banks"


def _latency_text(latency: dict[str, int]) -> str:
    """The four latencies of beats in one line."""
    first, last = (f"{latency[f'{x}_x_to_first_h']} and {latency[f'{x}_x_to_last_h']}" for x in ("first", "last"))
    return f"{first} cycles from the first beat of x to the first and last of h, {last} from the last beat of x"


def _sequence_rows(cycles: dict) -> list[tuple[str, str]]:
    if "sequence_steps" not in cycles:
        return []
    text = f"{cycles['sequence_latency']} cycles from its first beat of x to its last of h"
    return [(f"sequence of {cycles['sequence_steps']}", f"{text}, {cycles['sequence_interval']} each, back to back")]
