"""Flow metrics on clips of known motion."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from freezeframe.data.types import Flow
from freezeframe.motion.flow.metrics import tof, warping_error
from freezeframe.motion.flow.warp import warp

SIZE = (48, 64)


@pytest.fixture(scope="module")
def wide() -> Tensor:
    """[3, H + 32, W + 32] linear RGB: smooth noise at several scales."""
    generator = torch.Generator().manual_seed(4)
    layers = [
        torch.nn.functional.interpolate(
            torch.rand(1, 3, 96 // k, 112 // k, generator=generator), (80, 96), mode="bicubic"
        )
        for k in (4, 8, 16)
    ]
    return torch.stack(layers).mean(0)[0].clamp(0, 1)


def view(wide: Tensor, dx: int, dy: int = 0) -> Tensor:
    """[3, H, W] image of a camera translated by (dx, dy)."""
    return wide[:, 16 + dy : 16 + dy + SIZE[0], 16 + dx : 16 + dx + SIZE[1]].contiguous()


def pan(dx: float, dy: float = 0.0) -> Flow:
    uv = torch.tensor([float(dx), float(dy)]).view(2, 1, 1).expand(2, *SIZE).contiguous()
    return Flow(uv=uv, confidence=torch.ones(SIZE))


def constant(flow: Flow, _source: Tensor, _target: Tensor) -> Flow:
    return flow


def test_equal_motion_has_tof_0_and_other_motion_that_of_its_pixels() -> None:
    """(3, -1) instead of (1, 1) is an error of two pixels in x and two in y: four in all."""
    pair = torch.zeros(3, *SIZE), torch.zeros(3, *SIZE)
    assert tof(pair, pan(1, 1), flow=partial(constant, pan(1, 1))) == 0
    assert tof(pair, pan(1, 1), flow=partial(constant, pan(3, -1))) == pytest.approx(4)


def test_a_pan_with_exact_flow_has_no_warping_error(wide: Tensor) -> None:
    """The camera moves right by 5 px: the content moves left by 5 px."""
    pair = view(wide, 0), view(wide, 5)
    assert warping_error(pair, pan(-5)) < 1e-9
    assert warping_error(pair, pan(5)) > 1e-3


def test_warping_error_is_weighted_by_confidence(wide: Tensor) -> None:
    """Half of the frame changes, and the flow has confidence 0 there."""
    first = view(wide, 0)
    second = first.clone()
    second[:, : SIZE[0] // 2] = 1 - second[:, : SIZE[0] // 2]
    still = pan(0)
    confidence = still.confidence.clone()
    confidence[: SIZE[0] // 2] = 0
    assert warping_error((first, second), Flow(uv=still.uv, confidence=confidence)) == 0
    assert warping_error((first, second), still) > 1e-3


def test_warping_by_whole_pixels_copies_them(wide: Tensor) -> None:
    image = view(wide, 0)
    warped = warp(image, pan(3, -2).uv)
    assert torch.equal(warped[:, 2:, :-3], image[:, :-2, 3:])
