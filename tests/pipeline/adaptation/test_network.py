"""The fusion network of a job runs by the backend and in the format that the configuration names."""

from __future__ import annotations

import importlib.util

import pytest

from freezeframe.models.runtime.autotune import synthetic_input
from freezeframe.models.runtime.backends import backends_used
from freezeframe.pipeline.adaptation.network import load_plain_network
from freezeframe.pipeline.config import Config

openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the extra openvino is not installed"
)


@pytest.mark.parametrize("backend", ["torch", pytest.param("openvino", marks=openvino)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_configured_backend_runs_and_is_reported(tmp_path, monkeypatch, backend, precision):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    network = load_plain_network(Config(device="cpu", backend=backend, precision=precision))
    network(synthetic_input(64, 64))
    assert backends_used(fusion_network=network) == {"fusion_network": f"{backend} {precision}"}
    assert not list(tmp_path.iterdir()), "nothing was timed"
