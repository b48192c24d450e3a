"""Static scenes of known truth, rebuilt from their own blur.

Run: python -m benchmarks.accuracy.scenes [CASE ...]

320x180, ten frames, two 255ths of noise, one photograph on a sphere or three on planes. Cameras are found on
the clip itself (enhanced correlation; COLMAP where it says so), PSNR in sRGB over all frames without ten
pixels at the border. Rebuilt: the scene alone, each frame's camera aligned on the frozen scene as DeblurGS
does. Delivered: what the user gets, the scene where it may be believed and elsewhere what the rest of the
pipeline makes of the frame, nothing aligned.
Where cores are shared: `OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1`, or waiting threads take most of the time.
`--pictures DIR` keeps blurred, rebuilt, delivered and true frames side by side, `--trust` weighs the other
path's picture in the fit.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import torch
from torch import Tensor

from freezeframe.data.blur.operator import expose
from freezeframe.data.color import SRGB, to_light, to_signal
from freezeframe.data.synthesis.demo.known_views import Plane, planes_view, sphere_view
from freezeframe.data.types import CameraPath
from freezeframe.motion.shutter.estimator import shutter_fraction
from freezeframe.pipeline.config import Config, SplatConfig
from freezeframe.pipeline.solvers.camera_estimation import sight
from freezeframe.pipeline.solvers.camera_poses import Located, located
from freezeframe.pipeline.solvers.scene_fit import Shot, Shutter, deep, judged, middles, prepared, rebuilt
from freezeframe.pipeline.stages.measure import ESTIMATORS, adjacent_flows
from freezeframe.pipeline.tasks.scene.evaluate import aligned
from freezeframe.pipeline.tasks.scene.sharpen_shot import Usual, sharpened
from freezeframe.splatting.camera.lie import poses, rotations
from freezeframe.splatting.camera.trajectory import Views
from freezeframe.splatting.decision.feasibility import Ruling
from freezeframe.splatting.optim.optimizer import Fit
from freezeframe.splatting.optim.schedule import plan

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "train"
SIZE = (180, 320)
FOCAL = 320.0
LENS = torch.tensor([[FOCAL, 0, 159.5], [0, FOCAL, 89.5], [0, 0, 1]])
COUNT = 10
SHUTTER = 0.6
NOISE = 2 / 255
BORDER = 10
GAUSSIANS = 16_000  # half of the command's, in half the time

Pose = Callable[[int, float], Tensor]
"""World to camera [4, 4] of frame k at a moment of its exposure."""


@dataclass(frozen=True)
class Filmed:
    """A known scene, filmed by a known camera."""

    blurred: Tensor
    sharp: Tensor
    poses: Tensor  # [T, 4, 4] true ones, at the middle of the exposures


def photo(name: str, size: tuple[int, int]) -> Tensor:
    """[3, H, W] linear light of a training photograph."""
    codes = cv2.imread(str(SHARED / f"{name}.webp"))
    if codes is None:
        raise SystemExit(f"{SHARED}: holds no {name}.webp; this benchmark needs the shared photographs")
    codes = cv2.resize(codes, size[::-1], interpolation=cv2.INTER_AREA)[..., ::-1]
    return to_light(torch.from_numpy(codes.copy()).permute(2, 0, 1).float() / 255, SRGB)


def filmed(view: Callable[[Tensor], Tensor], pose: Pose, *, moments: int = 25) -> Filmed:
    blurred = torch.stack(
        [expose(lambda u, k=k: view(pose(k, u)), 0.0, shutter=1, count=moments) for k in range(COUNT)]
    )
    codes = to_signal(blurred.clamp(0, 1), SRGB)
    codes = codes + NOISE * torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))
    recorded = to_light((codes.clamp(0, 1) * 255).round() / 255, SRGB)
    middle = torch.stack([pose(k, 0.0) for k in range(COUNT)])
    return Filmed(blurred=recorded, sharp=torch.stack([view(each) for each in middle]), poses=middle)


def turning(way: Callable[[int, float], list[float]]) -> Filmed:
    """A camera that turns by `way` pixels in front of a photograph all around it."""
    view = sphere_view(photo("kodim23", (512, 768)), LENS, SIZE, reach=(0.75, 0.5))
    return filmed(view, lambda k, u: poses(rotations(torch.tensor(way(k, u)) / FOCAL), torch.zeros(3)))


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shake(k: int, u: float) -> list[float]:
    """A slow pan with shake of 3 to 12 px in all directions."""
    draw = torch.rand(2, generator=torch.Generator().manual_seed(k)).tolist()
    angle, length = 6.28 * draw[0], 3 + 9 * draw[1]
    turn = torch.tensor([angle]).sin().item(), torch.tensor([angle]).cos().item()
    return [length * turn[0] * u, 6 * (k - 4.5) + length * turn[1] * u, 0.0]


def faster(k: int, u: float) -> list[float]:
    """A pan whose speed grows from 5 to 20 px a frame."""
    t = k + SHUTTER * u
    return [0.0, 5 * t + 15 / 18 * t * t - 56, 0.0]


def steady(k: int, u: float) -> list[float]:
    """A pan of 15 px a frame."""
    return [0.0, 15 * (k - 4.5 + SHUTTER * u), 0.0]


def short(k: int, u: float) -> list[float]:
    """A pan of 15 px a frame, exposed for a twentieth of each."""
    return [0.0, 15 * (k - 4.5 + 0.05 * u), 0.0]


def still(k: int, u: float) -> list[float]:
    """A camera on its tripod."""
    return [0.0, 0.0, 0.0]


def two_sharp(k: int, u: float) -> list[float]:
    """A pan with 9 px of blur in all frames but two."""
    return [0.0, 6 * (k - 4.5) + (0.5 if k in (3, 7) else 9) * u, 0.0]


def walking() -> Filmed:
    """A camera that walks past three planes, shaking."""
    planes = [
        Plane(picture=photo("kodim13", (512, 768)), depth=6.0, bounds=(-6.0, -4.0, 6.0, 4.0)),
        Plane(picture=photo("kodim23", (256, 384)), depth=4.2, bounds=(-2.0, -0.9, -0.3, 0.7)),
        Plane(picture=photo("kodim24", (256, 384)), depth=3.4, bounds=(0.35, -0.3, 1.6, 1.1)),
    ]
    middle = torch.zeros(COUNT, 6)
    middle[:, 3] = torch.linspace(-0.7, 0.7, COUNT)
    middle[:, 4:] = torch.stack([0.15 * random(3, COUNT), 0.1 * random(4, COUNT)], dim=1)
    middle[:, 1] = -torch.linspace(-0.1, 0.1, COUNT)
    speed = torch.cat([0.012 * random(5, COUNT, 3), 0.05 * random(6, COUNT, 3)], dim=1)

    def pose(k: int, u: float) -> Tensor:
        at = middle[k] + 2.6 * speed[k] * u
        return poses(rotations(at[:3]), at[3:])

    return filmed(planes_view(planes, LENS, SIZE), pose)


def seen(film: Filmed) -> Shot:
    """What the pipeline finds out by itself."""
    times = torch.arange(COUNT).float()
    flows = adjacent_flows(film.blurred, ESTIMATORS["dis"])
    found = shutter_fraction(film.blurred, flows)
    shutter = Shutter(fraction=found.fraction, confidence=found.confidence)
    sighting = sight(film.blurred, times, flows, shutter=shutter.fraction)
    return Shot(images=film.blurred, sighting=sighting, shutter=shutter)


def perturbed(film: Filmed) -> Located:
    """True poses and points, somewhat wrong: 0.004 rad, 0.02 of the unit, 5 % of depth."""
    noise = torch.cat([0.004 * random(7, COUNT, 3), 0.02 * random(8, COUNT, 3)], dim=1)
    noise[[0, -1]] = 0
    turned = rotations(noise[:, :3]) @ film.poses[:, :3, :3]
    moved = film.poses[:, :3, 3] + noise[:, 3:]
    path = CameraPath(
        times=torch.arange(COUNT).float(),
        rotations=turned,
        translations=moved,
        intrinsics=LENS,
        kind="parallax",
    )
    place, depth = torch.rand(3000, 2, generator=torch.Generator().manual_seed(9)), random(10, 3000)
    x, y = (place[:, 0] - 0.5) * 8, (place[:, 1] - 0.5) * 5
    z = torch.full_like(x, 6.0)
    for bounds, near in (((-2.0, -0.9, -0.3, 0.7), 4.2), ((0.35, -0.3, 1.6, 1.1), 3.4)):
        inside = (x * near / 6 > bounds[0]) & (x * near / 6 < bounds[2])
        inside &= (y * near / 6 > bounds[1]) & (y * near / 6 < bounds[3])
        z = torch.where(inside, near, z)
    points = torch.stack([x * z / 6, y * z / 6, z], dim=1) * (1 + 0.05 * depth[:, None])
    return Located(path=path, numbers=tuple(range(COUNT)), points=points)


def shown(film: Filmed, fit: Fit, numbers: tuple[int, ...]) -> Tensor:
    """[T, 3, H, W] what the scene looks like from where each frame was taken."""
    views = middles(fit.track, len(numbers))
    pictures = []
    for k, number in enumerate(numbers):
        one = Views(poses=views.poses[k : k + 1].detach(), lenses=views.lenses[k : k + 1].detach())
        with torch.no_grad():
            pictures.append(fit.scene(aligned(fit.scene, film.sharp[number], one), SIZE)[0])
    return torch.stack(pictures)


def delivered(fit: Fit, shot: Shot) -> Tensor:
    """[T, 3, H, W] what the user gets."""
    return torch.stack([rebuilt(fit, shot, k, other)[0] for k, other in enumerate(shot.restored)])


def psnr(one: Tensor, other: Tensor) -> float:
    """Of sRGB codes [T, 3, H, W], the mean over frames. dB."""
    inner = slice(BORDER, -BORDER)
    a, b = (to_signal(light.clamp(0, 1), SRGB)[..., inner, inner] for light in (one, other))
    return float((-10 * (a - b).square().mean((1, 2, 3)).log10()).mean())


def blind(fit: Fit, steps: int) -> Fit:
    """The same fit without a model of blur."""
    return Fit(fit.scene, fit.track, fit.footage, plan(SIZE, steps=steps, blurred=False))


@dataclass(frozen=True)
class Case:
    """What is filmed, and what has to come out."""

    make: Callable[[], Filmed]
    floor: str
    shutter: float | None = None  # where the camera's way tells one
    perturbed: bool = False  # cameras are the true ones, somewhat wrong
    against: bool = False  # measured without a model of blur too
    sharpened: bool = False  # COLMAP is shown what the rest of the pipeline makes of the frames


CASES: dict[str, Case] = {
    "shake": Case(lambda: turning(shake), "+8, +6 over no blur model", against=True),
    "faster pan": Case(lambda: turning(faster), "+4", shutter=SHUTTER),
    "steady pan": Case(lambda: turning(steady), "+2, tied", shutter=SHUTTER),
    "two sharp frames": Case(lambda: turning(two_sharp), "+8"),
    "three planes, poses perturbed": Case(walking, "+4, +3 over no blur model", perturbed=True, against=True),
    "three planes, COLMAP": Case(walking, "+3", sharpened=True),
    "three planes, COLMAP on blurred frames": Case(walking, "(what the command does not do)"),
    "still camera": Case(lambda: turning(still), "0, refused"),
    "short exposures": Case(lambda: turning(short), "0, refused"),
}


def begun(case: Case, film: Filmed) -> tuple[Shot, tuple[int, ...]]:
    """What the fit starts from, and the frames whose cameras are known: found as the command finds them."""
    shot = seen(film)
    usual = other_path(shot)
    shot = replace(shot, restored=usual.delivered)
    if case.perturbed:
        found = perturbed(film)
    elif shot.sighting.path.kind == "parallax":
        frames = usual.clear if case.sharpened else film.blurred
        found = located(frames, torch.arange(COUNT).float(), order="clip", seconds=1800)
    else:
        return shot, tuple(range(COUNT))
    return deep(shot, found), found.numbers


def measured(name: str, *, trust: float, pictures: Path | None) -> str:
    """One row of the table."""
    case = CASES[name]
    film = case.make()
    shot, numbers = begun(case, film)
    truth, config = film.sharp[list(numbers)], SplatConfig(gaussians=GAUSSIANS, trust=trust)
    before, ruling = psnr(shot.images, truth), judged(shot)
    if not ruling:
        return f"| {name} | {case.floor} | {before:.2f} | | | | refused: {ruling.reason} | | | |"
    begin = time.monotonic()
    fit = prepared(shot, ruling, config)
    fit.run(lambda told: None)
    spent = time.monotonic() - begin
    looks, given = shown(film, fit, numbers), delivered(fit, shot)
    if pictures:
        keep(pictures / name.replace(" ", "_"), [shot.images, looks, given, truth])
    after, naive = psnr(looks, truth), ""
    if case.against:
        without = blind(prepared(shot, Ruling(mode="tied", reason=""), config), fit.plan.steps)
        without.run(lambda told: None)
        naive = f"{psnr(shown(film, without, numbers), truth):.2f}"
    shutter = f"{float(fit.track.shutter.detach()):.2f} ({case.shutter:.2f})" if case.shutter else ""
    return (
        f"| {name} | {case.floor} | {before:.2f} | {naive} | {after:.2f}, {after - before:+.2f} |"
        f" {psnr(given, truth) - before:+.2f} | {ruling.mode} | {shutter} | {len(numbers)} | {spent:.0f} s |"
    )


def other_path(shot: Shot) -> Usual:
    """What the rest of the pipeline makes of the frames."""
    near = adjacent_flows(shot.images, ESTIMATORS["dis"])
    times = [Fraction(k) for k in range(len(shot.images))]
    return sharpened(shot.images, times, near, shutter=shot.shutter.fraction, config=Config())


def keep(name: Path, columns: list[Tensor]) -> None:
    """Pictures side by side, one file for each frame."""
    name.parent.mkdir(parents=True, exist_ok=True)
    for k, row in enumerate(zip(*columns, strict=True)):
        codes = to_signal(torch.cat(row, dim=2).clamp(0, 1), SRGB)
        pixels = (codes * 255).round().byte().permute(1, 2, 0).numpy()
        cv2.imwrite(f"{name}_{k}.png", pixels[..., ::-1])


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--trust", type=float, default=0.0)
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.cases if name not in CASES]:
        parser.error(f"there is no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    print(
        "| case | floor, dB | blurred | no blur model | rebuilt, gain | delivered | mode | shutter (true)"
        " | frames | fit |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in given.cases or CASES:
        print(measured(name, trust=given.trust, pictures=given.pictures), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
