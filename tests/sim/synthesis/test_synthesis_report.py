"""Reports: sums that must agree, the drawing, the units."""

import re

import pytest

from chessrnn.hdl.memory import RAM_MODULE, ROM_MODULE
from chessrnn.hdl.verilog import generate
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.presets import preset
from chessrnn.sim.synthesis.treemap import squarify
from chessrnn.sim.synthesis.units import modules_of, role_of


@pytest.mark.parametrize("areas", [[1.0], [5.0, 4.0, 3.0, 1.0], [10.0] * 7, [100.0, 1.0, 0.5]])
def test_squarify_fills_the_rectangle(areas):
    width, height = 30.0, 20.0
    scaled = [area * width * height / sum(areas) for area in areas]
    places = squarify(scaled, 0.0, 0.0, width, height)
    for area, (x, y, w, h) in zip(scaled, places, strict=True):
        assert w * h == pytest.approx(area)
        assert x >= -1e-9 and y >= -1e-9 and x + w <= width + 1e-6 and y + h <= height + 1e-6
    for i, (x, y, w, h) in enumerate(places):
        for x2, y2, w2, h2 in places[:i]:
            overlap = (min(x + w, x2 + w2) - max(x, x2), min(y + h, y2 + h2) - max(y, y2))
            assert min(overlap) <= 1e-6


@pytest.mark.parametrize(
    "settings",
    [
        {"network.projection_size": 7, "architecture.state_ports": True, "architecture.tile_cols": 2},
        {"network.bidirectional": True, "architecture.arithmetic": "multiplier"},
        {"network.cell": "gru_reset_first", "quantization.weight_frac": 7, "architecture.engine": "fast"},
        {"architecture.output_layer": 10},
    ],
)
def test_every_module_has_a_role(settings):
    text = generate(preset("tiny").replace({"architecture.tile_rows": 2, **settings}))
    modules = re.findall(r"^module (\S+?)\s*[(;]", text, re.MULTILINE)
    # The whole, and the memories behind their wrappers.
    whole = {"accelerator", "core", ROM_MODULE, RAM_MODULE}
    assert {name for name in modules if role_of(name) is None} <= whole


def test_roles():
    modules = ["accelerator", "pe_fast_k8_w8_x8", "sigmoid_pwl16", "tanh_pwl16", "drain"]
    assert modules_of("activation", modules) == ["sigmoid_pwl16", "tanh_pwl16"]
    assert modules_of("drain", modules) == ["drain"]
    assert modules_of("accelerator", modules) == ["accelerator"]
    assert role_of("accelerator") is None
    with pytest.raises(InvalidValueError, match="unit must be one of activation, drain, pe or a module"):
        modules_of("nothing", modules)
