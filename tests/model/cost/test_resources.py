import pytest

from chessrnn.model.cost import resources
from chessrnn.model.cost.design_report import design_report, table
from chessrnn.model.cost.estimate import estimate
from chessrnn.model.memory_image import initialised_memories, state_memories
from chessrnn.model.presets import preset
from chessrnn.model.schedule import Schedule


@pytest.mark.parametrize(("k", "direct", "fast"), [(2, 4, 2), (4, 16, 5), (8, 64, 14), (16, 256, 41)])
def test_products_per_block(k, direct, fast):
    base = preset("tiny").replace({"compression.block_size": k, "architecture.tile_rows": 1})
    assert resources.products_per_block(base) == direct
    assert resources.products_per_block(base.replace({"architecture.engine": "fast"})) == fast


def test_the_papers_parallelism():
    config = preset("lm512").replace({"architecture.engine": "fast"})
    assert resources.macs_per_cycle(config) == 2048
    assert resources.matvec_multipliers(config) == 448


@pytest.mark.parametrize(("kind", "per_lane"), [("pwl", 8), ("shift", 3)])
def test_cell_multipliers(kind, per_lane):
    config = preset("char128").replace({"activation.kind": kind, "activation.segments": 4})
    assert resources.cell_multipliers(config) == Schedule(config).cell_lanes * per_lane
    assert resources.multipliers(config) == 16 * 14 + resources.cell_multipliers(config)


def test_row_scales_are_counted():
    plain = preset("char128").replace({"architecture.cell_lanes": 4, "architecture.lookahead": 10})
    rows, lanes = plain.replace({"quantization.weight_scale": "row"}), 4
    bits = 4 * 16 * 8
    assert resources.cell_multipliers(rows) == resources.cell_multipliers(plain) + 4 * lanes
    assert resources.memory_bits(rows) == resources.memory_bits(plain) | {"scale": bits}
    report = design_report(rows)
    assert report["memory_bits"]["scale"] == bits
    assert report["compression"]["weight_bytes"] == plain.weight_bytes + bits // 8
    assert report["compression"]["removed_percent"] < design_report(plain)["compression"]["removed_percent"]
    assert estimate(rows).cell_update > estimate(plain).cell_update


def test_report_adds_up():
    config = preset("char128")
    report = design_report(config)
    specs = [*initialised_memories(config), *state_memories(config)]
    assert sum(resources.memory_bits(config).values()) == report["memory_bits"]["total"]
    assert report["memory_bits"]["total"] == sum(spec.bits for spec in specs)
    assert report["memory_bits"]["weights"] == 8 * config.weight_bytes
    assert report["compression"]["ratio"] == 32
    assert report["compression"]["removed_percent"] == 96.88
    assert report["cycles"]["initiation_interval"] == 16 * 6 + report["cycles"]["overhead"]
    assert all(isinstance(value, str) for _, value in table(report))
