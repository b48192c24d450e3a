from __future__ import annotations

from functools import partial

import pytest
import torch
from kornia.metrics import aepe

from freezeframe.data.types import FlowEstimator
from freezeframe.motion.flow.consistency import confidence
from freezeframe.motion.flow.estimators import (
    dis_flow,
    dis_pair,
    dis_uv,
    gamma_luma_uint8,
    kornia_flow,
    kornia_pair,
)
from freezeframe.motion.flow.variational import SolverConfig
from freezeframe.motion.flow.warp import warp

ESTIMATORS = [pytest.param(dis_flow, id="dis"), pytest.param(kornia_flow, id="kornia")]
PAIRS = [pytest.param(dis_pair, id="dis"), pytest.param(kornia_pair, id="kornia")]


def error(uv, dx, dy):
    """Mean endpoint error in pixels, without a border of 40 px, where points leave the frame."""
    inner = uv[:, 40:-40, 40:-40].permute(1, 2, 0)
    return float(aepe(inner, torch.tensor([dx, dy]).expand_as(inner)))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("shutter", [0.0, 0.8])
def test_a_pan_is_found_to_half_a_pixel(estimator, shutter, film, panning):
    """Sharp or blurred: equal blur in both frames does not bias the flow."""
    frames = film(panning(12.3, -4.6), [0, 1], shutter=shutter, noise=0.01)
    assert error(estimator(frames[0], frames[1]).uv, 12.3, -4.6) < 0.5


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_target_laid_back_along_the_flow_is_the_source(estimator, film, panning):
    frames = film(panning(-7.2, 3.1), [0, 1])
    flow = estimator(frames[0], frames[1])
    before = (frames[1] - frames[0]).abs()[:, 20:-20, 20:-20].mean()
    after = (warp(frames[1], flow.uv) - frames[0]).abs()[:, 20:-20, 20:-20].mean()
    assert after < before / 6


@pytest.mark.parametrize("pair", PAIRS)
def test_back_after_forth_is_rest_where_trusted(pair, film, panning):
    """To a pixel plus a twentieth of the length: the tolerance of the confidence itself."""
    forward, backward = pair(*film(panning(9.0, 5.0), [0, 1], noise=0.01))
    back = warp(backward.uv, forward.uv)
    miss = torch.linalg.vector_norm(forward.uv + back, dim=0)
    path_length = torch.linalg.vector_norm(torch.stack((forward.uv, back)), dim=1).amax(0)
    assert bool((miss <= 1 + 0.05 * path_length + 1e-4)[forward.confidence > 0].all())
    assert float(forward.confidence.mean()) > 0.6


@pytest.mark.parametrize("pair", PAIRS)
def test_time_reversal_swaps_the_directions(pair, film, panning):
    """The flow from a to b is the same whichever of the two directions it is."""
    a, b = film(panning(4.0, -6.0), [0, 1], noise=0.01)
    torch.testing.assert_close(pair(a, b)[0].uv, pair(b, a)[1].uv, atol=1e-5, rtol=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_mirrored_frames_have_mirrored_flow(estimator, film, panning):
    """To half a pixel on average: the grid of patches starts at the left."""
    a, b = film(panning(6.0, 2.0), [0, 1], noise=0.005)
    plain, mirrored = estimator(a, b).uv, estimator(a.flip(-1), b.flip(-1)).uv.flip(-1)
    mirrored[0] *= -1
    assert float((plain - mirrored).square().sum(0).sqrt()[40:-40, 40:-40].mean()) < 0.5


def test_points_that_leave_the_frame_are_not_trusted(film, panning):
    flow = dis_flow(*film(panning(30.0, 0.0), [0, 1]))
    assert float(flow.confidence[:, -25:].max()) == 0
    assert float(flow.confidence[40:-40, 40:-80].mean()) > 0.9


def test_trust_is_whole_for_a_perfect_return_and_none_for_a_wild_one():
    uv = torch.full((2, 20, 20), 3.0)
    assert float(confidence(uv, -uv)[5, 5]) == 1
    assert float(confidence(uv, uv).max()) == 0


def test_a_guess_may_be_far_off_and_still_help(film, panning):
    """Initialised by DIS, two linearisations at the finest levels are accurate to half a pixel."""
    a, b = film(panning(20.0, 6.0), [0, 1], shutter=0.5)
    start = dis_uv(gamma_luma_uint8(a), gamma_luma_uint8(b), preset="fast")
    flow = kornia_flow(a, b, start=start, config=SolverConfig(warps=2))
    assert error(flow.uv, 20.0, 6.0) < 0.5


def test_the_flow_is_differentiable():
    """Gradients exist and are finite."""
    source = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(1))
    target = source.roll(1, dims=-1).requires_grad_()
    kornia_flow(source, target).uv.square().mean().backward()
    assert target.grad is not None
    assert bool(torch.isfinite(target.grad).all())
    assert float(target.grad.abs().max()) > 0


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (40, 9), (24, 25)])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_any_size_has_a_flow(estimator, size):
    frame = torch.rand(3, *size)
    flow = estimator(frame, frame)
    assert flow.uv.shape == (2, *size)
    assert float(flow.uv.abs().max()) < 0.5


def test_flat_frames_rest():
    flow = dis_flow(torch.full((3, 40, 40), 0.5), torch.full((3, 40, 40), 0.5))
    assert float(flow.uv.abs().max()) == 0


def test_an_estimator_is_a_function_with_its_options_bound():
    bound: FlowEstimator = partial(dis_flow, preset="fast")
    assert bound(torch.rand(3, 40, 40), torch.rand(3, 40, 40)).confidence.shape == (40, 40)


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(film, panning):
    """To 0.02 px on average: sums in another order."""
    a, b = film(panning(5.0, 2.0), [0, 1])
    cpu, cuda = kornia_flow(a, b).uv, kornia_flow(a.cuda(), b.cuda()).uv.cpu()
    assert float((cpu - cuda).abs().mean()) < 0.02
