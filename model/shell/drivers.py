"""Drivers of the bus shell in C and in Python, made from the register map."""

from collections.abc import Sequence

from chessrnn.model.config import Config
from chessrnn.model.load_layout import CHUNK_BYTES, FORMAT_VERSION, HEADER, MAGIC, load_layout
from chessrnn.model.shell.register_texts import c_header, register_table, system_rdl
from chessrnn.model.shell.registers import Register, counters, register_map
from chessrnn.model.shell.stream_beats import shell_streams

# Tokens in the templates, as braces belong to C: @p@ is the prefix, @P@ the same in capitals.
C_HEADER = """\
/* Driver of @p@_axi, @label@.  Needs nothing but this file, @p@_driver.c and @p@_registers.h. */
#ifndef @P@_DRIVER_H
#define @P@_DRIVER_H

@loader_include@#include <stdint.h>

#include "@p@_registers.h"

#define @P@_X_SIZE @x_size@u           /* elements of x in a step */
#define @P@_H_SIZE @h_size@u           /* elements of h in a step, of both directions */
#define @P@_X_STEP_BYTES @x_bytes@u     /* bytes of a step of x on the stream */
#define @P@_H_STEP_BYTES @h_bytes@u     /* bytes of a step of h on the stream */

enum @p@_status {
  @P@_OK = 0,
  @P@_NOT_FOUND = -1,     /* no such core at this address */
  @P@_OTHER_VERSION = -2, /* its registers need another driver */
  @P@_OTHER_DESIGN = -3@loader_statuses@
};

struct @p@_counters {
@counters@
};

/* Access to a register.  Where a pointer does not do, define both macros for the driver's source and for every file
   that includes this one, for example in a header of your own: gcc -include access.h. */
#ifndef @P@_READ
#define @P@_READ(base, offset) (*(volatile uint32_t *)((base) + (offset)))
#define @P@_WRITE(base, offset, value) (*(volatile uint32_t *)((base) + (offset)) = (value))
#endif

/* Check what is at the address, reset the accelerator, clear events and counters, and mask all interrupts. */
enum @p@_status @p@_init(uintptr_t base);

/* Reset the accelerator.  Both streams must be quiet, or their other ends be reset as well. */
void @p@_reset(uintptr_t base);

/* Events that are pending: bits @P@_EVENTS_..._MASK. */
uint32_t @p@_events(uintptr_t base);

/* Forget events. */
void @p@_clear_events(uintptr_t base, uint32_t mask);

/* Set which events raise the interrupt. */
void @p@_enable_interrupts(uintptr_t base, uint32_t mask);

/* Read all counters in the same cycle. */
void @p@_read_counters(uintptr_t base, struct @p@_counters *counters);

/* Set all counters to 0. */
void @p@_clear_counters(uintptr_t base);

/* Put the integers of a step of x into the bytes that the stream carries, in the order in which a DMA sends them. */
void @p@_pack_x(const int32_t x[@P@_X_SIZE], uint8_t bytes[@P@_X_STEP_BYTES]);

/* Take the integers of a step of h out of the bytes that the stream carried. */
void @p@_unpack_h(const uint8_t bytes[@P@_H_STEP_BYTES], int32_t h[@P@_H_SIZE]);
@loader_prototype@
#endif
"""

