"""The check of an installation passes where the self-check gains, and fails where it does not."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from freezeframe import cli
from freezeframe.pipeline.tasks.doctor import check_installation


@pytest.mark.slow
def test_this_installation_passes():
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == 0, result.stdout
    for word in ("freezeframe", "torch", "CPU", "libx264", "PASS"):
        assert word in result.stdout


@pytest.mark.slow
def test_an_installation_that_gains_too_little_fails():
    text, healthy = check_installation(min_gain_db=1000.0)
    assert not healthy
    assert "FAIL" in text
