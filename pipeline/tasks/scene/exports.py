"""What can be looked at of a rebuilt scene: itself, a flight through it, the moments of an exposure."""

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
from freezeframe.splatting.scene.gaussians import Gaussians
from freezeframe.splatting.scene.panorama_model import PanoramaModel

SMOOTHING_FRAMES = 4.0  # frames over which a flight is smoothed
VIEWS_PER_FRAME = 4  # pictures of a flight from one frame to the next


def save_scene(fit: Fit, frames: Sequence[Frame], folder: Path) -> None:
    """The scene and the camera's path: `panorama.png` or `scene.ply`, and `camera.json`."""
    if isinstance(fit.scene, PanoramaModel):
        encoded = to_encoded(fit.scene.linear.detach().cpu().clamp(0, 1), SRGB)
        pixels = (encoded * 255).round().byte().permute(1, 2, 0).numpy()
        cv2.imwrite(str(folder / "panorama.png"), pixels[..., ::-1])
    if isinstance(fit.scene, GaussianModel):
        write_ply(_gaussians_to_cpu(fit.scene.gaussians), folder / "scene.ply")
        write_ply(_gaussians_to_cpu(fit.scene.gaussians), folder / "scene.compressed.ply", compressed=True)
    with torch.no_grad():
        camera_path = CameraPathExport(
            views=_views_to_cpu(mid_exposure_views(fit.trajectory, len(frames))),
            times=tuple(float(frame.time) for frame in frames),
            size=fit.observations.size,
            shutter=float(fit.trajectory.shutter.detach()),
        )
    write_cameras(camera_path, folder / "camera.json")


def render_flythrough(fit: Fit, path: Path, *, rate: Fraction) -> Path:
    """A film along the smoothed path of the camera."""
    with torch.no_grad():
        views = smooth_views(_views_to_cpu(mid_exposure_views(fit.trajectory, len(fit.observations))))
        pictures = (_render_view(fit, views, k) for k in range(len(views.viewmats)))
        return write_video(pictures, path, rate=rate)


def render_slow_motion(fit: Fit, path: Path, *, count: int, rate: Fraction) -> Path:
    """The moments inside every exposure, `count` of each, one after the other."""

    def pictures() -> Iterator[Tensor]:
        for frame in range(len(fit.observations)):
            for k in range(count):
                yield fit.sharp(frame, (k + 0.5) / count - 0.5)

    with torch.no_grad():
        return write_video(pictures(), path, rate=rate)


def smooth_views(views: Views) -> Views:
    """A steady flight past the same places, `VIEWS_PER_FRAME` views for each."""
    rotation_vectors = so3_log(views.viewmats[:, :3, :3] @ views.viewmats[0, :3, :3].T)
    centre = -(views.viewmats[:, :3, :3].mT @ views.viewmats[:, :3, 3:])[..., 0]
    K = views.Ks.flatten(1)
    when = torch.arange((len(rotation_vectors) - 1) * VIEWS_PER_FRAME + 1) / VIEWS_PER_FRAME
    weight = torch.exp(
        -((when[:, None] - torch.arange(len(rotation_vectors))) ** 2) / (2 * SMOOTHING_FRAMES**2)
    )
    weight = weight / weight.sum(1, keepdim=True)
    rotation = so3_exp(weight @ rotation_vectors) @ views.viewmats[0, :3, :3]
    translation = -(rotation @ (weight @ centre)[..., None])[..., 0]
    return replace(views, viewmats=compose_se3(rotation, translation), Ks=(weight @ K).view(-1, 3, 3))


def _render_view(fit: Fit, views: Views, k: int) -> Tensor:
    device = fit.observations.images.device
    one = Views(viewmats=views.viewmats[k : k + 1].to(device), Ks=views.Ks[k : k + 1].to(device))
    return fit.scene(one, fit.observations.size)[0].cpu()


def _views_to_cpu(views: Views) -> Views:
    return Views(viewmats=views.viewmats.cpu(), Ks=views.Ks.cpu())


def _gaussians_to_cpu(scene: Gaussians) -> Gaussians:
    return scene.with_tensors({name: value.detach().cpu() for name, value in scene.parts().items()})
