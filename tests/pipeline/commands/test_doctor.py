"""A sound installation is called sound; one that gains nothing is not."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from freezeframe import cli
from freezeframe.pipeline.commands import doctor


@pytest.mark.slow
def test_this_installation_is_sound():
    told = CliRunner().invoke(cli.app, ["doctor"])
    assert told.exit_code == 0, told.stdout
    for word in ("freezeframe", "torch", "CPU", "libx264", "PASS"):
        assert word in told.stdout


@pytest.mark.slow
def test_one_that_gains_too_little_is_not(monkeypatch):
    monkeypatch.setattr(doctor, "SOUND", 1000.0)  # dB that nobody gains
    told = CliRunner().invoke(cli.app, ["doctor"])
    assert told.exit_code == 2
    assert "FAIL" in told.stdout
