"""Image folders with known cameras: known points project to known pixels."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from freezeframe.data.errors import UnreadableMedia
from freezeframe.splatting.camera.trajectory import Views
from freezeframe.splatting.io.colmap_reader import read_model
from freezeframe.splatting.io.nerf_datasets import llff_views, random_points, read_posed_images

FOCAL, WIDTH, HEIGHT = 80.0, 64, 48


@dataclass(frozen=True)
class Filmed:
    """Cameras on an arc, directed at the origin, and points about it, in float64 by textbook formulas."""

    turns: Tensor  # [N, 3, 3] world to camera, x right, y down, z forward
    centres: Tensor  # [N, 3]
    points: Tensor  # [P, 3]

    def seen(self, camera: int, *, scale: float = 1.0) -> Tensor:
        """[P, 2] pixels, centres at integers, in images `scale` times as large."""
        x, y, z = (self.turns[camera] @ (self.points - self.centres[camera]).T).double()
        # Scaling is about the corner of the image, half a pixel from the first pixel centre.
        return torch.stack([FOCAL * x / z + WIDTH / 2, FOCAL * y / z + HEIGHT / 2], dim=1) * scale - 0.5


def filmed(count: int = 6, points: int = 20) -> Filmed:
    random = torch.Generator().manual_seed(0)
    turns, centres = [], []
    for k in range(count):
        angle = 0.1 * (k - count / 2)
        centre = 4 * torch.tensor([math.sin(angle), 0.1 * k, -math.cos(angle)], dtype=torch.float64)
        forward = -centre / centre.norm()
        right = torch.linalg.cross(torch.tensor([0.1, 1.0, 0], dtype=torch.float64), forward)
        right = right / right.norm()
        turns.append(torch.stack([right, torch.linalg.cross(forward, right), forward]))
        centres.append(centre)
    spread = torch.rand(points, 3, generator=random, dtype=torch.float64) - 0.5
    return Filmed(torch.stack(turns), torch.stack(centres), spread)


def projected(views: Views, camera: int, points: Tensor) -> Tensor:
    """[P, 2] projections by the package's conventions."""
    seen = views.Ks[camera] @ (
        views.viewmats[camera, :3, :3] @ points.float().T + views.viewmats[camera, :3, 3:]
    )
    return (seen[:2] / seen[2]).T


def quaternion(turn: Tensor) -> list[float]:
    """(w, x, y, z) of a rotation matrix of less than half a circle."""
    w = math.sqrt(1 + float(turn.trace())) / 2
    return [w, *(float(turn[i, j] - turn[j, i]) / (4 * w) for i, j in ((2, 1), (0, 2), (1, 0)))]


def picture(path: Path, *, scale: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((round(HEIGHT * scale), round(WIDTH * scale), 3), np.uint8))


def pictures(folder: Path, count: int, *, scale: float = 1.0, suffix: str = ".png") -> None:
    for k in range(count):
        picture(folder / f"{k:03d}{suffix}", scale=scale)


CAMERA = ("PINHOLE", [FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2])


def write_text(folder: Path, scene: Filmed, *, camera=CAMERA, suffix: str = ".png") -> None:
    """A model in COLMAP's text format, images in reverse order."""
    folder.mkdir(parents=True, exist_ok=True)
    kind, numbers = camera
    (folder / "cameras.txt").write_text(
        f"# comment\n7 {kind} {WIDTH} {HEIGHT} {' '.join(map(str, numbers))}\n"
    )
    lines = ["# two lines each"]
    for k in reversed(range(len(scene.turns))):
        way = -(scene.turns[k] @ scene.centres[k])
        values = " ".join(map(repr, [*quaternion(scene.turns[k]), *way.tolist()]))
        lines += [f"{k + 1} {values} 7 {k:03d}{suffix}", "1.5 2.5 -1" if k % 2 else ""]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    rows = [
        f"{k} {x!r} {y!r} {z!r} 255 {k} 0 0.3 1 2 3 4" for k, (x, y, z) in enumerate(scene.points.tolist())
    ]
    (folder / "points3D.txt").write_text("# points\n" + "\n".join(rows) + "\n")


