"""The fusion network: its correction, the invariance of local means, and reading its weights."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from freezeframe.data.errors import UnreadableMedia
from freezeframe.models.deblur.fusion_net import (
    FRAME,
    FUSED,
    FusionNet,
    NetConfig,
    build_network_input,
    infer_config,
    load,
    local_mean,
    matches,
)
from freezeframe.models.registry import bundled as shipped

SMALL = NetConfig(widths=(8, 16, 24), down=(1, 2, 1), up=(1, 2))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return FusionNet(SMALL).eval()


def test_untrained_it_changes_nothing(network):
    assert not network(torch.rand(2, 16, 24, 40)).any()


def test_full_doubt_gives_the_recorded_frame_back(network):
    """The last output channel blends the recorded frame and the deconvolved one."""
    network.head.bias.data.view(4, 4)[3] = 1.0
    network_input = torch.rand(1, 16, 24, 40)
    difference = network_input[:, FRAME] - network_input[:, FUSED]
    assert torch.allclose(network(network_input), difference - local_mean(difference), atol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (128, 200)])
def test_no_answer_changes_the_brightness_of_a_wide_place(network, size):
    """Motion blur preserves local means: over a hundred pixels the mean correction is 0."""
    torch.nn.init.normal_(network.head.weight, std=0.1)
    torch.nn.init.normal_(network.head.bias, std=0.1)
    change = network(torch.rand(1, 16, *size))
    # At borders, means of fewer pixels remove it only in part.
    assert change.mean().abs() < 0.05 * change.abs().mean()


def test_a_wide_mean_keeps_what_is_flat_and_loses_detail():
    flat = torch.full((1, 3, 64, 96), 0.3)
    assert torch.allclose(local_mean(flat), flat, atol=1e-6)
    stripes = (torch.arange(96) % 8 < 4).float().expand(1, 3, 64, 96)
    assert torch.allclose(local_mean(stripes), torch.full_like(flat, 0.5), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (33, 50)])
def test_any_size_is_answered_in_that_size(network, size):
    assert network(torch.rand(1, 16, *size)).shape == (1, 3, *size)


def test_a_frame_without_neighbours_says_so():
    frame, fused = torch.rand(2, 3, 8, 8)
    blur_vector, confidence = torch.zeros(2, 8, 8), torch.zeros(8, 8)
    alone = build_network_input([frame, fused, frame, frame], blur_vector=blur_vector, confidence=confidence)
    several = build_network_input(
        [frame, fused, frame.clone(), frame], blur_vector=blur_vector, confidence=confidence
    )
    assert alone.shape == (16, 8, 8)
    assert alone[-1].all()
    assert not several[-1].any()


def test_the_layout_is_read_off_the_weights(network):
    state = network.state_dict()
    assert matches(state)
    assert infer_config(state) == SMALL
    network_input = torch.rand(1, 16, 16, 16)
    network.head.weight.data.normal_()
    assert torch.equal(load(network.state_dict())(network_input), network(network_input))


def test_other_weights_are_refused_by_name(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"something.else": torch.zeros(3)}, path)
    with pytest.raises(UnreadableMedia, match=r"other\.safetensors"):
        shipped.read_network(path)


def test_misfitting_weights_are_refused_by_name(network, tmp_path):
    state = {**network.state_dict(), "head.bias": torch.zeros(5)}
    path = tmp_path / "bent.safetensors"
    save_file(state, path)
    with pytest.raises(UnreadableMedia, match=r"bent\.safetensors"):
        shipped.read_network(path)


def test_the_shipped_weights_are_those_of_their_card():
    shipped.verify()
    model_card = shipped.card()
    network = shipped.read_network(shipped.WEIGHTS)
    assert sum(p.numel() for p in network.parameters()) == model_card["parameters"] <= 4_000_000
    assert shipped.WEIGHTS.stat().st_size <= 8_000_000
