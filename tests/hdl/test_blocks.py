"""Every block of the datapath is compared with its golden function, bit by bit and in its latency."""

import numpy as np
import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from chessrnn.hdl.activation import Activation
from chessrnn.hdl.arithmetic.adder_tree import AdderTree
from chessrnn.hdl.arithmetic.requantize import requantize
from chessrnn.hdl.cell_lane import LANES
from chessrnn.hdl.memory import Ram
from chessrnn.hdl.pe import ProcessingElement
from chessrnn.hdl.staged_update import ResetFirstLane
from chessrnn.model import bilinear
from chessrnn.model.activation_tables import activation_table
from chessrnn.model.cells import CELLS
from chessrnn.model.circulant import expand
from chessrnn.model.config import Config
from chessrnn.model.fixed_point import requantize as golden_requantize
from chessrnn.model.memory_image import MemorySpec, pack
from chessrnn.model.qformat import QFormat
from chessrnn.model.reference.activation import activate
from chessrnn.model.reference.cell_update import STAGED_UPDATES, UPDATES
from chessrnn.model.schedule import activation_latency
from chessrnn.model.weights import to_levels
from chessrnn.model.widths.hardware import hardware_widths
from chessrnn.sim.pysim import pump


def ints(values):
    return [int(value) for value in values]


def unpack(word, widths):
    values = []
    for width in widths:
        value = word & ((1 << width) - 1)
        values.append(value - (1 << width) if value >> (width - 1) else value)
        word >>= width
    return values


class Requantize(wiring.Component):
    def __init__(self, width, fraction_bits, fmt):
        self.fraction_bits, self.fmt = fraction_bits, fmt
        super().__init__({"a": In(signed(width)), "y": Out(signed(fmt.width))})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.y.eq(requantize(self.a, self.fraction_bits, self.fmt))
        return m


@pytest.mark.parametrize(
    ("width", "frac", "fmt"),
    [(8, 3, "Q3.1"), (8, 3, "Q4.2"), (8, 2, "Q3.1"), (8, 0, "Q4.4"), (9, 5, "Q2.5"), (6, 2, "Q8.2")],
)
def test_requantize_every_code(width, frac, fmt):
    fmt = QFormat.parse(fmt)
    codes = np.arange(-(1 << (width - 1)), 1 << (width - 1))
    got = pump(Requantize(width, frac, fmt), [{"a": value} for value in ints(codes)], ("y",), 0)
    np.testing.assert_array_equal([g["y"] for g in got], golden_requantize(codes, frac, fmt))


@pytest.mark.parametrize(("terms", "levels"), [(1, 2), (2, 1), (5, 2), (8, 0), (8, 2), (13, 3)])
@pytest.mark.parametrize("out_width", [5, 12])
def test_adder_tree(terms, levels, out_width, rng):
    tree = AdderTree(terms, 7, out_width, levels)
    operands = rng.integers(-64, 64, size=(40, terms))
    operands[0], operands[1] = -64, 63
    got = pump(tree, [{"operands": ints(row)} for row in operands], ("total",), tree.latency)
    half = 1 << (out_width - 1)
    np.testing.assert_array_equal([g["total"] for g in got], (operands.sum(axis=1) + half) % (2 * half) - half)


@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
@pytest.mark.parametrize(("kind", "segments"), [("pwl", 8), ("pwl", 16), ("shift", 3), ("shift", 5)])
@pytest.mark.parametrize(("in_format", "out_format"), [("Q4.6", "Q2.10"), ("Q3.5", "Q2.4"), ("Q4.8", "Q3.6")])
def test_activation_every_code(function, kind, segments, in_format, out_format):
    check_activation(
        Activation(activation_table(function, kind, segments, *map(QFormat.parse, (in_format, out_format))))
    )


