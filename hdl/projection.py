"""The projection rounds its matrix–vector sums to blocks of h."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.requantize import requantize
from chessrnn.hdl.cell_lane import align_by_layer
from chessrnn.hdl.drain import slice_layout
from chessrnn.hdl.memory import delay
from chessrnn.hdl.monitor import existing_only, saturations_port, total
from chessrnn.model.config import Config
from chessrnn.model.parts import PROJECTION
from chessrnn.model.schedule import PROJECTION_LATENCY, Schedule


def projection_layer_port(config: Config, direction) -> dict:
    """The member ``layer`` of a projection whose layers have scales of their own; else none."""
    is_by_layer = len(set(config.layer_projection_fracs)) > 1
    return {"layer": direction(range(config.network.num_layers))} if is_by_layer else {}


class Projection(wiring.Component):
    """Rounds the sums of a projection to h and gathers them in blocks: ``h = requantize(sum)``.

    Every block row of a bundle becomes one block of h.  The slices of a bundle complete all of its blocks at the same
    time, so they leave one after the other; the drain allows the cycles for that (``Schedule.bundle_cycles``).

    Parameters
    ----------
    config : Config

    Members
    -------
    sums : In(ArrayLayout(ArrayLayout(signed(product_sum_bits), G), lanes))
        Sums of a slice: [element of the block][block of the bundle].
    valid, last_step : In(1)
        With ``sums``: they are valid; their step is the last of its sequence.
    layer : In, where layers have scales of their own
        With ``sums``: the layer that they belong to.
    block_valid, block, block_last_step : Out
        A block of k elements of h.
    saturations : Out, with ``architecture.monitor``
        Number of elements of a slice that were clipped.

    Latency: ``PROJECTION_LATENCY`` + 1 from the last slice of a bundle to its first block · Throughput: one block per
    cycle · Numerics: one rounding, HALF_UP and saturating · Reference: ``chessrnn.model.reference.layer``
    """

    module_name = "projection"

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "sums": In(slice_layout(config)), "valid": In(1), "last_step": In(1),
                "block_valid": Out(1), "block": Out(config.block_size * config.quantization.h.width),
                "block_last_step": Out(1), **saturations_port(config), **projection_layer_port(config, In),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config, points = self.config, self.config.quantization
        slices, gates = Schedule(config).slices, config.bundle_rows
        made = next(part.output_blocks for part in config.parts if part.kind == PROJECTION)

        # One register in front of the rounding, one behind it.
        sums = Signal(data.ArrayLayout(self.sums.shape().elem_shape, len(self.sums)), reset_less=True)
        valid, rounded_valid, last_step, rounded_last_step = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [
            sums.eq(self.sums), valid.eq(self.valid), rounded_valid.eq(valid),
            last_step.eq(self.last_step), rounded_last_step.eq(last_step),
        ]  # fmt: skip
        fracs = [frac + config.cell_output.fraction_bits for frac in config.layer_projection_fracs]
        layer = delay(m, self.layer, 1, "layer") if projection_layer_port(config, In) else None
        # For every block of the bundle, the elements that this slice contributes.
        rounded, clipped = [], []
        for gate in range(gates):
            piece = Signal(len(self.sums) * points.h.width, name=f"piece_{gate}", reset_less=True)
            seen = [[] if config.architecture.monitor else None for _ in range(len(self.sums))]
            values = [
                align_by_layer(m, f"{gate}_{lane}", sums[lane][gate], layer, fracs) for lane in range(len(self.sums))
            ]
            elements = [requantize(*value, points.h, flags) for value, flags in zip(values, seen, strict=True)]
            m.d.sync += piece.eq(Cat(*elements))
            rounded.append(piece)
            clipped.append(seen)
        assert PROJECTION_LATENCY == 2

        count = Signal(range(max(2, slices)))
        whole = Signal()
        m.d.comb += whole.eq(rounded_valid & (count == slices - 1))
        with m.If(rounded_valid):
            m.d.sync += count.eq(Mux(count == slices - 1, 0, count + 1))
        if config.architecture.monitor:
            self._count_clipped(m, clipped, count, whole, rounded_valid, made)
        blocks = []
        for gate, piece in enumerate(rounded):
            earlier = Signal(config.block_size * points.h.width - len(piece), name=f"earlier_{gate}", reset_less=True)
            with m.If(rounded_valid):
                m.d.sync += earlier.eq(Cat(earlier, piece)[len(piece) :])
            blocks.append(Cat(earlier, piece))

        # Blocks waiting to leave, how many they are, and how many of the step's blocks have not left yet.
        leaving = [Signal(len(self.block), name=f"leaving_{gate}", reset_less=True) for gate in range(gates)]
        left, waiting = Signal(range(made + 1), init=made), Signal(range(gates + 1))
        m.d.comb += [self.block_valid.eq(waiting != 0), self.block.eq(leaving[0])]
        with m.If(self.block_valid):
            m.d.sync += [now.eq(following) for now, following in zip(leaving[:-1], leaving[1:], strict=True)]
            m.d.sync += [waiting.eq(waiting - 1), left.eq(Mux(left == 1, made, left - 1))]
        with m.If(whole):
            after = Signal.like(left)
            m.d.comb += after.eq(Mux(self.block_valid, Mux(left == 1, made, left - 1), left))
            m.d.sync += [
                *(register.eq(block) for register, block in zip(leaving, blocks, strict=True)),
                waiting.eq(Mux(after < gates, after, gates)),
                self.block_last_step.eq(rounded_last_step),
            ]
        return m

    def _count_clipped(self, m, clipped: list, count, whole, valid, made: int) -> None:
        """Drive ``saturations`` from the flags [block of the bundle][lane] of a slice, for elements that exist."""
        config, gates, lanes = self.config, len(clipped), len(self.sums)
        slices, bundles = Schedule(config).slices, -(-made // len(clipped))
        bundle = Signal(range(max(2, bundles)))
        with m.If(whole):
            m.d.sync += bundle.eq(Mux(bundle == bundles - 1, 0, bundle + 1))
        counts = []
        for gate, seen in enumerate(clipped):
            # Elements of this block for every slice of every bundle.
            first = [number * gates + gate for number in range(bundles)]
            units = [
                range(block * config.block_size + part * lanes, block * config.block_size + (part + 1) * lanes)
                for block in first
                for part in range(slices)
            ]
            flags = Signal(lanes, name=f"clipped_{gate}", reset_less=True)
            m.d.sync += flags.eq(Cat(*(Cat(*found).any() for found in seen)))
            counts += existing_only(list(flags), bundle * slices + count, units, [config.output_size] * len(units))
        m.d.comb += self.saturations.eq(Mux(valid, total(counts), 0))
