"""What the documents show must work: code compiles, the worked example runs, links lead somewhere."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"(?:<!-- (?P<role>[^\n]*) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Role (the HTML comment above it, or nothing) and code of every Python block."""
    return [(found["role"] or "", found["code"]) for found in BLOCK.finditer(page.read_text())]


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_in_documents_compiles(page):
    for _, code in blocks(page):
        compile(code, str(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in (found["target"] for found in LINK.finditer(prose)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{target} leads nowhere"
        if anchor:
            assert anchor in anchors(file), f"{target}: {file.name} has no such heading"


ROOMS = "data|models|motion|splatting|pipeline|benchmarks|tests|docs"
FILE = re.compile(rf"`((?:{ROOMS})/[\w/.-]+)`")
MODULE = re.compile(rf"(?<![\w.])(?:freezeframe\.)?((?:{ROOMS})(?:\.[a-z_0-9]+)+)")
TO_BE_WRITTEN = {"motion/flow/phase.py", "tests/motion/flow/test_phase.py"}  # by the reader of CONTRIBUTING


def is_there(name: str) -> bool:
    """Whether a dotted name leads to a module, a package or what one of them holds."""
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file() or path.parent.with_suffix(".py").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_is_there(page):
    prose = page.read_text()
    files = {name for name in FILE.findall(prose) if "*" not in name} - TO_BE_WRITTEN
    assert not [name for name in files if not (ROOT / name).exists()]
    modules = {name for name in MODULE.findall(prose) if not name.endswith(".phase")}
    assert not [name for name in modules if not is_there(name)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_heading_stands_over_nothing(page):
    prose = re.sub(r"```.*?```", "text", page.read_text(), flags=re.DOTALL)
    lines = [line for line in prose.splitlines() if line.strip()]
    level = [len(line) - len(line.lstrip("#")) if line.startswith("#") else 0 for line in lines]
    for line, here, after in zip(lines, level, [*level[1:], 1], strict=True):
        assert not (here and 0 < after <= here), f"nothing below: {line}"


def test_the_worked_example_works(monkeypatch):
    """The module of CONTRIBUTING is loaded where it says it would lie, and its tests are run as written."""
    roles = dict(blocks(ROOT / "CONTRIBUTING.md"))
    name = next(role for role in roles if role.startswith("module ")).removeprefix("module ")
    module = types.ModuleType(name)
    module.__package__ = name.rpartition(".")[0]
    monkeypatch.setitem(sys.modules, name, module)
    exec(roles[f"module {name}"], module.__dict__)

    tests: dict[str, object] = {"__name__": "worked_example"}
    exec(roles["tests"], tests)
    ran = 0
    for test in [value for key, value in tests.items() if key.startswith("test_") and callable(value)]:
        marks = getattr(test, "pytestmark", [])
        cases = marks[0].args[1] if marks else [()]
        for case in cases:
            test(*case)
            ran += 1
    assert ran == 4


def test_the_protocol_shown_is_the_one_in_the_code():
    shown = next(code for role, code in blocks(ROOT / "CONTRIBUTING.md") if "class FlowEstimator" in code)
    assert shown.strip() in (ROOT / "data" / "types.py").read_text()
