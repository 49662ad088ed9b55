"""FPGA parts and boards as data: the resources of each part, and the default design of each board."""

from dataclasses import dataclass

from chessrnn.model.errors import require


@dataclass(frozen=True)
class FpgaPart:
    """An FPGA and its resources, as nextpnr counts them.

    Attributes
    ----------
    name : str
        Name of the part.
    family : str
        ``"ecp5"`` or ``"ice40"``.
    luts, ffs : int
        Numbers of four-input LUTs and of flip-flops.
    brams, dsps : int
        Numbers of block RAMs and of hard multipliers.
    bram_shapes : tuple of (int, int)
        Numbers of words and of bits per word that a block RAM can have.
    dsp_bits : int
        Width of the widest operand of a hard multiplier; 0 for a part without any.
    """

    name: str
    family: str
    luts: int
    ffs: int
    brams: int
    dsps: int
    bram_shapes: tuple[tuple[int, int], ...]
    dsp_bits: int


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
    """A board with its FPGA, the network that is built for it by default, and its serial line.

    Attributes
    ----------
    name : str
        Name of the board on command lines.
    part : FpgaPart
        The FPGA of the board.
    input_hz : float
        Frequency of the oscillator of the board, in Hz.
    clock_hz : float
        Frequency of the clock of the design, in Hz.
    baud : int
        Bits per second of the serial line.
    config : str
        Name of the preset that is built by default.
    settings : dict
        Fields of the preset that are changed so that the design fits the part, by dotted name.
    led : str or None
        Resource of the platform that lights up while the matrix engine works; ``None`` for a board without one.
    bitstream : str
        Suffix of the file that programs the FPGA.
    platform : str
        Platform class of the board, as ``module:class`` in amaranth-boards.
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
    """Data of the board called ``name``."""
    require(name in BOARDS, "board", f"one of {', '.join(BOARDS)}", name)
    return BOARDS[name]
