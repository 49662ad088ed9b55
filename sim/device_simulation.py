"""Simulation of the emitted device, whose serial line is a pseudo-terminal that any host program can open."""

import contextlib
import json
import mmap
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chessrnn.hdl.device.device import FPGA_MODULE, generate
from chessrnn.hdl.device.host_link import IDENTITY_SPEC
from chessrnn.model.config import Config
from chessrnn.model.errors import InvalidFileError, UserError, require
from chessrnn.model.files import replaced_directory, scratch_folder
from chessrnn.model.link.client import Timeouts
from chessrnn.model.link.frames import BITS_PER_BYTE, FrameError, Identity, LinkConfig, LinkLayout
from chessrnn.model.memory_image import FINGERPRINT_LABEL, initialised_memories, mem_text, memory_words
from chessrnn.model.schedule import Schedule
from chessrnn.model.text_file import read_json
from chessrnn.model.weights import NetworkWeights
from chessrnn.sim.build import generator_digest, weights_digest
from chessrnn.sim.folder_lock import locked_folder
from chessrnn.sim.manifest import CONFIG_FILE, MANIFEST_FILE, check_files, foreign_names, is_generated, write_files
from chessrnn.sim.runner import SIMULATORS, SimulationError, _compile, _runner, environment, kept_log

DEVICE_FILE = "chessrnn_fpga.v"
BENCH = "chessrnn.sim.tb_device"
# The simulated line takes as few cycles per bit as the receiver supports, because each costs time.  Its silence is
# short, but longer than any pause of a slow host.
SIMULATED_LINK = LinkConfig(25e6, 4, 40_000)
START_SECONDS = 300.0
# Time for a whole answer, in times for its first byte.
WHOLE_ANSWERS = 4
# Format in which the bench writes the device's clock cycle.
CYCLE = struct.Struct("Q")


def device_texts(weights: NetworkWeights, link: LinkConfig) -> dict[str, str]:
    """Texts of a device's files by name: its Verilog, the contents of its memories, its configuration."""
    config, digest = weights.config, weights_digest(weights)
    words = memory_words(weights)
    words[IDENTITY_SPEC.name] = list(Identity.of(config, digest, link.clock_hz).pack())
    texts = {
        CONFIG_FILE: json.dumps(
            {
                "configuration": config.fingerprint,
                "weights_sha256": digest,
                "generator": generator_digest(),
                "link": {"clock_hz": link.clock_hz, "divisor": link.divisor, "silence_cycles": link.silence_cycles},
                "config": config.to_dict(),
            },
            indent=2,
        )
        + "\n",
        DEVICE_FILE: generate(config, link),
    }
    for spec in (*initialised_memories(config), IDENTITY_SPEC):
        texts[f"{spec.name}.mem"] = mem_text(spec, words[spec.name], config.fingerprint)
    return texts


def emit_device(weights: NetworkWeights, path: str | Path, link: LinkConfig = SIMULATED_LINK) -> Path:
    """Write a device's directory completely or not at all, unless it is up to date."""
    path = Path(path)
    with locked_folder(path):
        _emit_device(weights, path, link)
    return path


def _emit_device(weights: NetworkWeights, path: Path, link: LinkConfig) -> None:
    """Write a device's directory, which this process has locked, unless it is up to date."""
    wanted = {
        "configuration": weights.config.fingerprint,
        "weights_sha256": weights_digest(weights),
        "generator": generator_digest(),
        "link": {"clock_hz": link.clock_hz, "divisor": link.divisor, "silence_cycles": link.silence_cycles},
    }
    try:
        found = read_json(path / CONFIG_FILE)
        current = {key: found.get(key) for key in wanted} == wanted
        check_files(path)
    except (InvalidFileError, AttributeError):
        current = False
    if not current:
        texts = device_texts(weights, link)
        with replaced_directory(path, MANIFEST_FILE, is_generated, foreign_names) as directory:
            write_files(directory, texts)


def read_device(directory: str | Path) -> dict:
    """Read ``config.json`` of a device's directory.

    Raises
    ------
    InvalidFileError
        The file is missing or not that of a device.
    """
    path = Path(directory) / CONFIG_FILE
    try:
        values = read_json(path)
        if values["configuration"] and values["link"]["divisor"]:
            return values
    except (InvalidFileError, KeyError, TypeError):
        pass
    raise InvalidFileError(f"{path} must be that of a device (make fpga), not another or missing file")


@dataclass(frozen=True)
class Terminal:
    """Address of a simulated device.

    Attributes
    ----------
    path : str
        Path of the pseudo-terminal.
    timeouts : Timeouts
        Time limits of the host, counted in the device's time.
    """

    path: str
    timeouts: Timeouts


