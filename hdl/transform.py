"""Transforms of the fast engine: from elements to forms, and from sums of products of forms back to elements."""

import operator
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.requantize import resize
from chessrnn.model import bilinear
from chessrnn.model.schedule import forward_transform_latency, inverse_transform_latency, transform_stages
from chessrnn.model.widths.forms import form_widths


def forms_layout(widths: Sequence[int]) -> data.StructLayout:
    """A layout of signed fields f0, f1, … with the given widths."""
    return data.StructLayout({f"f{index}": signed(width) for index, width in enumerate(widths)})


class _Adders:
    """Adds, subtracts and halves values, and counts the adders; with ``arithmetic`` False it only counts."""

    def __init__(self, arithmetic: bool = True):
        self.arithmetic, self.count = arithmetic, 0

    def add(self, a, b, limit: int | None = None):
        return self._make(operator.add, a, b, limit)

    def sub(self, a, b, limit: int | None = None):
        return self._make(operator.sub, a, b, limit)

    def half(self, value):
        """Half of an even value."""
        return value[1:].as_signed() if self.arithmetic else value

    def _make(self, operation: Callable, a, b, limit: int | None):
        self.count += 1
        if not self.arithmetic:
            return None
        value = operation(a, b)
        return value if limit is None else resize(value, min(len(value), limit))


class _Staged(NamedTuple):
    """A value that has passed ``depth`` adders and is valid after ``stage`` cycles."""

    value: Value
    depth: int
    stage: int


class _StagedAdders(_Adders):
    """Adders of a pipeline: registers follow every ``levels`` of them.

    Parameters
    ----------
    m : Module
        Module to which the registers are added.
    levels : int
        Adders between two registers; 0: no registers.
    """

    def __init__(self, m: Module, levels: int):
        super().__init__()
        self._m, self._levels = m, levels
        # Register by the value's ``id`` and cycle; the value is kept too, so that Python does not reuse its ``id``.
        self._held: dict[tuple[int, int], tuple[Value, Signal]] = {}

    def hold(self, item: _Staged, stage: int) -> Value:
        """The value, delayed to a later cycle; all users of a value share one chain of registers."""
        value = item.value
        for cycle in range(item.stage, stage):
            key = id(item.value), cycle
            if key not in self._held:
                register = Signal(value.shape(), name="held", reset_less=True)
                self._m.d.sync += register.eq(value)
                self._held[key] = item.value, register
            value = self._held[key][1]
        return value

    def half(self, value):
        return value._replace(value=super().half(value.value))

    def _make(self, operation, a, b, limit):
        depth = max(a.depth, b.depth) + 1
        stage = transform_stages(depth, self._levels)
        value = super()._make(operation, self.hold(a, stage), self.hold(b, stage), limit)
        assert value is not None
        return _Staged(value, depth, stage)


def _cyclic_forms(adders: _Adders, values: list) -> list:
    half = len(values) // 2
    if half == 0:
        return values
    pairs = list(zip(values[:half], values[half:], strict=True))
    plus, minus = [adders.add(a, b) for a, b in pairs], [adders.sub(a, b) for a, b in pairs]
    return _cyclic_forms(adders, plus) + _negacyclic_forms(adders, minus)


def _negacyclic_forms(adders: _Adders, values: list) -> list:
    if len(values) == 1:
        return values
    even, odd = values[0::2], values[1::2]
    both = [adders.add(a, b) for a, b in zip(even, odd, strict=True)]
    return [form for part in (even, odd, both) for form in _negacyclic_forms(adders, part)]


def _cyclic_inverse(adders: _Adders, products: list, size: int, bits: int) -> list:
    """The elements modulo 2^bits, from the products of a cyclic convolution of ``size`` elements."""
    if size == 1:
        return products
    # The sum before the halving needs one more bit: chessrnn.model.widths.forms.modulus_bits.
    half, below = size // 2, bits + 1
    count = len(products) - bilinear.num_negacyclic(half)
    plus = _cyclic_inverse(adders, products[:count], half, below)
    minus = _negacyclic_inverse(adders, products[count:], below)
    pairs = list(zip(plus, minus, strict=True))
    doubled = [adders.add(a, b, below) for a, b in pairs] + [adders.sub(a, b, below) for a, b in pairs]
    return [adders.half(value) for value in doubled]


def _negacyclic_inverse(adders: _Adders, products: list, bits: int) -> list:
    if len(products) == 1:
        return products
    third = len(products) // 3
    even, odd, both = (
        _negacyclic_inverse(adders, products[start : start + third], bits) for start in range(0, 3 * third, third)
    )
    elements = []
    for index in range(len(even)):
        # A multiplication by u modulo u^{m/2} + 1 shifts by one place and negates the element that wraps around.
        combine = adders.add if index else adders.sub
        elements.append(combine(even[index], odd[index - 1], bits))
        elements.append(adders.sub(both[index], adders.add(even[index], odd[index], bits), bits))
    return elements


def forward_adders(block_size: int) -> int:
    """Number of two-input adders and subtractors in a :class:`ForwardTransform`."""
    counter = _Adders(arithmetic=False)
    _cyclic_forms(counter, [None] * block_size)
    return counter.count


