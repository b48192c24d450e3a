"""The compiled gradients of a layer's loss against torch in float64, and laws of the loss."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from freezeframe.splatting.layers.layer import Crops, Layer
from freezeframe.splatting.layers.loss import LossConfig, gradients_on, layer_loss

SIZE = (24, 36)
CONFIG = LossConfig(deformation=0.3, deformation_change=0.4, binary=0.05, colour_tv=0.02)
OFFSETS = torch.tensor([-0.46, -0.21, 0.07, 0.33])


def noisy(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_layer(centre: tuple[float, float], *, count: int = 4, downscale: int = 1) -> Layer:
    """A bent, turned and scaled layer of random colours, 5 px further in each frame."""
    position = torch.tensor(centre) + torch.arange(count)[:, None] * torch.tensor([5.0, 1.7])
    layer = Layer(
        noisy(4, 9, 11, seed=1), position + noisy(count, 2, seed=2), mesh_size=(3, 4), shutter=0.6,
        downscale=downscale,
    )  # fmt: skip
    for seed, parameter in enumerate((layer.rotation, layer.log_scale, layer.deformation)):
        parameter.data += 0.15 * noisy(*parameter.shape, seed=10 + seed)
    return layer


def random_crops(*, count: int = 4) -> Crops:
    rng = torch.Generator().manual_seed(5)
    images, background = (torch.rand(count, 3, *SIZE, generator=rng) for _ in range(2))
    weight = (torch.rand(count, *SIZE, generator=rng) > 0.2).float()
    origin = torch.arange(count)[:, None] * torch.tensor([4.0, 2.0])
    return Crops(
        images=images, background=background, weight=weight, origin=origin, times=torch.arange(count).float()
    )


def in_float64(layer: Layer, crops: Crops) -> tuple[Layer, Crops]:
    tensors = {name: getattr(crops, name).double() for name in Crops.__dataclass_fields__}
    return copy.deepcopy(layer).double(), Crops(**tensors)


@pytest.mark.parametrize("frames", [[0, 1, 2, 3], [3, 1], [0]])
@pytest.mark.parametrize(
    ("centre", "downscale"),
    [((15.2, 11.7), 1), ((0.4, 11.7), 1), ((31.0, 1.2), 1), ((20.1, 20.6), 2)],
    ids=["inside", "left border", "corner", "half size"],
)
def test_the_compiled_gradients_are_those_of_torch(centre, downscale, frames):
    """By every parameter, to 3e-3 of their length: a sample next to a texel may fall on either side of it."""
    layer, crops = random_layer(centre, downscale=downscale), random_crops()
    exact, exact_crops = in_float64(layer, crops)
    gradients_on(crops, CONFIG)(layer, frames, OFFSETS)
    layer_loss(exact, exact_crops, frames, OFFSETS.double(), CONFIG).backward()
    for (name, compiled), truth in zip(layer.named_parameters(), exact.parameters(), strict=True):
        assert truth.grad.any(), name
        assert (compiled.grad - truth.grad).norm() <= 3e-3 * truth.grad.norm(), name


def test_a_layer_out_of_the_picture_feels_its_priors_only():
    layer, crops = random_layer((-300.0, 11.7)), random_crops()
    gradients_on(crops, replace(CONFIG, deformation=0.0, deformation_change=0.0))(layer, [0, 1], OFFSETS)
    for parameter in (layer.position, layer.rotation, layer.log_scale, layer.deformation):
        assert not parameter.grad.any()
    assert layer.texture_logits.grad.any()


def test_gradients_of_one_frame_have_no_motion():
    """A layer of a single frame stands still: its shutter is without effect."""
    layer, crops = random_layer((15.2, 11.7), count=1), random_crops(count=1)
    gradients_on(crops, CONFIG)(layer, [0], OFFSETS)
    assert float(layer.shutter_logit.grad) == 0
    assert layer.position.grad.any()


def test_the_same_call_gives_the_same_bits():
    layer, crops = random_layer((15.2, 11.7)), random_crops()
    first, second = (copy.deepcopy(layer) for _ in range(2))
    for each in (first, second):
        gradients_on(crops, CONFIG)(each, [0, 1, 2, 3], OFFSETS)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_the_loss_of_what_the_layer_records_is_least():
    """Without priors, a layer explains its own exposures better than any of its neighbours does."""
    layer, crops = random_layer((15.2, 11.7)), random_crops()
    config = LossConfig(colour_tv=0, alpha_tv=0, binary=0, deformation=0, deformation_change=0)
    frames = range(4)
    with torch.no_grad():
        exposures = layer.exposures(crops, frames, OFFSETS)
        own = replace(crops, images=exposures[:, :3] + (1 - exposures[:, 3:]) * crops.background)
        least = float(layer_loss(layer, own, frames, OFFSETS, config))
        for name, parameter in layer.named_parameters():
            other = copy.deepcopy(layer)
            dict(other.named_parameters())[name].data += 0.3 * noisy(*parameter.shape, seed=7)
            assert float(layer_loss(other, own, frames, OFFSETS, config)) > least, name
