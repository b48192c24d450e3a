"""What a stranger installs: the wheel, what is in it, its command, and nothing else of this repository."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

import freezeframe

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
NOT_SHIPPED = {"tests", "benchmarks", "docs", "build", "dist", "out", "runs"}


def room(package: str) -> Path:
    """The folder at the root that a package is made of."""
    return ROOT.joinpath(*package.split(".")[1:])


SOURCES = sorted(file for package in PACKAGES for file in room(package).glob("*.py"))
HEAVY = {"torch", "kornia", "av", "cv2", "numba", "matplotlib", "gsplat"}


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output; a failure shows both streams."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_package_list_is_the_tree():
    shipped = {
        ".".join(("freezeframe", *file.parent.relative_to(ROOT).parts))
        for file in ROOT.rglob("__init__.py")
        if not {part for part in file.relative_to(ROOT).parts if part in NOT_SHIPPED or part[0] == "."}
    }
    assert shipped == set(PACKAGES)


def test_the_version_is_said_once():
    assert freezeframe.__version__ == PROJECT["project"]["version"]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that building leaves nothing in the repository."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, cwd=copy)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    version = PROJECT["project"]["version"]
    outside = {
        name
        for name in names
        if name.split("/")[0] not in {"freezeframe", f"freezeframe-{version}.dist-info"}
    }
    assert not outside
    python = {name for name in names if name.endswith(".py")}
    assert python == {f"freezeframe/{file.relative_to(ROOT).as_posix()}" for file in SOURCES}
    assert {"freezeframe/py.typed", "freezeframe/pipeline/bench/compare.html"} <= names
    assert f"freezeframe-{version}.dist-info/licenses/LICENSE" in names


def test_the_wheel_holds_every_sample(wheel):
    shipped = {
        name.rsplit("/", 1)[1] for name in zipfile.ZipFile(wheel).namelist() if "/data/samples/" in name
    }
    here = {file.name for file in (ROOT / "data" / "samples").iterdir() if file.is_file()}
    assert shipped == here
    assert {Path(name).suffix for name in shipped} >= {".mp4"}, "a clip for the demo"


@pytest.mark.slow
def test_the_demo_runs_from_a_wheel_installed_elsewhere(wheel, tmp_path):
    """A new environment, away from the repository, with this one's libraries and nothing downloaded."""
    place, out = tmp_path / "venv", tmp_path / "out"
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=tmp_path)
    python = place / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", ask, cwd=tmp_path).strip())
    # A path line lends the libraries, but not the editable install of this repository: that hangs on a .pth.
    (site / "lent.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    run(*pip, wheel, cwd=tmp_path)
    assert str(site) in run(python, "-c", "import freezeframe; print(freezeframe.__file__)", cwd=tmp_path)

    told = run(place / "bin" / "freezeframe", "demo", "--out", out, cwd=tmp_path)
    assert "PASS" in told
    assert "FAIL" not in told
    assert any(out.iterdir())


def test_what_the_package_offers_is_listed_before_it_is_loaded(tmp_path):
    code = "import freezeframe, sys; print(*dir(freezeframe)); print('torch' in sys.modules)"
    names, loaded = run(sys.executable, "-c", code, cwd=tmp_path).splitlines()
    listed = set(names.split())
    assert {name for name in listed if not name.startswith("_")} == set(freezeframe.__all__)
    assert loaded == "False"


@pytest.mark.parametrize(
    "source",
    [
        "import freezeframe",
        "import freezeframe.cli",
        "from typer.testing import CliRunner\nimport freezeframe.cli as cli\n"
        "assert CliRunner().invoke(cli.app, ['--help']).exit_code == 0",
    ],
    ids=["package", "command line", "--help"],
)
def test_help_waits_for_no_heavy_library(source, tmp_path):
    loaded = run(sys.executable, "-c", f"{source}\nimport sys; print(*sys.modules)", cwd=tmp_path).split()
    assert "freezeframe" in loaded
    assert not HEAVY & set(loaded)


@pytest.mark.parametrize("inside", [True, False], ids=["from the root", "from elsewhere"])
def test_the_command_also_runs_as_a_script(inside, tmp_path):
    command, cwd = ("cli.py", ROOT) if inside else (ROOT / "cli.py", tmp_path)
    told = run(sys.executable, command, "--help", cwd=cwd)
    for name in ("video", "burst", "batch", "probe", "demo", "doctor"):
        assert name in told


def public_functions(file: Path) -> list[ast.FunctionDef]:
    body = ast.parse(file.read_text()).body
    return [node for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


def test_every_public_function_says_what_it_does():
    silent = [
        f"{file.relative_to(ROOT)}: {function.name}"
        for file in SOURCES
        for function in public_functions(file)
        if not ast.get_docstring(function)
    ]
    assert not silent


def test_no_file_names_a_place_on_somebodys_machine():
    place = re.compile(r"(?<![\w.])(/home/|/root/|/work/|/Users/|[A-Z]:\\)")
    tests = set((ROOT / "tests").rglob("*.py")) - {Path(__file__)}
    texts = [*SOURCES, *tests, *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
    assert not [str(file.relative_to(ROOT)) for file in texts if place.search(file.read_text())]


DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "pillow_heif": "pillow-heif",
    "skimage": "scikit-image",
}


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!\[; ]", line)[0] for line in requirements}


def imported(tree: ast.AST) -> set[str]:
    """Distributions behind the absolute imports directly in `tree`'s nodes."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.split(".")[0])
    foreign = names - set(sys.stdlib_module_names) - {"freezeframe"}
    return {DISTRIBUTIONS.get(name, name) for name in foreign}


# Imported by functions only, and only where numba is there (extra `fast`).
COMPILED = re.compile(r"(.*_)?numba(_.*)?|simd")


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_import_is_declared(file):
    """What a file imports at once is a core dependency; what a function imports may be an extra."""
    core = declared(PROJECT["project"]["dependencies"])
    extras = set().union(*map(declared, PROJECT["project"]["optional-dependencies"].values()))
    tree = ast.parse(file.read_text())
    at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    kernels = {"numba", "llvmlite"} if COMPILED.fullmatch(file.stem) else set()
    assert imported(ast.Module(body=at_once, type_ignores=[])) <= core | kernels
    assert imported(tree) <= core | extras | kernels


def test_the_cure_for_a_missing_extra_installs_it():
    """It names the package, not our extra: from a clone or a wheel pip knows nothing of ours."""
    extras = PROJECT["project"]["optional-dependencies"]
    calls = [
        [argument.value for argument in node.args[:2] if isinstance(argument, ast.Constant)]
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "MissingExtra"
    ]
    named = [call for call in calls if len(call) == 2]
    assert len(named) >= 5
    for package, extra in named:
        assert package.lower() in declared(extras[extra])
        assert f"pip install {package}" in str(freezeframe.MissingExtra(package, extra, "this"))


BENCHMARKS = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in (ROOT / "benchmarks").rglob("*.py")
)


@pytest.mark.parametrize("file", BENCHMARKS)
def test_every_benchmark_still_finds_what_it_measures(file):
    """Benchmarks are run by hand, months apart: what they import must not go without anybody noticing."""
    importlib.import_module(file)