def write_binary(folder: Path, scene: Filmed) -> None:
    """The same in binary."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.bin").write_bytes(
        struct.pack("<QiiQQ4d", 1, 7, 1, WIDTH, HEIGHT, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2)
    )
    data = struct.pack("<Q", len(scene.turns))
    for k in reversed(range(len(scene.turns))):
        way = -(scene.turns[k] @ scene.centres[k])
        data += struct.pack("<i7di", k + 1, *quaternion(scene.turns[k]), *way.tolist(), 7)
        data += f"{k:03d}.png".encode() + b"\0" + struct.pack("<Q", k) + struct.pack("<ddq", 1.5, 2.5, -1) * k
    (folder / "images.bin").write_bytes(data)
    data = struct.pack("<Q", len(scene.points))
    for k, place in enumerate(scene.points.tolist()):
        data += struct.pack("<Q3d3BdQ", k, *place, 255, k, 0, 0.3, 2) + struct.pack("<4i", 1, 2, 3, 4)
    (folder / "points3D.bin").write_bytes(data)


def write_llff(folder: Path, scene: Filmed) -> Tensor:
    """poses_bounds.npy: camera to world, axes "down, right, backwards"."""
    rows = []
    for turn, centre in zip(scene.turns, scene.centres, strict=True):
        right, down, forward = turn
        sizes = torch.tensor([HEIGHT, WIDTH, FOCAL]).double()
        matrix = torch.stack([down, right, -forward, centre, sizes], dim=1)
        rows.append(torch.cat([matrix.flatten(), torch.tensor([2.5, 6.5]).double()]))
    table = torch.stack(rows)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "poses_bounds.npy", table.numpy())
    return table


# Where points lie


@pytest.mark.parametrize("write", [write_text, write_binary])
def test_points_lie_where_colmaps_cameras_saw_them(tmp_path, write):
    """Within a hundredth of a pixel: float32 at four units."""
    scene = filmed()
    write(tmp_path / "sparse" / "0", scene)
    pictures(tmp_path / "images", 6)
    posed_images = read_posed_images(tmp_path)
    assert [path.name for path in posed_images.paths] == [f"{k:03d}.png" for k in range(6)]
    assert posed_images.size == (HEIGHT, WIDTH)
    assert torch.allclose(posed_images.points, scene.points.float())
    assert posed_images.depths is None
    assert posed_images.colours[3].tolist() == pytest.approx([1, 3 / 255, 0])
    for k in range(6):
        assert torch.allclose(
            projected(posed_images.views, k, scene.points), scene.seen(k).float(), atol=0.01
        )


def test_points_lie_where_llffs_cameras_saw_them(tmp_path):
    scene = filmed()
    write_llff(tmp_path, scene)
    pictures(tmp_path / "images", 6)
    posed_images = read_posed_images(tmp_path)
    for k in range(6):
        assert torch.allclose(
            projected(posed_images.views, k, scene.points), scene.seen(k).float(), atol=0.01
        )
    assert torch.allclose(posed_images.depths, torch.tensor([2.5, 6.5]).expand(6, 2))
    assert len(posed_images.points) == 0


def test_llffs_axes_by_hand():
    """A camera at (1, 2, 3) with axis +z and y down: LLFF's down is +y, right +x, backwards -z."""
    matrix = torch.tensor([[0.0, 1, 0, 1, 20], [1, 0, 0, 2, 30], [0, 0, -1, 3, 50]])
    views, _ = llff_views(torch.cat([matrix.flatten(), torch.tensor([1.0, 9])])[None], (20, 30))
    assert torch.allclose(views.viewmats[0, :3, :3], torch.eye(3))
    assert views.viewmats[0, :3, 3].tolist() == [-1, -2, -3]
    # Two units ahead, one to the right and half a unit down.
    place = projected(views, 0, torch.tensor([[2.0, 2.5, 5.0]]))
    assert place[0].tolist() == pytest.approx([50 / 2 + 14.5, 50 * 0.5 / 2 + 9.5])


