"""A photographed wall under camera shake: frames with different blur are registered."""

from __future__ import annotations

from fractions import Fraction

import cv2
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from freezeframe.cli import app
from freezeframe.data.color import SRGB, to_linear
from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.media.video_out.simple_writer import write_video
from freezeframe.data.metrics.image import psnr
from freezeframe.data.synthesis.demo.handheld import handheld_scene
from freezeframe.data.synthesis.scene2d.layered_scene import Scene
from freezeframe.motion.camera.homography import homography_to_flow
from freezeframe.pipeline.solvers.camera_estimation import estimate_camera
from freezeframe.pipeline.solvers.scene_fit import Shot, Shutter, check_feasibility
from freezeframe.pipeline.stages.flows import ESTIMATORS, adjacent_flows
from freezeframe.splatting.decision.feasibility import frame_overlaps

SIZE = (160, 240)
MARGIN = 48
COUNT = 14
SHUTTER = 0.7


def wall(photos, name: str, *, seed: int) -> Scene:
    """A photograph with camera shake of some ten pixels from frame to frame."""
    height, width = (side + 2 * MARGIN for side in SIZE)
    encoded = cv2.resize(cv2.imread(str(photos / name)), (width, height), interpolation=cv2.INTER_AREA)
    linear = to_linear(torch.from_numpy(encoded[..., ::-1].copy()).permute(2, 0, 1).float() / 255, SRGB)
    return handheld_scene(linear, shake=9.0, seed=seed, margin=MARGIN)


def blurred(scene: Scene) -> Tensor:
    return torch.stack([scene.blurred(float(k), shutter=SHUTTER) for k in range(COUNT)])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), [("kodim01.png", 0), ("kodim08.png", 2), ("kodim19.png", 3)])
def test_a_shaken_wall_is_registered_and_may_be_rebuilt(shared_data, name, seed):
    """Neighbours overlap by nine tenths; rotations predict the motion of the centre to 1.5 px."""
    scene = wall(shared_data / "test" / "photos", name, seed=seed)
    images = blurred(scene)
    flows = adjacent_flows(images, ESTIMATORS["dis"])
    estimate = estimate_camera(images, torch.arange(COUNT).float(), flows, shutter=SHUTTER)
    assert not estimate.unregistered
    assert estimate.path.kind == "rotation"
    assert float(frame_overlaps(estimate.path, SIZE).median()) > 0.85
    shot = Shot(images=images, camera=estimate, shutter=Shutter(fraction=SHUTTER, confidence=1.0))
    assert not check_feasibility(shot).rejected
    K, errors_px = estimate.path.intrinsics, []
    for k in range(COUNT - 1):
        rotation = estimate.path.rotations[k + 1] @ estimate.path.rotations[k].mT
        shift = homography_to_flow(K @ rotation @ torch.linalg.inv(K), SIZE) - scene.flow(float(k), k + 1.0)
        errors_px.append(float(shift[:, 60:100, 90:150].norm(dim=0).mean()))
    assert sorted(errors_px)[COUNT // 2] < 1.5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), [("kodim01.png", 0), ("kodim19.png", 3)])
def test_a_shaken_wall_is_rebuilt(shared_data, tmp_path, name, seed):
    """By the command, including compression: at least 1 dB closer to the truth in the image centre."""
    scene = wall(shared_data / "test" / "photos", name, seed=seed)
    clip = write_video(blurred(scene), tmp_path / "wall.mp4", rate=Fraction(24))
    done = CliRunner().invoke(app, ["scene", str(clip), str(tmp_path / "out"), "--steps", "400"])
    assert done.exit_code == 0, done.output
    assert "14 of 14 frames registered (rotating camera)" in done.output

    def mean_psnr(path) -> float:
        frames = [frame.picture.linear() for frame in open_video(path).frames()]
        psnrs = [
            psnr(f[:, 20:-20, 20:-20], scene.sharp(float(k))[:, 20:-20, 20:-20]) for k, f in enumerate(frames)
        ]
        return sum(psnrs) / len(psnrs)

    assert mean_psnr(tmp_path / "out" / "sharp.mp4") > mean_psnr(clip) + 1