C_SOURCE = """\
/* Driver of @p@_axi, @label@. */
#include "@p@_driver.h"

enum @p@_status @p@_init(uintptr_t base) {
  if (@P@_READ(base, @P@_ID) != @P@_ID_VALUE_EXPECTED) return @P@_NOT_FOUND;
  if ((@P@_READ(base, @P@_VERSION) & @P@_VERSION_MAJOR_MASK) != (@P@_VERSION_VALUE_EXPECTED & @P@_VERSION_MAJOR_MASK))
    return @P@_OTHER_VERSION;
  if (@P@_READ(base, @P@_FINGERPRINT_LOW) != @P@_FINGERPRINT_LOW_VALUE_EXPECTED ||
      @P@_READ(base, @P@_FINGERPRINT_HIGH) != @P@_FINGERPRINT_HIGH_VALUE_EXPECTED)
    return @P@_OTHER_DESIGN;
  @P@_WRITE(base, @P@_INTERRUPT_ENABLE, 0u);
  @p@_reset(base);
  @p@_clear_events(base, 0xffffffffu);
  @p@_clear_counters(base);
  return @P@_OK;
}

void @p@_reset(uintptr_t base) {
  @P@_WRITE(base, @P@_CONTROL, @P@_CONTROL_RESET_MASK);
  @P@_WRITE(base, @P@_CONTROL, 0u);
}

uint32_t @p@_events(uintptr_t base) { return @P@_READ(base, @P@_EVENTS); }

void @p@_clear_events(uintptr_t base, uint32_t mask) { @P@_WRITE(base, @P@_EVENTS, mask); }

void @p@_enable_interrupts(uintptr_t base, uint32_t mask) { @P@_WRITE(base, @P@_INTERRUPT_ENABLE, mask); }

void @p@_read_counters(uintptr_t base, struct @p@_counters *counters) {
  uint32_t control = @P@_READ(base, @P@_CONTROL);
  @P@_WRITE(base, @P@_CONTROL, control | @P@_CONTROL_FREEZE_MASK);
@reads@
  @P@_WRITE(base, @P@_CONTROL, control);
}

void @p@_clear_counters(uintptr_t base) {
  @P@_WRITE(base, @P@_CONTROL, @P@_READ(base, @P@_CONTROL) | @P@_CONTROL_CLEAR_MASK);
}

void @p@_pack_x(const int32_t x[@P@_X_SIZE], uint8_t bytes[@P@_X_STEP_BYTES]) {
  unsigned beat, element, bit;
  for (beat = 0; beat < @P@_X_STEP_BYTES; beat++) bytes[beat] = 0;
  for (beat = 0; beat < @x_beats@u; beat++)
    for (element = 0; element < @k@u && beat * @k@u + element < @P@_X_SIZE; element++)
      for (bit = 0; bit < @x_width@u; bit++)
        if (((uint32_t)x[beat * @k@u + element] >> bit) & 1u) {
          unsigned place = element * @x_width@u + bit;
          bytes[beat * @x_beat_bytes@u + place / 8u] |= (uint8_t)(1u << (place % 8u));
        }
}

void @p@_unpack_h(const uint8_t bytes[@P@_H_STEP_BYTES], int32_t h[@P@_H_SIZE]) {
  unsigned number, bit;
  for (number = 0; number < @P@_H_SIZE; number++) {
    /* Every direction begins with a new beat. */
    unsigned in_direction = number % @h_per_direction@u;
    unsigned beat = number / @h_per_direction@u * @h_direction_beats@u + in_direction / @k@u;
    uint32_t value = 0u;
    for (bit = 0; bit < @h_width@u; bit++) {
      unsigned place = in_direction % @k@u * @h_width@u + bit;
      if (bytes[beat * @h_beat_bytes@u + place / 8u] >> (place % 8u) & 1u) value |= (uint32_t)1u << bit;
    }
    if (value >> (@h_width@u - 1u)) h[number] = -(int32_t)(((uint32_t)1u << @h_width@u) - value);
    else h[number] = (int32_t)value;
  }
}
@loader_source@"""

# What a driver has for a design whose weights are loaded at run time.
LOADER_STATUSES = """,  /* it is another design */
  @P@_BUSY = -4,          /* a sequence is under way */
  @P@_WRONG_FILE = -5,    /* not a weight file, or a damaged one */
  @P@_NOT_LOADED = -6     /* what was written differs from the file */"""

LOADER_PROTOTYPE = """
#define @P@_WEIGHT_FILE_BYTES @file_bytes@u

/* Load other weights, the content of a weight file of this design, between two sequences.

   OTHER_DESIGN and WRONG_FILE leave everything as it is.  BUSY: steps are under way; no further sequence begins, so
   take the rest of h and call again.  NOT_LOADED: the bus lost a word; no sequence begins until weights are loaded. */
enum @p@_status @p@_load_weights(uintptr_t base, const uint8_t *file, size_t bytes);
"""