def inverse_adders(block_size: int) -> int:
    """Number of two-input adders and subtractors in an :class:`InverseTransform`."""
    counter = _Adders(arithmetic=False)
    _cyclic_inverse(counter, [None] * bilinear.num_products(block_size), block_size, bits=1)
    return counter.count


class ForwardTransform(wiring.Component):
    """Computes the forms of a block: ``forms = M · elements``.

    Forms share partial sums, as the factors of z^k - 1 nest.

    Parameters
    ----------
    block_size : int
        Elements of a block, k.
    element_width : int
        Bits of an element.
    levels : int
        Adders between two registers; 0 for no register.
    user : str
        Name of the block that the transform belongs to.  It is part of the module's name, so that synthesis maps the
        transforms of blocks with different slack differently, even if they are otherwise equal.

    Members
    -------
    elements : In(ArrayLayout(signed(element_width), k))
    forms : Out(forms_layout(form_widths))

    Attributes
    ----------
    form_widths : list of int
        ``chessrnn.model.widths.forms.form_widths``.
    adder_count : int
        Number of two-input adders and subtractors.

    Latency: ``chessrnn.model.schedule.forward_transform_latency`` · Throughput: 1 block per cycle · Numerics: exact ·
    Reference: ``chessrnn.model.bilinear.forward_matrix``
    """

    reset_less = True

    def __init__(self, block_size: int, element_width: int, levels: int = 0, user: str = "operand"):
        self.block_size, self.element_width, self.levels = block_size, element_width, levels
        self.user = user
        self.latency = forward_transform_latency(block_size, levels)
        self.form_widths = form_widths(block_size, element_width)
        super().__init__(
            {
                "elements": In(data.ArrayLayout(signed(element_width), block_size)),
                "forms": Out(forms_layout(self.form_widths)),
            }
        )

    @property
    def module_name(self) -> str:
        registers = f"_l{self.levels}" if self.levels else ""
        return f"forward_transform_{self.user}_k{self.block_size}_w{self.element_width}{registers}"

    @property
    def adder_count(self) -> int:
        return forward_adders(self.block_size)

    def elaborate(self, platform):
        m = Module()
        adders = _StagedAdders(m, self.levels)
        elements = [_Staged(self.elements[index], 0, 0) for index in range(self.block_size)]
        for index, (item, width) in enumerate(zip(_cyclic_forms(adders, elements), self.form_widths, strict=True)):
            form = adders.hold(item, self.latency)
            assert len(form) == width, "every adder grows by the one bit that the proof gives it"
            m.d.comb += self.forms[f"f{index}"].eq(form)
        return m


class InverseTransform(wiring.Component):
    """Computes the elements of an output block from the sums of products of its forms: ``elements = S · forms``.

    The shift by log2 k is spread over the levels of the transform and removes only bits that are zero.

    Parameters
    ----------
    block_size : int
        Elements of a block, k.
    form_widths : sequence of int
        Bits of every sum: enough for its range, or ``chessrnn.model.widths.forms.modulus_bits(k, output_width)``, see
        ``chessrnn.model.widths.forms.accumulator_widths``.
    output_width : int
        Bits of an element; the caller must know that elements fit.
    levels : int
        Adders between two registers; 0 for no register.

    Members
    -------
    forms : In(forms_layout(form_widths))
    elements : Out(ArrayLayout(signed(output_width), k))

    Attributes
    ----------
    adder_count : int
        Number of two-input adders and subtractors.

    Latency: ``chessrnn.model.schedule.inverse_transform_latency`` · Throughput: 1 block per cycle · Numerics: exact
    where the output fits, intermediate sums wrap · Reference: ``chessrnn.model.bilinear.inverse_matrix``,
    ``inverse_shift``
    """

    reset_less = True

    def __init__(self, block_size: int, form_widths: Sequence[int], output_width: int, levels: int = 0):
        self.block_size, self.form_widths, self.output_width = block_size, tuple(form_widths), output_width
        self.levels = levels
        self.latency = inverse_transform_latency(block_size, levels)
        super().__init__(
            {
                "forms": In(forms_layout(self.form_widths)),
                "elements": Out(data.ArrayLayout(signed(output_width), block_size)),
            }
        )

    @property
    def module_name(self) -> str:
        # Up to 41 widths would not make a readable name.
        digest = zlib.crc32(bytes(self.form_widths))
        return f"inverse_transform_k{self.block_size}_w{self.output_width}_l{self.levels}_{digest:08x}"

    @property
    def adder_count(self) -> int:
        return inverse_adders(self.block_size)

    def elaborate(self, platform):
        m = Module()
        forms = [_Staged(self.forms[f"f{index}"], 0, 0) for index in range(len(self.form_widths))]
        adders = _StagedAdders(m, self.levels)
        elements = _cyclic_inverse(adders, forms, self.block_size, self.output_width)
        for index, element in enumerate(elements):
            m.d.comb += self.elements[index].eq(adders.hold(element, self.latency))
        return m
