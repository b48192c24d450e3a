from __future__ import annotations

import pytest
import torch
from torch import Tensor

from freezeframe.models.nets.nafnet import NAFNet, NetConfig
from freezeframe.models.restorer.image_restorer import load_restorer
from freezeframe.pipeline.config import RefineConfig
from freezeframe.pipeline.stages.refine import refine

CONFIG = NetConfig(width=8, encoders=(1, 2), middle=1, decoders=(1, 1))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 130, 101, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def checkpoint(tmp_path):
    """Random weights in the layout of the published files."""
    network = NAFNet(CONFIG).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for value in network.parameters():
        value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    path = tmp_path / "NAFNet-width8.pth"
    torch.save({"params": network.state_dict()}, path)
    return path


def test_without_a_restorer_the_very_images_come_back(images):
    assert refine(images, None, RefineConfig()) is images


def test_every_frame_is_restored_by_itself(images, checkpoint):
    """A frame is restored alike alone and among other frames: nothing leaks between frames."""
    restorer = load_restorer(checkpoint, device="cpu", precision="fp32")
    config = RefineConfig(checkpoint=checkpoint)
    together = refine(images, restorer, config)
    assert together.shape == images.shape
    assert (together - images).abs().amax(dim=(1, 2, 3)).min() > 0.01, "the network changes nothing"
    for index in range(3):
        assert torch.equal(refine(images[index : index + 1], restorer, config)[0], together[index])
    assert torch.equal(refine(images.flip(0), restorer, config), together.flip(0))


def test_tiles_leave_no_seam(images, checkpoint):
    """With local pooling (64 px and more), the tiled result equals the untiled one."""
    restorer = load_restorer(checkpoint, device="cpu", precision="fp32", window=8)
    whole = refine(images, restorer, RefineConfig(tile=512))
    tiled = refine(images, restorer, RefineConfig(tile=96, overlap=48))
    # An 8-bit step of linear RGB.
    torch.testing.assert_close(tiled, whole, atol=1 / 255, rtol=0)


def test_the_input_is_left_alone(images, checkpoint):
    before = images.clone()
    refine(images, load_restorer(checkpoint, device="cpu"), RefineConfig(tile=64, overlap=16))
    assert torch.equal(images, before)


def test_a_poisoned_checkpoint_changes_no_frame(images, checkpoint, tmp_path):
    state = torch.load(checkpoint, weights_only=True)["params"]
    state["ending.weight"][0] = 3e38  # finite, but its sums are not
    path = tmp_path / "poisoned.pth"
    torch.save(state, path)
    restorer = load_restorer(path, device="cpu")
    # Blending a tile with itself rounds: w v + (1 - w) v.
    torch.testing.assert_close(
        refine(images, restorer, RefineConfig(tile=64, overlap=16)), images, atol=2e-7, rtol=0
    )
    assert restorer.log.failed_tiles > 3
