"""Every kind of boundary really occurs: ends, bounds of sums and forms, breakpoints and the codes beside them."""

from collections import Counter

import numpy as np
import pytest

from chessrnn.model import bilinear
from chessrnn.model.cells import CELLS
from chessrnn.model.presets import preset
from chessrnn.model.reference.layer import LayerReference
from chessrnn.model.widths.forms import sum_ranges
from chessrnn.model.widths.interval import signed_interval
from chessrnn.sim import scenarios
from chessrnn.sim.boundary_values import at_bounds, at_breakpoints, at_extremes, at_form_bounds, breakpoint_codes

# Sizes that are multiples of the block size: padding does not take part in sums.
SIZES = {"network.input_size": 8, "network.hidden_size": 12, "compression.block_size": 4}
DRAWS = 12


def design(**settings):
    return preset("tiny").replace(
        {**SIZES, "architecture.tile_rows": 1, "architecture.tile_cols": 1, "quantization.weight_frac": 7, **settings}
    )


def first_sums(drawn) -> np.ndarray:
    """Sums with their biases of the first layer in the first step, (G, H), from the definition of the product."""
    layer = drawn.weights.layers[0]
    config, x = layer.config, drawn.sequences[0][0]
    h = drawn.initial[0][0][0] if drawn.initial else np.zeros(config.output_size, dtype=np.int64)
    return (layer.dense() @ np.concatenate([x, h])).reshape(layer.bias.shape) + layer.bias


@pytest.mark.parametrize("formats", [("Q1.7", "Q1.7", 8), ("Q1.3", "Q1.9", 5), ("Q1.9", "Q1.3", 2)])
def test_sums_reach_their_bounds(formats, rng):
    x, h, weight_bits = formats
    settings = {"quantization.x": x, "quantization.h": h, "quantization.weight_bits": weight_bits}
    config = design(**settings, **{"architecture.state_ports": True})
    q, (bias_low, bias_high) = config.quantization, config.bias_format_min_max
    sums = [first_sums(at_bounds(config, rng, [2, 1])) for _ in range(4 * DRAWS)]
    greatest = config.product_sum_interval.high + bias_high
    least = bias_low + sum(
        size * min(fmt.min * config.weight_max, fmt.max * config.weight_min) for size, fmt in ((8, q.x), (12, q.h))
    )
    assert max(values.max() for values in sums) == greatest
    assert min(values.min() for values in sums) == least


@pytest.mark.parametrize("k", bilinear.FAST_BLOCK_SIZES)
def test_sums_of_forms_reach_their_bounds(k, rng):
    sizes = {"network.input_size": 16, "network.hidden_size": 16, "compression.block_size": k}
    config = design(**sizes, **{"architecture.engine": "fast"})
    interval, elements = (signed_interval(bits) for bits in (8, config.quantization.x.width))
    bounds = sum_ranges(k, interval, [(config.num_input_blocks, elements)])
    matrix, reached = bilinear.forward_matrix(k), Counter()
    for _ in range(DRAWS):
        drawn = at_form_bounds(config, rng, [1])
        blocks = drawn.sequences[0][0].reshape(-1, k)
        for row in drawn.weights.layers[0].defining[:, 0, : config.num_input_blocks]:
            sums = ((row @ matrix.T) * (blocks @ matrix.T)).sum(axis=0)
            for value, bound in zip(sums.tolist(), bounds, strict=True):
                assert bound.low <= value <= bound.high
                reached["low"] += value == bound.low
                reached["high"] += value == bound.high
    assert min(reached["low"], reached["high"]) > 0


def traces(drawn):
    """Trace of every layer of a unidirectional network over the first sequence, with the layer's configuration."""
    x = drawn.sequences[0][:, None]
    for layer in drawn.weights.layers:
        trace = LayerReference(layer).trace(x)
        yield layer.config, trace
        x = trace.h


def distances(codes: np.ndarray, table) -> Counter:
    """Number of codes at a breakpoint, one LSB below and one above, by magnitude, and at the ends of the format."""
    edges = {*table.starts[1:], table.limit}
    found = Counter()
    for code in codes.reshape(-1).tolist():
        found.update(
            name for name, distance in (("at", 0), ("below", 1), ("above", -1)) if abs(code) + distance in edges
        )
        found["least"] += code == table.in_format.min
        found["greatest"] += code == table.in_format.max
    return found


PLACES = ("at", "below", "above", "least", "greatest")


