import pytest

from chessrnn.model.cost import resources
from chessrnn.model.cost.area import SRAM_90NM, num_macros
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


def test_shared_memories_are_counted():
    """The weights are as many bits in fewer memories; only the fixed area of macros becomes less."""
    alone = preset("lm512_quarter").replace({"quantization.weight_bits": 4})
    shared = {width: alone.replace({"architecture.memory_width": width}) for width in (64, 128, 256)}
    assert {width: config.num_weight_memories for width, config in shared.items()} == {64: 112, 128: 56, 256: 28}
    assert num_macros(alone) - num_macros(shared[64]) == 112
    report, parts = design_report(shared[64]), estimate(alone)
    assert report["memory_bits"] == design_report(alone)["memory_bits"]
    assert report["cycles"] == design_report(alone)["cycles"]
    assert dict(table(report))["weight memory"].endswith("of 2 banks; 112 memories for 224 banks")
    found = estimate(shared[64])
    assert found.gate_equivalents == parts.gate_equivalents
    assert parts.memory_um2 - found.memory_um2 == pytest.approx(112 * SRAM_90NM.fixed)
    areas = [estimate(shared[width]).memory_um2 for width in (64, 128, 256)]
    assert areas == sorted(areas, reverse=True)


def test_area_of_wide_macros():
    narrow, wide = SRAM_90NM.macro_area(64, 148), SRAM_90NM.macro_area(128, 148, word_bits=128)
    assert SRAM_90NM.macro_area(128, 148) == 2 * narrow
    # The decoder and the control are there once.
    assert wide == pytest.approx(narrow * (128 + 4.25) / (64 + 4.25))
    # Cut into macros of equal width.
    assert SRAM_90NM.macro_area(192, 148, word_bits=128) == pytest.approx(2 * narrow * (96 + 4.25) / (64 + 4.25))
    assert SRAM_90NM.macro_area(48, 148, word_bits=128) == SRAM_90NM.macro_area(48, 148)
