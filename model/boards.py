"""FPGA parts and boards as data: the resources of each part, and the default design of each board."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FpgaPart:
    """An FPGA and its resources, as nextpnr counts them.

    Attributes
    ----------
    name : str
        Name of the part.
    family : str
        ``"ecp5"``, ``"ice40"``, ``"gowin"`` or ``"machxo2"``.
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
GOWIN_SHAPES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
MACHXO2_SHAPES = ((8192, 1), (4096, 2), (2048, 4), (1024, 9), (512, 18))
# Name, LUTs (as many as flip-flops), block RAMs and multipliers of the ECP5's sizes, and the letters of its variants.
ECP5_SIZES = (("12F", 24288, 56, 28), ("25F", 24288, 56, 28), ("45F", 43848, 108, 72), ("85F", 83640, 208, 156))
ECP5_VARIANTS = ("LFE5U", "LFE5UM", "LFE5UM5G")
PARTS = {
    part.name: part
    for part in (
        *(
            FpgaPart(f"{variant}-{size}", "ecp5", luts, luts, brams, dsps, ECP5_SHAPES, 18)
            for variant in ECP5_VARIANTS
            for size, luts, brams, dsps in ECP5_SIZES
            if variant == "LFE5U" or size != "12F"
        ),
        FpgaPart("iCE40HX1K", "ice40", 1280, 1280, 16, 0, ICE40_SHAPES, 0),
        FpgaPart("iCE40HX4K", "ice40", 7680, 7680, 32, 0, ICE40_SHAPES, 0),
        FpgaPart("iCE40HX8K", "ice40", 7680, 7680, 32, 0, ICE40_SHAPES, 0),
        FpgaPart("iCE40LP8K", "ice40", 7680, 7680, 32, 0, ICE40_SHAPES, 0),
        FpgaPart("iCE40UP5K", "ice40", 5280, 5280, 30, 8, ICE40_SHAPES, 16),
        FpgaPart("GW1N-9C", "gowin", 8640, 6480, 26, 20, GOWIN_SHAPES, 18),
        FpgaPart("GW1NR-9C", "gowin", 8640, 6480, 26, 20, GOWIN_SHAPES, 18),
        FpgaPart("GW2A-18C", "gowin", 20736, 15552, 46, 48, GOWIN_SHAPES, 18),
        FpgaPart("GW2AR-18C", "gowin", 20736, 15552, 46, 48, GOWIN_SHAPES, 18),
        FpgaPart("LCMXO2-7000HC", "machxo2", 6864, 6864, 26, 0, MACHXO2_SHAPES, 0),
        FpgaPart("LCMXO2-7000HE", "machxo2", 6864, 6864, 26, 0, MACHXO2_SHAPES, 0),
        FpgaPart("LCMXO3LF-6900C", "machxo2", 6864, 6864, 26, 0, MACHXO2_SHAPES, 0),
        FpgaPart("LCMXO3LF-9400C", "machxo2", 9400, 9400, 48, 0, MACHXO2_SHAPES, 0),
    )
}


@dataclass(frozen=True)
class BoardPins:
    """The pins that a board connects to its FPGA, for a board that amaranth-boards does not have.

    Attributes
    ----------
    package : str
        Package of the FPGA; for Gowin the whole part number, such as ``"GW1NR-LV9QN88PC6/I5"``.
    speed : str
        Speed grade, for families whose tools ask for one.
    clock, rx, tx : str
        Pins of the oscillator and of the serial line, as the FPGA sees it.
    led : str or None
        Pin of an LED that lights up when it is driven high.
    io_type : str
        I/O standard of these pins; an empty text takes the usual one of the family, at 3.3 V.
    """

    package: str
    speed: str
    clock: str
    rx: str
    tx: str
    led: str | None
    io_type: str


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
        Platform class of the board, as ``module:class`` in amaranth-boards; empty for a board given by its pins.
    pins : BoardPins or None
        Pins of a board that has no platform class.
    router : str
        Router of nextpnr: ``"router1"`` finds faster wires, and may not end in a dense design.
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
    pins: BoardPins | None = None
    router: str = "router2"


# What is built for a board that says nothing else: the smallest network that is useful, which fits every part but the
# smallest.
DEFAULT_CONFIG = "char64"
DEFAULT_BAUD = 1_000_000

# Registers where an ECP5 needs them for a fast clock, and one cell lane: more take LUTs and save no cycle here.
ECP5_SETTINGS = {
    "architecture.cell_lanes": 1,
    "architecture.lookahead": 1,
    "architecture.pipeline.issue_register": True,
    "architecture.pipeline.forward_levels": 2,
    "architecture.pipeline.inverse_levels": 1,
    "architecture.pipeline.shared_inverse": True,
    "architecture.pipeline.multiplier_register": True,
    "architecture.pipeline.adder_levels": 1,
    "architecture.pipeline.cell_register": True,
}
# The same where products are made of logic cells, which leaves no room for more registers.
ICE40_SETTINGS = {
    "architecture.cell_lanes": 1,
    "architecture.pipeline.issue_register": True,
    "architecture.pipeline.forward_levels": 1,
    "architecture.pipeline.inverse_levels": 1,
    "architecture.pipeline.multiplier_register": True,
    "architecture.pipeline.adder_levels": 1,
    "architecture.pipeline.cell_register": True,
}
BOARDS = {
    board.name: board
    for board in (
        Board(
            "ulx3s_85f", PARTS["LFE5U-85F"], 25e6, 112.5e6, 1_000_000, "char128",
            {"architecture.tile_rows": 4, "architecture.tile_cols": 1, **ECP5_SETTINGS}, "led", "bit",
            "amaranth_boards.ulx3s:ULX3S_85F_Platform", router="router1",
        ),
        Board(
            "ecpix5_45f", PARTS["LFE5UM5G-45F"], 100e6, 50e6, 1_000_000, "char128",
            {"architecture.tile_rows": 2, "architecture.tile_cols": 1}, None, "bit",
            "amaranth_boards.ecpix5:ECPIX545Platform",
        ),
        Board("ice40_hx8k_b_evn", PARTS["iCE40HX8K"], 12e6, 81e6, 1_000_000, "char64", ICE40_SETTINGS, "led", "bin",
            "amaranth_boards.ice40_hx8k_b_evn:ICE40HX8KBEVNPlatform", router="router1",
        ),
        Board("icebreaker", PARTS["iCE40UP5K"], 12e6, 12e6, 1_000_000, "char64", {}, "led_g", "bin",
            "amaranth_boards.icebreaker:ICEBreakerPlatform",
        ),
        Board("tang_nano_9k", PARTS["GW1NR-9C"], 27e6, 27e6, 1_000_000, "char64", {}, "led", "fs",
            "amaranth_boards.tang_nano_9k:TangNano9kPlatform",
        ),
    )
}  # fmt: skip
