"""What can be looked at of a rebuilt scene: itself, a flight through it, the moments of an exposure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_signal
from freezeframe.data.media.video_out.simple_writer import film
from freezeframe.data.types import Frame
from freezeframe.pipeline.solvers.scene_fit import middles
from freezeframe.splatting.camera.lie import poses, rotations, turn_vectors
from freezeframe.splatting.camera.trajectory import Views
from freezeframe.splatting.io.export import Filming, write_cameras, write_ply
from freezeframe.splatting.optim.optimizer import Fit
from freezeframe.splatting.scene.gaussian_model import Splats
from freezeframe.splatting.scene.gaussians import Gaussians
from freezeframe.splatting.scene.panorama_model import Canvas

SMOOTH = 4.0  # frames over which a flight is smoothed
BETWEEN = 4  # pictures of a flight from one frame to the next


def keep_scene(fit: Fit, frames: Sequence[Frame], folder: Path) -> None:
    """The scene and the camera's path: `panorama.png` or `scene.ply`, and `camera.json`."""
    if isinstance(fit.scene, Canvas):
        codes = to_signal(fit.scene.light.detach().cpu().clamp(0, 1), SRGB)
        pixels = (codes * 255).round().byte().permute(1, 2, 0).numpy()
        cv2.imwrite(str(folder / "panorama.png"), pixels[..., ::-1])
    if isinstance(fit.scene, Splats):
        write_ply(_on_cpu(fit.scene.gaussians), folder / "scene.ply")
        write_ply(_on_cpu(fit.scene.gaussians), folder / "scene.compressed.ply", compressed=True)
    with torch.no_grad():
        filming = Filming(
            views=_here(middles(fit.track, len(frames))),
            times=tuple(float(frame.time) for frame in frames),
            size=fit.footage.size,
            shutter=float(fit.track.shutter.detach()),
        )
    write_cameras(filming, folder / "camera.json")


def fly_through(fit: Fit, path: Path, *, rate: Fraction) -> Path:
    """A film along the smoothed path of the camera."""
    with torch.no_grad():
        views = smoothed(_here(middles(fit.track, len(fit.footage))))
        pictures = (_look(fit, views, k) for k in range(len(views.poses)))
        return film(pictures, path, rate=rate)


def slow_motion(fit: Fit, path: Path, *, count: int, rate: Fraction) -> Path:
    """The moments inside every exposure, `count` of each, one after the other."""

    def pictures() -> Iterator[Tensor]:
        for frame in range(len(fit.footage)):
            for k in range(count):
                yield fit.sharp(frame, (k + 0.5) / count - 0.5)

    with torch.no_grad():
        return film(pictures(), path, rate=rate)


def smoothed(views: Views) -> Views:
    """A steady flight past the same places, `BETWEEN` views for each."""
    turn = turn_vectors(views.poses[:, :3, :3] @ views.poses[0, :3, :3].T)
    centre = -(views.poses[:, :3, :3].mT @ views.poses[:, :3, 3:])[..., 0]
    lens = views.lenses.flatten(1)
    when = torch.arange((len(turn) - 1) * BETWEEN + 1) / BETWEEN
    weight = torch.exp(-((when[:, None] - torch.arange(len(turn))) ** 2) / (2 * SMOOTH**2))
    weight = weight / weight.sum(1, keepdim=True)
    rotation = rotations(weight @ turn) @ views.poses[0, :3, :3]
    translation = -(rotation @ (weight @ centre)[..., None])[..., 0]
    return replace(views, poses=poses(rotation, translation), lenses=(weight @ lens).view(-1, 3, 3))


def _look(fit: Fit, views: Views, k: int) -> Tensor:
    place = fit.footage.images.device
    one = Views(poses=views.poses[k : k + 1].to(place), lenses=views.lenses[k : k + 1].to(place))
    return fit.scene(one, fit.footage.size)[0].cpu()


def _here(views: Views) -> Views:
    return Views(poses=views.poses.cpu(), lenses=views.lenses.cpu())


def _on_cpu(scene: Gaussians) -> Gaussians:
    return scene.having({name: value.detach().cpu() for name, value in scene.parts().items()})
