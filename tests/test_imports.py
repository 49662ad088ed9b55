"""Structure of the package: directions of imports, no circles, one meaning per module name."""

import ast
import importlib.util
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("constraints", "hdl", "model", "sim", "scripts")
# Package → what its modules must not import, at any depth of the name.
FORBIDDEN = {
    "model": ("amaranth", "cocotb", "cocotb_tools", "chessrnn.hdl", "chessrnn.sim", "chessrnn.scripts", "tests"),
    "hdl": (
        "chessrnn.model.reference", "chessrnn.model.fixed_point", "chessrnn.model.training", "torch", "cocotb",
        "chessrnn.sim", "chessrnn.scripts", "tests",
    ),
    "sim": ("torch", "chessrnn.model.training", "chessrnn.scripts", "tests"),
    "scripts": ("tests",),
}  # fmt: skip
# Torch is imported by the trainer, and by the reader of its files when such a file is opened.
MAY_IMPORT_TORCH = ("chessrnn.model.training", "chessrnn.model.imported.torch_file")
# Modules that share a stem on purpose, with the reason.
TWINS = "the NumPy reference of the hardware block of this name"
COMMAND = "the command line of the library module of this name"
SHARED_STEMS = {
    "activation": TWINS,
    "cell_update": TWINS,
    "host_link": TWINS,
    "matvec": TWINS,
    "output_layer": "integer weights in model/, the hardware block in hdl/",
    "convert": COMMAND,
    "explore": COMMAND,
    "lint": COMMAND,
    "verilog": COMMAND,
    "imitation": "the training task of this name, and nothing else",
}


def module_name(path: Path) -> str:
    """Dotted name of a source file in the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(("chessrnn", *parts[2:])) if parts[:2] == ("scripts", "api") else ".".join(("chessrnn", *parts))


SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MODULES = {module_name(path): path for path in SOURCES}


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


def modules_of(names: set[str]) -> set[str]:
    """Modules of the package among imported names."""
    return {found for name in names for found in (name, name.rpartition(".")[0]) if found in MODULES}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_directions(path):
    found = imports(path.read_text(encoding="utf-8"))
    package = path.relative_to(ROOT).parts[0]
    assert not {name for name in found if within(name, FORBIDDEN.get(package, ()))}
    if package == "model" and not within(module_name(path), MAY_IMPORT_TORCH):
        assert not {name for name in found if within(name, ("torch",))}


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Paths of modules that import each other in a circle, found depth first."""
    done, found = set(), []

    def visit(name: str, path: list[str]):
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for target in sorted(arrows.get(name, ())):
                visit(target, [*path, name])
            done.add(name)

    for name in sorted(arrows):
        visit(name, [])
    return found


def test_no_circles():
    arrows = {
        name: modules_of(imports(path.read_text(encoding="utf-8"))) - {name, "chessrnn"}
        for name, path in MODULES.items()
        if path.name != "__init__.py"
    }
    assert circles(arrows) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c", "a"]]


def test_one_meaning_per_stem():
    places = defaultdict(list)
    for path in SOURCES:
        if not path.stem.startswith("__"):
            places[path.stem].append(str(path.relative_to(ROOT)))
    assert {stem: paths for stem, paths in places.items() if len(paths) > 1 and stem not in SHARED_STEMS} == {}


@pytest.mark.parametrize("name", ["verilog"])
def test_base_commands_need_no_extras(name):
    # What `make verilog` runs is installed without torch, cocotb and matplotlib.
    seen, todo = set(), [f"chessrnn.scripts.{name}"]
    while todo:
        module = todo.pop()
        if module in seen or module not in MODULES:
            continue
        seen.add(module)
        for found in module_level_imports(MODULES[module].read_text(encoding="utf-8")):
            assert not within(found, ("torch", "cocotb", "cocotb_tools", "pyosys", "matplotlib")), module
            todo += [found, found.rpartition(".")[0]]
    assert "chessrnn.hdl.verilog" in seen


def test_the_checks_see_imports():
    assert within("chessrnn.model.reference.layer", FORBIDDEN["hdl"])
    assert not within("chessrnn.model.references", FORBIDDEN["hdl"])
    source = "def f():\n    from chessrnn.model.reference import layer"
    assert imports(source) == {"chessrnn.model.reference.layer"}
    assert module_level_imports("import a\ndef f():\n    import b") == {"a"}
    for package in FORBIDDEN.values():
        for name in package:
            assert not name.startswith("chessrnn") or importlib.util.find_spec(name) is not None
