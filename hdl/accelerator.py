"""The accelerator of a network of one direction: a stream of x in, a stream of h out."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.arithmetic.packing import padding_mask
from chessrnn.hdl.block_stream import block_stream
from chessrnn.hdl.cell_update import CellUpdate
from chessrnn.hdl.controller import Controller
from chessrnn.hdl.drain import Drain
from chessrnn.hdl.framing import X_ERROR_BITS, Framing
from chessrnn.hdl.hierarchy import shared
from chessrnn.hdl.loader import SequenceGate, connect_loader, is_loadable, loader_ports
from chessrnn.hdl.matvec import MatVec
from chessrnn.hdl.memory import delay
from chessrnn.hdl.monitor import saturations_port
from chessrnn.hdl.output_buffer import OutputBuffer
from chessrnn.hdl.output_layer.largest import result_layout
from chessrnn.hdl.output_layer.output_layer import OutputLayer
from chessrnn.hdl.parity import parity_port
from chessrnn.hdl.part_shapes import has_projection, select
from chessrnn.hdl.staged_update import StagedUpdate
from chessrnn.hdl.state_access import StateAccess
from chessrnn.hdl.vector_memory import VectorMemory
from chessrnn.model.config import Config
from chessrnn.model.parts import PROJECTION
from chessrnn.model.state_beats import state_bits


class Accelerator(wiring.Component):
    """Runs all recurrent layers step by step; its matrix–vector engine idles only where the recurrence forces it to.

    Parameters
    ----------
    config : Config
    contents : dict of str to list of int, optional
        Words of the initialised memories (``chessrnn.model.memory_image.memory_words``), for Amaranth's simulator.

    Members
    -------
    x : In(stream.Signature(…))
        ``data``: a block of k elements, the first in the lowest bits; ⌈X/k⌉ beats make a step, padding is ignored.
        ``last``: set on the last beat of a sequence's last step; its context's next step starts from zero state.  On an
        earlier beat it is an error: zeros complete the step, with which the sequence ends, and the next beat begins
        another step.
        ``load``, with state ports: set on the first beat of a sequence whose initial state comes from ``state_in``.
    h : Out(stream.Signature(…))
        ``data``: a block of k elements, padding is zero; ⌈H/k⌉ beats make a step.
        ``last``: set on the last beat of a sequence's last step.
    state_in, state_out : In, Out(stream.Signature(…)), with ``architecture.state_ports``
        The state before every sequence that asks for it, and the state after every sequence, as beats
        (``chessrnn.model.state_beats``).
    y : Out(stream.Signature(…)), with ``architecture.output_layer``
        Index and value of the largest logit of every step (``chessrnn.hdl.output_layer.largest``).
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
        q, members, flags = config.quantization, {}, ()
        if config.architecture.state_ports:
            flags = ("load",)
            members["state_in"] = In(stream.Signature(state_bits(config)))
            members["state_out"] = Out(stream.Signature(data.StructLayout({"data": state_bits(config), "last": 1})))
        if config.architecture.output_layer:
            members["y"] = Out(stream.Signature(result_layout(config)))
        super().__init__(
            {
                "x": In(block_stream(config, q.x, *flags)), "h": Out(block_stream(config, q.h)),
                "x_error": Out(X_ERROR_BITS), "matvec_active": Out(1), **members, **loader_ports(config),
                **parity_port(config), **saturations_port(config),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config = self.config
        several_parts, several_contexts = len(config.parts) > 1, config.architecture.contexts > 1
        controller = Controller(config)
        m.submodules.controller = shared(controller, platform)
        vectors = VectorMemory(config)
        m.submodules.vectors = shared(vectors, platform)
        matvec = MatVec(config, self.contents)
        m.submodules.matvec = shared(matvec, platform)
        drain = Drain(config)
        m.submodules.drain = shared(drain, platform)
        cells = (StagedUpdate if config.cell.stages > 1 else CellUpdate)(config, self.contents)
        m.submodules.cells = shared(cells, platform)
        output = OutputBuffer(config)
        m.submodules.output = shared(output, platform)

        issued = {name: getattr(controller, name) for name in ("issue", "group", "half", "first_step")}
        if several_parts:
            issued["part"] = controller.part
        if several_contexts:
            issued |= {"context": controller.context, "round_parity": controller.round_parity}
        tags, room = controller.tags, controller.x_room
        if config.architecture.pipeline.issue_register:
            issued = {name: delay(m, value, 1, f"issued_{name}", name != "issue") for name, value in issued.items()}
            tags = Signal.like(tags, name="issued_tags")
            m.d.sync += tags.eq(controller.tags)
            # The last issue of a step still reads the half of x that the controller has already left.
            room = room & ((controller.half == issued["half"]) | (vectors.x_half != issued["half"]))
        gate = SequenceGate(config) if is_loadable(config) else None
        if gate is not None:
            m.submodules.gate = shared(gate, platform)
            room = room & ~(self.load_hold & gate.between)
        framing = Framing(m, self.x, vectors.x_last, room, config.num_input_blocks)
        x_block = framing.block
        x_mask = padding_mask(config.network.input_size, config.block_size, config.quantization.x.width)
        m.d.comb += [
            vectors.x_write.eq(framing.write),
            vectors.x_block.eq(x_block),
            controller.x_written.eq(framing.write),
            controller.x_step_last.eq(vectors.x_last),
            controller.x_half.eq(vectors.x_half),
            controller.x_sequence_last.eq(framing.last),
            self.x_error.eq(framing.early),
        ]
        with m.If(vectors.x_last):
            m.d.comb += vectors.x_block.eq(x_block & x_mask)
        m.d.comb += [
            vectors.read.eq(issued["issue"]),
            *([vectors.part.eq(issued["part"])] if several_parts else []),
            *(
                [vectors.context.eq(issued["context"]), vectors.round_parity.eq(issued["round_parity"])]
                if several_contexts
                else []
            ),
            *([cells.state_unit.eq(drain.state_unit)] if drain.state_unit_port else []),
            vectors.group.eq(issued["group"]),
            vectors.half.eq(issued["half"]),
            vectors.first_step.eq(issued["first_step"]),
            matvec.issue.eq(issued["issue"]),
            matvec.tags.eq(tags),
            matvec.elements.eq(vectors.elements),
            drain.sums.eq(matvec.sums),
            drain.tags.eq(matvec.sum_tags),
            cells.select.eq(drain.select),
            cells.unit.eq(drain.unit),
            cells.slice.eq(drain.slice),
            cells.slice_valid.eq(drain.slice_valid),
            cells.first_step.eq(drain.slice_first_step),
            cells.last_step.eq(drain.slice_last_step),
            *([cells.projected.eq(drain.slice_projected)] if has_projection(config) else []),
            self.matvec_active.eq(controller.issue),
        ]

        h_block, bits = Signal.like(cells.block), config.quantization.h.width
        number = vectors.h_part if several_parts else None
        sizes = [config.network.projection_size if part.kind == PROJECTION else config.network.hidden_sizes[part.layer]
                 for part in config.parts]  # fmt: skip
        h_mask = select(number, [padding_mask(size, config.block_size, bits) for size in sizes])
        m.d.comb += h_block.eq(cells.block)
        with m.If(vectors.h_last):
            m.d.comb += h_block.eq(cells.block & h_mask)
        m.d.comb += [
            vectors.h_write.eq(cells.block_valid),
            vectors.h_block.eq(h_block),
            controller.h_written.eq(cells.block_valid),
            output.write.eq(
                cells.block_valid & (vectors.h_part == len(config.parts) - 1) if several_parts else cells.block_valid
            ),
            output.block.eq(h_block),
            output.last_step.eq(cells.block_last_step),
            controller.h_sent.eq(self.h.valid & self.h.ready),
        ]
        loaded = [matvec, cells]
        if config.architecture.output_layer:
            loaded.append(self._connect_output_layer(m, platform, output))
        else:
            wiring.connect(m, wiring.flipped(self.h), output.h)
        if gate is not None:
            m.d.comb += [
                gate.x_written.eq(framing.write), gate.x_step_last.eq(vectors.x_last),
                gate.x_sequence_last.eq(framing.last), gate.step_left.eq(self._step_leaves(m)),
            ]  # fmt: skip
            connect_loader(m, platform, self, gate.quiet, loaded)
        if parity_port(config):
            m.d.comb += self.parity_error.eq(Cat(block.parity_error for block in (*loaded, vectors, output)).any())
        if config.architecture.monitor:
            m.d.comb += self.saturations.eq(cells.saturations)
        if config.architecture.state_ports:
            self._connect_state(m, platform, controller, vectors, cells, h_block)
        return m

    def _step_leaves(self, m):
        """Whether the last of a step leaves in this cycle: its result, or without an output layer its last beat."""
        if self.config.architecture.output_layer:
            return self.y.valid & self.y.ready
        taken, blocks = self.h.valid & self.h.ready, self.config.num_output_blocks
        if blocks == 1:
            return taken
        place = Signal(range(blocks), name="h_place")
        with m.If(taken):
            m.d.sync += place.eq(Mux(place == blocks - 1, 0, place + 1))
        return taken & (place == blocks - 1)

    def _connect_output_layer(self, m, platform, output) -> OutputLayer:
        """Add the output layer: a beat of h goes to the sink and to it in the same cycle."""
        layer = OutputLayer(self.config, self.contents)
        m.submodules.output_layer = shared(layer, platform)
        m.d.comb += [
            self.h.payload.eq(output.h.payload), layer.h.payload.eq(output.h.payload),
            self.h.valid.eq(output.h.valid & layer.h.ready), layer.h.valid.eq(output.h.valid & self.h.ready),
            output.h.ready.eq(self.h.ready & layer.h.ready),
        ]  # fmt: skip
        wiring.connect(m, wiring.flipped(self.y), layer.y)
        return layer

    def _connect_state(self, m, platform, controller, vectors, cells, h_block) -> None:
        """Connect the state streams; blocks of h that are loaded take the path of those that the cells compute."""
        state = StateAccess(self.config)
        m.submodules.state = shared(state, platform)
        m.d.comb += [
            state.save.eq(controller.save), state.load.eq(controller.load),
            controller.saved.eq(state.saved), controller.loaded.eq(state.loaded),
            controller.x_load.eq(self.x.payload.load), state.h_data.eq(vectors.access_data),
        ]  # fmt: skip
        if self.config.architecture.contexts > 1:
            m.d.comb += state.context.eq(controller.context)
        users = [vectors]
        if self.config.cell.has_state:
            users.append(cells)
            m.d.comb += state.cell_data.eq(cells.access_data)
        for user in users:
            names = state.access.signature.members
            m.d.comb += [getattr(user.access, name).eq(getattr(state.access, name)) for name in names]
        with m.If(state.access.active):
            given = state.access.write_data[: len(h_block)]
            k, bits = self.config.block_size, self.config.quantization.h.width
            masks = [padding_mask(size, k, bits) for size in self.config.layer_output_sizes]
            mask = select(state.access.layer, masks)
            m.d.comb += h_block.eq(Mux(state.access.last_block, given & mask, given))
        wiring.connect(m, wiring.flipped(self.state_in), state.state_in)
        wiring.connect(m, wiring.flipped(self.state_out), state.state_out)
