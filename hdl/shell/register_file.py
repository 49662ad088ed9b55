"""The AXI4-Lite register file of the bus shell."""

from amaranth.hdl import Cat, Const, Module, Mux, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.model.shell.registers import (
    ADDRESS_BITS,
    CLEAR_BY_ONE,
    COMMAND,
    PASSED_ON,
    READ_ONLY,
    READ_WRITE,
    WORD_BITS,
    WORD_BYTES,
    Field,
    Register,
)

OKAY, SLAVE_ERROR = 0, 2
ALIGNMENT_BITS = (WORD_BYTES - 1).bit_length()


def axi_lite_members() -> dict:
    """Signals of an AXI4-Lite slave.  AWPROT and ARPROT are left out, as nothing depends on them."""
    return {
        "awvalid": In(1), "awready": Out(1), "awaddr": In(ADDRESS_BITS),
        "wvalid": In(1), "wready": Out(1), "wdata": In(WORD_BITS), "wstrb": In(WORD_BYTES),
        "bvalid": Out(1), "bready": In(1), "bresp": Out(2),
        "arvalid": In(1), "arready": Out(1), "araddr": In(ADDRESS_BITS),
        "rvalid": Out(1), "rready": In(1), "rdata": Out(WORD_BITS), "rresp": Out(2),
    }  # fmt: skip


def port_of(register: Register, field: Field) -> str:
    """Name of the port that connects a field with the hardware."""
    return f"{register.name}_{field.name}"


