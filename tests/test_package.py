"""The installed package: its list of folders, its public names, and a wheel outside the checkout."""

import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

import chessrnn

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("constraints", "hdl", "model", "scripts", "sim")


def test_every_folder_is_packaged():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {"chessrnn"}
    for folder in FOLDERS:
        places = (path.parent.relative_to(ROOT) for path in (ROOT / folder).rglob("__init__.py"))
        found |= {".".join(("chessrnn", *place.parts)) for place in places if place.parts != ("scripts", "api")}
    assert sorted(settings["packages"]) == sorted(found)
    for name, folder in settings["package-dir"].items():
        assert (ROOT / folder / "__init__.py").exists(), name


def test_type_checker_sees_every_folder():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    folders = {name.replace(".", "/") for name in tools["setuptools"]["package-dir"]}
    assert sorted(tools["pyright"]["include"]) == sorted(f"build/types/{folder}" for folder in folders)


def test_every_source_lies_in_a_package():
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path


@pytest.mark.parametrize("name", chessrnn.__all__)
def test_public_names_load_and_are_documented(name):
    value = getattr(chessrnn, name)
    assert value.__doc__, name
    assert f"`{name}`" in chessrnn.__doc__
    assert name in dir(chessrnn)


def test_import_is_cheap_and_unknown_names_are_attribute_errors():
    code = "import sys, chessrnn; sys.exit(any(m in sys.modules for m in ('amaranth', 'numpy', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    with pytest.raises(AttributeError, match=r"^module 'chessrnn' has no attribute 'nothing'$"):
        chessrnn.nothing  # noqa: B018  the attribute access is what is tested


def run(*command, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Scripts folder of a fresh environment outside the checkout with the wheel in it.

    Its dependencies are those of the environment that runs the test, found through a ``.pth`` file: the test needs no
    network, and this checkout's own editable install is not seen, as path files are not followed twice.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    run("git", "clone", "--quiet", "--no-hardlinks", ROOT, source, cwd=folder)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source, cwd=folder)
    environment = folder / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=folder)
    packages = next((environment / "lib").glob("python*")) / "site-packages"
    paths = dict.fromkeys((*(p for p in sys.path if p.endswith("site-packages")), sysconfig.get_path("purelib")))
    (packages / "dependencies.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
    (wheel,) = folder.glob("chessrnn-*.whl")
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", wheel, cwd=folder)
    return environment / "bin"


def test_wheel_emits_from_another_folder(installed, tmp_path):
    place = run(installed / "python", "-c", "import chessrnn; print(chessrnn.__file__)", cwd=tmp_path)
    assert not Path(place.strip()).is_relative_to(ROOT)
    assert "96.88 % removed" in run(installed / "chessrnn", "verilog", "--config", "char128", cwd=tmp_path)
    assert (tmp_path / "build" / "char128" / "accelerator.v").exists()
    assert run(installed / "chessrnn", "--version", cwd=tmp_path).startswith("chessrnn ")


def test_wheel_carries_its_data(installed, tmp_path):
    code = (
        "from pathlib import Path; from chessrnn.sim.lint import WAIVERS;"
        "from chessrnn.sim.synthesis.opensta import SDC;"
        "import chessrnn; print(WAIVERS.exists(), SDC.exists(), chessrnn.load_weights('char64').config.name,"
        "(Path(chessrnn.__file__).parent / 'py.typed').exists(),"
        "len(list((Path(chessrnn.__file__).parent / 'sim' / 'report_page').glob('page.*'))))"
    )
    assert run(installed / "python", "-c", code, cwd=tmp_path) == "True True char64 True 3\n"


@pytest.mark.needs("icarus")
@pytest.mark.slow
def test_example_runs_with_the_wheel(installed, tmp_path):
    printed = run(installed / "python", ROOT / "examples" / "lstm_to_verilog.py", cwd=tmp_path)
    assert printed.count(" 0 mismatches") == 2
