"""A scene, its camera and its blur, found together; the gate before it and the composite after it."""

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
from freezeframe.data.synthesis.demo.known_views import sphere_view
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

SIZE = (60, 90)
FOCAL = 90.0
LENS = torch.tensor([[FOCAL, 0, 44.5], [0, FOCAL, 29.5], [0, 0, 1]])
COUNT = 8


@dataclass(frozen=True)
class RenderedSequence:
    """A known scene, filmed by a known camera."""

    blurred: Tensor
    sharp: Tensor
    path: CameraPath


def blocks(seed: int = 0) -> Tensor:
    """[3, 240, 420] light of boxes and bars, with detail of all sizes."""
    random = torch.Generator().manual_seed(seed)
    picture = torch.full((3, 240, 420), 0.3)
    for k in range(400):
        y, x, h, w = (int(torch.randint(low, high, (1,), generator=random)) for low, high in
                      ((0, 236), (0, 416), (4, 60 if k < 60 else 16), (4, 60 if k < 60 else 16)))  # fmt: skip
        picture[:, y : y + h, x : x + w] = torch.rand(3, 1, 1, generator=random)
    return picture


@cache
def film(way: Callable[[int, float], list[float]], *, wrong: float = 0.0) -> RenderedSequence:
    """`way` tells the turn in pixels of frame k at a moment of its exposure."""
    view = sphere_view(blocks(), LENS, SIZE, reach=(0.9, 0.55))

    def seen(k: int, moment: float) -> Tensor:
        turn = so3_exp(torch.tensor(way(k, moment)) / FOCAL)
        return view(compose_se3(turn, torch.zeros(3)))

    blurred = torch.stack(
        [integrate_exposure(lambda u, k=k: seen(k, u), 0.0, shutter=1, count=15) for k in range(COUNT)]
    ).clamp(0, 1)
    turns = torch.tensor([way(k, 0.0) for k in range(COUNT)]) / FOCAL
    noise = wrong / FOCAL * torch.randn(turns.shape, generator=torch.Generator().manual_seed(1))
    path = CameraPath(
        times=torch.arange(COUNT).float(), rotations=so3_exp(turns + noise),
        translations=torch.zeros(COUNT, 3), intrinsics=LENS, kind="rotation",
    )  # fmt: skip
    return RenderedSequence(
        blurred=blurred, sharp=torch.stack([seen(k, 0.0) for k in range(COUNT)]), path=path
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
    filmed: RenderedSequence, *, steps: int = 300, shutter: float = 0.5, search: bool = False, **how: bool
) -> Fit:
    trajectory = SplineTrajectory(filmed.path, SIZE, shutter=shutter)
    schedule = build_schedule(SIZE, steps=steps, **how)
    panorama = build_panorama(
        trajectory, COUNT, SIZE, density=FOCAL * SUPERSAMPLING / schedule.phases[0].downscale
    )
    fit = Fit(
        panorama, trajectory, Observations(images=filmed.blurred, weights=torch.ones(COUNT, *SIZE)), schedule
    )
    with torch.no_grad():
        views = Views.cat([trajectory.at(k, torch.zeros(1)) for k in range(COUNT)])
    panorama.backproject(
        filmed.blurred,
        views,
        lucky_imaging_weights(filmed.blurred, torch.ones(COUNT, *SIZE)),
    )
    if search:
        search_exposure_motion(fit, trajectory)
    return fit


def psnr(one: Tensor, other: Tensor) -> float:
    """Of sRGB codes, dB, without 6 pixels at the border; the mean over frames."""
    a, b = (to_encoded(light.clamp(0, 1), SRGB)[..., 6:-6, 6:-6] for light in (one, other))
    return float((-10 * (a - b).square().mean((1, 2, 3)).log10()).mean())


def shown(fit: Fit) -> Tensor:
    with torch.no_grad():
        return torch.stack([fit.render_sharp(k) for k in range(COUNT)])


@pytest.mark.slow
def test_shake_is_undone_and_a_blind_fit_does_not():
    filmed = film(shaken, wrong=0.3)
    knowing, blind = start_fit(filmed, steps=500, search=True), start_fit(filmed, blurred=False)
    for fit in (knowing, blind):
        fit.run(lambda told: None)
    before, after, without = (psnr(x, filmed.sharp) for x in (filmed.blurred, shown(knowing), shown(blind)))
    assert after > before + 5
    assert after > without + 4