@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
@pytest.mark.parametrize(("kind", "segments"), [("pwl", 8), ("shift", 5)])
def test_activation_whose_steps_take_two_cycles(function, kind, segments):
    table = activation_table(function, kind, segments, QFormat.parse("Q3.5"), QFormat.parse("Q2.4"))
    block = Activation(table, cell_register=True, multiplier_register=True)
    assert block.latency == activation_latency(kind) + 2
    check_activation(block)


def check_activation(block):
    """Compare the outputs for all codes with the golden function."""
    table = block.table
    codes = np.arange(table.in_format.min, table.in_format.max + 1)
    got = pump(block, [{"x": value} for value in ints(codes)], ("y",), block.latency)
    np.testing.assert_array_equal([g["y"] for g in got], activate(codes, table))


def small_config(**architecture):
    k = architecture.pop("block_size", 4)
    bits = architecture.pop("weight_bits", 5)
    return Config.from_dict(
        {
            "network": {"input_size": 9, "hidden_size": 7},
            "compression": {"block_size": k},
            "quantization": {"weight_bits": bits, "weight_frac": [4, 5, 3, 4]},
            "architecture": {"tile_rows": 2, "tile_cols": 2, **architecture},
        }
    )


@pytest.mark.parametrize("cell", LANES)
@pytest.mark.parametrize(
    ("kind", "segments", "arithmetic"),
    [pytest.param("pwl", 8, "carry_save", marks=pytest.mark.slow), ("shift", 4, "multiplier")],
)
def test_cell_lane(kind, segments, arithmetic, cell, rng):
    settings = {
        "activation.kind": kind,
        "activation.segments": segments,
        "network.cell": cell,
        "architecture.arithmetic": arithmetic,
    }
    config = small_config().replace({"quantization.weight_frac": [4, 5, 3, 4][: len(CELLS[cell].gates)], **settings})
    check_lane(config, rng)


@pytest.mark.parametrize("arithmetic", ["carry_save", "multiplier"])
@pytest.mark.parametrize("cell", LANES)
def test_every_rounding_of_a_cell_lane_that_drops_one_bit(cell, arithmetic, rng):
    """HALF_UP and FLOOR differ in every odd code there, and in none where a rounding is left out of the hardware."""
    # The constants make each shift 1: sum to preact, products to cell and to h, state to h.
    weight_frac, h = {"rnn": (5, "Q8.0"), "rnn_relu": (1, "Q9.0")}.get(cell, (4, "Q7.1"))
    formats = {"weight_frac": weight_frac, "h": h, "preact": "Q6.4", "gate": "Q3.1", "cell": "Q6.2", "peephole": "Q5.3"}
    settings = {"network.cell": cell, "architecture.arithmetic": arithmetic, "activation.kind": "shift"}
    settings |= {f"quantization.{name}": value for name, value in formats.items()}
    config = small_config().replace({"activation.segments": 4, **settings})
    assert set(config.preact_shifts) == {1}
    check_lane(config, rng)


@pytest.mark.parametrize(
    ("arithmetic", "scale_bits"), [pytest.param("carry_save", 4, marks=pytest.mark.slow), ("multiplier", 8)]
)
@pytest.mark.parametrize("cell", LANES)
def test_cell_lane_with_row_scales(cell, arithmetic, scale_bits, rng):
    settings = {"network.cell": cell, "quantization.weight_scale": "row", "quantization.scale_bits": scale_bits}
    settings |= {"quantization.weight_frac": 4, "architecture.arithmetic": arithmetic}
    config = small_config(tile_cols=1).replace(settings)
    if arithmetic == "multiplier":
        fracs = [[first, 4, 3, last][: config.num_gates] for first, last in ((2, 4), (5, 6))]
        config = config.replace({"network.num_layers": 2, "quantization.weight_frac": fracs, "quantization.h": "Q1.9"})
    check_lane(config, rng)


