from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from freezeframe.data.blur.operator import MIN_LINEAR, blur, support_mask
from freezeframe.data.metrics.image import psnr
from freezeframe.pipeline.solvers.iteration import DEFAULT_PARAMS, RichardsonLucyParams, ordered_subset
from freezeframe.pipeline.solvers.observation import Observation
from freezeframe.pipeline.solvers.richardson_lucy import richardson_lucy
from freezeframe.pipeline.solvers.richardson_lucy_torch import momentum_factor, richardson_lucy_torch, tv_step

SHUTTER = 0.5
INNER = (slice(None), slice(12, -12), slice(20, -20))  # in view in every frame


NO_PRIOR = RichardsonLucyParams(tv_weight=0)


@pytest.fixture(params=["compiled", "tensors"])
def use_numba(request) -> bool:
    """Both implementations; other devices run the second one."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    return request.param == "compiled"


def observed(frames: Tensor, velocity: Tensor, *, of: int = 1, shutter: float = SHUTTER) -> list[Observation]:
    """Frames of a steady pan as observations of frame `of`, with their true motion."""
    sure = torch.ones(frames.shape[2:])
    return [
        Observation(linear=frame, offset=(of - j) * velocity, blur_vector=shutter * velocity, weight=sure)
        for j, frame in enumerate(frames)
    ]


def everywhere(value: float, like: Tensor) -> Tensor:
    return torch.full(like.shape[-2:], value)


def sharpened(
    start: Tensor,
    observations: list[Observation],
    *,
    steps: int = 20,
    params: RichardsonLucyParams = DEFAULT_PARAMS,
) -> Tensor:
    return richardson_lucy(start, observations, steps=steps, step_size=everywhere(1, start), params=params)


def gain(result: Tensor, start: Tensor, truth: Tensor) -> float:
    """In dB."""
    return psnr(result[INNER], truth[INNER]) - psnr(start[INNER], truth[INNER])


@pytest.mark.parametrize(("length", "degrees"), [(6, 0), (6, 135), (10, 30), (16, 30), (16, 90)])
def test_known_motion_is_undone(length, degrees, film, steady):
    """+3 dB and more from three frames of a pan, blurred over 6 to 16 px."""
    angle = math.radians(degrees)
    velocity = (length * math.cos(angle) / SHUTTER, length * math.sin(angle) / SHUTTER)
    frames, truth = film(velocity, [-1, 0, 1], shutter=SHUTTER), film(velocity, [0])[0]
    sharp = sharpened(frames[1], observed(frames, steady(velocity)))
    assert gain(sharp, frames[1], truth) >= 3


def test_one_frame_alone_is_sharpened_too(film, steady):
    velocity = (16.0, 9.0)
    frame, truth = film(velocity, [0], shutter=SHUTTER), film(velocity, [0])[0]
    assert gain(sharpened(frame[0], observed(frame, steady(velocity), of=0)), frame[0], truth) >= 3


def test_motion_of_the_wrong_direction_does_harm(film, steady):
    """The same frames with motion reversed or rotated: no gain comes by chance."""
    velocity = (16.0, 9.0)
    frames, truth = film(velocity, [-1, 0, 1], shutter=SHUTTER), film(velocity, [0])[0]
    for wrong in ((-16.0, -9.0), (-9.0, 16.0)):
        assert gain(sharpened(frames[1], observed(frames, steady(wrong))), frames[1], truth) < -1


def test_neighbours_halve_what_noise_does(film, steady):
    """Three noisy observations instead of one: noise decreases by up to sqrt(3)."""
    grey = torch.full((3, 3, 96, 128), 0.3)
    noisy = grey + 0.01 * torch.randn(grey.shape, generator=torch.Generator().manual_seed(0))
    observations = observed(noisy, steady((20.0, 0.0)))
    alone, together = (
        sharpened(noisy[1], [observations[1]], params=NO_PRIOR),
        sharpened(noisy[1], observations, params=NO_PRIOR),
    )
    assert float((together - 0.3)[INNER].std()) < 0.8 * float((alone - 0.3)[INNER].std())


@pytest.mark.parametrize("step_size", [1.0, 1.8])
def test_noise_in_flat_places_is_held_back(step_size, steady):
    """Ten steps against ten pixels of blur, with the prior: noise grows by less than a tenth."""
    grey = torch.full((3, 3, 96, 128), 0.3)
    noisy = grey + 0.01 * torch.randn(grey.shape, generator=torch.Generator().manual_seed(0))
    steps = round(10 / step_size)
    sharp = richardson_lucy(
        noisy[1],
        observed(noisy, steady((20.0, 0.0)))[1:2],
        steps=steps,
        step_size=everywhere(step_size, grey),
    )
    assert float(sharp.std()) < 1.1 * float(noisy[1].std())


def any_observations(film, steady) -> tuple[Tensor, list[Observation], Tensor]:
    """Three frames with uneven blur vectors, offsets and weights, and an uneven step size."""
    rng = torch.Generator().manual_seed(3)
    frames = film((9.0, -4.0), [-1, 0, 1], shutter=SHUTTER)
    observations = []
    for each in observed(frames, steady((9.0, -4.0))):
        bend = 3 * torch.randn(2, *frames.shape[2:], generator=rng)
        weight = (2 * torch.rand(frames.shape[2:], generator=rng) - 0.5).clamp(0, 1)
        assert each.offset is not None
        observations.append(
            Observation(
                linear=each.linear,
                offset=each.offset + bend,
                blur_vector=each.blur_vector + bend,
                weight=weight,
            )
        )
    observations.append(
        Observation(
            linear=frames[1],
            offset=None,
            blur_vector=observations[0].blur_vector,
            weight=observations[0].weight,
        )
    )
    return frames[1], observations, 1.8 * torch.rand(frames.shape[2:], generator=rng)


@pytest.mark.parametrize(
    ("steps", "tv_weight"), [(2, 0.0), (2, 0.02), (DEFAULT_PARAMS.full_subset_steps + 2, 0.0)]
)
def test_compiled_gives_what_tensors_give(steps, tv_weight, film, steady):
    pytest.importorskip("numba")
    start, observations, step_size = any_observations(film, steady)
    fast, slow = (
        richardson_lucy(
            start,
            observations,
            steps=steps,
            step_size=step_size,
            params=RichardsonLucyParams(tv_weight=tv_weight, use_numba=use_numba),
        )
        for use_numba in (True, False)
    )
    assert float((slow - start).abs().mean()) > 0.003
    # Light below 1, float32; a pixel at the threshold of the border may fall either way.
    assert float((fast - slow).abs().mean()) < 1e-5
    assert float(((fast - slow).abs() > 1e-3).float().mean()) < 1e-3


def test_one_step_is_the_formula(film, steady):
    """x (sum B' c y / B x) / (sum B' c), by dense matrices of a small picture."""
    image = film((0.0, 0.0), [0])[0][:, 20:32, 30:44].contiguous()
    size = image.shape[1:]
    velocity = steady((4.0, 2.0), size)
    observations = observed(torch.stack([image.roll(1, 1), image]), velocity, of=1)
    top, bottom = torch.zeros(image[0].numel()), torch.zeros(image.flatten(1).shape)
    for each in observations:
        matrix = torch.stack(
            [blur(p, each.blur_vector, offset=each.offset).flatten() for p in unit_images(size)], 1
        )
        inside = support_mask(each.blur_vector, offset=each.offset).flatten()
        top = top + matrix.T @ inside
        expected = (matrix @ image.flatten(1).T).T
        bottom = bottom + (inside * each.linear.flatten(1) / expected) @ matrix
    sharp = sharpened(image, observations, steps=1, params=NO_PRIOR).flatten(1)
    known = top > 0.5
    # The prior's weight of 0.01 is the only difference.
    formula = image.flatten(1) * (bottom + 0.01) / (top + 0.01)
    torch.testing.assert_close(sharp[:, known], formula[:, known], atol=1e-5, rtol=1e-4)


def unit_images(size) -> Tensor:
    """[H W, 1, H, W]: one bright pixel each."""
    return torch.eye(size[0] * size[1]).view(-1, 1, *size)


def test_a_still_clip_passes_unchanged(film, steady, use_numba):
    """Without motion nothing changes: to the bit at step size 0; to rounding at step size 1."""
    params = RichardsonLucyParams(use_numba=use_numba)
    no_prior = RichardsonLucyParams(tv_weight=0, use_numba=use_numba)
    frames, still = film((0.0, 0.0), [0, 1, 2]), steady((0.0, 0.0))
    observations = observed(frames, still)
    untouched = richardson_lucy(
        frames[1], observations, steps=2, step_size=everywhere(0, still), params=params
    )
    assert torch.equal(untouched, frames[1])
    updated = richardson_lucy(
        frames[1], observations, steps=2, step_size=everywhere(1, still), params=no_prior
    )
    torch.testing.assert_close(updated, frames[1], atol=1e-5, rtol=0)


def test_what_hardly_moved_keeps_its_bits(film, steady, use_numba):
    """Half of the image is frozen; the other half equals the result without freezing.

    Frozen pixels are copied, not computed: on every processor, and black too, which the steps clamp to
    MIN_LINEAR.
    """
    no_prior = RichardsonLucyParams(tv_weight=0, use_numba=use_numba)
    start, observations, step_size = any_observations(film, steady)
    start[:, :4, :4] = 0  # below MIN_LINEAR
    half = step_size.clone()
    half[:, : half.shape[1] // 2] = 0.9 * DEFAULT_PARAMS.freeze_below
    whole, part = (
        richardson_lucy(start, observations, steps=1, step_size=p, params=no_prior) for p in (step_size, half)
    )
    frozen, changed = half < DEFAULT_PARAMS.freeze_below, half >= DEFAULT_PARAMS.freeze_below
    assert torch.equal(part[:, frozen], start[:, frozen])
    torch.testing.assert_close(part[:, changed], whole[:, changed], atol=1e-5, rtol=1e-4)


def test_unbelieved_frames_change_nothing(film, steady, use_numba):
    no_prior = RichardsonLucyParams(tv_weight=0, use_numba=use_numba)
    velocity = steady((12.0, 0.0))
    frames = film((12.0, 0.0), [-1, 0, 1], shutter=SHUTTER)
    doubted = [
        Observation(
            linear=observations.linear,
            offset=observations.offset,
            blur_vector=observations.blur_vector,
            weight=everywhere(0, velocity),
        )
        for observations in observed(frames, velocity)
    ]
    torch.testing.assert_close(sharpened(frames[1], doubted, steps=2, params=no_prior), frames[1])


@pytest.mark.parametrize("velocity", [(12.0, 0.0), (-14.0, 20.0)])
def test_light_is_kept(velocity, film, steady, use_numba):
    """Sharpening moves light, and makes or loses less than 1 % of it."""
    params = RichardsonLucyParams(use_numba=use_numba)
    frames = film(velocity, [-1, 0, 1], shutter=SHUTTER)
    sharp = richardson_lucy(
        frames[1],
        observed(frames, steady(velocity))[1:],
        steps=2,
        step_size=everywhere(1, frames),
        params=params,
    )
    assert float(sharp.mean()) == pytest.approx(float(frames[1].mean()), rel=0.01)


def test_highlights_above_white_do_not_ring(steady):
    """A lamp eight times as bright as white, clipped in the recording: the wall beside it stays even.

    Without the saturation mask the lamp makes holes down to a quarter of the wall's light.
    """
    wall, blur_vector = 0.2, steady((10.0, 0.0))
    scene = torch.full((3, 96, 128), wall)
    scene[:, 40:50, 60:66] = 8
    recorded = blur(scene, blur_vector).clamp(max=1)
    dark = {}
    for masked in (True, False):
        weight = (recorded.amax(0) < 0.98).float() if masked else everywhere(1, blur_vector)
        sharp = sharpened(
            recorded, [Observation(linear=recorded, offset=None, blur_vector=blur_vector, weight=weight)]
        )
        dark[masked] = float(sharp.min())
        if masked:
            assert float(sharp[:, :, :50].max()) < 1.4 * wall
    assert dark[True] > 0.6 * wall
    assert dark[False] < 0.4 * wall


def test_black_stays_black(steady, use_numba):
    """No light is no division by zero."""
    params = RichardsonLucyParams(use_numba=use_numba)
    black, blur_vector = torch.zeros(3, 96, 128), steady((7.0, 3.0))
    observations = [
        Observation(linear=black, offset=None, blur_vector=blur_vector, weight=everywhere(1, blur_vector))
    ]
    sharp = sharpened(black, observations, steps=3, params=params)
    assert bool(torch.isfinite(sharp).all())
    assert float(sharp.max()) <= MIN_LINEAR


def test_gradients_reach_the_frames(film, steady):
    """The tensor implementation is differentiable, on the CPU too."""
    frames = film((12.0, 0.0), [0], shutter=SHUTTER)[0, :, :24, :32].contiguous().requires_grad_()
    blur_vector = steady((6.0, 0.0), (24, 32))
    observations = [
        Observation(
            linear=frames.detach(), offset=None, blur_vector=blur_vector, weight=everywhere(1, blur_vector)
        )
    ]
    richardson_lucy(
        frames, observations, steps=2, step_size=everywhere(1, blur_vector)
    ).square().sum().backward()
    assert frames.grad is not None
    assert float(frames.grad.abs().max()) > 0


def test_calming_lowers_total_variation_and_leaves_edges_between_flats(film):
    image = film((0.0, 0.0), [0])[0]
    noisy = (image * (1 + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(1)))).abs()
    calm = tv_step(noisy, weight=everywhere(0.02, image))
    assert variation(calm) < 0.97 * variation(noisy)
    assert torch.equal(tv_step(noisy, weight=everywhere(0, image)), noisy)
    flat = torch.full((3, 8, 9), 0.4)
    assert torch.equal(tv_step(flat, weight=everywhere(0.1, flat)), flat)


def variation(image: Tensor) -> float:
    root = image.sqrt()
    return float(root.diff(dim=1).abs().sum() + root.diff(dim=2).abs().sum())


def test_the_slow_way_takes_double_precision(film, steady):
    """float64 runs on tensors; results agree with float32 to its precision."""
    velocity = (12.0, 6.0)
    frames = film(velocity, [-1, 0, 1], shutter=SHUTTER)
    observations = observed(frames, steady(velocity))
    fine = [
        Observation(
            linear=s.linear.double(),
            offset=s.offset.double(),
            blur_vector=s.blur_vector.double(),
            weight=s.weight.double(),
        )
        for s in observations
    ]
    double = richardson_lucy(frames[1].double(), fine, steps=2, step_size=everywhere(1, frames).double())
    single = richardson_lucy_torch(frames[1], observations, steps=2, step_size=everywhere(1, frames))
    assert double.dtype == torch.float64
    assert float((double - single).abs().mean()) < 1e-5


def test_momentum_is_a_power_of_the_step_before():
    """Against the power itself, from half to twice the light; swapping the arguments inverts it."""
    now = torch.linspace(0.5, 2, 31)
    one = torch.ones_like(now)
    # The fraction approximates the power to a hundredth; it is clamped to 1.22.
    assert torch.allclose(momentum_factor(one, now), now**DEFAULT_PARAMS.momentum, rtol=0.012)
    assert torch.allclose(momentum_factor(one, now) * momentum_factor(now, one), one, atol=1e-6)
    assert torch.equal(momentum_factor(now, now), one)


def test_momentum_goes_further_in_as_many_steps(film, steady):
    velocity = (16.0, 9.0)
    frames, truth = film(velocity, [-1, 0, 1], shutter=SHUTTER), film(velocity, [0])[0]
    observations, step_size = observed(frames, steady(velocity)), everywhere(1, frames[1])
    gains = []
    for momentum in (0.0, DEFAULT_PARAMS.momentum):
        params = RichardsonLucyParams(tv_weight=0, momentum=momentum)
        sharp = richardson_lucy(frames[1], observations, steps=6, step_size=step_size, params=params)
        gains.append(gain(sharp, frames[1], truth))
    assert gains[1] > gains[0] + 0.1  # dB


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_two_steps_hear_everybody_and_the_last_ones_all(count):
    steps = [set(ordered_subset(step, steps=12, count=count, full_subset_steps=3)) for step in range(12)]
    everybody = set(range(count))
    assert all(0 in step for step in steps)
    assert all(one | other == everybody for one, other in pairwise(steps))
    assert steps[-3:] == 3 * [everybody]
    assert sum(map(len, steps[:2])) == (count + 1 if count > 3 else 2 * count)


def test_asking_in_turn_gives_the_same_picture(film, steady):
    """Five frames of a pan: within 0.1 dB of using all of them in every step."""
    velocity = (16.0, 9.0)
    frames, truth = film(velocity, [-2, -1, 0, 1, 2], shutter=SHUTTER), film(velocity, [0])[0]
    observations = observed(frames, steady(velocity), of=2)
    own_first = [observations[k] for k in (2, 0, 1, 3, 4)]
    in_turn = sharpened(frames[2], own_first, steps=10)
    together = sharpened(frames[2], own_first, steps=10, params=RichardsonLucyParams(full_subset_steps=10))
    assert not torch.equal(in_turn, together)
    assert gain(in_turn, frames[2], truth) > gain(together, frames[2], truth) - 0.1  # dB
