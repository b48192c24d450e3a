"""Reconstruction of static scenes with known ground truth from their blurred frames.

Run: python -m benchmarks.accuracy.scenes [CASE ...]

320x180, ten frames, noise of 2/255, one photograph on a sphere or three on planes. Cameras are estimated from
the clip itself (enhanced correlation; COLMAP in the cases named so), PSNR in sRGB over all frames without ten
pixels at the border. Rebuilt: the scene alone, each frame's camera aligned on the frozen scene as DeblurGS
does. Delivered: the output of the command, the scene where it is consistent with the recording and the
multi-frame deblurring elsewhere, without alignment.
On shared cores set `OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1`, or waiting threads take most of the time.
`--pictures DIR` saves blurred, rebuilt, delivered and true frames side by side, `--prior-weight` sets the
weight of the multi-frame deblurring in the fit.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from statistics import mean

import cv2
import torch
from torch import Tensor

from freezeframe.data.blur.operator import integrate_exposure
from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.data.metrics.image import psnr_from_mse
from freezeframe.data.types import CameraPath
from freezeframe.motion.shutter.estimator import estimate_shutter
from freezeframe.pipeline.config import Config, SplatConfig
from freezeframe.pipeline.solvers.camera_estimation import estimate_camera
from freezeframe.pipeline.solvers.camera_poses import CameraPoses, run_sfm
from freezeframe.pipeline.solvers.scene_fit import (
    Shot,
    Shutter,
    build_fit,
    check_feasibility,
    mid_exposure_views,
    render_frame,
    with_depth,
)
from freezeframe.pipeline.stages.flows import ESTIMATORS, adjacent_flows
from freezeframe.pipeline.tasks.scene.evaluate import align_camera
from freezeframe.pipeline.tasks.scene.sharpen_shot import SharpenedShot, sharpen_shot
from freezeframe.splatting.camera.lie import compose_se3, so3_exp
from freezeframe.splatting.decision.feasibility import Feasibility
from freezeframe.splatting.io.sfm import TimeLimit
from freezeframe.splatting.optim.optimizer import Fit
from freezeframe.splatting.optim.schedule import build_schedule
from tests.support.known_views import Plane, planes_view, sphere_view

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "train"
SIZE = (180, 320)
FOCAL = 320.0
INTRINSICS = torch.tensor([[FOCAL, 0, 159.5], [0, FOCAL, 89.5], [0, 0, 1]])
COUNT = 10
SHUTTER = 0.6
NOISE = 2 / 255
BORDER = 10
GAUSSIANS = 16_000  # half of the command's, in half the time

Pose = Callable[[int, float], Tensor]
"""World to camera [4, 4] of frame k at a time of its exposure."""


@dataclass(frozen=True)
class RenderedSequence:
    """A known scene, recorded by a known camera."""

    blurred: Tensor
    sharp: Tensor
    viewmats: Tensor  # [T, 4, 4] true world to camera, at mid-exposure


def photo(name: str, size: tuple[int, int]) -> Tensor:
    """[3, H, W] linear RGB of a training photograph."""
    encoded = cv2.imread(str(SHARED / f"{name}.webp"))
    if encoded is None:
        raise SystemExit(f"{SHARED}: holds no {name}.webp; this benchmark needs the shared photographs")
    encoded = cv2.resize(encoded, size[::-1], interpolation=cv2.INTER_AREA)[..., ::-1]
    return to_linear(torch.from_numpy(encoded.copy()).permute(2, 0, 1).float() / 255, SRGB)


def render_sequence(view: Callable[[Tensor], Tensor], pose: Pose, *, moments: int = 25) -> RenderedSequence:
    blurred = torch.stack(
        [
            integrate_exposure(lambda u, k=k: view(pose(k, u)), 0.0, shutter=1, count=moments)
            for k in range(COUNT)
        ]
    )
    encoded = to_encoded(blurred.clamp(0, 1), SRGB)
    encoded = encoded + NOISE * torch.randn(encoded.shape, generator=torch.Generator().manual_seed(0))
    recorded = to_linear((encoded.clamp(0, 1) * 255).round() / 255, SRGB)
    mid_poses = torch.stack([pose(k, 0.0) for k in range(COUNT)])
    return RenderedSequence(
        blurred=recorded, sharp=torch.stack([view(each) for each in mid_poses]), viewmats=mid_poses
    )


def rotating_camera(rotation_px: Callable[[int, float], list[float]]) -> RenderedSequence:
    """A camera that rotates by `rotation_px` pixels inside a spherical photograph."""
    view = sphere_view(photo("kodim23", (512, 768)), INTRINSICS, SIZE, reach=(0.75, 0.5))
    return render_sequence(
        view, lambda k, u: compose_se3(so3_exp(torch.tensor(rotation_px(k, u)) / FOCAL), torch.zeros(3))
    )


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shake(k: int, u: float) -> list[float]:
    """A slow pan with shake of 3 to 12 px in all directions."""
    draw = torch.rand(2, generator=torch.Generator().manual_seed(k)).tolist()
    angle, length = 6.28 * draw[0], 3 + 9 * draw[1]
    direction = torch.tensor([angle]).sin().item(), torch.tensor([angle]).cos().item()
    return [length * direction[0] * u, 6 * (k - 4.5) + length * direction[1] * u, 0.0]


def accelerating_pan(k: int, u: float) -> list[float]:
    """A pan whose speed grows from 5 to 20 px a frame."""
    t = k + SHUTTER * u
    return [0.0, 5 * t + 15 / 18 * t * t - 56, 0.0]


def steady_pan(k: int, u: float) -> list[float]:
    """A pan of 15 px a frame."""
    return [0.0, 15 * (k - 4.5 + SHUTTER * u), 0.0]


def short_exposure(k: int, u: float) -> list[float]:
    """A pan of 15 px a frame, exposed for a twentieth of each."""
    return [0.0, 15 * (k - 4.5 + 0.05 * u), 0.0]


def static_camera(k: int, u: float) -> list[float]:
    """A camera on its tripod."""
    return [0.0, 0.0, 0.0]


def two_sharp(k: int, u: float) -> list[float]:
    """A pan with 9 px of blur in all frames but two."""
    return [0.0, 6 * (k - 4.5) + (0.5 if k in (3, 7) else 9) * u, 0.0]


def translating_camera() -> RenderedSequence:
    """A camera that moves past three planes, with shake."""
    planes = [
        Plane(picture=photo("kodim13", (512, 768)), depth=6.0, bounds=(-6.0, -4.0, 6.0, 4.0)),
        Plane(picture=photo("kodim23", (256, 384)), depth=4.2, bounds=(-2.0, -0.9, -0.3, 0.7)),
        Plane(picture=photo("kodim24", (256, 384)), depth=3.4, bounds=(0.35, -0.3, 1.6, 1.1)),
    ]
    mid_exposure = torch.zeros(COUNT, 6)
    mid_exposure[:, 3] = torch.linspace(-0.7, 0.7, COUNT)
    mid_exposure[:, 4:] = torch.stack([0.15 * random(3, COUNT), 0.1 * random(4, COUNT)], dim=1)
    mid_exposure[:, 1] = -torch.linspace(-0.1, 0.1, COUNT)
    speed = torch.cat([0.012 * random(5, COUNT, 3), 0.05 * random(6, COUNT, 3)], dim=1)

    def pose(k: int, u: float) -> Tensor:
        at = mid_exposure[k] + 2.6 * speed[k] * u
        return compose_se3(so3_exp(at[:3]), at[3:])

    return render_sequence(planes_view(planes, INTRINSICS, SIZE), pose)


def observe(film: RenderedSequence) -> Shot:
    """Shutter and camera as the pipeline estimates them."""
    times = torch.arange(COUNT).float()
    flows = adjacent_flows(film.blurred, ESTIMATORS["dis"])
    estimate = estimate_shutter(film.blurred, flows)
    shutter = Shutter(fraction=estimate.fraction, confidence=estimate.confidence)
    camera = estimate_camera(film.blurred, times, flows, shutter=shutter.fraction)
    return Shot(images=film.blurred, camera=camera, shutter=shutter)


def perturbed(film: RenderedSequence) -> CameraPoses:
    """True poses and points with errors: 0.004 rad, 0.02 of the unit, 5 % of depth."""
    noise = torch.cat([0.004 * random(7, COUNT, 3), 0.02 * random(8, COUNT, 3)], dim=1)
    noise[[0, -1]] = 0
    path = CameraPath(
        times=torch.arange(COUNT).float(),
        rotations=so3_exp(noise[:, :3]) @ film.viewmats[:, :3, :3],
        translations=film.viewmats[:, :3, 3] + noise[:, 3:],
        intrinsics=INTRINSICS,
        kind="parallax",
    )
    position, depth = torch.rand(3000, 2, generator=torch.Generator().manual_seed(9)), random(10, 3000)
    x, y = (position[:, 0] - 0.5) * 8, (position[:, 1] - 0.5) * 5
    z = torch.full_like(x, 6.0)
    for bounds, near in (((-2.0, -0.9, -0.3, 0.7), 4.2), ((0.35, -0.3, 1.6, 1.1), 3.4)):
        inside = (x * near / 6 > bounds[0]) & (x * near / 6 < bounds[2])
        inside &= (y * near / 6 > bounds[1]) & (y * near / 6 < bounds[3])
        z = torch.where(inside, near, z)
    points = torch.stack([x * z / 6, y * z / 6, z], dim=1) * (1 + 0.05 * depth[:, None])
    return CameraPoses(path=path, numbers=tuple(range(COUNT)), points=points)


def render_aligned(film: RenderedSequence, fit: Fit, numbers: tuple[int, ...]) -> Tensor:
    """[T, 3, H, W] renderings of the scene from the aligned cameras of the frames."""
    views = mid_exposure_views(fit.trajectory, len(numbers))
    pictures = []
    for k, number in enumerate(numbers):
        with torch.no_grad():
            pictures.append(fit.scene(align_camera(fit.scene, film.sharp[number], views[k : k + 1]), SIZE)[0])
    return torch.stack(pictures)


def delivered(fit: Fit, shot: Shot) -> Tensor:
    """[T, 3, H, W] output frames of the command."""
    return torch.stack([render_frame(fit, shot, k, other)[0] for k, other in enumerate(shot.restored)])


def psnr(one: Tensor, other: Tensor) -> float:
    """Mean PSNR in dB over the frames of two clips [T, 3, H, W] linear RGB, encoded, not rounded."""
    inner = slice(BORDER, -BORDER)
    a, b = (to_encoded(linear.clamp(0, 1), SRGB)[..., inner, inner] for linear in (one, other))
    return mean(psnr_from_mse(float(mse), peak=1.0) for mse in (a - b).square().mean((1, 2, 3)))


def without_blur_model(fit: Fit, steps: int) -> Fit:
    """The same fit without a model of blur."""
    return Fit(fit.scene, fit.trajectory, fit.observations, build_schedule(SIZE, steps=steps, blurred=False))


@dataclass(frozen=True)
class Case:
    """A sequence, and the required gain."""

    render: Callable[[], RenderedSequence]
    floor: str
    shutter: float | None = None  # true shutter fraction, if the fit estimates it
    perturbed: bool = False  # start from the true cameras with errors
    compare_no_blur: bool = False  # also fit without a model of blur
    sharpened: bool = False  # COLMAP gets the deblurred frames


CASES: dict[str, Case] = {
    "shake": Case(lambda: rotating_camera(shake), "+8, +6 over no blur model", compare_no_blur=True),
    "faster pan": Case(lambda: rotating_camera(accelerating_pan), "+4", shutter=SHUTTER),
    "steady pan": Case(lambda: rotating_camera(steady_pan), "+2, tied", shutter=SHUTTER),
    "two sharp frames": Case(lambda: rotating_camera(two_sharp), "+8"),
    "three planes, poses perturbed": Case(
        translating_camera, "+4, +3 over no blur model", perturbed=True, compare_no_blur=True
    ),
    "three planes, COLMAP": Case(translating_camera, "+3", sharpened=True),
    "three planes, COLMAP on blurred frames": Case(translating_camera, "(what the command does not do)"),
    "still camera": Case(lambda: rotating_camera(static_camera), "0, refused"),
    "short exposures": Case(lambda: rotating_camera(short_exposure), "0, refused"),
}


def prepare_case(case: Case, film: RenderedSequence) -> tuple[Shot, tuple[int, ...]]:
    """The input of the fit, and the frames with known cameras, as the command estimates them."""
    shot = observe(film)
    sharpened_shot = deblur_frames(shot)
    shot = replace(shot, restored=sharpened_shot.gated)
    if case.perturbed:
        poses = perturbed(film)
    elif shot.camera.path.kind == "parallax":
        frames = sharpened_shot.full if case.sharpened else film.blurred
        poses = run_sfm(frames, torch.arange(COUNT).float(), order="clip", limit=TimeLimit(seconds=1800))
    else:
        return shot, tuple(range(COUNT))
    return with_depth(shot, poses), poses.numbers


def table_row(name: str, *, prior_weight: float, pictures: Path | None) -> str:
    """One row of the table."""
    case = CASES[name]
    film = case.render()
    shot, numbers = prepare_case(case, film)
    truth, config = film.sharp[list(numbers)], SplatConfig(gaussians=GAUSSIANS, prior_weight=prior_weight)
    before, feasibility = psnr(shot.images, truth), check_feasibility(shot)
    if feasibility.rejected:
        return f"| {name} | {case.floor} | {before:.2f} | | | | refused: {feasibility.reason} | | | |"
    start_time = time.monotonic()
    fit = build_fit(shot, feasibility, config)
    fit.run(lambda _: None)
    fit_seconds = time.monotonic() - start_time
    rendered, gated = render_aligned(film, fit, numbers), delivered(fit, shot)
    if pictures:
        save_pictures(pictures / name.replace(" ", "_"), [shot.images, rendered, gated, truth])
    after, no_blur_text = psnr(rendered, truth), ""
    if case.compare_no_blur:
        no_blur_fit = without_blur_model(
            build_fit(shot, Feasibility(mode="shared", reason=""), config), fit.schedule.steps
        )
        no_blur_fit.run(lambda _: None)
        no_blur_text = f"{psnr(render_aligned(film, no_blur_fit, numbers), truth):.2f}"
    shutter = f"{float(fit.trajectory.shutter.detach()):.2f} ({case.shutter:.2f})" if case.shutter else ""
    return (
        f"| {name} | {case.floor} | {before:.2f} | {no_blur_text} | {after:.2f}, {after - before:+.2f} |"
        f" {psnr(gated, truth) - before:+.2f} | {feasibility.mode} | {shutter} | {len(numbers)} |"
        f" {fit_seconds:.0f} s |"
    )


def deblur_frames(shot: Shot) -> SharpenedShot:
    """The frames after multi-frame deblurring."""
    flows = adjacent_flows(shot.images, ESTIMATORS["dis"])
    times = [Fraction(k) for k in range(len(shot.images))]
    return sharpen_shot(shot.images, times, flows, shutter=shot.shutter.fraction, config=Config())


def save_pictures(name: Path, columns: list[Tensor]) -> None:
    """Save pictures side by side, one file for each frame."""
    name.parent.mkdir(parents=True, exist_ok=True)
    for k, row in enumerate(zip(*columns, strict=True)):
        encoded = to_encoded(torch.cat(row, dim=2).clamp(0, 1), SRGB)
        pixels = (encoded * 255).round().byte().permute(1, 2, 0).numpy()
        cv2.imwrite(f"{name}_{k}.png", pixels[..., ::-1])


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--prior-weight", type=float, default=0.0)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args(arguments)
    if unknown := [name for name in args.cases if name not in CASES]:
        parser.error(f"there is no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    print(
        "| case | floor, dB | blurred | no blur model | rebuilt, gain | delivered | mode | shutter (true)"
        " | frames | fit |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in args.cases or CASES:
        print(table_row(name, prior_weight=args.prior_weight, pictures=args.pictures), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
