"""Reports: sums that must agree, the drawing, the units."""

import re
from xml.etree import ElementTree

import pytest

from chessrnn.hdl.memory import RAM_MODULE, ROM_MODULE
from chessrnn.hdl.verilog import generate
from chessrnn.model.cost.area import logic_area_90nm
from chessrnn.model.errors import InvalidValueError
from chessrnn.model.presets import preset
from chessrnn.sim.synthesis.treemap import NAMESPACE, treemap
from chessrnn.sim.synthesis.units import modules_of, role_of


def module_row(name: str, sequential: float, combinational: float, **children: int) -> dict:
    return {
        "module": name,
        "children": children,
        "own_sequential_gates": sequential,
        "own_combinational_gates": combinational,
    }


def rectangle(group: ElementTree.Element) -> tuple[str, float]:
    """Tooltip and area of a rectangle, whose path lists its corners."""
    path = group.find(f"{{{NAMESPACE}}}path")
    corners = [float(number) for number in re.findall(r"[\d.]+", path.get("d"))]
    return group.find(f"{{{NAMESPACE}}}title").text, (corners[2] - corners[0]) * (corners[5] - corners[1])


def test_treemap_has_a_rectangle_of_its_area_for_every_part():
    memory = {"name": "bias", "count": 1, "words": 4, "width": 32, "area_90nm_mm2": 3000 * logic_area_90nm(1) / 1e6}
    values = {
        "top": "accelerator",
        "modules": [module_row("accelerator", 0, 1000, row=2), module_row("row", 2000, 1000)],
        "memory": {"rows": [memory]},
    }
    text = treemap(values)
    assert text == treemap(values)
    groups = [g for g in ElementTree.fromstring(text).iter(f"{{{NAMESPACE}}}g") if g.get("id", "").startswith("box-")]
    found = [rectangle(group) for group in groups]
    shares = [tooltip.rsplit(",", 1)[0] for tooltip, _ in found]
    assert shares == [
        "accelerator: 100.0 %", "2 x row: 60.0 %", "flip-flops: 40.0 %", "gates: 20.0 %", "bias (4 x 32): 30.0 %",
        "gates: 10.0 %",
    ]  # fmt: skip
    areas = dict(zip(shares, (area for _, area in found), strict=True))
    assert areas["flip-flops: 40.0 %"] == pytest.approx(2 * areas["gates: 20.0 %"], rel=1e-5)
    assert areas["bias (4 x 32): 30.0 %"] == pytest.approx(3 * areas["gates: 10.0 %"], rel=1e-5)
    assert treemap({"top": "a", "modules": [module_row("a", 0, 0)], "memory": {"rows": []}}) == ""


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