@pytest.mark.parametrize("cell", LANES)
def test_cell_lane_of_layers_with_scales_of_their_own(cell, rng):
    fracs = [[first, 4, 3, last][: len(CELLS[cell].gates)] for first, last in ((2, 4), (5, 6), (4, 2))]
    settings = {"network.cell": cell, "network.num_layers": 3, "quantization.weight_frac": fracs}
    config = small_config(tile_cols=1).replace(settings | {"quantization.h": "Q1.9"})
    check_lane(config, rng)


def check_lane(config, rng):
    """Compare every output of a cell lane with the golden update, for large and small sums.

    Where layers have scales of their own, the layer changes from unit to unit.
    """
    cell, q, count = config.network.cell, config.quantization, 200
    gates, peepholes = len(CELLS[cell].gates), len(CELLS[cell].peepholes)
    lane = LANES[cell](config, config.product_sum_bits)
    limit = 1 << (config.product_sum_bits - 1)
    sums = rng.integers(-limit, limit, size=(gates, count))
    sums[:, 20:] //= 16
    bias = rng.integers(-(1 << 12), 1 << 12, size=(gates, count))
    c = rng.integers(q.cell.min, q.cell.max + 1, size=count)
    weights = rng.integers(q.peephole.min, q.peephole.max + 1, size=(peepholes, count))
    stimuli = []
    for t in range(count):
        stimuli.append({"sums": ints(sums[:, t]), "bias": ints(bias[:, t])})
        if peepholes:
            stimuli[t]["peephole"] = ints(weights[:, t])
        if config.cell.has_state:
            # The state is due some cycles after the sums that it belongs to.
            stimuli[t]["c"] = int(c[max(t - lane.read_latency, 0)])
    known = count - lane.latency
    layer = rng.integers(config.network.num_layers, size=count)
    if config.network.num_layers > 1:
        for t in range(count):
            stimuli[t]["layer"] = int(layer[t])
    scale = drawn_scales(config, rng, gates, count)
    if config.has_row_scales:
        for t in range(count):
            stimuli[t]["scale"] = ints(scale[:, t])
    expected = golden_by_layer(UPDATES[cell], config, layer, (sums + bias) * scale, c, weights if peepholes else None)
    h = [g["h"] for g in pump(lane, stimuli, ("h",), lane.latency)][:known]
    np.testing.assert_array_equal(h, expected.h[:known])
    if config.cell.has_state:
        c_next = [g["c_next"] for g in pump(lane, stimuli, ("c_next",), lane.write_latency)][:known]
        np.testing.assert_array_equal(c_next, expected.cell[:known])


def drawn_scales(config, rng, gates, count):
    """Scales of the block rows of units, some at the ends of their range; 1 without such scales."""
    low, high = config.scale_min_max
    scale = rng.integers(low, high + 1, size=(gates, count))
    scale[:, :40] = rng.choice([low, high], size=(gates, 40))
    return scale


def golden_by_layer(update, config, layer, *values):
    """The golden update of units, each of the layer at its place in ``layer``."""
    traces = [update(config.layer(number), *values) for number in range(config.network.num_layers)]
    chosen = [np.stack(parts) for parts in zip(*traces, strict=True)]
    return type(traces[0])(*(np.choose(layer, part) for part in chosen))


@pytest.mark.parametrize("cell", LANES)
def test_the_rounding_of_a_sum_that_drops_one_bit(cell, rng):
    """The gates are fine enough to show the last bit of preact, which coarse ones hide."""
    weight_frac = 1 if cell == "rnn_relu" else 3
    formats = {"weight_frac": weight_frac, "h": "Q2.6", "preact": "Q4.8", "gate": "Q2.10", "peephole": "Q5.1"}
    settings = {"network.cell": cell, "architecture.arithmetic": "multiplier", "quantization.cell": "Q6.8"}
    config = small_config().replace(settings | {f"quantization.{name}": value for name, value in formats.items()})
    assert set(config.preact_shifts) == {1}
    check_lane(config, rng)


