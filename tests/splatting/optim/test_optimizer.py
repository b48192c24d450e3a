"""Joint optimisation of scene, camera and blur; feasibility before it and compositing after it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from torch import Tensor

from freezeframe.data.blur.operator import integrate_exposure
from freezeframe.data.color import SRGB, to_encoded
from freezeframe.data.types import CameraPath
from freezeframe.splatting.camera.lie import compose_se3, so3_exp
from freezeframe.splatting.camera.trajectory import SplineTrajectory, Views
from freezeframe.splatting.decision.compositing import (
    SceneRendering,
    blend_weight,
    composite,
    transfer_low_frequencies,
)
from freezeframe.splatting.decision.feasibility import (
    ShotStatistics,
    assess_feasibility,
    count_views,
    direction_std_deg,
    frame_overlaps,
    unexplained_sharpness,
)
from freezeframe.splatting.optim.initialization import (
    lucky_imaging_weights,
    search_exposure_motion,
    sharpness,
)
from freezeframe.splatting.optim.observations import Observations
from freezeframe.splatting.optim.optimizer import Fit
from freezeframe.splatting.optim.schedule import build_schedule
from freezeframe.splatting.scene.panorama_model import SUPERSAMPLING, build_panorama
from tests.support.known_views import sphere_view

SIZE = (60, 90)
FOCAL = 90.0
INTRINSICS = torch.tensor([[FOCAL, 0, 44.5], [0, FOCAL, 29.5], [0, 0, 1]])
COUNT = 8


@dataclass(frozen=True)
class RenderedSequence:
    """Frames of a known scene by a known camera."""

    blurred: Tensor
    sharp: Tensor
    path: CameraPath


def blocks(seed: int = 0) -> Tensor:
    """[3, 240, 420] linear RGB of rectangles of all sizes."""
    random = torch.Generator().manual_seed(seed)
    picture = torch.full((3, 240, 420), 0.3)
    for k in range(400):
        y, x, h, w = (int(torch.randint(low, high, (1,), generator=random)) for low, high in
                      ((0, 236), (0, 416), (4, 60 if k < 60 else 16), (4, 60 if k < 60 else 16)))  # fmt: skip
        picture[:, y : y + h, x : x + w] = torch.rand(3, 1, 1, generator=random)
    return picture


@cache
def film(rotation_px: Callable[[int, float], list[float]], *, noise_px: float = 0.0) -> RenderedSequence:
    """Render frames by a camera with the rotation in pixels of frame k at sub-frame time u."""
    view = sphere_view(blocks(), INTRINSICS, SIZE, reach=(0.9, 0.55))

    def render(k: int, u: float) -> Tensor:
        rotation = so3_exp(torch.tensor(rotation_px(k, u)) / FOCAL)
        return view(compose_se3(rotation, torch.zeros(3)))

    blurred = torch.stack(
        [integrate_exposure(lambda u, k=k: render(k, u), 0.0, shutter=1, count=15) for k in range(COUNT)]
    ).clamp(0, 1)
    vectors = torch.tensor([rotation_px(k, 0.0) for k in range(COUNT)]) / FOCAL
    noise = noise_px / FOCAL * torch.randn(vectors.shape, generator=torch.Generator().manual_seed(1))
    path = CameraPath(
        times=torch.arange(COUNT).float(), rotations=so3_exp(vectors + noise),
        translations=torch.zeros(COUNT, 3), intrinsics=INTRINSICS, kind="rotation",
    )  # fmt: skip
    return RenderedSequence(
        blurred=blurred, sharp=torch.stack([render(k, 0.0) for k in range(COUNT)]), path=path
    )


def shaken(k: int, moment: float) -> list[float]:
    """Shake of 2 to 7 px in all directions, on a slow pan."""
    blur_length, angle = 2 + 5 * ((k * 3) % 8) / 7, 2.4 * k
    return [blur_length * math.sin(angle) * moment, 4 * k + blur_length * math.cos(angle) * moment, 0.0]


def faster(k: int, moment: float) -> list[float]:
    """A pan that grows from 3 to 11 px a frame, exposed for 0.7 of each."""
    time = k + 0.7 * moment
    return [0.0, 3 * time + 8 / 14 * time**2 - 24, 0.0]


def steady(k: int, moment: float) -> list[float]:
    """A pan of 8 px a frame, exposed for 0.7 of each."""
    return [0.0, 8 * (k + 0.7 * moment) - 28, 0.0]


def start_fit(
    sequence: RenderedSequence, *, steps: int = 300, shutter: float = 0.5, search: bool = False, **how: bool
) -> Fit:
    trajectory = SplineTrajectory(sequence.path, SIZE, shutter=shutter)
    schedule = build_schedule(SIZE, steps=steps, **how)
    panorama = build_panorama(
        trajectory, COUNT, SIZE, density=FOCAL * SUPERSAMPLING / schedule.phases[0].downscale
    )
    fit = Fit(
        panorama,
        trajectory,
        Observations(images=sequence.blurred, weights=torch.ones(COUNT, *SIZE)),
        schedule,
    )
    with torch.no_grad():
        views = Views.cat([trajectory.at(k, torch.zeros(1)) for k in range(COUNT)])
    panorama.backproject(
        sequence.blurred,
        views,
        lucky_imaging_weights(sequence.blurred, torch.ones(COUNT, *SIZE)),
    )
    if search:
        search_exposure_motion(fit, trajectory)
    return fit


def psnr(one: Tensor, other: Tensor) -> float:
    """Mean PSNR of encoded sRGB over frames, without 6 pixels at the border. dB."""
    a, b = (to_encoded(linear.clamp(0, 1), SRGB)[..., 6:-6, 6:-6] for linear in (one, other))
    return float((-10 * (a - b).square().mean((1, 2, 3)).log10()).mean())


def render_all(fit: Fit) -> Tensor:
    with torch.no_grad():
        return torch.stack([fit.render_sharp(k) for k in range(COUNT)])


@pytest.mark.slow
def test_shake_is_undone_and_a_blind_fit_does_not():
    sequence = film(shaken, noise_px=0.3)
    with_blur, no_blur = start_fit(sequence, steps=500, search=True), start_fit(sequence, blurred=False)
    for fit in (with_blur, no_blur):
        fit.run(lambda metrics: None)
    before, after, baseline = (
        psnr(x, sequence.sharp) for x in (sequence.blurred, render_all(with_blur), render_all(no_blur))
    )
    assert after > before + 5
    assert after > baseline + 4


@pytest.mark.slow
def test_a_pan_of_changing_speed_tells_its_shutter():
    sequence = film(faster)
    fit = start_fit(sequence, steps=500, shared=True)
    fit.run(lambda metrics: None)
    assert psnr(render_all(fit), sequence.sharp) > psnr(sequence.blurred, sequence.sharp) + 4
    assert float(fit.trajectory.shutter.detach()) == pytest.approx(0.7, rel=0.15)


@pytest.mark.slow
def test_a_steady_pan_is_undone_by_the_tie_to_its_shutter():
    sequence = film(steady)
    fit = start_fit(sequence, shared=True, shutter_known=True, shutter=0.7)
    fit.run(lambda metrics: None)
    assert psnr(render_all(fit), sequence.sharp) > psnr(sequence.blurred, sequence.sharp) + 2
    assert float(fit.trajectory.shutter.detach()) == pytest.approx(0.7)


@pytest.mark.slow
def test_motion_is_found_where_frames_differ():
    """The linear motion of each exposure, up to its sign, within the spacing of the candidates."""
    fit = start_fit(film(shaken), steps=1, search=True)
    for k in range(COUNT):
        motion = fit.trajectory.exposure_offset[k, 0, :2].detach() + fit.trajectory.spline_motion(k)
        start, end = (torch.tensor(shaken(k, u)[:2]) for u in (-0.5, 0.5))
        true = end - start
        error = min(float((motion - true).norm()), float((motion + true).norm()))
        assert error < 0.45 * float(true.norm()) + 1.5, f"frame {k}"


def test_an_interrupted_fit_goes_on_as_if_nothing_had_been():
    sequence = film(shaken)
    whole = start_fit(sequence, steps=10)
    whole.run(lambda metrics: None)
    first = start_fit(sequence, steps=10)

    def interrupt(fit: Fit) -> None:
        if fit.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(lambda metrics: None, interrupt)
    second = start_fit(sequence, steps=10)
    second.load_state_dict(first.state_dict())
    second.run(lambda metrics: None)
    assert torch.equal(second.scene.sqrt_linear, whole.scene.sqrt_linear)
    assert torch.equal(second.trajectory.knots, whole.trajectory.knots)


def test_a_budget_ends_the_fit_early():
    fit = start_fit(film(shaken), steps=10**6)
    fit.schedule = replace(fit.schedule, budget=0.5)
    fit.run(lambda metrics: None)
    assert fit.step < 10**4


def test_sharpness_falls_with_blur():
    sequence = film(shaken)
    weights = torch.ones(COUNT, *SIZE)
    assert bool((sharpness(sequence.sharp, weights) > sharpness(sequence.blurred, weights)).all())


# Feasibility


def statistics(**changes: object) -> ShotStatistics:
    defaults = ShotStatistics(
        static=torch.ones(10), overlap=torch.full((9,), 0.9), blur=torch.tensor([[6.0, 0.0]]).repeat(10, 1),
        sharpness=torch.full((10,), 0.01), kind="rotation",
    )  # fmt: skip
    return replace(defaults, **changes)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"kind": "still"}, "static"),
        ({"static": torch.full((10,), 0.2)}, "20%"),
        ({"overlap": torch.tensor([0.9, 0.2])}, "frame 2 shows only 20% of what frame 1 shows"),
        ({"blur": torch.full((10, 2), 0.5)}, "motion blur"),
        ({"blur": torch.ones(1, 2) * 9, "sharpness": torch.ones(1)}, "too few"),
    ],
)
def test_the_gate_refuses_with_a_reason(changes, word):
    feasibility = assess_feasibility(statistics(**changes))
    assert feasibility.rejected
    assert word in feasibility.reason


@pytest.mark.parametrize(("translation", "fraction"), [(0.0, 1.0), (1.0, 0.75), (3.0, 0.25)])
def test_a_camera_that_moves_shares_what_its_points_say(translation, fraction):
    """A wall four units wide fills the frame: a translation by one unit leaves three quarters in view."""
    height, width, depth = 60, 80, 2.0
    x, y = torch.meshgrid(torch.linspace(-1.99, 1.99, 200), torch.linspace(-1, 1, 20), indexing="ij")
    path = CameraPath(
        times=torch.arange(2.0),
        rotations=torch.eye(3).expand(2, 3, 3),
        translations=torch.tensor([[0.0, 0, 0], [-translation, 0, 0]]),
        intrinsics=torch.tensor([[40.0, 0, 39.5], [0, 40, 29.5], [0, 0, 1]]),
        kind="parallax",
    )
    points = torch.stack([x, y, torch.full_like(x, depth)], dim=-1).reshape(-1, 3)
    assert float(frame_overlaps(path, (height, width), points=points)) == pytest.approx(fraction, abs=0.01)


def test_blur_alike_is_tied_and_its_shutter_kept():
    feasibility = assess_feasibility(statistics())
    assert (feasibility.mode, feasibility.shutter_observable) == ("shared", False)


@pytest.mark.parametrize(
    "blur",
    [
        torch.stack([torch.linspace(3, 9, 10), torch.zeros(10)], dim=1),
        torch.stack([6 * torch.linspace(0, 1.5, 10).cos(), 6 * torch.linspace(0, 1.5, 10).sin()], dim=1),
        torch.tensor([[6.0, 0.0]] * 8 + [[0.3, 0.0]] * 2),
    ],
)
def test_blur_of_many_kinds_tells_the_shutter(blur):
    assert assess_feasibility(statistics(blur=blur)).shutter_observable


def test_sharpness_that_the_way_does_not_explain_frees_the_exposures():
    jumping = 0.01 * torch.tensor([1, 2, 1, 1, 2, 1, 2, 2, 1, 2.0])
    assert assess_feasibility(statistics(sharpness=jumping)).mode == "per_frame"
    slowly = 0.01 * torch.linspace(1, 3, 10)
    assert assess_feasibility(statistics(sharpness=slowly)).mode == "shared"


def test_what_blur_explains_is_not_held_against_the_tie():
    blur_length = torch.tensor([2, 9, 3, 8, 2, 9, 4, 7, 3, 9.0])
    blur = torch.stack([blur_length, torch.zeros(10)], dim=1)
    explained = statistics(blur=blur, sharpness=0.1 * (1 + blur_length.square()) ** -0.4)
    assert (
        unexplained_sharpness(explained)
        < 0.01
        < unexplained_sharpness(statistics(sharpness=explained.sharpness))
    )


def test_axes_have_no_sign():
    one = torch.tensor([[5.0, 0.0], [-5.0, 0.0], [4.0, 0.0]])
    assert direction_std_deg(one) < 1
    assert direction_std_deg(torch.tensor([[5.0, 0.0], [0.0, 5.0]])) > 45


def test_overlap_of_a_pan_by_a_quarter():
    quarter = 2 * math.atan(0.5 * 90 / FOCAL) / 4
    path = film(steady).path
    vectors = torch.zeros(3, 3)
    vectors[:, 1] = quarter * torch.arange(3)
    path = replace(path, times=torch.arange(3.0), rotations=so3_exp(vectors), translations=torch.zeros(3, 3))
    assert frame_overlaps(path, SIZE).tolist() == pytest.approx([0.7, 0.7], abs=0.06)


def test_what_comes_into_a_pan_has_been_seen_by_few():
    """A pan by a fifth of the frame: the last frame's new fifth is in one frame, the one before in two."""
    width = SIZE[1]
    vectors = torch.tensor([[0.0, 0.2 * width / FOCAL * k, 0.0] for k in range(4)])
    path = CameraPath(
        times=torch.arange(4.0), rotations=so3_exp(vectors), translations=torch.zeros(4, 3),
        intrinsics=INTRINSICS, kind="rotation",
    )  # fmt: skip
    first, last = (count_views(path, SIZE, frame)[SIZE[0] // 2] for frame in (0, 3))
    counts = first if float(first[0]) < float(first[-1]) else first.flip(0)
    assert [round(float(counts[int(x * width)])) for x in (0.05, 0.3, 0.5, 0.9)] == [1, 2, 3, 4]
    torch.testing.assert_close(last.flip(0), first, atol=1.01, rtol=0)


# Compositing


def edges() -> tuple[Tensor, Tensor]:
    sharp = blocks()[:, 60:160, 100:240]
    return sharp, torch.nn.functional.avg_pool2d(
        sharp, (1, 9), stride=1, padding=(0, 4), count_include_pad=False
    )


def test_a_scene_that_explains_the_frame_stands_in_it():
    sharp, observed = edges()
    rendering = SceneRendering(sharp=sharp, reblurred=observed, blur_length=9)
    out, weight = composite(observed, observed, rendering, torch.ones(observed.shape[1:]))
    assert float((out - sharp).square().mean()) < 0.6 * float((observed - sharp).square().mean())
    assert float(weight.max()) > 0.9


def test_a_scene_that_contradicts_the_frame_does_not():
    """A bar that the frame does not contain gets no weight."""
    sharp, observed = edges()
    ghost, blurred = sharp.clone(), observed.clone()
    ghost[:, 40:50, 60:90] = 0.9
    blurred[:, 40:50, 60:90] = 0.9
    out, weight = composite(
        observed,
        observed,
        SceneRendering(sharp=ghost, reblurred=blurred, blur_length=9),
        torch.ones(100, 140),
    )
    changed = (observed[:, 40:50, 60:90] - 0.9).abs().amax(0) > 0.2
    assert float(weight[40:50, 60:90][changed].max()) < 0.05
    torch.testing.assert_close(out[:, 44:46, 70:80], observed[:, 44:46, 70:80], atol=0.05, rtol=0)


def test_movers_keep_the_other_paths_picture():
    sharp, observed = edges()
    static = torch.ones(100, 140)
    static[30:70, 40:100] = 0
    other = torch.full_like(observed, 0.5)
    out, weight = composite(
        observed, other, SceneRendering(sharp=sharp, reblurred=observed, blur_length=9), static
    )
    assert float(weight[30:70, 40:100].max()) == 0
    assert torch.equal(out[:, 30:70, 40:100], other[:, 30:70, 40:100])


def test_broad_shades_are_the_inputs():
    """A frame that is darker than the rendering at one side stays darker."""
    sharp, observed = edges()
    ramp = torch.linspace(0.6, 1, 140)
    restored = transfer_low_frequencies(
        observed * ramp, SceneRendering(sharp=sharp, reblurred=observed, blur_length=9)
    )
    bands = [(restored - observed * ramp)[:, :, k : k + 35].mean() for k in (0, 35, 70, 105)]
    assert max(abs(float(band)) for band in bands) < 0.02


def test_nothing_sharper_nothing_taken():
    _, observed = edges()
    weight = blend_weight(
        observed, SceneRendering(sharp=observed, reblurred=observed, blur_length=9), torch.ones(100, 140)
    )
    assert float(weight.max()) == 0
