"""The exported model agrees with the network."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from torch import nn

from freezeframe.data.errors import MissingExtra, UnwritableOutput
from freezeframe.models.deblur.fusion_net import FusionNet, NetConfig
from freezeframe.models.runtime.onnx_export import TOLERANCE, export_onnx

needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxscript"))), reason="the extra onnx is not installed"
)
SIZE = (36, 52)


@pytest.fixture(scope="module")
def network() -> FusionNet:
    torch.manual_seed(5)
    net = FusionNet(NetConfig(widths=(8, 8, 8), down=(1, 1, 1), up=(1, 1)))
    nn.init.normal_(net.head.weight, std=0.05)
    return net.eval().requires_grad_(False)


@needs_onnx
def test_the_file_answers_as_the_network_does(network, tmp_path):
    """By a second implementation, on an input other than that of the export."""
    openvino = pytest.importorskip("openvino")
    message = export_onnx(network, tmp_path / "net.onnx", size=SIZE)
    assert "matches PyTorch within" in message
    network_input = torch.rand(1, 16, *SIZE)
    compiled = openvino.Core().compile_model(
        str(tmp_path / "net.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    expected = network(network_input).numpy()
    assert np.abs(expected).max() > 20 * TOLERANCE
    assert np.abs(compiled(network_input.numpy())[0] - expected).max() <= TOLERANCE


def test_what_exists_is_kept_and_other_suffixes_are_refused(network, tmp_path):
    there = tmp_path / "net.onnx"
    there.write_text("mine")
    for path, cure in (
        (there, "--force"),
        (tmp_path / "net.pt", "end in .onnx"),
        (there / "a.onnx", "not a folder"),
    ):
        with pytest.raises(UnwritableOutput, match=cure):
            export_onnx(network, path, size=SIZE)
    assert there.read_text() == "mine"


def test_without_the_exporter_it_says_what_to_install(network, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install onnx"):
        export_onnx(network, tmp_path / "net.onnx", size=SIZE)
