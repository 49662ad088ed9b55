"""The data of the boards, and the changes that the program proposes for a design that does not fit."""

import pytest

from chessrnn.hdl.device.board_file import board
from chessrnn.model.boards import BOARDS, PARTS
from chessrnn.model.cost.fit import Measured, block_rams, largest, multiplier_blocks, remedies
from chessrnn.model.cost.resources import multipliers
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.link.frames import LinkConfig
from chessrnn.model.presets import preset


@pytest.mark.parametrize("name", BOARDS)
def test_board_settings_are_valid_designs(name):
    target = board(name)
    config = preset(target.config).replace(target.settings) if target.settings else preset(target.config)
    assert block_rams(config, target.part) <= target.part.brams
    # A receiver on the other side misses a bit of ten at 5 %.
    assert abs(LinkConfig.from_baud(target.clock_hz, target.baud).baud / target.baud - 1) < 0.01


def test_unknown_board():
    with pytest.raises(InvalidValueError, match="board must be one of ulx3s_85f, .*, not 'arty'"):
        board("arty")


def test_block_rams_are_counted_in_the_best_shape():
    # 24 x 4 kbit hold the weights exactly; memories below 2 kbit are no block RAM.
    config = preset("char64")
    weights = 2 * 6  # banks of 3,072 bytes in blocks of 512
    assert block_rams(config, PARTS["iCE40HX8K"]) >= weights
    assert block_rams(preset("tiny"), PARTS["LFE5U-85F"]) == 0
    assert multiplier_blocks(config, PARTS["iCE40HX8K"]) == 0
    assert multiplier_blocks(config, PARTS["LFE5U-85F"]) == multipliers(config)


def test_remedies_fit_and_are_one_of_each_kind():
    config, part = preset("char64"), PARTS["iCE40HX8K"]
    measured = Measured(config, {"luts": 7800, "ffs": 3000, "brams": 18, "dsps": 0}, part)
    assert measured.estimate(config) == {"luts": 7800, "brams": 18, "dsps": 0}
    found = remedies(measured)
    assert found
    for settings in found:
        assert measured.fits(config.replace(settings))
    kinds = [next(iter(settings)) for settings in found]
    assert len(kinds) == len(set(kinds))


MULTIPLIER = {"architecture.arithmetic": "multiplier"}
FOUR_ROWS = {"architecture.tile_rows": 4, "architecture.tile_cols": 1}
SMALLEST = {"architecture.engine": "fast", "architecture.tile_rows": 1, "architecture.tile_cols": 1}
# LUTs and multipliers of ECP5 designs as mapped by Yosys 0.70; the others are estimated from the first.
SYNTHESIZED = [
    ("char128", FOUR_ROWS, 15195, 88),
    ("char128", {"architecture.tile_rows": 2, "architecture.tile_cols": 1}, 13524, 60),
    ("tiny", SMALLEST, 5583, 21),
    ("tiny", {}, 9623, 160),
]


@pytest.mark.parametrize(("name", "settings", "luts", "dsps"), SYNTHESIZED)
def test_estimates_of_other_designs_are_near_what_synthesis_gives(name, settings, luts, dsps):
    first, tile, used, blocks = SYNTHESIZED[0]
    start = {"luts": used, "brams": 8, "dsps": blocks}
    measured = Measured(preset(first).replace(MULTIPLIER | tile), start, PARTS["LFE5U-85F"])
    found = measured.estimate(preset(name).replace(MULTIPLIER | settings))
    assert abs(found["luts"] / luts - 1) < 0.1
    assert found["dsps"] == dsps


def test_largest_network_fits_and_a_wider_one_does_not():
    part = PARTS["iCE40HX8K"]
    measured = Measured(preset("char64"), {"luts": 6159, "brams": 18, "dsps": 0}, part)
    found = largest(measured, 2, 4)
    assert measured.fits(found)
    assert (found.block_size, found.quantization.weight_bits) == (2, 4)
    wider = found.network.units + 16
    assert not measured.fits(
        found.replace({"network.hidden_size": wider, "architecture.tile_rows": 1, "architecture.tile_cols": 1})
    )
    assert largest(Measured(preset("char64"), {"luts": 60000, "brams": 18, "dsps": 0}, part), 2, 8) is None