def test_llff_and_colmap_tell_the_same_of_the_same_cameras(tmp_path):
    scene = filmed()
    for name, write in (("colmap", lambda f, s: write_text(f / "sparse/0", s)), ("llff", write_llff)):
        write(tmp_path / name, scene)
        pictures(tmp_path / name / "images", 6)
    one, other = (read_posed_images(tmp_path / name).views for name in ("colmap", "llff"))
    assert torch.allclose(one.viewmats, other.viewmats, atol=1e-5)
    assert torch.allclose(one.Ks, other.Ks, atol=1e-4)


@pytest.mark.parametrize("write", [lambda f, s: write_text(f / "sparse/0", s), write_llff])
def test_smaller_pictures_have_shorter_lenses(tmp_path, write):
    """images_2 holds the same views with half the resolution and shifted pixel centres."""
    scene = filmed()
    write(tmp_path, scene)
    pictures(tmp_path / "images", 6)
    pictures(tmp_path / "images_2", 6, scale=0.5)
    posed_images = read_posed_images(tmp_path, images="images_2")
    assert posed_images.size == (HEIGHT // 2, WIDTH // 2)
    for k in range(6):
        expected = scene.seen(k, scale=0.5).float()
        assert torch.allclose(projected(posed_images.views, k, scene.points), expected, atol=0.01)


def test_the_largest_pictures_that_are_all_there_are_taken(tmp_path):
    """As in BAD-NeRF's folders: `images` lacks those held out, `images_1` has all."""
    write_llff(tmp_path, filmed())
    pictures(tmp_path / "images", 5)
    pictures(tmp_path / "images_2", 6, scale=0.5)
    pictures(tmp_path / "images_1", 6)
    assert {path.parent.name for path in read_posed_images(tmp_path).paths} == {"images_1"}


def test_pictures_of_another_kind_stand_in(tmp_path):
    write_text(tmp_path / "sparse" / "0", filmed(), suffix=".JPG")
    pictures(tmp_path / "images", 6, suffix=".png")
    assert read_posed_images(tmp_path).paths[2].name == "002.png"


# What is held out


@pytest.mark.parametrize(
    ("name", "holdout", "is_holdout"),
    [("hold=4", None, [0, 4, 8]), ("hold=0", None, []), ("hold=-1", None, []), (None, None, []),
     (None, 5, [0, 5]), ("hold=4", 0, [])],
)  # fmt: skip
def test_every_nth_picture_is_held_out_from_the_first_on(tmp_path, name, holdout, is_holdout):
    write_llff(tmp_path, filmed(10))
    pictures(tmp_path / "images", 10)
    if name:
        (tmp_path / name).touch()
    posed_images = read_posed_images(tmp_path, holdout=holdout)
    assert [k for k in range(10) if posed_images.is_holdout[k]] == is_holdout
    assert [k for k in range(10) if posed_images.truths[k] is not None] == is_holdout
    assert all(posed_images.truths[k] == posed_images.paths[k] for k in is_holdout)


def test_sharp_pictures_go_with_those_that_are_not_held_out(tmp_path):
    """Synthetic scenes: images_test has one for each blurred picture, and none for the others."""
    write_llff(tmp_path, filmed(6))
    pictures(tmp_path / "images", 6)
    pictures(tmp_path / "images_test", 4)
    (tmp_path / "hold=3").touch()
    posed_images = read_posed_images(tmp_path)
    names = [f"{path.parent.name}/{path.stem}" for path in posed_images.truths if path]
    assert names == ["images/000", "images_test/000", "images_test/001", "images/003", "images_test/002",
                     "images_test/003"]  # fmt: skip
    (tmp_path / "images_test" / "000.png").unlink()
    with pytest.raises(UnreadableMedia, match="3 sharp images"):
        read_posed_images(tmp_path)


def test_guessed_points_lie_before_the_cameras_within_the_depths(tmp_path):
    write_llff(tmp_path, filmed())
    pictures(tmp_path / "images", 6)
    posed_images = read_posed_images(tmp_path)
    points = random_points(posed_images, 500)
    assert points.shape == (500, 3)
    fits = torch.zeros(500, dtype=torch.bool)
    for k in range(6):
        depth = (points @ posed_images.views.viewmats[k, 2, :3]) + posed_images.views.viewmats[k, 2, 3]
        x, y = projected(posed_images.views, k, points).T
        inside = (x > -0.51) & (x < WIDTH - 0.49) & (y > -0.51) & (y < HEIGHT - 0.49)
        fits |= inside & (depth > 2.499) & (depth < 6.501)
    assert fits.all()


# What cannot be read


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [("SIMPLE_PINHOLE", [80, 32, 24]), ("SIMPLE_RADIAL", [80, 32, 24, 0]), ("RADIAL", [80, 32, 24, 0, 0]),
     ("OPENCV", [80, 80, 32, 24, 0, 0, 0, 0]), ("FULL_OPENCV", [80, 80, 32, 24, *[0] * 8])],
)  # fmt: skip
def test_lenses_without_distortion_are_pinholes(tmp_path, kind, numbers):
    write_text(tmp_path, filmed(), camera=(kind, numbers))
    expected = torch.tensor([[80, 0, 31.5], [0, 80, 23.5], [0, 0, 1]])
    assert torch.equal(read_model(tmp_path).Ks[0], expected)


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [("SIMPLE_RADIAL", [80, 32, 24, 0.01]), ("OPENCV", [80, 80, 32, 24, 0, 0, 0, 1e-3]),
     ("OPENCV_FISHEYE", [80, 80, 32, 24, 0, 0, 0, 0])],
)  # fmt: skip
def test_lenses_that_bend_lines_must_be_straightened_first(tmp_path, kind, numbers):
    write_text(tmp_path, filmed(), camera=(kind, numbers))
    with pytest.raises(UnreadableMedia, match="image_undistorter"):
        read_model(tmp_path)


