"""The register map of the bus shell, described once.

The hardware (``chessrnn.hdl.shell``), the C header and driver, the Python driver, the SystemRDL file and the page of
the documentation are all made from :func:`register_map`.
"""

from dataclasses import dataclass

from chessrnn.model.config import Config
from chessrnn.model.errors import require
from chessrnn.model.load_layout import load_layout

# Registers have 32 bits and lie in a window of 4 KiB; the rest of it answers with an error.
WORD_BYTES = 4
WORD_BITS = 8 * WORD_BYTES
ADDRESS_BITS = 12
# "CRNN" in ASCII, and the version of the map: it changes when a register moves or changes its meaning.
IDENTITY = 0x43524E4E
MAP_VERSION = 0x0001_0000
# Version of the map of a design whose weights are loaded at run time, or whose memories have parity bits; and of a
# design with a monitor.
LOADER_VERSION = 0x0001_0001
MONITOR_VERSION = 0x0001_0002
# Address of the counter of a monitor, whether or not there are registers of the loader below.
SATURATIONS_OFFSET = 0x54

# Values are passed on to the hardware with a pulse, and read from it: PASSED_ON.
READ_ONLY, READ_WRITE, CLEAR_BY_ONE, COMMAND, PASSED_ON = "ro", "rw", "w1c", "w1p", "push"
ACCESS_TEXT = {
    READ_ONLY: "read only",
    READ_WRITE: "read, write",
    CLEAR_BY_ONE: "read; writing 1 clears",
    COMMAND: "writing 1 does it once; reads 0",
    PASSED_ON: "read, write of all 32 bits",
}


@dataclass(frozen=True)
class Field:
    """Bits of a register.

    Attributes
    ----------
    name : str
    low, width : int
        Lowest bit, and number of bits.
    access : str
        One of ``ACCESS_TEXT``.
    meaning : str
    value : int, optional
        Value of a field that never changes.
    """

    name: str
    low: int
    width: int
    access: str
    meaning: str
    value: int | None = None

    @property
    def bits(self) -> str:
        """Position as in documents: ``7:4``, ``3``."""
        return f"{self.low + self.width - 1}:{self.low}" if self.width > 1 else str(self.low)


@dataclass(frozen=True)
class Register:
    """A register of 32 bits.

    Attributes
    ----------
    name : str
    offset : int
        Byte address in the window.
    meaning : str
    fields : tuple of Field
    """

    name: str
    offset: int
    meaning: str
    fields: tuple[Field, ...]

    @property
    def may_be_written(self) -> bool:
        """Whether a write does something; else it is an error."""
        return any(field.access != READ_ONLY for field in self.fields)

    @property
    def constant(self) -> int | None:
        """Value of a register all of whose fields are constant."""
        values = [(field.value, field.low) for field in self.fields]
        known = [value << low for value, low in values if value is not None]
        return sum(known) if len(known) == len(values) else None