@pytest.mark.parametrize("fracs", [[4, 5, 3], [4, 4, 4]])
@pytest.mark.parametrize("kind", ["pwl", "shift"])
def test_reset_first_lane(kind, fracs, rng):
    settings = {"activation.kind": kind, "activation.segments": 8 if kind == "pwl" else 4}
    settings |= {"network.cell": "gru_reset_first", "quantization.weight_frac": fracs}
    check_reset_first_lane(small_config().replace(settings), rng)


@pytest.mark.parametrize("scale", ["gate", "row"])
def test_reset_first_lane_of_layers_with_scales_of_their_own(scale, rng):
    settings = {
        "quantization.weight_scale": scale,
        "network.cell": "gru_reset_first",
        "network.num_layers": 2,
        "architecture.tile_cols": 1,
    }
    config = small_config().replace(settings | {"quantization.weight_frac": [[4, 5, 3], [4, 2, 6]]})
    check_reset_first_lane(config, rng)


@pytest.mark.parametrize("cell", [*LANES, "gru_reset_first"])
@pytest.mark.parametrize(
    ("kind", "arithmetic"), [("pwl", "multiplier"), pytest.param("shift", "carry_save", marks=pytest.mark.slow)]
)
def test_cell_lane_whose_steps_take_two_cycles(kind, arithmetic, cell, rng):
    settings = {
        "activation.kind": kind,
        "activation.segments": 8,
        "network.cell": cell,
        "quantization.weight_frac": 4,
        "architecture.arithmetic": arithmetic,
        "architecture.pipeline.cell_register": True,
        "architecture.pipeline.multiplier_register": True,
    }
    check = check_reset_first_lane if cell == "gru_reset_first" else check_lane
    check(small_config().replace(settings), rng)


@pytest.mark.parametrize(("weight_frac", "h"), [(4, "Q7.1"), (3, "Q6.2")])
def test_every_rounding_of_a_reset_first_lane_that_drops_one_bit(weight_frac, h, rng):
    # With the first h the state is rounded by one bit, with the second one the product of reset gate and state.
    formats = {"weight_frac": weight_frac, "h": h, "preact": "Q6.4", "gate": "Q3.1", "cell": "Q6.2"}
    settings = {"network.cell": "gru_reset_first", "activation.kind": "shift", "activation.segments": 4}
    config = small_config().replace(settings | {f"quantization.{name}": value for name, value in formats.items()})
    assert set(config.preact_shifts) == {1}
    check_reset_first_lane(config, rng)


def check_reset_first_lane(config, rng):
    """Compare every output with the golden update; R, Z, N of one unit after the other are computed back to back."""
    q, count = config.quantization, 100
    lane = ResetFirstLane(config, config.product_sum_bits)
    limit = 1 << (config.product_sum_bits - 1)
    sums = rng.integers(-limit, limit, size=(3, count))
    sums[:, 20:] //= 16
    bias = rng.integers(-(1 << 12), 1 << 12, size=(3, count))
    c = rng.integers(q.cell.min, q.cell.max + 1, size=count)
    scaled_states = []

    def candidate(scaled):
        scaled_states.append(scaled)
        return (sums[2] + bias[2]) * scale[2]

    layer, scale = rng.integers(config.network.num_layers, size=count), drawn_scales(config, rng, 3, count)
    scaled = (sums + bias) * scale
    expected = golden_by_layer(STAGED_UPDATES["gru_reset_first"], config, layer, scaled, c, candidate)
    z = expected.gate[1].tolist()
    stimuli = []
    for t in range(3 * count):
        unit, stage = divmod(t, 3)
        late = max(t - lane.read_latency, 0) // 3
        stimuli.append({"sum": int(sums[stage, unit]), "bias": int(bias[stage, unit]), "stage": stage})
        stimuli[t] |= {"c": int(c[late]), "held": z[late]}
        stimuli[t] |= {"layer": int(layer[unit])} if config.network.num_layers > 1 else {}
        stimuli[t] |= {"scale": int(scale[stage, unit])} if config.has_row_scales else {}
    known = count - lane.latency // 3 - 1

    def found(port, latency, stage):
        return [g[port] for g in pump(lane, stimuli, (port,), latency)][stage::3][:known]

    assert found("h", lane.latency, 0) == np.choose(layer, scaled_states)[:known].tolist()
    assert found("gate", lane.read_latency, 1) == z[:known]
    assert found("c_next", lane.write_latency, 2) == expected.cell[:known].tolist()
    assert found("h", lane.latency, 2) == expected.h[:known].tolist()