def _cut(folder: Path) -> None:
    file = folder / "sparse" / "0" / "images.bin"
    file.write_bytes(file.read_bytes()[:-200])


def _without_pictures(folder: Path) -> None:
    (folder / "images" / "002.png").unlink()


def _of_other_shape(folder: Path) -> None:
    for k in range(6):
        cv2.imwrite(str(folder / "images" / f"{k:03d}.png"), np.zeros((64, 64, 3), np.uint8))


def _of_two_sizes(folder: Path) -> None:
    picture(folder / "images" / "001.png", scale=0.5)


def _without_cameras(folder: Path) -> None:
    (folder / "sparse" / "0" / "cameras.bin").unlink()


@pytest.mark.parametrize(
    ("broken", "word"),
    [(_cut, "damaged"), (_without_pictures, "002.png"), (_of_other_shape, "64x48"),
     (_of_two_sizes, "several"), (_without_cameras, "run COLMAP")],
)  # fmt: skip
def test_the_reason_is_told(tmp_path, broken, word):
    write_binary(tmp_path / "sparse" / "0", filmed())
    pictures(tmp_path / "images", 6)
    read_posed_images(tmp_path)
    broken(tmp_path)
    with pytest.raises(UnreadableMedia, match=word):
        read_posed_images(tmp_path)


def test_the_reason_is_told_of_llff(tmp_path):
    with pytest.raises(UnreadableMedia, match="not a folder"):
        read_posed_images(tmp_path / "nowhere")
    write_llff(tmp_path, filmed())
    with pytest.raises(UnreadableMedia, match="6 images"):
        read_posed_images(tmp_path)
    pictures(tmp_path / "images", 4)
    with pytest.raises(UnreadableMedia, match="images 4"):
        read_posed_images(tmp_path)
    np.save(tmp_path / "poses_bounds.npy", np.zeros((6, 15)))
    with pytest.raises(UnreadableMedia, match="17 columns"):
        read_posed_images(tmp_path)
    (tmp_path / "poses_bounds.npy").write_bytes(b"nothing")
    with pytest.raises(UnreadableMedia, match="cannot be read"):
        read_posed_images(tmp_path)
