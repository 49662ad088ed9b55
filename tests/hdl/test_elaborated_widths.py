"""Every pair of corners of the legal formats is elaborated, and the signals are as wide as the formats demand.

The demanded widths are computed here once more, from the definition of each value and with nothing of
``chessrnn.model.widths``: a bound that is derived wrongly there would be wrong in the hardware as well.
"""

import itertools
import re
from collections import Counter

import numpy as np
import pytest
from amaranth.back import rtlil

from chessrnn.hdl.cell_lane import LANES
from chessrnn.hdl.hierarchy import VerilogPlatform, shared
from chessrnn.hdl.output_layer.output_lane import OutputLane
from chessrnn.hdl.row import row
from chessrnn.hdl.staged_update import ResetFirstLane
from chessrnn.hdl.verilog import Top
from chessrnn.model import bilinear
from chessrnn.model.cells import CELLS
from chessrnn.model.config import Config
from chessrnn.model.errors import UserError
from chessrnn.model.presets import preset
from chessrnn.model.widths.hardware import hardware_widths
from chessrnn.sim.scenarios import FORMAT_WIDTHS, FRACTION_BITS, MIN_INTEGER_BITS


def corners(name: str) -> list[str]:
    """The formats at the ends of the legal range of a quantization point: both widths with both scales."""
    low, high = FRACTION_BITS[name]
    pairs = [
        (width, frac) for width in FORMAT_WIDTHS[name] for frac in (low, min(high, width - MIN_INTEGER_BITS[name]))
    ]
    return [f"Q{width - frac}.{frac}" for width, frac in pairs]


# Field → values.  ``shift`` chooses the fraction bits of the weights: their least and greatest that are legal.
# ``layers`` is whether the second layer has the same or those at the other end.
FIELDS = {
    "network.cell": list(CELLS),
    "network.num_layers": [1, 2],
    "network.projection_size": [0, 2],
    "network.input_size": [1, 5],
    "compression.block_size": [1, 2, 4],
    "architecture.engine": ["direct", "fast"],
    "architecture.arithmetic": ["carry_save", "multiplier"],
    "architecture.output_layer": [0, 3],
    **{f"quantization.{name}": corners(name) for name in FORMAT_WIDTHS},
    # With a projection h has an integer bit, so the finest formats that it has then are corners as well.
    "quantization.h": [*corners("h"), "Q1.1", "Q1.15"],
    "quantization.weight_bits": [2, 8],
    "quantization.bias_bits": [8, 32],
    "quantization.weight_scale": ["gate", "row"],
    "quantization.scale_bits": [4, 8],
    "quantization.weight_levels": ["integer", "half"],
    "quantization.projection_frac": [0, 20],
    "quantization.input_shift": [0, -9, 9],
    "activation.kind": ["pwl", "shift"],
    "shift": ["least", "greatest"],
    "layers": ["equal", "different"],
}
FIXED = {
    "network.hidden_size": 3,
    "architecture.tile_rows": 1,
    "architecture.tile_cols": 1,
    "activation.segments": 4,
}
# Draws of the other fields after which a pair counts as impossible.
TRIES = 150


def completed(values: dict, rng: np.random.Generator) -> dict:
    """The values with those that only some networks have set to what the others demand."""
    values = dict(values)
    if values["network.cell"] == "gru":
        values["quantization.weight_levels"] = "integer"
    if values["network.num_layers"] == 1:
        values["layers"] = "equal"
    if not CELLS[values["network.cell"]].may_be_projected:
        values["network.projection_size"] = 0
    if values["architecture.engine"] == "fast" and values["compression.block_size"] == 1:
        values["compression.block_size"] = int(rng.choice([2, 4]))
    return values


