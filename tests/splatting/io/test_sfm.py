"""Structure from motion on blurred frames of a scene with depth, against the true cameras."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import torch
from torch import Tensor

from freezeframe.data.errors import FreezeframeError, MissingExtra, NoScene
from freezeframe.splatting.camera.lie import compose_se3, so3_exp
from freezeframe.splatting.io import sfm
from freezeframe.splatting.io.colmap_worker import ColmapJob, extract, mapper_options
from freezeframe.splatting.io.sfm import TimeLimit, run_colmap
from tests.support.known_views import Plane, planes_view

SIZE = (135, 240)
FOCAL = 220.0
INTRINSICS = torch.tensor([[FOCAL, 0, 119.5], [0, FOCAL, 67.0], [0, 0, 1]])


def painted(seed: int, side: int) -> Tensor:
    """[3, side, side] linear RGB of squares of all sizes."""
    random = torch.Generator().manual_seed(seed)
    light = torch.full((3, side, side), 0.4)
    for count in (4, 8, 16, 32, 64, 128):
        squares = torch.rand(1, 3, count, count, generator=random) - 0.5
        light += 0.5 * torch.nn.functional.interpolate(squares, size=(side, side))[0]
    return light.clamp(0, 1) ** 2.2


def walk(count: int) -> tuple[Tensor, list[Tensor]]:
    """Cameras past three planes, and their frames, blurred by rotations of up to five pixels."""
    planes = [
        Plane(picture=painted(0, 512), depth=8.0, bounds=(-7, -5, 7, 5)),
        Plane(picture=painted(1, 256), depth=5.0, bounds=(-2.5, -1.5, -0.3, 0.8)),
        Plane(picture=painted(2, 256), depth=3.5, bounds=(0.2, -0.6, 1.3, 0.9)),
    ]
    view = planes_view(planes, INTRINSICS, SIZE)
    random = torch.Generator().manual_seed(3)
    truth, frames = [], []
    for k in range(count):
        along = k / count - 0.5
        centre = torch.tensor([1.6 * along, 0.15 * (k % 3 - 1), 0.3 * along])
        turn = torch.tensor([0.02 * (k % 2), -0.06 * along, 0.01 * along])
        shake = torch.nn.functional.normalize(torch.randn(3, generator=random), dim=0) * torch.tensor(
            [1, 1, 0.3]
        )
        shake = shake * float(torch.rand((), generator=random)) * 5 / FOCAL
        looks = [so3_exp(turn + moment * shake) for moment in torch.linspace(-0.5, 0.5, 5)]
        frames.append(torch.stack([view(compose_se3(look, -(look @ centre))) for look in looks]).mean(0))
        truth.append(compose_se3(so3_exp(turn), -(so3_exp(turn) @ centre)))
    return torch.stack(truth), frames


def centres(views: Tensor) -> Tensor:
    return -(views[:, :3, :3].mT @ views[:, :3, 3:])[..., 0]


def align_similarity(found: Tensor, truth: Tensor) -> Tensor:
    """Centres aligned to the true ones by a similarity transform (Umeyama 1991)."""
    a, b = found - found.mean(0), truth - truth.mean(0)
    left, values, right = torch.linalg.svd(b.T @ a)
    signs = torch.tensor([1.0, 1, float(torch.det(left @ right).sign())])
    turn = left * signs @ right
    scale = (values * signs).sum() / a.square().sum()
    return scale * a @ turn.T + truth.mean(0)


@pytest.mark.slow
@pytest.mark.parametrize("known", [False, True])
def test_cameras_are_found_from_blurred_frames(known):
    """Within 2 % of the path, three pixels of rotation, and 6 % of an unknown focal length."""
    pytest.importorskip("pycolmap")
    truth, frames = walk(9)
    registration = run_colmap(frames, K=INTRINSICS if known else None)
    assert len(registration.numbers) >= 8
    expected = truth[list(registration.numbers)]
    found = align_similarity(centres(registration.views.viewmats), centres(expected))
    way = float(centres(expected).std(0).norm())
    assert float((found - centres(expected)).norm(dim=1).max()) < 0.02 * way
    # Relative to the first frame: nearly collinear centres leave the rotation of the whole undetermined.
    turns = [views[:, :3, :3] @ views[0, :3, :3].T for views in (registration.views.viewmats, expected)]
    left = turns[0] @ turns[1].mT
    angles = ((left.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1).acos()
    assert float(angles.max()) * FOCAL < 3
    assert float(registration.views.Ks[0, 0, 0]) == pytest.approx(FOCAL, rel=1e-6 if known else 0.06)
    assert registration.views.Ks[0, 0, 2] == pytest.approx(119.5, abs=1e-3)
    assert len(registration.points) > 100
    assert registration.colours.shape == registration.points.shape


@pytest.mark.slow
def test_frames_that_show_nothing_are_left_out_or_all_refused(tmp_path):
    """Two blank frames among eight are missing; six among eight are too many, and are named."""
    pytest.importorskip("pycolmap")
    _, frames = walk(8)
    paths = []
    for k, frame in enumerate(frames):
        codes = (frame.clamp(0, 1) ** (1 / 2.2) * 255).byte().permute(1, 2, 0).numpy()
        paths.append(tmp_path / f"shot{k}.png")
        cv2.imwrite(str(paths[-1]), codes[..., ::-1] if k not in (2, 5) else codes * 0 + 90)
    assert run_colmap(paths, order="photos").numbers == (0, 1, 3, 4, 6, 7)
    blank = torch.full((3, *SIZE), 0.2)
    with pytest.raises(FreezeframeError, match=r"of 8 frames, not .*frame 2"):
        run_colmap([*frames[:2], *[blank] * 6])


def test_blank_frames_are_refused():
    pytest.importorskip("pycolmap")
    with pytest.raises(FreezeframeError, match="0 of 4 frames"):
        run_colmap([torch.full((3, 40, 60), 0.2)] * 4)


def test_frames_of_several_sizes_are_refused():
    pytest.importorskip("pycolmap")
    with pytest.raises(FreezeframeError, match="2 sizes"):
        run_colmap([torch.zeros(3, 40, 60), torch.zeros(3, 40, 61)])


def test_features_stay_where_nothing_moves(tmp_path):
    """COLMAP detects none outside the mask."""
    pycolmap = pytest.importorskip("pycolmap")
    frame = painted(0, 128)
    static = torch.zeros(1, 128, 128)
    static[:, :, 64:] = 1
    _, size = sfm._write_images([frame], tmp_path, static)
    K = sfm._to_colmap(torch.tensor([[90.0, 0, 63.5], [0, 80, 60], [0, 0, 1]]))
    job = ColmapJob(
        folder=tmp_path, sharpest_first=(), long_side=max(size), K=K, masked=True, exhaustive=True
    )
    extract(pycolmap, job)
    with pycolmap.Database.open(job.database) as database:
        points = database.read_keypoints(1)
        camera = database.read_camera(1)
    columns = [point[0] if hasattr(point, "__getitem__") else point.x for point in points]
    assert len(columns) > 20
    assert min(columns) > 63
    assert list(camera.params) == pytest.approx([90, 80, 64, 60.5])


def test_the_sharpest_come_first(tmp_path):
    sharp = painted(0, 64)
    blurred = torch.nn.functional.avg_pool2d(sharp[None], 5, stride=1, padding=2)[0]
    names, size = sfm._write_images([blurred, sharp, blurred * 0], tmp_path, None)
    assert names == ["000001.png", "000000.png", "000002.png"]
    assert size == (64, 64)


def test_the_mapper_bears_more_in_larger_frames():
    pycolmap = pytest.importorskip("pycolmap")
    small, large = (
        mapper_options(pycolmap, long_side=long_side, fixed_intrinsics=True) for long_side in (1000, 2000)
    )
    assert small.mapper.abs_pose_max_error == 20
    assert large.mapper.abs_pose_max_error == 40
    assert small.mapper.init_min_tri_angle == 2
    assert not small.ba_refine_focal_length
    assert math.isclose(
        mapper_options(pycolmap, long_side=10, fixed_intrinsics=False).mapper.filter_max_reproj_error, 3.2
    )


def test_without_pycolmap_the_cure_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(MissingExtra, match="pip install pycolmap"):
        run_colmap([torch.zeros(3, 8, 8)])


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_colmap_ends_when_its_time_does(seconds):
    """Also right after the start; its process ends too."""
    pytest.importorskip("pycolmap")
    begun = time.monotonic()
    with pytest.raises(NoScene, match=r"COLMAP was still .* after [01] s; .*--budget"):
        run_colmap([painted(k, 96) for k in range(12)], limit=TimeLimit(seconds=seconds))
    assert time.monotonic() - begun < 20
    assert not subprocess_left()


def test_a_beat_that_raises_ends_colmap_too():
    """A budget, or Ctrl-C, ends it in this way."""
    pytest.importorskip("pycolmap")

    def check_deadline() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_colmap([painted(k, 96) for k in range(4)], limit=TimeLimit(check_deadline=check_deadline))
    assert not subprocess_left()


def subprocess_left() -> list[str]:
    """Command lines of child processes that run COLMAP."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
            words = (status.parent / "cmdline").read_bytes().decode().replace("\0", " ")
        except OSError:
            continue  # it has just ended
        if parent == os.getpid() and "colmap_work" in words:
            found.append(words)
    return found


def test_pycolmap_is_loaded_in_a_process_of_its_own():
    """It installs a handler of SIGTERM that prints a stack trace; this process must end with a sentence."""
    pytest.importorskip("pycolmap", reason="needs the extra sfm")
    code = (
        "import sys; from freezeframe.splatting.io.sfm import _check_pycolmap; _check_pycolmap();"
        " print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pycolmap" not in loaded.split()