LOADER_SOURCE = """
static uint32_t word_of(const uint8_t *bytes) {
  return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint32_t crc32(const uint8_t *bytes, size_t count) {
  uint32_t crc = 0xffffffffu;
  unsigned bit;
  while (count--) {
    crc ^= *bytes++;
    for (bit = 0; bit < 8; bit++) crc = crc & 1u ? crc >> 1 ^ 0xedb88320u : crc >> 1;
  }
  return ~crc;
}

enum @p@_status @p@_load_weights(uintptr_t base, const uint8_t *file, size_t bytes) {
  const uint8_t *words = file + @header_bytes@;
  size_t count;
  if (bytes < @header_bytes@u || word_of(file) != 0x@magic@u || word_of(file + 4) != @format_version@u ||
      crc32(file, @header_bytes@u - 4u) != word_of(file + @header_bytes@ - 4))
    return @P@_WRONG_FILE;
  if (word_of(file + 8) != @P@_FINGERPRINT_LOW_VALUE_EXPECTED ||
      word_of(file + 12) != @P@_FINGERPRINT_HIGH_VALUE_EXPECTED)
    return @P@_OTHER_DESIGN;
  if (bytes != @P@_WEIGHT_FILE_BYTES || crc32(words, bytes - @header_bytes@u) != word_of(file + 20))
    return @P@_WRONG_FILE;
  @P@_WRITE(base, @P@_CONTROL, @P@_READ(base, @P@_CONTROL) | @P@_CONTROL_HOLD_MASK);
  @P@_WRITE(base, @P@_LOAD_ADDRESS, 0u);
  if (!(@P@_READ(base, @P@_STATUS) & @P@_STATUS_LOAD_READY_MASK)) return @P@_BUSY;
  for (count = (bytes - @header_bytes@u) / 4u; count; count--, words += 4)
    @P@_WRITE(base, @P@_LOAD_DATA, word_of(words));
  if (@P@_READ(base, @P@_LOAD_CRC) != word_of(file + 20)) return @P@_NOT_LOADED;
  @P@_WRITE(base, @P@_CONTROL, @P@_READ(base, @P@_CONTROL) & ~@P@_CONTROL_HOLD_MASK);
  return @P@_OK;
}
"""

PYTHON_LOADER = '''
    def load_weights(self, content):
        """Load other weights, the content of a weight file of this design, between two sequences.

        Raises ValueError for a file of another design or a damaged one, which changes nothing; BlockingIOError while
        steps are under way: no further sequence begins, so take the rest of h and call again; RuntimeError if the bus
        lost a word: no sequence begins until weights are loaded.
        """
        header = content[:@header_bytes@].ljust(@header_bytes@, b"\\0")
        magic, version, low, high, _, crc, header_crc = struct.unpack("<7I", header)
        if magic != 0x@magic@ or version != @format_version@ or zlib.crc32(header[:-4]) != header_crc:
            raise ValueError("not a weight file of version @format_version@, or its header is damaged")
        if (low, high) != (EXPECTED["fingerprint_low"], EXPECTED["fingerprint_high"]):
            raise ValueError("the weight file is of another design")
        if len(content) != @file_bytes@ or zlib.crc32(content[@header_bytes@:]) != crc:
            raise ValueError("the weight file is damaged or truncated")
        hold = 1 << FIELDS["control"]["hold"][0]
        self.write("control", self.read("control") | hold)
        self.write("load_address", 0)
        if not self.read("status") >> FIELDS["status"]["load_ready"][0] & 1:
            raise BlockingIOError("a sequence is under way: take its h, and load again")
        for (word,) in struct.iter_unpack("<I", content[@header_bytes@:]):
            self.write("load_data", word)
        if self.read("load_crc") != crc:
            raise RuntimeError("what was loaded differs from the weight file")
        self.write("control", self.read("control") & ~hold)
'''

PYTHON_SOURCE = '''\
"""Driver of @p@_axi, @label@.  Needs nothing but Python."""
@python_imports@
REGISTERS = {
@registers@
}
FIELDS = {
@fields@
}
EXPECTED = {
@expected@
}
COUNTERS = (@counter_names@)


class Driver:
    """Registers of one accelerator.

    Parameters
    ----------
    read, write : callable
        ``read(address)`` returns 32 bits, ``write(address, value)`` writes them.
    base : int
        Address of the first register.
    """

    def __init__(self, read, write, base=0):
        self._read, self._write, self.base = read, write, base

    def read(self, register):
        """Read a register by its name."""
        return self._read(self.base + REGISTERS[register])

    def write(self, register, value):
        """Write a register by its name."""
        self._write(self.base + REGISTERS[register], value)

    def init(self):
        """Check what is at the address, reset the accelerator, clear events and counters, and mask all interrupts."""
        for register, value in EXPECTED.items():
            if (found := self.read(register)) != value:
                raise RuntimeError(f"register {register} must be {value:#010x}, not {found:#010x}")
        self.write("interrupt_enable", 0)
        self.reset()
        self.clear_events()
        self.clear_counters()

    def reset(self):
        """Reset the accelerator.  Both streams must be quiet, or their other ends be reset as well."""
        self.write("control", 1 << FIELDS["control"]["reset"][0])
        self.write("control", 0)

    def events(self):
        """Names of the events that are pending."""
        value = self.read("events")
        return [name for name, (low, _) in FIELDS["events"].items() if value >> low & 1]

    def clear_events(self, names=None):
        """Forget events: those named, or all of them."""
        fields = FIELDS["events"]
        self.write("events", sum(1 << fields[name][0] for name in (fields if names is None else names)))

    def enable_interrupts(self, names):
        """Set which events raise the interrupt."""
        self.write("interrupt_enable", sum(1 << FIELDS["interrupt_enable"][name][0] for name in names))

    def counters(self):
        """Read all counters in the same cycle."""
        control = self.read("control")
        self.write("control", control | 1 << FIELDS["control"]["freeze"][0])
        values = {name: self.read(name) for name in COUNTERS}
        self.write("control", control)
        return values

    def clear_counters(self):
        """Set all counters to 0."""
        self.write("control", self.read("control") | 1 << FIELDS["control"]["clear"][0])
@python_loader@'''


