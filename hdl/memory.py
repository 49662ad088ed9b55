"""Every memory is an instance of one of three wrapper modules, which an ASIC user replaces by macros.

``ROM_VERILOG``, ``RAM_VERILOG`` and ``WEIGHT_RAM_VERILOG`` are the behavioural modules that the emitted Verilog
instantiates.  Amaranth's simulator uses ``amaranth.lib.memory`` with the same timing instead.
"""

from amaranth.hdl import Assert, ClockSignal, Instance, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.model.memory_image import MemorySpec

ROM_MODULE = "chessrnn_rom"
RAM_MODULE = "chessrnn_ram"
WEIGHT_RAM_MODULE = "chessrnn_weight_ram"

_FILL = """\
  generate
    if (INIT_FILE != "") begin : fill
      initial $readmemh({MEM_DIR, "/", INIT_FILE}, mem);
`ifndef SYNTHESIS
      // Without its weights a simulation would only show X, much later.
      integer file;
      initial begin
        file = $fopen({MEM_DIR, "/", INIT_FILE}, "r");
        if (file == 0) begin
          $display("error: memory file %0s/%0s must exist", MEM_DIR, INIT_FILE);
          $finish;
        end else $fclose(file);
      end
`endif
    end
  endgenerate
"""

ROM_VERILOG = f"""\
// Read-only memory with a synchronous read port, filled from the $readmemh file INIT_FILE in the folder MEM_DIR.
// For an ASIC: replace the body by a macro (or a RAM with a load port) of the same timing.
module {ROM_MODULE} #(
    parameter WIDTH = 8,
    parameter DEPTH = 2,
    parameter ADDR_WIDTH = 1,
    parameter INIT_FILE = "",
    parameter MEM_DIR = "."
) (
    input clk,
    input en,
    input [ADDR_WIDTH-1:0] addr,
    output reg [WIDTH-1:0] data
);
  reg [WIDTH-1:0] mem[0:DEPTH-1];
{_FILL}  always @(posedge clk) if (en) data <= mem[addr];
endmodule
"""

RAM_VERILOG = f"""\
// Memory with one synchronous write port and one synchronous read port.  A read in the cycle of a write to the
// same address never happens.
module {RAM_MODULE} #(
    parameter WIDTH = 8,
    parameter DEPTH = 2,
    parameter ADDR_WIDTH = 1
) (
    input clk,
    input write_en,
    input [ADDR_WIDTH-1:0] write_addr,
    input [WIDTH-1:0] write_data,
    input read_en,
    input [ADDR_WIDTH-1:0] read_addr,
    output reg [WIDTH-1:0] read_data
);
  reg [WIDTH-1:0] mem[0:DEPTH-1];
  always @(posedge clk) if (write_en) mem[write_addr] <= write_data;
  always @(posedge clk) if (read_en) read_data <= mem[read_addr];
`ifdef CHESSRNN_CHECK
  // What a macro leaves undefined.
  always @(posedge clk)
    if (write_en && read_en && write_addr == read_addr) begin
      $display("chessrnn_ram: read of a word that is being written");
      $finish;
    end
`endif
endmodule
"""

WEIGHT_RAM_VERILOG = f"""\
// Memory with one port that reads a word or writes one, filled at first from the $readmemh file INIT_FILE in the folder
// MEM_DIR.  load_en and en are never high in the same cycle.
// For an ASIC: replace the body by a single-port macro of the same timing, which is loaded before its first use.
module {WEIGHT_RAM_MODULE} #(
    parameter WIDTH = 8,
    parameter DEPTH = 2,
    parameter ADDR_WIDTH = 1,
    parameter INIT_FILE = "",
    parameter MEM_DIR = "."
) (
    input clk,
    input en,
    input [ADDR_WIDTH-1:0] addr,
    output reg [WIDTH-1:0] data,
    input load_en,
    input [ADDR_WIDTH-1:0] load_addr,
    input [WIDTH-1:0] load_data
);
  reg [WIDTH-1:0] mem[0:DEPTH-1];
{_FILL}  wire [ADDR_WIDTH-1:0] address = load_en ? load_addr : addr;
  always @(posedge clk)
    if (load_en) mem[address] <= load_data;
    else if (en) data <= mem[address];
endmodule
"""


def address_width(depth: int) -> int:
    """Bits of an address, at least one (Verilog-2005 has no zero-width ports)."""
    return max(1, (depth - 1).bit_length())


