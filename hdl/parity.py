"""Memories of a module, with a parity bit in every word where ``architecture.parity`` asks for it.

A word is checked in the cycle after it is read, and only if it is used then: banks are read in step with their
neighbours, also at addresses that were never written.
"""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.loader import is_loadable
from chessrnn.hdl.memory import Ram, Rom, WeightRam
from chessrnn.model.config import Config
from chessrnn.model.load_layout import load_layout
from chessrnn.model.memory_image import MemorySpec, parity_bits, stored_spec

# Bits whose parity is computed in the cycle of the read; the register behind them keeps the path short.
GROUP = 8


def parity_port(config: Config) -> dict:
    """The member ``parity_error`` of a block with memories; none without parity."""
    return {"parity_error": Out(1)} if parity_bits(config) else {}


class ParityCheck(wiring.Component):
    """Checks the words that are read from one memory: the XOR of a word with its parity bit must be 0.

    Parameters
    ----------
    width : int
        Number of bits of a word, the parity bit included.

    Members
    -------
    read : In(1)
        A word is read in this cycle.
    word, used : In
        In the next cycle: the word, and whether it is used.
    error : Out(1)
        The word was wrong.

    Latency: 3 cycles from ``read`` · Throughput: 1 word per cycle
    """

    def __init__(self, width: int):
        self.width, self.latency = width, 3
        super().__init__({"read": In(1), "word": In(width), "used": In(1), "error": Out(1)})

    @property
    def module_name(self) -> str:
        return f"parity_check_{self.width}"

    def elaborate(self, platform):
        m = Module()
        was_read, valid = Signal(), Signal()
        groups = Signal(-(-self.width // GROUP), reset_less=True)
        m.d.sync += [
            was_read.eq(self.read), valid.eq(was_read & self.used),
            groups.eq(Cat(self.word[low : low + GROUP].xor() for low in range(0, self.width, GROUP))),
            self.error.eq(valid & groups.xor()),
        ]  # fmt: skip
        return m


class CheckedRam:
    """A :class:`Ram` as its user sees it: the ports of the data, while a parity bit is stored with each word.

    Attributes
    ----------
    write_en, write_addr, write_data, read_en, read_addr, read_data
        Ports of the :class:`Ram`, for the data alone.
    used : Signal or None
        Whether the word that was read in the cycle before is used; ``None`` if every word is.
    """

    def __init__(self, m, ram: Ram, spec: MemorySpec, used: Signal | None):
        self.write_en, self.write_addr, self.read_en, self.read_addr = (
            ram.write_en, ram.write_addr, ram.read_en, ram.read_addr,
        )  # fmt: skip
        self.write_data, self.used = Signal(spec.width, name=f"{spec.name}_write_data"), used
        self.read_data: Value = ram.read_data[: spec.width]
        m.d.comb += ram.write_data.eq(Cat(self.write_data, self.write_data.xor()))


class CheckedRom:
    """A :class:`Rom` or :class:`WeightRam` as its user sees it: the read port of the data."""

    def __init__(self, rom: Rom | WeightRam, spec: MemorySpec):
        self.spec = spec
        self.en, self.addr = rom.en, rom.addr
        self.data: Value = rom.data[: spec.width]


class Memories:
    """Adds memories to a module, and collects their parity errors.

    Parameters
    ----------
    m : Module
        Module that gets the memories, each as a submodule with the memory's name.
    platform
        Passed to :func:`chessrnn.hdl.hierarchy.shared`.
    config : Config
    """

    def __init__(self, m, platform, config: Config):
        self.m, self.platform, self.config = m, platform, config
        self.errors: list[Value] = []

    def ram(self, spec: MemorySpec, always_used: bool = True) -> Ram | CheckedRam:
        """Add a memory that the module writes; ``always_used`` is false if :meth:`use` says which words are used."""
        ram = Ram(stored_spec(self.config, spec))
        self.m.submodules[spec.name] = shared(ram, self.platform)
        if not parity_bits(self.config):
            return ram
        used = None if always_used else Signal(name=f"{spec.name}_is_used")
        self._check(spec, ram.read_en, ram.read_data, 1 if used is None else used)
        return CheckedRam(self.m, ram, spec, used)

    def use(self, ram: Ram | CheckedRam, condition: Value | int = 1) -> None:
        """Say that the word that was read in the cycle before is used if ``condition`` holds."""
        if isinstance(ram, CheckedRam):
            assert ram.used is not None
            self.m.d.comb += ram.used.eq(condition)

    def parameters(self, spec: MemorySpec, contents: list[int] | None, block) -> Rom | WeightRam | CheckedRom:
        """Add a memory of parameters; the loader writes it through ``block.load`` if it can be loaded."""
        stored = stored_spec(self.config, spec)
        memory = (WeightRam if is_loadable(self.config) else Rom)(stored, contents)
        self.m.submodules[spec.name] = shared(memory, self.platform)
        if isinstance(memory, WeightRam):
            load = block.load
            number = [other.name for other in load_layout(self.config).memories].index(spec.name)
            word = load.word[: spec.width]
            self.m.d.comb += [
                memory.load_en.eq(load.en & (load.memory == number)), memory.load_addr.eq(load.address),
                memory.load_data.eq(Cat(word, load.parity) if parity_bits(self.config) else word),
            ]  # fmt: skip
        if not parity_bits(self.config):
            return memory
        self._check(spec, memory.en, memory.data, 1)
        return CheckedRom(memory, spec)

    def _check(self, spec: MemorySpec, read, word, used) -> None:
        check = ParityCheck(spec.width + 1)
        self.m.submodules[f"{spec.name}_parity"] = shared(check, self.platform)
        self.m.d.comb += [check.read.eq(read), check.word.eq(word), check.used.eq(used)]
        self.errors.append(check.error)

    def report(self, block, *others: Value) -> None:
        """Drive ``block.parity_error`` from these memories and from errors of submodules, one cycle later."""
        if parity_bits(self.config):
            self.m.d.sync += block.parity_error.eq(Cat(*self.errors, *others).any())