def often(found: Counter, *key) -> bool:
    """Whether codes at and beside breakpoints occur in about every second draw, and the ends of the format at all."""
    counts = [found[(*key, place) if key else place] for place in PLACES]
    return min(counts[:3]) >= DRAWS // 2 and min(counts[3:]) > 0


@pytest.mark.parametrize("kind", ["pwl", "shift"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", [name for name, cell in CELLS.items() if cell.sum_format == "preact"])
def test_breakpoints_are_hit(cell, layers, kind, rng):
    settings = {"network.cell": cell, "network.num_layers": layers, "activation.kind": kind, "activation.segments": 8}
    config = design(**settings)
    found, of_cell = Counter(), Counter()
    for _ in range(DRAWS):
        for number, (layer, trace) in enumerate(traces(at_breakpoints(config, rng, [2]))):
            for gate in range(layer.num_gates):
                if layer.cell.gates[gate].function and gate not in layer.cell.peepholes[2:]:
                    hits = distances(trace.preact[0, gate], layer.gate_table(gate))
                    found.update({(number, place): hits[place] for place in PLACES})
            if dict(layer.cell.functions).get("tanh") == "cell":
                of_cell.update(distances(trace.cell[0], layer.cell_table))
    assert all(often(found, number) for number in range(layers)), found
    if cell.startswith("lstm"):
        assert all(of_cell[place] for place in PLACES[:3]), of_cell


def test_the_candidate_of_a_gru_hits_breakpoints(rng):
    config = design(**{"network.cell": "gru", "activation.segments": 4})
    found, table = Counter(), config.candidate_table
    for _ in range(DRAWS):
        for _, trace in traces(at_breakpoints(config, rng, [1])):
            # Where nh is zero, the candidate is nx.
            found.update(distances(trace.preact[0, 2][trace.preact[0, 3] == 0], table))
    assert often(found), found


def test_roundings_to_breakpoints_are_hit_at_both_edges(rng):
    config = design(**{"activation.segments": 4})
    shift, codes = config.preact_shifts[0], breakpoint_codes(config.gate_table(0))
    half, rests = 1 << (shift - 1), Counter()
    for _ in range(DRAWS):
        sums = first_sums(at_breakpoints(config, rng, [1]))[0]
        rests.update(
            int(total) - (int(code) << shift)
            for total in sums
            for code in codes
            if abs(total - (code << shift)) <= half + 1
        )
    assert all(rests[rest] for rest in (0, -half, half - 1, -half - 1, half)), rests


def test_reverse_directions_are_steered(rng):
    config = design(**{"network.bidirectional": True, "activation.segments": 4})
    found = Counter()
    for _ in range(DRAWS):
        drawn = at_breakpoints(config, rng, [3])
        reverse = drawn.weights.layers[1]
        trace = LayerReference(reverse).trace(drawn.sequences[0][::-1, None])
        found.update(distances(trace.preact[0, 0], reverse.config.gate_table(0)))
    assert often(found), found


def test_extremes_are_ends_of_formats(rng):
    config = design(**{"architecture.state_ports": True, "architecture.output_layer": 5})
    drawn = at_extremes(config, rng, [2, 3])
    q, layer = config.quantization, drawn.weights.layers[0]
    assert [len(sequence) for sequence in drawn.sequences] == [2, 3]
    assert set(np.unique(np.concatenate(drawn.sequences))) == {q.x.min, q.x.max}
    assert set(np.unique(layer.defining)) == {config.weight_min, config.weight_max}
    assert set(np.unique(layer.bias)) == set(config.bias_format_min_max)
    assert set(np.unique(drawn.weights.output.weight)) == {-128, 127}
    for state in drawn.initial:
        ((h, c),) = state
        assert set(np.unique(h)) < {q.h.min, q.h.max}
        assert set(np.unique(c)) <= {q.cell.min, q.cell.max}


def test_random_scenarios_draw_every_kind(rng, monkeypatch):
    drawn = Counter()

    def counting(name, function):
        def call(*arguments):
            drawn[name] += 1
            return function(*arguments)

        return call

    names = ("at_bounds", "at_breakpoints", "at_extremes", "at_form_bounds", "random_weights")
    for name in names:
        monkeypatch.setattr(scenarios, name, counting(name, getattr(scenarios, name)))
    total = 60
    for _ in range(total):
        scenarios.random_scenario(design(**{"architecture.engine": "fast"}), rng)
    assert sum(drawn.values()) == total
    assert all(drawn[name] >= total // 20 for name in names), drawn
    # About half are at a boundary.
    assert total // 3 <= total - drawn["random_weights"] <= 2 * total // 3