def register_map(config: Config) -> tuple[Register, ...]:
    """The registers of a design point, in the order of their addresses."""
    registers: list[Register] = []

    def add(name: str, meaning: str, *fields: Field) -> None:
        registers.append(Register(name, WORD_BYTES * len(registers), meaning, fields))

    def constant(name: str, low: int, width: int, value: int, meaning: str) -> Field:
        rule = f"a configuration whose {meaning} fit {width} bits of a register"
        require(-(1 << (width - 1)) <= value < 1 << width, "--shell", f"left out for {rule}", value)
        return Field(name, low, width, READ_ONLY, meaning, value & ((1 << width) - 1))

    network, architecture, q = config.network, config.architecture, config.quantization
    loadable, checked = architecture.weight_memory == "ram", architecture.parity == "word"
    version = LOADER_VERSION if loadable or checked else MAP_VERSION
    version = MONITOR_VERSION if architecture.monitor else version
    fingerprint = int(config.fingerprint, 16)
    add("id", "what this is", constant("value", 0, 32, IDENTITY, "`CRNN` in ASCII"))
    add("version", "version of this map", constant("minor", 0, 16, version & 0xFFFF, "registers added since then"),
        constant("major", 16, 16, version >> 16,
            "incompatible revision: a driver for another major number must not be used"))  # fmt: skip
    for name, shift in (("fingerprint_low", 0), ("fingerprint_high", 32)):
        add(name, "fingerprint of the configuration", constant("value", 0, 32, fingerprint >> shift & 0xFFFF_FFFF,
            f"bits {shift + 31}:{shift} of the number in `config.json`"))  # fmt: skip
    add("sizes", "elements of a step", constant("x", 0, 16, network.input_size, "elements of x"),
        constant("h", 16, 16, config.directions * config.output_size, "elements of h, of both directions"))  # fmt: skip
    add("beats", "beats of a step", constant("x", 0, 16, config.num_input_blocks, "beats of x"),
        constant("h", 16, 16, config.num_stream_blocks, "beats of h"))  # fmt: skip
    add("formats", "number formats: value = integer / 2^fraction",
        constant("x_width", 0, 8, q.x.width, "bits of an element of x"),
        constant("x_fraction", 8, 8, q.x.fraction_bits, "fraction bits of x, two's complement"),
        constant("h_width", 16, 8, q.h.width, "bits of an element of h"),
        constant("h_fraction", 24, 8, q.h.fraction_bits, "fraction bits of h, two's complement"))  # fmt: skip
    add("features", "what the design has",
        constant("block_size", 0, 8, config.block_size, "elements of a beat"),
        constant("layers", 8, 8, network.num_layers, "layers"),
        constant("contexts", 16, 8, architecture.contexts, "contexts"),
        constant("bidirectional", 24, 1, network.bidirectional, "two directions"),
        constant("state_ports", 25, 1, architecture.state_ports, "streams of the state"),
        constant("output_layer", 26, 1, bool(architecture.output_layer), "a stream of results"),
        *([constant("weight_ram", 27, 1, 1, "weights can be loaded")] if loadable else []),
        *([constant("parity", 28, 1, 1, "memories have parity bits")] if checked else []),
        *([constant("monitor", 29, 1, 1, "saturations are counted, beats compared")]
          if architecture.monitor else []))  # fmt: skip
    add("control", "what software decides",
        Field("reset", 0, 1, READ_WRITE, "while 1, the accelerator is in reset; registers keep their values"),
        Field("freeze", 1, 1, READ_WRITE, "while 1, counters stand still, so that they can be read together"),
        Field("clear", 2, 1, COMMAND, "set all counters to 0"),
        *([Field("hold", 3, 1, READ_WRITE, "while 1, no sequence begins, so that weights can be loaded")]
          if loadable else []))  # fmt: skip
    add("status", "what the accelerator does in this cycle",
        Field("x_waits", 0, 1, READ_ONLY, "a beat of x is offered and not taken"),
        Field("h_waits", 1, 1, READ_ONLY, "a beat of h is offered and not taken"),
        Field("active", 2, 1, READ_ONLY, "the tile works"),
        *([Field("load_ready", 3, 1, READ_ONLY, "`load_data` may be written: `control.hold` is 1, all h has left")]
          if loadable else []))  # fmt: skip
    # Bit, name and meaning of every event.
    events = [
        (0, "early_last", "`tlast` came before the last beat of a step; zeros completed it"),
        (1, "too_long", "a sequence of a bidirectional network had no `tlast` and was cut"),
        (2, "sequence_done", "the last beat of a sequence of h was taken"),
        *([(3, "load_refused", "a write to `load_data` that loaded nothing")] if loadable else []),
        *(
            [(4, "parity", "a word with a wrong parity was read and used: reset, and load the weights again")]
            if checked
            else []
        ),
        *(
            [
                (5, "beats", "beats, steps or sequences of x and h do not add up: reset"),
                (6, "saturation", "a value was clipped to the range of its format"),
            ]
            if architecture.monitor
            else []
        ),
    ]
    add("events", "what has happened since the bit was cleared",
        *(Field(name, bit, 1, CLEAR_BY_ONE, meaning) for bit, name, meaning in events))  # fmt: skip
    add("interrupt_enable", "which events set `irq`",
        *(Field(name, bit, 1, READ_WRITE, f"while `events.{name}` is 1") for bit, name, _ in events))  # fmt: skip
    for name, meaning in COUNTERS.items():
        add(name, f"counter: {meaning}", Field("count", 0, 32, READ_ONLY, "modulo 2^32"))
    if loadable:
        bits = load_layout(config).address_bits
        add(
            "load_address",
            "where the next write to `load_data` goes",
            Field("address", 0, bits, PASSED_ON, "set by software, and counted on by each write to `load_data`"),
        )
        add(
            "load_data",
            "weights, as in the weight file from its header on; 0 when read",
            Field("word", 0, 32, PASSED_ON, "written while `status.load_ready` is 1, else SLVERR"),
        )
        add("load_crc", "what was loaded", Field("value", 0, 32, READ_ONLY,
            "CRC-32 of what was written since address 0; 0 after a reset of the accelerator"))  # fmt: skip
    if architecture.monitor:
        count = Field("count", 0, 32, READ_ONLY, "modulo 2^32")
        meaning = f"counter: {counters(config)[SATURATIONS]}"
        registers.append(Register(SATURATIONS, SATURATIONS_OFFSET, meaning, (count,)))
    return tuple(registers)


# Counters of every design, each with what it counts.
COUNTERS = {
    "cycles": "clock cycles",
    "active_cycles": "cycles in which the tile works",
    "steps": "steps of h that were taken completely",
    "sequences": "sequences of h that were taken completely",
    "x_stalls": "cycles in which a beat of x is offered and not taken",
    "h_stalls": "cycles in which a beat of h is offered and not taken",
}
SATURATIONS = "saturations"


def counters(config: Config) -> dict[str, str]:
    """All counters of a design, each with what it counts."""
    return COUNTERS | ({SATURATIONS: "values that were clipped"} if config.architecture.monitor else {})
