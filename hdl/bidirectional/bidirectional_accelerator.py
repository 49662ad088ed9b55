"""The accelerator of a bidirectional network."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.packing import padding_mask
from chessrnn.hdl.bidirectional.pass_controller import PassController
from chessrnn.hdl.bidirectional.pass_vector_memory import PassVectorMemory
from chessrnn.hdl.bidirectional.sequencer import Sequencer
from chessrnn.hdl.block_stream import block_stream
from chessrnn.hdl.cell_update import CellUpdate, inner_ports
from chessrnn.hdl.drain import Drain, state_unit_port
from chessrnn.hdl.framing import X_ERROR_BITS
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.loader import connect_loader, is_loadable, loader_ports
from chessrnn.hdl.matvec import MatVec
from chessrnn.hdl.monitor import saturations_port
from chessrnn.hdl.parity import parity_port
from chessrnn.hdl.part_shapes import has_projection
from chessrnn.hdl.pass_address import PassAddress
from chessrnn.hdl.staged_update import StagedUpdate
from chessrnn.model.config import Config
from chessrnn.model.memory_image import num_slices, slices_per_round
from chessrnn.model.schedule import Schedule


class BidirectionalAccelerator(wiring.Component):
    """Runs one layer after the other over the whole sequence, with the steps of the two directions alternating.

    While the sums of one direction's step are drained, activated and written, the engine works on the other direction.
    So it never idles if a step takes longer than that.  If a step has several parts, the directions alternate after
    every part.

    Parameters
    ----------
    config : Config
        Configuration of a bidirectional network.
    contents : dict of str to list of int, optional
        Words of the initialised memories (``chessrnn.model.memory_image.memory_words``), for Amaranth's simulator.

    Members
    -------
    x : In(stream.Signature(…))
        ``data``: a block of k elements, the first in the lowest bits; ⌈X/k⌉ beats make a step, padding is ignored.
        ``last``: set on the last beat of a sequence's last step; a sequence also ends after ``sequence_steps`` steps.
        On an earlier beat it is an error: zeros complete the step, with which the sequence ends.
    h : Out(stream.Signature(…))
        ``data``: a block of k elements, padding is zero; ⌈H/k⌉ beats of the forward direction and as many of the
        reverse one make a step.  ``last``: set on the last beat of a sequence.
    x_error : Out(X_ERROR_BITS)
        In the cycle after the faulty beat, one bit per kind of error (``chessrnn.hdl.framing``).
    matvec_active : Out(1)
        High while the tile works: one word is read from every weight bank in this cycle.
    load_hold, load_ready, load_en, load_address, load_data, load_next, load_crc, load_error : with
    ``architecture.weight_memory = ram``
        ``chessrnn.hdl.loader``; while ``load_hold`` is high no sequence begins.
    parity_error : Out(1), with ``architecture.parity = word``
        A word that was read and used has a wrong parity (``chessrnn.hdl.parity``).
    saturations : Out, with ``architecture.monitor``
        Number of values that were clipped to the range of their format (``chessrnn.hdl.monitor``).

    Latency, throughput: ``chessrnn.model.schedule.Schedule.timeline``, to the cycle · Numerics:
    ``chessrnn.model.config`` · Reference: ``chessrnn.model.reference.network.NetworkReference``
    """

    module_name = "core"

    def __init__(self, config: Config, contents: dict[str, list[int]] | None = None):
        self.config, self.contents = config, contents
        q = config.quantization
        super().__init__(
            {
                "x": In(block_stream(config, q.x)),
                "h": Out(block_stream(config, q.h)),
                "x_error": Out(X_ERROR_BITS),
                "matvec_active": Out(1),
                **loader_ports(config),
                **parity_port(config),
                **saturations_port(config),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, layers, schedule = self.config, self.config.network.num_layers, Schedule(self.config)
        sequencer, controller, vectors = Sequencer(config), PassController(config), PassVectorMemory(config)
        matvec, drain = MatVec(config, self.contents), Drain(config)
        cells = (StagedUpdate if config.cell.stages > 1 else CellUpdate)(config, self.contents)
        units = [slices_per_round(config, schedule)] * layers
        unit = PassAddress(config, "unit_address", units)
        parts = {
            "sequencer": sequencer, "controller": controller, "vectors": vectors, "matvec": matvec, "drain": drain,
            "cells": cells, "unit_address": unit,
        }  # fmt: skip
        for name, part in parts.items():
            m.submodules[name] = shared(part, platform)
        assert sum(units) == num_slices(config, schedule)

        for part in (controller, matvec, unit):
            m.d.comb += part.start.eq(sequencer.start)
        for part in (matvec, unit):
            m.d.comb += part.first.eq(sequencer.first)
        if layers > 1:
            m.d.comb += [part.layer.eq(sequencer.layer) for part in (controller, vectors, matvec, unit)]
        if has_projection(config):
            m.d.comb += cells.projected.eq(drain.slice_projected)
        h_block = Signal.like(cells.block)
        mask = padding_mask(config.output_size, config.block_size, config.quantization.h.width)
        if inner_ports(config):
            inner_mask = padding_mask(config.network.units, config.block_size, config.quantization.h.width)
            m.d.comb += [
                vectors.part.eq(controller.part),
                vectors.inner_write.eq(cells.inner_valid),
                vectors.inner_block.eq(Mux(vectors.inner_last, cells.inner & inner_mask, cells.inner)),
                controller.inner_written.eq(cells.inner_valid),
            ]
        m.d.comb += [
            h_block.eq(Mux(vectors.h_last, cells.block & mask, cells.block)),
            sequencer.room.eq(controller.input_room),
            controller.input_promised.eq(sequencer.promise),
            controller.input_written.eq(sequencer.block_valid),
            controller.h_written.eq(cells.block_valid),
            vectors.input_write.eq(sequencer.block_valid),
            vectors.input_block.eq(sequencer.block),
            vectors.h_write.eq(cells.block_valid),
            vectors.h_block.eq(h_block),
            vectors.read.eq(controller.issue),
            vectors.group.eq(controller.group),
            vectors.half.eq(controller.half),
            vectors.direction.eq(controller.direction),
            vectors.round_parity.eq(controller.round_parity),
            vectors.first_step.eq(controller.first_step),
            matvec.issue.eq(controller.issue),
            matvec.tags.eq(controller.tags),
            matvec.elements.eq(vectors.elements),
            drain.sums.eq(matvec.sums),
            drain.tags.eq(matvec.sum_tags),
            # Parameters have an address of their own in every layer; the memory of states serves the layer at work.
            unit.advance.eq(drain.select),
            cells.unit.eq(unit.address),
            *([cells.state_unit.eq(drain.unit)] if state_unit_port(config, In) else []),
            cells.select.eq(drain.select),
            cells.slice.eq(drain.slice),
            cells.slice_valid.eq(drain.slice_valid),
            cells.first_step.eq(drain.slice_first_step),
            cells.last_step.eq(drain.slice_last_step),
            sequencer.h_write.eq(cells.block_valid),
            sequencer.h_block.eq(h_block),
            self.x_error.eq(sequencer.x_error),
            self.matvec_active.eq(controller.issue),
        ]
        wiring.connect(m, wiring.flipped(self.x), sequencer.x)
        wiring.connect(m, wiring.flipped(self.h), sequencer.h)
        if is_loadable(config):
            m.d.comb += sequencer.hold.eq(self.load_hold)
            connect_loader(m, platform, self, sequencer.quiet, [matvec, cells])
        if parity_port(config):
            errors = Cat(block.parity_error for block in (sequencer, vectors, matvec, cells))
            m.d.comb += self.parity_error.eq(errors.any())
        if config.architecture.monitor:
            m.d.comb += self.saturations.eq(cells.saturations)
        return m
