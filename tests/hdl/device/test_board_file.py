"""Boards of a user's own: files of pins, platform classes, and files that are refused in one line."""

import pytest

from chessrnn.hdl.device.board_file import board
from chessrnn.hdl.device.board_platform import platform_of
from chessrnn.hdl.device.board_top import BoardTop
from chessrnn.model.boards import BOARDS, PARTS
from chessrnn.model.errors import UserError

ECP5 = """\
name = "mine"
part = "LFE5U-25F"
package = "BG256"
speed = "6"
[clock]
pin = "P6"
mhz = 25
[uart]
rx = "R7"
tx = "P4"
[led]
pin = "T6"
[design]
config = "char64"
clock_mhz = 50
set = {"architecture.tile_rows" = 2}
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def constraints(path, name):
    mine = board(path)
    plan = platform_of(mine).prepare(BoardTop(mine, mine.clock_hz), "top", emit_src=False)
    text = plan.files[name]
    return mine, text if isinstance(text, str) else text.decode()


def test_every_field_of_a_file(written):
    mine, text = constraints(written(ECP5), "top.lpf")
    assert (mine.name, mine.part, mine.input_hz, mine.clock_hz) == ("mine", PARTS["LFE5U-25F"], 25e6, 50e6)
    assert (mine.config, mine.settings, mine.bitstream) == ("char64", {"architecture.tile_rows": 2}, "bit")
    for pin in ("P6", "R7", "P4", "T6"):
        assert f'SITE "{pin}"' in text
    assert text.count("IO_TYPE=LVCMOS33") == 4


@pytest.mark.parametrize(
    ("part", "package", "file", "line"),
    [
        ("iCE40HX4K", "TQ144", "top.pcf", "set_io uart_0__rx__io 9"),
        ("GW1NR-9C", "GW1NR-LV9QN88PC6/I5", "top.cst", 'IO_LOC "uart_0__rx__io" 9;'),
        ("LCMXO2-7000HC", "TG144", "top.lpf", 'LOCATE COMP "uart_0__rx__io" SITE "9";'),
    ],
)
def test_other_families(part, package, file, line, written):
    text = (
        f'part = "{part}"\npackage = "{package}"\nspeed = "4"\nclock = {{pin = "21", mhz = 12}}\n'
        'uart = {rx = "9", tx = "8"}\n'
    )
    mine, found = constraints(written(text), file)
    assert line in found
    assert (mine.name, mine.led, mine.clock_hz, mine.config) == ("mine", None, 12e6, "char64")


@pytest.mark.parametrize(
    ("platform", "part", "mhz"),
    [
        ("amaranth_boards.colorlight_5a75b_r7_0:Colorlight_5A75B_R70Platform", "LFE5U-25F", 25),
        ("amaranth_boards.machxo3_sk:MachXO3LFSKPlatform", "LCMXO3LF-6900C", 12),
        ("amaranth_boards.tang_primer_20k:TangPrimer20kPlatform", "GW2A-18C", 27),
    ],
)
def test_any_platform_of_amaranth_boards(platform, part, mhz, written):
    mine = board(platform)
    assert (mine.part.name, mine.input_hz, mine.clock_hz) == (part, mhz * 1e6, mhz * 1e6)
    named = board(written(f'platform = "{platform}"\n[design]\nconfig = "tiny"\n'))
    assert (named.name, named.config, named.part) == ("mine", "tiny", mine.part)


def test_the_boards_of_the_program_are_platforms():
    for known in BOARDS.values():
        assert board(known.name) is known
        assert platform_of(known).default_clk_frequency == known.input_hz


# Each file as a change of the one above, and the message.
REFUSED = [
    (('part = "LFE5U-25F"\n', ""), "part must be given in the board's file"),
    (("LFE5U-25F", "XC7A35T"), "part must be an ECP5, an iCE40, a GW1N-9C, a GW2A-18C, or a MachXO2"),
    (('speed = "6"\n', ""), "speed must be given for LFE5U-25F"),
    (('rx = "R7"', 'rx = "P4"'), "uart.rx must be a pin of its own, not 'P4'"),
    (('rx = "R7"', 'rx = "R7 R8"'), "uart.rx must be the name of one pin: letters and digits, not 'R7 R8'"),
    (('rx = "R7"\n', ""), "uart.rx must be given in the board's file"),
    (("mhz = 25\n", 'mhz = "25"\n'), "clock.mhz must be a number, not '25'"),
    (("mhz = 25\n", "mhz = 0\n"), "clock.mhz must be above 0 and at most 1000, not 0"),
    (("mhz = 25\n", "mhz = nan\n"), "clock.mhz must be above 0 and at most 1000, not nan"),
    (("clock_mhz = 50", "clock_mhz = -1"), "design.clock_mhz must be above 0 and at most 1000, not -1"),
    (("[led]", "[lamp]"), "the board's file must be a table of name, platform, part"),
    (('name = "mine"', 'name = "../mine"'), "name must be a letter, then at most 63 letters, digits and _"),
    (('"BG256"', '"BG 256"'), "package must be the name of a package, not 'BG 256'"),
    (('name = "mine"', 'platform = "os:system"'), "platform must be given without led, package, part, speed"),
    (('tx = "P4"', 'tx = "P4"\nbaud = 1.5'), "uart.baud must be a whole number from 300 to 12000000, not 1.5"),
    (("[clock]", "clock"), "mine.toml must be valid TOML"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused_files(change, message, written):
    assert change[0] in ECP5
    with pytest.raises(UserError) as error:
        board(written(ECP5.replace(*change)))
    text = str(error.value)
    assert message in text
    assert "\n" not in text
    assert len(text) < 200 + len(written(ECP5))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arty", "board must be one of ulx3s_85f"),
        ("os:system", "board must be one of ulx3s_85f"),
        ("amaranth_boards.nothing:Platform", "platform must be module:class of an Amaranth platform"),
        ("amaranth_boards.arty_a7:ArtyA7_35Platform", "the platform's part must be an ECP5, an iCE40"),
        ("amaranth_boards.machxo2_breakout:MachXO2_7000HE_BreakoutPlatform", "the platform must have a resource uart"),
    ],
)
def test_refused_names(name, message):
    with pytest.raises(UserError) as error:
        board(name)
    assert str(error.value).startswith(message)
    assert len(str(error.value)) < 200


def test_a_file_cannot_name_other_code(written):
    with pytest.raises(UserError) as error:
        board(written('platform = "subprocess:Popen"\n'))
    assert str(error.value) == "platform must be amaranth_boards.module:class, not 'subprocess:Popen'"