def driver_files(config: Config, prefix: str) -> dict[str, str]:
    """Every file that is made from the register map, by its name."""
    registers, label = register_map(config), f"configuration {config.fingerprint}"
    header, source = c_driver(registers, config, prefix, label)
    title = f"Registers of `{prefix}_axi`, {label}: 32 bits, byte addresses.\n\n"
    return {
        f"{prefix}_registers.h": c_header(registers, prefix, label),
        f"{prefix}_driver.h": header,
        f"{prefix}_driver.c": source,
        f"{prefix}_driver.py": python_driver(registers, config, prefix, label),
        f"{prefix}_registers.rdl": system_rdl(registers, prefix, label),
        f"{prefix}_registers.md": title + register_table(registers),
    }


def _filled(template: str, values: dict[str, object]) -> str:
    for name, value in values.items():
        template = template.replace(f"@{name}@", str(value))
    assert "@" not in template, "every token has a value"
    return template


def _values(registers: Sequence[Register], config: Config, prefix: str, label: str) -> dict[str, object]:
    x, h = shell_streams(config)[:2]
    q, name, counted = config.quantization, prefix.upper(), counters(config)
    x_bytes, h_bytes = x.bus_bits // 8, h.bus_bits // 8
    loadable = config.architecture.weight_memory == "ram"
    loader = {
        # Texts with tokens come first, so that these are replaced as well.
        "loader_include": "#include <stddef.h>\n" if loadable else "",
        "loader_statuses": LOADER_STATUSES if loadable else "   /* it is another design */",
        "loader_prototype": LOADER_PROTOTYPE if loadable else "",
        "loader_source": LOADER_SOURCE if loadable else "",
        "python_imports": "\nimport struct\nimport zlib\n" if loadable else "",
        "python_loader": PYTHON_LOADER if loadable else "",
        "file_bytes": HEADER.size + CHUNK_BYTES * load_layout(config).total_chunks if loadable else 0,
        "header_bytes": HEADER.size, "magic": f"{MAGIC:08x}", "format_version": FORMAT_VERSION,
    }  # fmt: skip
    return loader | {
        "p": prefix, "P": name, "label": label, "k": config.block_size,
        "x_size": config.network.input_size, "h_size": config.directions * config.output_size,
        "h_per_direction": config.output_size, "h_direction_beats": config.num_output_blocks,
        "x_beats": config.num_input_blocks, "x_width": q.x.width, "h_width": q.h.width,
        "x_beat_bytes": x_bytes, "h_beat_bytes": h_bytes,
        "x_bytes": x_bytes * config.num_input_blocks, "h_bytes": h_bytes * config.num_stream_blocks,
        "counters": "\n".join(f"  uint32_t {counter}; /* {text} */" for counter, text in counted.items()),
        "reads": "\n".join(f"  counters->{c} = {name}_READ(base, {name}_{c.upper()});" for c in counted),
        "registers": "\n".join(f'    "{r.name}": {r.offset:#05x},' for r in registers),
        "fields": "\n".join(
            f'    "{r.name}": {{{", ".join(f"{chr(34)}{f.name}{chr(34)}: ({f.low}, {f.width})" for f in r.fields)}}},'
            for r in registers
        ),
        "expected": "\n".join(f'    "{r.name}": {r.constant:#010x},' for r in registers if r.constant is not None),
        "counter_names": ", ".join(f'"{counter}"' for counter in counted),
    }  # fmt: skip


def c_driver(registers: Sequence[Register], config: Config, prefix: str, label: str) -> tuple[str, str]:
    """Header and source of the C driver, in C99 without an operating system."""
    values = _values(registers, config, prefix, label)
    return _filled(C_HEADER, values), _filled(C_SOURCE, values)


def python_driver(registers: Sequence[Register], config: Config, prefix: str, label: str) -> str:
    """The Python driver."""
    return _filled(PYTHON_SOURCE, _values(registers, config, prefix, label))