PIPELINES = [
    {"operand_register": False, "multiplier_stages": 0, "adder_levels": 0},
    {"operand_register": True, "multiplier_stages": 1, "adder_levels": 1},
    {"operand_register": True, "multiplier_stages": 2, "adder_levels": 2},
    {"operand_register": False, "multiplier_register": True, "adder_levels": 2, "forward_levels": 1},
]


@pytest.mark.parametrize("engine", ["direct", "fast"])
@pytest.mark.parametrize("block_size", [2, 4, 8])
@pytest.mark.parametrize("pipeline", range(len(PIPELINES)))
def test_processing_element(engine, block_size, pipeline, rng):
    config = small_config(block_size=block_size, engine=engine, arithmetic="multiplier", pipeline=PIPELINES[pipeline])
    check_processing_element(config, rng)


@pytest.mark.parametrize("engine", ["direct", "fast"])
@pytest.mark.parametrize(("block_size", "bits"), [(4, 2), (8, 3)])
def test_processing_element_with_half_levels(engine, block_size, bits, rng):
    config = small_config(block_size=block_size, engine=engine, arithmetic="multiplier", weight_bits=bits, tile_cols=1)
    check_processing_element(config.replace({"quantization.weight_levels": "half"}), rng)


def check_processing_element(config, rng):
    """Compare the partial results of a block with the golden product."""
    engine, block_size = config.architecture.engine, config.block_size
    element, widths = ProcessingElement(config), hardware_widths(config)
    bits, count = config.quantization.weight_bits, 30
    weights = rng.integers(config.weight_min, config.weight_max + 1, size=(count, block_size))
    vectors = rng.integers(-128, 128, size=(count, block_size))
    weights[0], vectors[0] = config.weight_min, -128
    weights = to_levels(config, weights)
    forms = np.eye(block_size, dtype=int) if engine == "direct" else bilinear.forward_matrix(block_size)
    operands = vectors @ forms.T
    stimuli = []
    for t, word in enumerate(pack(weights >> config.has_half_levels, bits)):
        # The operand arrives as late as the processing element's own register makes the word.
        values = operands[max(t - element.operand_delay, 0)]
        packed, position = 0, 0
        for value, width in zip(values, widths.operand, strict=True):
            packed |= (int(value) & ((1 << width) - 1)) << position
            position += width
        stimuli.append({"word": word, "operand": packed})
    got = pump(element, stimuli, ("partial",), element.latency)
    known = count - element.operand_delay
    partial = np.array([unpack(g["partial"], widths.partial) for g in got])[:known]
    if engine == "direct":
        expected = np.stack([expand(w[None, None]) @ x for w, x in zip(weights, vectors, strict=True)])
    else:
        expected = (weights @ forms.T) * operands
    np.testing.assert_array_equal(partial, expected[:known])


def test_a_memory_sees_a_read_of_what_is_being_written():
    apart = [{"write_en": 1, "write_addr": 2, "write_data": 5, "read_en": 1, "read_addr": 3}]
    later = [*apart, {"write_en": 0, "read_addr": 2}]
    spec = MemorySpec("some", 4, 8)
    assert pump(Ram(spec), later, ("read_data",), 1)[1] == {"read_data": 5}
    with pytest.raises(AssertionError, match="some: read of a word that is being written"):
        pump(Ram(spec), [apart[0] | {"read_addr": 2}], ("read_data",), 1)