@pytest.mark.slow
def test_a_pan_of_changing_speed_tells_its_shutter():
    filmed = film(faster)
    fit = start_fit(filmed, steps=500, shared=True)
    fit.run(lambda told: None)
    assert psnr(shown(fit), filmed.sharp) > psnr(filmed.blurred, filmed.sharp) + 4
    assert float(fit.trajectory.shutter.detach()) == pytest.approx(0.7, rel=0.15)


@pytest.mark.slow
def test_a_steady_pan_is_undone_by_the_tie_to_its_shutter():
    filmed = film(steady)
    fit = start_fit(filmed, shared=True, shutter_known=True, shutter=0.7)
    fit.run(lambda told: None)
    assert psnr(shown(fit), filmed.sharp) > psnr(filmed.blurred, filmed.sharp) + 2
    assert float(fit.trajectory.shutter.detach()) == pytest.approx(0.7)


@pytest.mark.slow
def test_motion_is_found_where_frames_differ():
    """The straight turn of each exposure, up to its sign, to within the steps that are looked at."""
    fit = start_fit(film(shaken), steps=1, search=True)
    for k in range(COUNT):
        found = fit.trajectory.exposure_offset[k, 0, :2].detach() + fit.trajectory.spline_motion(k)
        start, end = (torch.tensor(shaken(k, u)[:2]) for u in (-0.5, 0.5))
        true = end - start
        error = min(float((found - true).norm()), float((found + true).norm()))
        assert error < 0.45 * float(true.norm()) + 1.5, f"frame {k}"


def test_an_interrupted_fit_goes_on_as_if_nothing_had_been():
    filmed = film(shaken)
    whole = start_fit(filmed, steps=10)
    whole.run(lambda told: None)
    first = start_fit(filmed, steps=10)

    def interrupt(fit: Fit) -> None:
        if fit.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(lambda told: None, interrupt)
    second = start_fit(filmed, steps=10)
    second.load_state_dict(first.state_dict())
    second.run(lambda told: None)
    assert torch.equal(second.scene.sqrt_linear, whole.scene.sqrt_linear)
    assert torch.equal(second.trajectory.knots, whole.trajectory.knots)


def test_a_budget_ends_the_fit_early():
    fit = start_fit(film(shaken), steps=10**6)
    fit.schedule = replace(fit.schedule, budget=0.5)
    fit.run(lambda told: None)
    assert fit.step < 10**4


def test_sharpness_falls_with_blur():
    filmed = film(shaken)
    weights = torch.ones(COUNT, *SIZE)
    assert bool((sharpness(filmed.sharp, weights) > sharpness(filmed.blurred, weights)).all())


# The gate


def statistics(**changes: object) -> ShotStatistics:
    usual = ShotStatistics(
        static=torch.ones(10), overlap=torch.full((9,), 0.9), blur=torch.tensor([[6.0, 0.0]]).repeat(10, 1),
        sharpness=torch.full((10,), 0.01), kind="rotation",
    )  # fmt: skip
    return replace(usual, **changes)


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


@pytest.mark.parametrize(("way", "share"), [(0.0, 1.0), (1.0, 0.75), (3.0, 0.25)])
def test_a_camera_that_moves_shares_what_its_points_say(way, share):
    """A wall four units wide that fills the frame: one unit sideways leaves three quarters of it in view."""
    height, width, depth = 60, 80, 2.0
    x, y = torch.meshgrid(torch.linspace(-1.99, 1.99, 200), torch.linspace(-1, 1, 20), indexing="ij")
    path = CameraPath(
        times=torch.arange(2.0),
        rotations=torch.eye(3).expand(2, 3, 3),
        translations=torch.tensor([[0.0, 0, 0], [-way, 0, 0]]),
        intrinsics=torch.tensor([[40.0, 0, 39.5], [0, 40, 29.5], [0, 0, 1]]),
        kind="parallax",
    )
    points = torch.stack([x, y, torch.full_like(x, depth)], dim=-1).reshape(-1, 3)
    assert float(frame_overlaps(path, (height, width), points=points)) == pytest.approx(share, abs=0.01)


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
    turn = 2 * math.atan(0.5 * 90 / FOCAL) / 4
    path = film(steady).path
    turns = torch.zeros(3, 3)
    turns[:, 1] = turn * torch.arange(3)
    path = replace(path, times=torch.arange(3.0), rotations=so3_exp(turns), translations=torch.zeros(3, 3))
    assert frame_overlaps(path, SIZE).tolist() == pytest.approx([0.7, 0.7], abs=0.06)