def configured(values: dict) -> Config | None:
    """The configuration with these values, or ``None`` where they are refused."""
    settings = {**FIXED, **values}
    end, layers = settings.pop("shift"), settings.pop("layers")
    fraction_bits = {name: int(settings[f"quantization.{name}"].rpartition(".")[2]) for name in ("h", "preact")}
    target = CELLS[values["network.cell"]].sum_format
    # The accumulator has the fraction bits of the finer ones of the products of W_x and of W_h.
    least = fraction_bits[target] - fraction_bits["h"] - max(0, settings["quantization.input_shift"])
    ends = [max(-8, least), min(20, least + 31)]
    ends = ends if end == "least" else ends[::-1]
    settings["quantization.weight_frac"] = ends[0] if layers == "equal" else [[frac] for frac in ends]
    try:
        return preset("tiny").replace(settings)
    except UserError:
        return None


def pairwise(fields: dict, rng: np.random.Generator) -> tuple[list[dict], set]:
    """Sets of values that cover every possible pair of values of two fields, and the pairs that no draw allowed."""
    names = list(fields)
    missing = {
        ((a, x), (b, y))
        for a, b in itertools.combinations(names, 2)
        for x, y in itertools.product(range(len(fields[a])), range(len(fields[b])))
    }
    chosen, impossible = [], set()
    # Sorted, as the order of a set changes between runs.
    for pair in sorted(missing):
        if pair not in missing:
            continue
        for _ in range(TRIES):
            indices = {name: int(rng.integers(len(values))) for name, values in fields.items()} | dict(pair)
            values = completed({name: fields[name][index] for name, index in indices.items()}, rng)
            if any(values[name] != fields[name][index] for name, index in pair) or configured(values) is None:
                continue
            chosen.append(values)
            indices = {name: fields[name].index(value) for name, value in values.items()}
            missing -= {((a, indices[a]), (b, indices[b])) for a, b in itertools.combinations(names, 2)}
            break
        else:
            impossible.add(pair)
    return chosen, {tuple((name, fields[name][index]) for name, index in pair) for pair in impossible}


# -- the demanded widths, from the definition of each value ----------------------------------------------------


def bits(low: int, high: int) -> int:
    """Narrowest two's-complement width that holds both integers."""
    width = 1
    while not -(1 << (width - 1)) <= low <= high < 1 << (width - 1):
        width += 1
    return width


def codes(width: int) -> tuple[int, int]:
    """Least and greatest integer of a width."""
    return -(2 ** (width - 1)), 2 ** (width - 1) - 1


