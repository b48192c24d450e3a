"""docs/reference/cli.md is current."""

from __future__ import annotations

from pathlib import Path

from benchmarks.release.cli_reference import render_page

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "cli.md"


def test_the_command_line_reference_is_current():
    assert PAGE.read_text(encoding="utf-8") == render_page(), (
        "run: python -m benchmarks.release.cli_reference > docs/reference/cli.md"
    )
