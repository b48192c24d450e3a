"""A scene with depth, end to end: `freezeframe scene` and `freezeframe video --splat`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from freezeframe.cli import app
from freezeframe.data.blur.operator import integrate_exposure
from freezeframe.data.media.video_out.simple_writer import write_video
from freezeframe.data.srgb import linear_to_srgb
from tests.support.known_views import Plane, planes_view

SIZE = (96, 144)
FOCAL = 130.0
INTRINSICS = torch.tensor([[FOCAL, 0, 71.5], [0, FOCAL, 47.5], [0, 0, 1]])
COUNT = 6
STRIDE = 0.13  # of the unit, sideways from frame to frame: four pixels on the middle plane
SHUTTER = 0.8
PLANES = ((8.0, (-7, -5, 7, 5), 512), (4.5, (-2.5, -1.5, -0.3, 0.8), 256), (3.2, (0.2, -0.6, 1.3, 0.9), 256))


def painted(seed: int, side: int) -> Tensor:
    """[3, side, side] linear RGB of squares of all sizes."""
    random = torch.Generator().manual_seed(seed)
    light = torch.full((3, side, side), 0.4)
    for count in (4, 8, 16, 32, 64, 128):
        squares = torch.rand(1, 3, count, count, generator=random) - 0.5
        light += 0.5 * torch.nn.functional.interpolate(squares, size=(side, side))[0]
    return light.clamp(0, 1) ** 2.2


@dataclass(frozen=True)
class Walk:
    """Frames by a camera that moves past three planes."""

    blurred: Tensor
    sharp: Tensor
    shifts: list[float]  # x translation, world to camera, at the middle of each exposure


@pytest.fixture(scope="module")
def walk() -> Walk:
    pictures = [painted(k, side) for k, (_, _, side) in enumerate(PLANES)]
    planes = [
        Plane(picture=picture, depth=depth, bounds=bounds)
        for picture, (depth, bounds, _) in zip(pictures, PLANES, strict=True)
    ]
    view = planes_view(planes, INTRINSICS, SIZE)

    def moment(time: float) -> Tensor:
        pose = torch.eye(4)
        pose[0, 3] = STRIDE * ((COUNT - 1) / 2 - time)
        return view(pose)

    blurred = [integrate_exposure(moment, float(k), shutter=SHUTTER, count=7) for k in range(COUNT)]
    return Walk(
        blurred=torch.stack(blurred),
        sharp=torch.stack([moment(float(k)) for k in range(COUNT)]),
        shifts=[STRIDE * ((COUNT - 1) / 2 - k) for k in range(COUNT)],
    )


@pytest.fixture(scope="module")
def posed(walk, tmp_path_factory) -> Path:
    """A COLMAP folder: images, cameras, points on the planes."""
    folder = tmp_path_factory.mktemp("posed")
    (folder / "images").mkdir()
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    height, width = SIZE
    (model / "cameras.txt").write_text(
        f"1 SIMPLE_PINHOLE {width} {height} {FOCAL} {width / 2} {height / 2}\n"
    )
    lines = []
    for k, (image, shift) in enumerate(zip(walk.blurred, walk.shifts, strict=True)):
        cv2.imwrite(str(folder / "images" / f"{k:03d}.png"), linear_to_srgb(image)[..., ::-1])
        lines += [f"{k + 1} 1 0 0 0 {shift} 0 0 1 {k:03d}.png", ""]
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    random, points = torch.Generator().manual_seed(4), []
    for depth, (left, top, right, bottom), _ in PLANES:
        x, y = torch.rand(2, 40, generator=random).mul(0.8).tolist()
        points += [
            (left + (right - left) * a, top + (bottom - top) * b, depth) for a, b in zip(x, y, strict=True)
        ]
    rows = [f"{k} {x} {y} {z} 128 128 128 0.3 1 0" for k, (x, y, z) in enumerate(points)]
    (model / "points3D.txt").write_text("\n".join(rows) + "\n")
    return folder


Run = Callable[..., str]


@pytest.fixture
def run() -> Run:
    """`run("scene", ...)`: output of a command without an error."""

    def command(*words: object) -> str:
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result.output

    return command


@pytest.mark.slow
def test_gaussians_are_fitted_where_cameras_are_known(posed, tmp_path, run):
    out = tmp_path / "out"
    run("scene", posed, out, "--shutter", SHUTTER, "--steps", 8, "--gaussians", 400)
    names = {each.name for each in out.iterdir()}
    assert {"sharp", "scene.ply", "scene.compressed.ply", "camera.json", "flythrough.mp4"} <= names
    assert len(list((out / "sharp").iterdir())) == COUNT
    assert len(json.loads((out / "camera.json").read_text())["frames"]) == COUNT
    report = json.loads((out / "report.json").read_text())
    assert (report["kind"], report["registered"]) == ("parallax", COUNT)


@pytest.mark.slow
def test_a_scene_with_depth_is_rebuilt_inside_a_video(walk, tmp_path, run):
    """Cameras by COLMAP on deblurred frames."""
    pytest.importorskip("pycolmap")
    clip = write_video(walk.blurred, tmp_path / "walk.mp4", rate=Fraction(24))
    report = tmp_path / "report.json"
    run("video", clip, tmp_path / "sharp.mp4", "--shutter", SHUTTER, "--splat", "on", "--budget", "1s",
        "--report", report)  # fmt: skip
    assert "rebuilt in" in " ".join(json.loads(report.read_text())["notes"])
