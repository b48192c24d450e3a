"""Output files of a rebuilt scene: the scene, its camera path, a flythrough and slow motion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded
from freezeframe.data.media.video_out.simple_writer import write_video
from freezeframe.data.types import Frame
from freezeframe.pipeline.solvers.scene_fit import mid_exposure_views
from freezeframe.splatting.camera.lie import compose_se3, so3_exp, so3_log
from freezeframe.splatting.camera.trajectory import Views
from freezeframe.splatting.io.export import CameraPathExport, write_cameras, write_ply
from freezeframe.splatting.optim.optimizer import Fit
from freezeframe.splatting.scene.gaussian_model import GaussianModel
from freezeframe.splatting.scene.panorama_model import PanoramaModel


def save_scene(fit: Fit, frames: Sequence[Frame], folder: Path) -> None:
    """Write `panorama.png` or `scene.ply`, and `camera.json`, into a folder."""
    if isinstance(fit.scene, PanoramaModel):
        encoded = to_encoded(fit.scene.linear.detach().cpu().clamp(0, 1), SRGB)
        pixels = (encoded * 255).round().byte().permute(1, 2, 0).numpy()
        cv2.imwrite(str(folder / "panorama.png"), pixels[..., ::-1])
    if isinstance(fit.scene, GaussianModel):
        write_ply(fit.scene.gaussians, folder / "scene.ply")
        write_ply(fit.scene.gaussians, folder / "scene.compressed.ply", compressed=True)
    with torch.no_grad():
        camera_path = CameraPathExport(
            views=mid_exposure_views(fit.trajectory, len(frames)).to("cpu"),
            times=tuple(float(frame.time) for frame in frames),
            size=fit.observations.size,
            shutter=float(fit.trajectory.shutter.detach()),
        )
    write_cameras(camera_path, folder / "camera.json")


def render_flythrough(fit: Fit, path: Path, *, rate: Fraction) -> Path:
    """Write a video along the smoothed camera path."""
    observations = fit.observations
    with torch.no_grad():
        views = smooth_views(mid_exposure_views(fit.trajectory, len(observations)).to("cpu"))
        images = (
            fit.scene(views[k : k + 1].to(observations.images.device), observations.size)[0].cpu()
            for k in range(len(views))
        )
        return write_video(images, path, rate=rate)


def render_slow_motion(fit: Fit, path: Path, *, count: int, rate: Fraction) -> Path:
    """Write a video of `count` sub-frames of every exposure."""

    def images() -> Iterator[Tensor]:
        for frame in range(len(fit.observations)):
            for k in range(count):
                yield fit.render_sharp(frame, (k + 0.5) / count - 0.5)

    with torch.no_grad():
        return write_video(images(), path, rate=rate)


def smooth_views(views: Views, *, views_per_frame: int = 4, sigma_frames: float = 4.0) -> Views:
    """The camera path smoothed by a Gaussian over time, with interpolated views between frames."""
    rotation_vectors = so3_log(views.viewmats[:, :3, :3] @ views.viewmats[0, :3, :3].T)
    centre = -(views.viewmats[:, :3, :3].mT @ views.viewmats[:, :3, 3:])[..., 0]
    K = views.Ks.flatten(1)
    times = torch.arange((len(views) - 1) * views_per_frame + 1) / views_per_frame
    weight = torch.exp(-((times[:, None] - torch.arange(len(views))) ** 2) / (2 * sigma_frames**2))
    weight = weight / weight.sum(1, keepdim=True)
    rotation = so3_exp(weight @ rotation_vectors) @ views.viewmats[0, :3, :3]
    translation = -(rotation @ (weight @ centre)[..., None])[..., 0]
    return replace(views, viewmats=compose_se3(rotation, translation), Ks=(weight @ K).view(-1, 3, 3))
