"""Boards and FPGA parts as data: what a part has, and which network a board carries by default."""

from dataclasses import dataclass

from chessrnn.model.errors import require


@dataclass(frozen=True)
class FpgaPart:
    """What an FPGA has.

    Attributes
    ----------
    name, family : str
    luts, ffs, brams, dsps : int
        Four-input LUTs with the flip-flops beside them, block RAMs, multipliers.
    bram_shapes : tuple of (int, int)
        Words and bits that a block RAM can have.
    dsp_bits : int
        Widest operand of a multiplier.
    """

    name: str
    family: str
    luts: int
    ffs: int
    brams: int
    dsps: int
    bram_shapes: tuple[tuple[int, int], ...]
    dsp_bits: int


# As nextpnr counts them.
ECP5_SHAPES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
ICE40_SHAPES = ((2048, 2), (1024, 4), (512, 8), (256, 16))
PARTS = {
    part.name: part
    for part in (
        FpgaPart("LFE5U-85F", "ecp5", 83640, 83640, 208, 156, ECP5_SHAPES, 18),
        FpgaPart("LFE5UM5G-45F", "ecp5", 43848, 43848, 108, 72, ECP5_SHAPES, 18),
        FpgaPart("iCE40HX8K", "ice40", 7680, 7680, 32, 0, ICE40_SHAPES, 0),
        FpgaPart("iCE40UP5K", "ice40", 5280, 5280, 30, 8, ICE40_SHAPES, 16),
    )
}


@dataclass(frozen=True)
class Board:
    """A board, the network that is built for it by default, and its line.

    Attributes
    ----------
    name : str
    part : FpgaPart
    input_hz, clock_hz : float
        The board's oscillator; the device's clock.
    baud : int
    config : str
        Preset.
    settings : dict
        Fields of the preset that the part asks for.
    led : str or None
        LED that is lit while the tile works: a resource of the board in amaranth-boards.
    bitstream : str
        Suffix of the file that programs it.
    platform : str
        ``module:class`` of the board in amaranth-boards.
    """

    name: str
    part: FpgaPart
    input_hz: float
    clock_hz: float
    baud: int
    config: str
    settings: dict
    led: str | None
    bitstream: str
    platform: str


BOARDS = {
    board.name: board
    for board in (
        Board(
            "ulx3s_85f", PARTS["LFE5U-85F"], 25e6, 50e6, 1_000_000, "char128",
            {"architecture.tile_rows": 4, "architecture.tile_cols": 1}, "led", "bit",
            "amaranth_boards.ulx3s:ULX3S_85F_Platform",
        ),
        Board(
            "ecpix5_45f", PARTS["LFE5UM5G-45F"], 100e6, 50e6, 1_000_000, "char128",
            {"architecture.tile_rows": 2, "architecture.tile_cols": 1}, None, "bit",
            "amaranth_boards.ecpix5:ECPIX545Platform",
        ),
        Board("ice40_hx8k_b_evn", PARTS["iCE40HX8K"], 12e6, 12e6, 1_000_000, "char64", {}, "led", "bin",
            "amaranth_boards.ice40_hx8k_b_evn:ICE40HX8KBEVNPlatform",
        ),
        Board("icebreaker", PARTS["iCE40UP5K"], 12e6, 12e6, 1_000_000, "char64", {}, "led_g", "bin",
            "amaranth_boards.icebreaker:ICEBreakerPlatform",
        ),
    )
}  # fmt: skip


def board(name: str) -> Board:
    """The board called ``name``."""
    require(name in BOARDS, "board", f"one of {', '.join(BOARDS)}", name)
    return BOARDS[name]