class Rom(wiring.Component):
    """A read-only memory that is initialised from a file.

    Parameters
    ----------
    spec : MemorySpec
        Size and name of the memory; the file ``<spec.name>.mem`` fills it.
    contents : list of int, optional
        Words of the memory, for Amaranth's simulator.

    Members
    -------
    en : In(1)
        Read in this cycle.
    addr : In(address_width(depth))
        Address of the word.
    data : Out(width)
        The word, one cycle later; unchanged while ``en`` is low.

    Latency: 1 · Throughput: 1 read per cycle
    """

    def __init__(self, spec: MemorySpec, contents: list[int] | None = None):
        self.spec, self.contents = spec, contents
        self.latency = 1
        super().__init__({"en": In(1), "addr": In(address_width(spec.depth)), "data": Out(spec.width)})

    def blackbox(self) -> Instance:
        """The instance that the emitted Verilog contains in place of this component."""
        spec = self.spec
        return Instance(
            ROM_MODULE,
            p_WIDTH=spec.width, p_DEPTH=spec.depth, p_ADDR_WIDTH=len(self.addr), p_INIT_FILE=f"{spec.name}.mem",
            i_clk=ClockSignal(), i_en=self.en, i_addr=self.addr, o_data=self.data,
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        spec = self.spec
        m.submodules.rom = rom = memory.Memory(shape=spec.width, depth=spec.depth, init=self.contents or [])
        port = rom.read_port()
        m.d.comb += [port.en.eq(self.en), port.addr.eq(self.addr), self.data.eq(port.data)]
        return m


class WeightRam(wiring.Component):
    """A memory that is initialised from a file, read by the design, and written by the loader.

    Parameters
    ----------
    spec : MemorySpec
        Size and name of the memory; the file ``<spec.name>.mem`` fills it at first.
    contents : list of int, optional
        Words of the memory at first, for Amaranth's simulator.

    Members
    -------
    en, addr, data
        Read port, as in :class:`Rom`.
    load_en, load_addr, load_data : In
        Write a word in this cycle; never while ``en`` is high.

    Latency: 1 · Throughput: 1 read or 1 write per cycle
    """

    def __init__(self, spec: MemorySpec, contents: list[int] | None = None):
        self.spec, self.contents = spec, contents
        self.latency = 1
        bits = address_width(spec.depth)
        super().__init__(
            {
                "en": In(1), "addr": In(bits), "data": Out(spec.width),
                "load_en": In(1), "load_addr": In(bits), "load_data": In(spec.width),
            }
        )  # fmt: skip

    def blackbox(self) -> Instance:
        """The instance that the emitted Verilog contains in place of this component."""
        spec = self.spec
        return Instance(
            WEIGHT_RAM_MODULE,
            p_WIDTH=spec.width, p_DEPTH=spec.depth, p_ADDR_WIDTH=len(self.addr), p_INIT_FILE=f"{spec.name}.mem",
            i_clk=ClockSignal(), i_en=self.en, i_addr=self.addr, o_data=self.data,
            i_load_en=self.load_en, i_load_addr=self.load_addr, i_load_data=self.load_data,
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        spec = self.spec
        m.submodules.ram = ram = memory.Memory(shape=spec.width, depth=spec.depth, init=self.contents or [])
        write, read = ram.write_port(), ram.read_port()
        m.d.comb += [
            write.en.eq(self.load_en), write.addr.eq(self.load_addr), write.data.eq(self.load_data),
            read.en.eq(self.en), read.addr.eq(self.addr), self.data.eq(read.data),
        ]  # fmt: skip
        m.d.sync += Assert(~(self.load_en & self.en), f"{spec.name}: a read in the cycle of a write")
        return m


class Ram(wiring.Component):
    """A memory with one write port and one read port.

    Parameters
    ----------
    spec : MemorySpec
        Size and name of the memory.

    Members
    -------
    write_en, write_addr, write_data : In
        Write a word in this cycle.
    read_en, read_addr : In
        Read a word in this cycle; never the one that is being written.
    read_data : Out
        The word, one cycle later; unchanged while ``read_en`` is low.

    Latency: 1 · Throughput: 1 read and 1 write per cycle
    """

    def __init__(self, spec: MemorySpec):
        self.spec = spec
        self.latency = 1
        bits = address_width(spec.depth)
        super().__init__(
            {
                "write_en": In(1), "write_addr": In(bits), "write_data": In(spec.width),
                "read_en": In(1), "read_addr": In(bits), "read_data": Out(spec.width),
            }
        )  # fmt: skip

    def blackbox(self) -> Instance:
        """The instance that the emitted Verilog contains in place of this component."""
        spec = self.spec
        return Instance(
            RAM_MODULE,
            p_WIDTH=spec.width, p_DEPTH=spec.depth, p_ADDR_WIDTH=len(self.write_addr), i_clk=ClockSignal(),
            i_write_en=self.write_en, i_write_addr=self.write_addr, i_write_data=self.write_data,
            i_read_en=self.read_en, i_read_addr=self.read_addr, o_read_data=self.read_data,
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        spec = self.spec
        m.submodules.ram = ram = memory.Memory(shape=spec.width, depth=spec.depth, init=[])
        write, read = ram.write_port(), ram.read_port()
        m.d.comb += [
            write.en.eq(self.write_en), write.addr.eq(self.write_addr), write.data.eq(self.write_data),
            read.en.eq(self.read_en), read.addr.eq(self.read_addr), self.read_data.eq(read.data),
        ]  # fmt: skip
        # The check of CHESSRNN_CHECK in the Verilog: in a macro the result of such a read is undefined.
        collides = self.write_en & self.read_en & (self.write_addr == self.read_addr)
        m.d.sync += Assert(~collides, f"{spec.name}: read of a word that is being written")
        return m


def delay(m: Module, value, cycles: int, name: str, reset_less: bool = True):
    """The signal ``value``, delayed by ``cycles`` registers."""
    for stage in range(cycles):
        register = Signal(value.shape(), name=f"{name}_d{stage + 1}", reset_less=reset_less)
        m.d.sync += register.eq(value)
        value = register
    return value
