"""The host program and the builder: wrong input in one line."""

import contextlib
import os
import pty
import threading
import time
import tty

import pytest

from chessrnn.model.boards import PARTS
from chessrnn.model.link.client import Timeouts
from chessrnn.model.presets import preset
from chessrnn.scripts import fpga, host, xilinx
from chessrnn.scripts.cli import run_command
from chessrnn.sim.fpga_build import Utilisation

BAD_HOST = [
    (["--port", "socket://nonsense"], "--port must be a serial port that can be opened, not 'socket://nonsense'"),
    (["--port", "/dev/null/none"], "--port must be a serial port that can be opened, not '/dev/null/none'"),
    (["--simulate", "--prompt", "\u00e9"], "text must be made of the model's symbols only, not 'é'"),
    (["--simulate", "--prompt", ""], "--prompt must be at least one character, not ''"),
    (["--simulate", "--config", "tiny", "--prompt", "a"], "--prompt must be given with the weights of a character"),
    (["--simulate", "--text", "/nowhere"], "/nowhere must be a readable UTF-8 text file"),
    (["--netlist", "/nowhere", "--config", "tiny"], "/nowhere/config.json must be that of a device"),
]
BAD_FPGA = [
    (["--netlist", "--fit"], "--fit must be given with --board, not '--netlist'"),
    (["--board", "arty"], "board must be one of ulx3s_85f"),
    (["--board", "ulx3s_85f", "--clock-mhz", "33.123"], "--clock-mhz must be 25 MHz times a ratio"),
    (["--board", "icebreaker", "--clock-mhz", "18.001"], "--clock-mhz must be 12 MHz times a ratio"),
    (["--board", "/nowhere/mine.toml"], "/nowhere/mine.toml must be a readable UTF-8 text file"),
    (["--board", "icebreaker", "--baud", "7000000"], "baud must be within 2 %"),
]

BAD_NUMBERS = [
    ("host", ["--simulate", "--temperature", "-1"], "--temperature must be a finite number of 0 or more, not -1"),
    ("host", ["--simulate", "--temperature", "hot"], "--temperature must be a number, not 'hot'"),
    ("fpga", ["--board", "ulx3s_85f", "--clock-mhz", "0"], "--clock-mhz must be a finite number more than 0, not 0"),
    ("host", ["--simulate", "--length", "1.5"], "--length must be a whole number, not '1.5'"),
]


def complaint(main, arguments, capsys):
    status = run_command(lambda: main(arguments), "command")
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2
    return error


@pytest.mark.parametrize(("arguments", "message"), BAD_HOST)
def test_host_refuses(arguments, message, capsys):
    assert complaint(host.main, arguments, capsys).startswith(f"command: error: {message}")


@pytest.mark.parametrize(("arguments", "message"), BAD_FPGA)
def test_builder_refuses(arguments, message, capsys, tmp_path):
    error = complaint(fpga.main, [*arguments, "--output", str(tmp_path / "build")], capsys)
    assert error.startswith(f"command: error: {message}")
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize(("verb", "arguments", "message"), BAD_NUMBERS)
def test_numbers_out_of_range(verb, arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        {"host": host, "fpga": fpga}[verb].main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"chessrnn {verb}: error: {message}\n"


def test_what_does_not_fit_is_told_with_what_would():
    part = PARTS["LFE5U-85F"]
    config = preset("char128").replace({"architecture.arithmetic": "multiplier", "architecture.tile_rows": 8})
    text = fpga.complaint(config, Utilisation({"luts": 90000, "ffs": 9000, "brams": 36, "dsps": 512}, part))
    assert text.startswith(
        "the design must fit LFE5U-85F, not take 90000 LUT (6360 more than LFE5U-85F has) and 512 DSP (356 more than "
        "LFE5U-85F has); by estimate one of these fits: architecture.tile_rows="
    )
    for way in ("compression.block_size=16", "network.hidden_size=120", "quantization.weight_bits=7"):
        assert way in text
    # Nothing is proposed where even the smallest design is too large.
    part = PARTS["iCE40HX8K"]
    text = fpga.complaint(preset("char64"), Utilisation({"luts": 9000, "brams": 40, "dsps": 0}, part))
    assert text.endswith("40 BRAM (8 more than iCE40HX8K has); no smaller tile, k or width fits")


def test_a_device_that_reads_nothing_is_named(capsys, monkeypatch):
    monkeypatch.setattr(host, "TIMEOUTS", Timeouts(answer=0.05, whole=0.05))
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(slave, False)
    try:
        # The line takes more once its first bytes have been moved on.
        for _ in range(20):
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(slave, b"~" * 100)
            time.sleep(0.01)
        error = complaint(host.main, ["--port", os.ttyname(slave), "--baud", "4000000"], capsys)
        assert "the device must read a request within 0.0" in error
    finally:
        os.close(master)
        os.close(slave)


def test_cells_of_xilinx_parts_are_counted():
    modules = {
        "top": {"LUT6": 4, "RAM64M": 1, "FDRE": 1, "RAMB36E1": 1, "row": 2},
        "row": {"LUT6": 3, "SRL16E": 1, "FDRE": 3, "RAMB18E1": 1, "DSP48E1": 2, "CARRY4": 9},
    }
    assert xilinx.resources(modules, "top") == {"LUT": 16, "FF": 7, "BRAM": 2, "DSP": 4}


def test_a_device_that_says_nothing_is_named(capsys, monkeypatch):
    monkeypatch.setattr(host, "TIMEOUTS", Timeouts(answer=0.05))
    master, slave = pty.openpty()
    try:
        error = complaint(host.main, ["--port", os.ttyname(slave), "--baud", "115200"], capsys)
        assert "the device must answer IDENTIFY 0 within 8 attempts, not leave it unanswered" in error
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("data", [b"~", b"~ab", b"noise without end"])
def test_a_device_that_sends_without_end_is_named(data, capsys, monkeypatch):
    monkeypatch.setattr(host, "TIMEOUTS", Timeouts(answer=0.05, whole=0.05))
    master, slave = pty.openpty()
    # Without its echo, which would fill the other direction before the command opens the line.
    tty.setraw(slave)
    os.set_blocking(master, False)
    done = threading.Event()

    def flood():
        while not done.wait(0.001):
            with contextlib.suppress(BlockingIOError):
                os.write(master, data * 100)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        error = complaint(host.main, ["--port", os.ttyname(slave), "--baud", "4000000"], capsys)
        assert "the device must answer IDENTIFY 0 within 8 attempts, not send other bytes for 0.0" in error
    finally:
        done.set()
        thread.join()
        os.close(master)
        os.close(slave)