@contextlib.contextmanager
def simulated_device(
    directory: str | Path, simulator: str = "verilator", source: str = DEVICE_FILE
) -> Iterator[Terminal]:
    """Run a device's directory (:func:`emit_device`) in a simulator.

    Parameters
    ----------
    source : str
        File of the directory: the emitted Verilog, or a netlist of it that contains the models of its cells.

    Raises
    ------
    MissingToolError
        The simulator, or what it needs to compile, is not installed.
    SimulationError
        The simulator is installed and fails.
    """
    require(simulator in SIMULATORS, "simulator", f"one of {', '.join(SIMULATORS)}", simulator)
    read_device(directory)  # a missing folder is rejected before one is made for the lock
    with locked_folder(directory):
        yield from _simulated(Path(directory).resolve(), simulator, source)


def _simulated(directory: Path, simulator: str, source: str) -> Iterator[Terminal]:
    """Run the device of a directory that this process has locked."""
    values = read_device(directory)
    generated = check_files(directory, (CONFIG_FILE, DEVICE_FILE))
    verilog = directory / source
    header = verilog.read_text(encoding="utf-8")[:1000] if verilog.exists() else ""
    if f"{FINGERPRINT_LABEL} {values['configuration']}" not in header:
        raise InvalidFileError(f"{verilog} must be Verilog of {FINGERPRINT_LABEL} {values['configuration']}")
    compiled = directory / "sim" / simulator / Path(source).stem
    with environment(simulator), scratch_folder() as scratch:
        _compile(verilog, compiled, simulator, FPGA_MODULE)
        for name in generated:
            if name.endswith(".mem"):
                (scratch / name).symlink_to(directory / name)
        address, stop, log, clock = (scratch / name for name in ("address", "stop", "run.log", "clock"))
        clock.write_bytes(bytes(CYCLE.size))
        job = {
            "divisor": values["link"]["divisor"],
            "patience_bytes": _patience(values),
            "address": str(address),
            "stop": str(stop),
            "clock": str(clock),
        }
        (scratch / "job.json").write_text(json.dumps(job), encoding="utf-8")
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "chessrnn.sim.device_simulation", str(compiled), str(scratch), simulator],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                path = _address(process, address, log, compiled)
                with open(clock, "rb") as shared, mmap.mmap(shared.fileno(), CYCLE.size, prot=mmap.PROT_READ) as cycles:
                    yield Terminal(path, _host_timeouts(values, lambda: CYCLE.unpack_from(cycles)[0], process))
            except UserError:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=3)
                    what = f"{simulator} must simulate the device"
                    raise SimulationError(what, kept_log(log, compiled)) from None
                raise
            finally:
                stop.touch()
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    # The simulator ends by itself as soon as its parent has ended.
                    process.kill()
                    process.wait()


def _patience(values: dict) -> int:
    """Longest time of a step, counted in times of a byte."""
    schedule = Schedule(Config.from_dict(values["config"]))
    cycles = 2 * (schedule.initiation_interval + schedule.first_step_latency)
    return 8 + cycles // (BITS_PER_BYTE * values["link"]["divisor"])


def _host_timeouts(values: dict, cycle: Callable[[], int], process: subprocess.Popen) -> Timeouts:
    """Time limits of a host, counted in the device's time.

    The clock raises :class:`chessrnn.model.link.frames.FrameError` when the simulator has ended.
    """
    layout, link = LinkLayout(Config.from_dict(values["config"])), values["link"]
    frames = 2 * (layout.max_request_bytes + layout.max_answer_bytes)  # every byte escaped
    after_refusal = (_patience(values) + frames) * BITS_PER_BYTE * link["divisor"]

    def clock() -> float:
        if process.poll() is not None:
            raise FrameError("the simulator must run, not end")
        return cycle() / link["clock_hz"]

    answer = (after_refusal + 2 * link["silence_cycles"]) / link["clock_hz"]
    return Timeouts(answer, after_refusal / link["clock_hz"], WHOLE_ANSWERS * answer, clock)


def _address(process: subprocess.Popen, address: Path, log: Path, compiled: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while not address.exists():
        if process.poll() is not None or time.monotonic() > end:
            raise SimulationError("the simulation of the device must start", kept_log(log, compiled))
        time.sleep(0.02)
    return address.read_text(encoding="utf-8")


def _serve(compiled: Path, scratch: Path, simulator: str) -> None:
    """Run the simulator in a process of its own until the stop file appears."""
    _runner(simulator).test(
        hdl_toplevel=FPGA_MODULE,
        hdl_toplevel_lang="verilog",
        test_module=BENCH,
        build_dir=compiled,
        test_dir=scratch,
        results_xml=str(scratch / "results.xml"),
        extra_env={"CHESSRNN_JOB": str(scratch / "job.json"), "COCOTB_LOG_LEVEL": "WARNING"},
    )


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