class RegisterFile(wiring.Component):
    """Answers reads and writes of a register map; a wrong access gives SLVERR and changes nothing.

    Wrong are addresses beyond the map, addresses that are not a multiple of four bytes, and writes to registers that
    have nothing to write.  Byte strobes are respected; what is passed on to the hardware takes all bytes or none.

    Parameters
    ----------
    registers : tuple of Register
        The map in the order of offsets, which are multiples of a word; what lies between them is beyond the map.

    Members
    -------
    awvalid … rresp
        AXI4-Lite; handshake outputs are 0 in reset.
    <register>_<field> : In or Out
        The value of a field that is read only and not constant; what software has written, of one that may be written
        or is a command; a pulse that sets a field which is cleared by writing 1.
    <register>_<field>_now : Out(1)
        Value of a field that is cleared by writing 1.
    <register>_<field>, …_push, …_open, …_now : Out, Out(1), In(1), In
        A field that is passed on: what software writes, in the cycle in which …_push is high; whether a write is
        legal; the value that is read.
    refused : Out(1), if a field is passed on
        High in the cycle of a write that …_open does not allow.

    Latency: a read is answered in the cycle after its address, a write in the cycle after the later one of address and
    data is held · Throughput: one access every two to three cycles
    """

    module_name = "register_file"

    def __init__(self, registers: tuple[Register, ...]):
        offsets = [register.offset for register in registers]
        assert offsets == sorted(set(offsets)) and not any(offset % WORD_BYTES for offset in offsets)
        self.registers = registers
        members = axi_lite_members()
        for register, field in self._fields():
            name, shape = port_of(register, field), field.width
            members[name] = (Out if field.access in (READ_WRITE, COMMAND, PASSED_ON) else In)(shape)
            if field.access == PASSED_ON:
                members |= {f"{name}_push": Out(1), f"{name}_open": In(1), f"{name}_now": In(shape), "refused": Out(1)}
            if field.access == CLEAR_BY_ONE:
                members[f"{name}_now"] = Out(shape)
        super().__init__(members)

    def _fields(self):
        """Every field that is not constant, with its register."""
        return [(r, f) for r in self.registers for f in r.fields if f.value is None]

    def elaborate(self, platform):
        m = Module()
        runs = Signal()
        m.d.comb += runs.eq(~ResetSignal())

        # -- writes: address and data arrive in any order and are held until both are there ------------------------
        address, data, strobes = Signal(ADDRESS_BITS), Signal(WORD_BITS), Signal(WORD_BYTES)
        has_address, has_data, answered, execute = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.awready.eq(runs & ~has_address), self.wready.eq(runs & ~has_data), self.bvalid.eq(runs & answered),
            execute.eq(has_address & has_data & ~answered),
        ]  # fmt: skip
        with m.If(self.awvalid & ~has_address):
            m.d.sync += [address.eq(self.awaddr), has_address.eq(1)]
        with m.If(self.wvalid & ~has_data):
            m.d.sync += [data.eq(self.wdata), strobes.eq(self.wstrb), has_data.eq(1)]
        with m.If(self.bready):
            m.d.sync += answered.eq(0)
        with m.If(execute):
            m.d.sync += [has_address.eq(0), has_data.eq(0), answered.eq(1)]

        mask, written = Signal(WORD_BITS), {register.name: Signal(name=f"write_{register.name}")
                                            for register in self.registers if register.may_be_written}  # fmt: skip
        m.d.comb += mask.eq(Cat(strobe.replicate(8) for strobe in strobes))
        legal = Signal(name="write_is_legal")
        with m.If(address[:ALIGNMENT_BITS] == 0), m.Switch(address[ALIGNMENT_BITS:]):
            for register in self.registers:
                if register.may_be_written:
                    with m.Case(register.offset // WORD_BYTES):
                        m.d.comb += [legal.eq(1), written[register.name].eq(execute)]
                        self._refuse(m, register, strobes, execute, legal, written[register.name])
        with m.If(execute):
            m.d.sync += self.bresp.eq(Mux(legal, OKAY, SLAVE_ERROR))

        # -- fields ------------------------------------------------------------------------------------------------
        values = {}
        for register in self.registers:
            parts, position = [], 0
            for field in sorted(register.fields, key=lambda field: field.low):
                parts += [Const(0, field.low - position)] if field.low > position else []
                parts.append(self._field(m, register, field, written.get(register.name), data, mask))
                position = field.low + field.width
            values[register.name] = Cat(*parts)

        # -- reads -------------------------------------------------------------------------------------------------
        offered = Signal(name="read_is_answered")
        m.d.comb += [self.arready.eq(runs & ~offered), self.rvalid.eq(runs & offered)]
        with m.If(offered & self.rready):
            m.d.sync += offered.eq(0)
        with m.If(self.arvalid & ~offered):
            m.d.sync += [offered.eq(1), self.rdata.eq(0), self.rresp.eq(SLAVE_ERROR)]
            with m.If(self.araddr[:ALIGNMENT_BITS] == 0), m.Switch(self.araddr[ALIGNMENT_BITS:]):
                for register in self.registers:
                    with m.Case(register.offset // WORD_BYTES):
                        m.d.sync += [self.rdata.eq(values[register.name]), self.rresp.eq(OKAY)]
        return m

    def _refuse(self, m, register: Register, strobes, execute, legal, written) -> None:
        """Take back a write to a register that is passed on, while it is not open or where bytes are missing."""
        for name in (port_of(register, field) for field in register.fields if field.access == PASSED_ON):
            with m.If(~(getattr(self, f"{name}_open") & strobes.all())):
                m.d.comb += [legal.eq(0), written.eq(0), self.refused.eq(execute)]

    def _field(self, m, register: Register, field: Field, write, data, mask):
        """Add the register of a field, and return the value that is read."""
        if field.value is not None:
            return Const(field.value, field.width)
        name, bits = port_of(register, field), slice(field.low, field.low + field.width)
        port = getattr(self, name)
        if field.access == READ_ONLY:
            return port
        if field.access == PASSED_ON:
            m.d.comb += [port.eq(data[bits]), getattr(self, f"{name}_push").eq(write)]
            return getattr(self, f"{name}_now")
        new, chosen = data[bits], mask[bits] & write.replicate(field.width)
        if field.access == COMMAND:
            m.d.sync += port.eq(new & chosen)
            return Const(0, field.width)
        value = port if field.access == READ_WRITE else getattr(self, f"{name}_now")
        if field.access == READ_WRITE:
            m.d.sync += value.eq((value & ~chosen) | (new & chosen))
        else:
            # What happens in the cycle of the write is not lost.
            m.d.sync += value.eq((value & ~(new & chosen)) | port)
        return value