def test_what_comes_into_a_pan_has_been_seen_by_few():
    """A pan by a fifth of the picture: its last frame's new fifth is seen once, the one before twice."""
    width = SIZE[1]
    turns = torch.tensor([[0.0, 0.2 * width / FOCAL * k, 0.0] for k in range(4)])
    path = CameraPath(
        times=torch.arange(4.0), rotations=so3_exp(turns), translations=torch.zeros(4, 3),
        intrinsics=LENS, kind="rotation",
    )  # fmt: skip
    seen = [count_views(path, SIZE, frame)[SIZE[0] // 2] for frame in (0, 3)]
    new = seen[0] if float(seen[0][0]) < float(seen[0][-1]) else seen[0].flip(0)
    assert [round(float(new[int(share * width)])) for share in (0.05, 0.3, 0.5, 0.9)] == [1, 2, 3, 4]
    torch.testing.assert_close(seen[1].flip(0), seen[0], atol=1.01, rtol=0)


# The composite


def edges() -> tuple[Tensor, Tensor]:
    sharp = blocks()[:, 60:160, 100:240]
    return sharp, torch.nn.functional.avg_pool2d(
        sharp, (1, 9), stride=1, padding=(0, 4), count_include_pad=False
    )


def test_a_scene_that_explains_the_frame_stands_in_it():
    sharp, seen = edges()
    rendering = SceneRendering(sharp=sharp, reblurred=seen, blur_length=9)
    out, share = composite(seen, seen, rendering, torch.ones(seen.shape[1:]))
    assert float((out - sharp).square().mean()) < 0.6 * float((seen - sharp).square().mean())
    assert float(share.max()) > 0.9


def test_a_scene_that_contradicts_the_frame_does_not():
    """A bar that was never there: no pixel of it gets out."""
    sharp, seen = edges()
    ghost, blurred = sharp.clone(), seen.clone()
    ghost[:, 40:50, 60:90] = 0.9
    blurred[:, 40:50, 60:90] = 0.9
    out, share = composite(
        seen, seen, SceneRendering(sharp=ghost, reblurred=blurred, blur_length=9), torch.ones(100, 140)
    )
    changed = (seen[:, 40:50, 60:90] - 0.9).abs().amax(0) > 0.2
    assert float(share[40:50, 60:90][changed].max()) < 0.05
    torch.testing.assert_close(out[:, 44:46, 70:80], seen[:, 44:46, 70:80], atol=0.05, rtol=0)


def test_movers_keep_the_other_paths_picture():
    sharp, seen = edges()
    static = torch.ones(100, 140)
    static[30:70, 40:100] = 0
    other = torch.full_like(seen, 0.5)
    out, share = composite(seen, other, SceneRendering(sharp=sharp, reblurred=seen, blur_length=9), static)
    assert float(share[30:70, 40:100].max()) == 0
    assert torch.equal(out[:, 30:70, 40:100], other[:, 30:70, 40:100])


def test_broad_shades_are_the_inputs():
    """A frame darker at one side than the scene tells stays so."""
    sharp, seen = edges()
    ramp = torch.linspace(0.6, 1, 140)
    mine = transfer_low_frequencies(seen * ramp, SceneRendering(sharp=sharp, reblurred=seen, blur_length=9))
    bands = [(mine - seen * ramp)[:, :, k : k + 35].mean() for k in (0, 35, 70, 105)]
    assert max(abs(float(band)) for band in bands) < 0.02


def test_nothing_sharper_nothing_taken():
    _, seen = edges()
    share = blend_weight(
        seen, SceneRendering(sharp=seen, reblurred=seen, blur_length=9), torch.ones(100, 140)
    )
    assert float(share.max()) == 0
