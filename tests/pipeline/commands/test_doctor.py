"""A sound installation is called sound; one that gains nothing is not."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from freezeframe import cli
from freezeframe.pipeline.commands import doctor


@pytest.mark.slow
def test_this_installation_is_sound():
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == 0, result.stdout
    for word in ("freezeframe", "torch", "CPU", "libx264", "PASS"):
        assert word in result.stdout


@pytest.mark.slow
def test_one_that_gains_too_little_is_not(monkeypatch):
    monkeypatch.setattr(doctor, "MIN_GAIN_DB", 1000.0)  # dB that nobody gains
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == 2
    assert "FAIL" in result.stdout