def product(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """Least and greatest product of integers of two ranges."""
    every = [x * y for x in a for y in b]
    return min(every), max(every)


def total(*ranges: tuple[int, int]) -> tuple[int, int]:
    """Least and greatest sum of one integer of each range."""
    return sum(low for low, _ in ranges), sum(high for _, high in ranges)


def scaled(span: tuple[int, int], factor: int) -> tuple[int, int]:
    """The range with both ends multiplied by a factor of at least 0."""
    return span[0] * factor, span[1] * factor


def widest(spans) -> tuple[int, int]:
    """The range from the least to the greatest of several ranges."""
    return min(low for low, _ in spans), max(high for _, high in spans)


class Demand:
    """The demanded widths of one configuration."""

    def __init__(self, config: Config):
        self.config, q = config, config.quantization
        self.weight, self.x, self.h = codes(q.weight_bits), codes(q.x.width), codes(q.h.width)
        if config.has_half_levels:
            self.weight = tuple(2 * code + 1 for code in self.weight)
        network = config.network
        # One entry per matrix: numbers of elements with their ranges, those of coarser products multiplied.
        out, shift = network.projection_size or network.units, q.input_shift
        of_input, of_own = 2 ** -min(0, shift), 2 ** max(0, shift)
        self.matrices = [[(network.input_size, scaled(self.x, of_input)), (out, scaled(self.h, of_own))]]
        self.matrices += [[(out, scaled(self.h, of_input)), (out, scaled(self.h, of_own))]] * (network.num_layers > 1)
        self.matrices += [[(network.units, self.h)]] * (network.projection_size > 0)
        rows = [total(*(scaled(product(self.weight, v), n) for n, v in matrix)) for matrix in self.matrices]
        self.sum = widest(rows)
        self.biased = total(self.sum, codes(q.bias_bits))
        # The accumulator has room for one more than the greatest sum.
        self.accumulator = bits(self.biased[0], self.biased[1] + 1)

    def half(self, frac: int, fmt) -> int:
        """The rounding constant from ``frac`` fraction bits to a format."""
        return 2 ** (frac - fmt.fraction_bits) // 2 if frac > fmt.fraction_bits else 0

    def rounded(self, gate: int) -> int:
        """Width of the sum of a gate with its bias and its rounding constant."""
        fracs = [fracs[gate] for fracs in self.config.layer_accumulator_fracs]
        constant = max(self.half(frac, self.config.quantization.preact) for frac in fracs)
        return bits(self.biased[0], self.biased[1] + max(constant, 1))

    def scaled(self, gate: int) -> int:
        """Width of the sum of a gate with its bias, times the scale of its row, and its rounding constant."""
        q, more = self.config.quantization, self.config.quantization.scale_bits - 1
        low, high = product(self.biased, (1, 2**q.scale_bits - 1))
        target = getattr(q, self.config.cell.sum_format)
        fracs = [fracs[gate] for fracs in self.config.layer_accumulator_fracs]
        return bits(low, high + max(self.half(frac + more, target) for frac in fracs))

    def forms(self) -> list[int]:
        """Widths of the sums of forms: of their range, or of the bits that the inverse transform reads."""
        k, widths = self.config.block_size, []
        for row_of_m, level in zip(bilinear.forward_matrix(k), bilinear.form_levels(k), strict=True):
            plus, minus = int((row_of_m > 0).sum()), int((row_of_m < 0).sum())

            def form(v, plus=plus, minus=minus):
                return plus * v[0] - minus * v[1], plus * v[1] - minus * v[0]

            spans = [
                total(*(scaled(product(form(self.weight), form(v)), -(-n // k)) for n, v in matrix))
                for matrix in self.matrices
            ]
            widths.append(min(bits(*widest(spans)), bits(*self.sum) + level))
        return widths

    def cell_sums(self) -> dict[str, tuple[int, int]]:
        """Name → width of the sum of products with its rounding constant, and number of its terms."""
        q, name = self.config.quantization, self.config.network.cell
        gate, cell, preact = codes(q.gate.width), codes(q.cell.width), codes(q.preact.width)
        one = 2**q.gate.fraction_bits
        g, c, p = q.gate.fraction_bits, q.cell.fraction_bits, q.preact.fraction_bits
        kept = product(gate, cell), g + c
        if name.startswith("lstm"):
            sums = {
                "state": ([kept, (product(gate, gate), 2 * g)], q.cell),
                "output": ([(product(gate, gate), 2 * g)], self.config.cell_output),
            }
        elif name == "gru":
            renewed = product((one - gate[1], one - gate[0]), gate), 2 * g
            sums = {
                "state": ([renewed, kept], q.cell),
                "sum": ([(product(gate, preact), g + p), (preact, p)], q.preact),
            }
        else:
            return {}
        found = {}
        for key, (terms, target) in sums.items():
            frac = max(fraction for _, fraction in terms)
            low, high = total(*(scaled(span, 2 ** (frac - fraction)) for span, fraction in terms))
            found[key] = bits(low, high + self.half(frac, target)), len(terms)
        return found


# -- the elaborated widths -------------------------------------------------------------------------------------

WIRE = re.compile(r"^  wire (?:width (\d+) )?(?:(?:input|output) \d+ )? ?(?:signed )?\\(\S+)$", re.MULTILINE)


def wires(text: str) -> dict[str, int]:
    """Width of every signal of a module in RTLIL; of several that have one name, the widest."""
    found: dict[str, int] = {}
    for width, name in WIRE.findall(text):
        found[name] = max(found.get(name, 0), int(width or 1))
    return found


def elaborated(*components) -> dict[str, dict[str, int]]:
    """Module → signal → width, for components and all that they instantiate."""
    platform = VerilogPlatform()
    for component in components:
        shared(component, platform)
    return {name: wires(text) for name, text in platform.modules.items()}


def elaborated_design(config: Config) -> dict[str, dict[str, int]]:
    """Module → signal → width, for all modules below the top."""
    platform = VerilogPlatform()
    rtlil.convert(Top(config), name="top", platform=platform, emit_src=False)
    return {name: wires(text) for name, text in platform.modules.items()}


def datapath(config: Config) -> list:
    """The components that hold the sums of a design."""
    lane = ResetFirstLane if config.cell.stages > 1 else LANES[config.network.cell]
    outputs = [OutputLane(config)] if config.architecture.output_layer else []
    return [row(config, 1), lane(config, config.product_sum_bits), *outputs]


def compare(config: Config, modules: dict[str, dict[str, int]], seen: Counter) -> None:
    """Assert that every signal is as wide as demanded, and count the comparisons by kind."""
    demand, q = Demand(config), config.quantization

    def equal(kind: str, width: int, demanded: int, spare: int = 0) -> None:
        assert demanded <= width <= demanded + spare, (kind, width, demanded, config.to_json())
        seen[kind] += 1

    [lane] = [wires for name, wires in modules.items() if name in ("cell_lane", "reset_first_lane")]
    equal("c_next", lane["c_next"], q.cell.width) if config.cell.has_state else None
    equal("h", lane["h"], q.h.width)
    if config.cell.stages > 1:
        equal("preact", lane["preact"], q.preact.width)
        equal("total of a lane of several stages", lane["total"], demand.accumulator)
        if config.has_row_scales:
            widest_gate = max(demand.scaled(number) for number in range(config.num_gates))
            [scaled_width] = [width for name, width in lane.items() if name.startswith("scaled_")]
            equal("scaled total", scaled_width, widest_gate)
        equal("kept", lane["kept"], bits(*product(codes(q.gate.width), codes(q.cell.width))))
        equal("renewed", lane["renewed"], 2 * q.gate.width + 1)
    for number, gate in enumerate(config.gates if config.cell.stages == 1 else ()):
        if config.has_row_scales:
            equal("scaled total", lane[f"scaled_{gate}"], demand.scaled(number))
        if config.has_row_scales or config.cell.peepholes or config.cell.sum_format == "h":
            equal("total", lane[f"total_{gate}"], demand.accumulator)
        else:
            # Where no constant is added, a bit may be unused.
            equal("rounded total", lane[f"total_{gate}"], demand.rounded(number), spare=1)
        if config.cell.sum_format != "h":
            equal("preact", lane[f"preact_{gate}"], q.preact.width)
        if number in config.cell.peepholes:
            factors = codes(q.peephole.width), codes(q.cell.width)
            equal("peephole product", lane[f"peephole_product_{gate}"], bits(*product(*factors)))

    sums = [modules[name]["total"] for name in modules if name.startswith("accumulator_")]
    if config.architecture.engine == "fast":
        assert set(sums) == set(demand.forms()), (sums, demand.forms(), config.to_json())
        assert list(hardware_widths(config).sum) == demand.forms()
    else:
        assert set(sums) == {bits(*demand.sum)}, (sums, config.to_json())
    seen["sum " + config.architecture.engine] += 1

    for name, wires in modules.items():
        if match := re.fullmatch(r"multiplier_(\d+)x(\d+)_s\d", name):
            a, b = map(int, match.groups())
            equal("product", wires["product"], bits(*product(codes(a), codes(b))))
        if match := re.fullmatch(r"dot_product_n(\d+)_m(\d+)_d(\d+)", name):
            # Every digit -2 … 2 of the operand selects a row, which the constant 2^w makes unsigned.
            count, w, x = map(int, match.groups())
            constant = count * sum(4**digit * 2**w for digit in range(-(-x // 2)))
            low, high = scaled(product(codes(w), codes(x)), count)
            assert constant + low >= 0
            equal("dot product", wires["save"], (constant + high).bit_length())
    if config.architecture.arithmetic == "carry_save":
        for name, (needed, terms) in demand.cell_sums().items():
            words = [width for signal, width in lane.items() if re.fullmatch(rf"{name}_\d+", signal)]
            # A term counts with the width of its product, whose last bit only one pair of factors needs.
            equal(f"sum {name} of {terms}", max(words), needed, spare=3)
    if config.architecture.output_layer:
        products = scaled(product(codes(8), demand.h), config.block_size)
        wires = modules["output_lane"]
        equal("products of the output layer", wires["total"], bits(*products))
        logit = total(scaled(product(codes(8), demand.h), config.output_size), codes(32))
        equal("logit", wires["logit"], bits(*logit))


@pytest.fixture(scope="module")
def cover() -> tuple[list[Config], set]:
    """Configurations that cover every possible pair of corners, and the impossible pairs."""
    chosen, impossible = pairwise(FIELDS, np.random.default_rng(1))
    return [configured(values) for values in chosen], impossible


def test_every_possible_pair_of_corners_is_covered(cover):
    configs, impossible = cover
    cells = [name for name, cell in CELLS.items() if not cell.may_be_projected]
    expected = {(("network.cell", cell), ("network.projection_size", 2)) for cell in cells}
    expected |= {(("compression.block_size", 1), ("architecture.engine", "fast"))}
    expected |= {(("network.num_layers", 1), ("layers", "different"))}
    expected |= {(("network.cell", "gru"), ("quantization.weight_levels", "half"))}
    # Without an integer bit h cannot hold what a projection gives.
    fine = [text for text in FIELDS["quantization.h"] if text.startswith("Q-")]
    expected |= {(("network.projection_size", 2), ("quantization.h", text)) for text in fine}
    assert {frozenset(pair) for pair in impossible} == {frozenset(pair) for pair in expected}
    assert len(configs) >= 40


# Numbers of designs in the tests for everyday, which elaborate only what holds sums.
QUICK_PARTS, QUICK_DESIGNS = 4, 20


@pytest.mark.parametrize("part", range(QUICK_PARTS))
def test_sums_of_corner_formats(cover, part):
    seen: Counter = Counter()
    configs = cover[0][:QUICK_DESIGNS][part::QUICK_PARTS]
    for config in configs:
        compare(config, elaborated(*datapath(config)), seen)
    assert seen["h"] == len(configs)


@pytest.mark.slow
def test_sums_of_all_pairs_of_corners(cover):
    seen: Counter = Counter()
    for config in cover[0]:
        compare(config, elaborated(*datapath(config)), seen)
    assert set(seen) == {
        "c_next", "h", "total", "rounded total", "preact", "peephole product", "kept", "renewed", "sum direct",
        "sum fast", "product", "dot product", "products of the output layer", "logit",
        "total of a lane of several stages", "scaled total", "sum state of 2", "sum output of 1", "sum sum of 2",
    }  # fmt: skip


@pytest.mark.slow
def test_whole_designs_of_corner_formats(cover):
    seen: Counter = Counter()
    for config in cover[0][::4]:
        modules = elaborated_design(config)
        compare(config, modules, seen)
        if config.architecture.engine == "fast":
            inverse = [wires for name, wires in modules.items() if name.startswith("inverse_transform_")]
            forms = Demand(config).forms()
            assert [[wires[f"forms.f{i}"] for i in range(len(forms))] for wires in inverse] == [forms]
            seen["inverse transform"] += 1
    assert min(seen["inverse transform"], seen["sum direct"]) > 0
