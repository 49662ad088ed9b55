"""Dividers of PLLs: the clock that comes out, the limits of every part, and what no PLL can do."""

import dataclasses

import pytest

from chessrnn.hdl.device.board_platform import platform_of
from chessrnn.hdl.device.board_top import BoardTop
from chessrnn.hdl.device.pll import Ecp5Pll, GowinPll, Ice40Pll, pll_for
from chessrnn.model.boards import BOARDS, PARTS
from chessrnn.model.errors import InvalidValueError

CLOCKS = [12e6, 16e6, 18e6, 24e6, 25e6, 27e6, 30e6, 36e6, 40e6, 48e6, 50e6, 54e6, 60e6, 75e6, 100e6, 133e6]


@pytest.mark.parametrize("input_hz", [12e6, 16e6, 25e6, 27e6, 48e6, 100e6])
@pytest.mark.parametrize("clock_hz", CLOCKS)
def test_dividers_yield_the_clock_within_the_limits_of_the_part(input_hz, clock_hz):
    for pll in Ecp5Pll.choices(input_hz, clock_hz, "LFE5U-25F"):
        assert abs(input_hz * pll.feedback / pll.reference - clock_hz) < 1
        assert 10e6 <= input_hz / pll.reference <= 400e6
        assert 400e6 <= clock_hz * pll.post <= 800e6
    for pll in Ice40Pll.choices(input_hz, clock_hz, "iCE40HX8K"):
        assert abs(input_hz * (pll.feedback + 1) / (pll.reference + 1) / 2**pll.post - clock_hz) < 1
        assert 10e6 <= input_hz / (pll.reference + 1) <= 133e6
        assert 533e6 <= clock_hz * 2**pll.post <= 1066e6
        assert (pll.reference < 16, pll.feedback < 128, 1 <= pll.post <= 6, 1 <= pll.filter_range <= 6) == (True,) * 4
    for pll in GowinPll.choices(input_hz, clock_hz, "GW1NR-9C"):
        assert abs(input_hz * (pll.feedback + 1) / (pll.reference + 1) - clock_hz) < 1
        assert 3e6 <= input_hz / (pll.reference + 1) <= 400e6
        assert 400e6 <= clock_hz * pll.post <= 1200e6


@pytest.mark.parametrize(
    ("board", "mhz", "dividers"),
    [
        ("ulx3s_85f", 50, {"reference": 1, "feedback": 2, "post": 12}),
        # 12 MHz · 64 / 2^4, as icepll prints for 48 MHz.
        ("ice40_hx8k_b_evn", 48, {"reference": 0, "feedback": 63, "post": 4, "filter_range": 1}),
        ("icebreaker", 24, {"reference": 0, "feedback": 63, "post": 5, "filter_range": 1}),
        ("tang_nano_9k", 54, {"reference": 0, "feedback": 1, "post": 16}),
    ],
)
def test_known_dividers(board, mhz, dividers):
    found = dataclasses.asdict(pll_for(BOARDS[board], mhz * 1e6))
    assert {name: found[name] for name in dividers} == dividers


def test_the_clock_of_the_oscillator_needs_no_pll():
    assert all(pll_for(board, board.input_hz) is None for board in BOARDS.values())


@pytest.mark.parametrize(
    ("board", "mhz", "message"),
    [
        ("ulx3s_85f", 33.123, "--clock-mhz must be 25 MHz times a ratio that the PLL of LFE5U-85F has, not 33.123"),
        ("icebreaker", 300, "--clock-mhz must be 12 MHz times a ratio that the PLL of iCE40UP5K has, not 300.0"),
        ("tang_nano_9k", 1, "--clock-mhz must be 27 MHz times a ratio that the PLL of GW1NR-9C has, not 1.0"),
    ],
)
def test_clocks_that_no_dividers_yield(board, mhz, message):
    with pytest.raises(InvalidValueError) as error:
        pll_for(BOARDS[board], mhz * 1e6)
    assert str(error.value) == message


def test_a_family_without_a_pll_runs_at_its_oscillator():
    board = dataclasses.replace(BOARDS["ulx3s_85f"], part=PARTS["LCMXO2-7000HC"])
    with pytest.raises(InvalidValueError) as error:
        pll_for(board, 50e6)
    assert str(error.value) == (
        "--clock-mhz must be 25, the board's own, as no PLL is built for LCMXO2-7000HC, not 50.0"
    )


@pytest.mark.parametrize(
    ("board", "mhz", "primitive"),
    [
        ("ulx3s_85f", 50, "EHXPLLL"),
        ("icebreaker", 24, "SB_PLL40_PAD"),
        ("ice40_hx8k_b_evn", 48, "SB_PLL40_CORE"),
        ("tang_nano_9k", 54, "rPLL"),
    ],
)
def test_the_primitive_is_in_the_top_level(board, mhz, primitive):
    board = BOARDS[board]
    plan = platform_of(board).prepare(BoardTop(board, mhz * 1e6), "top", emit_src=False)
    text = plan.files["top.il"]
    text = text if isinstance(text, str) else text.decode()
    assert text.count(f"cell \\{primitive} ") == 1
