"""Directions of imports: RTL and reference share constants, never arithmetic."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Package → what its modules must not import, at any depth of the name.
FORBIDDEN = {
    "model": ("amaranth", "cocotb", "cocotb_tools", "hdl", "sim", "scripts", "tests"),
    "hdl": ("model.reference", "model.fixed_point", "model.training", "torch", "cocotb", "sim", "scripts", "tests"),
    "sim": ("torch", "model.training", "scripts", "tests"),
    "scripts": ("tests",),
}


def imports(source: str) -> set[str]:
    """Dotted names of everything that a source imports, ``from a import b`` as ``a.b``."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module or ''}.{alias.name}" for alias in node.names}
            assert node.level == 0, "imports are absolute"
    return names


def module_level_imports(source: str) -> set[str]:
    """What importing the source imports at once."""
    body = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return set().union(*(imports(ast.unparse(node)) for node in body))


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


SOURCES = [path for package in FORBIDDEN for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_directions(path):
    relative = path.relative_to(ROOT)
    package = relative.parts[0]
    found = {name for name in imports(path.read_text(encoding="utf-8")) if within(name, FORBIDDEN[package])}
    assert not found
    if package == "model" and relative.parts[:2] != ("model", "training"):
        assert not {name for name in imports(path.read_text(encoding="utf-8")) if within(name, ("torch",))}


@pytest.mark.parametrize("name", ["verilog"])
def test_base_commands_need_no_extras(name):
    # What `make verilog` runs is installed without torch, cocotb and matplotlib.
    seen, todo = set(), [f"scripts.{name}"]
    while todo:
        module = todo.pop()
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        if module in seen or not path.exists():
            continue
        seen.add(module)
        for found in module_level_imports(path.read_text(encoding="utf-8")):
            assert not within(found, ("torch", "cocotb", "cocotb_tools", "pyosys", "matplotlib")), module
            todo += [found, found.rpartition(".")[0]]
    assert "hdl.verilog" in seen


def test_the_check_sees_imports():
    assert within("model.reference.layer", FORBIDDEN["hdl"])
    assert not within("model.references", FORBIDDEN["hdl"])
    assert imports("def f():\n    from model.reference import layer") == {"model.reference.layer"}
    assert module_level_imports("import a\ndef f():\n    import b") == {"a"}
