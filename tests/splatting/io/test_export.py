"""Scenes and camera paths in files: layout, round trip, no partial files."""

from __future__ import annotations

import json
import math
import struct

import pytest
import torch
from torch.nn.functional import normalize

from freezeframe.data.errors import FreezeframeError, UnwritableOutput
from freezeframe.splatting.camera.trajectory import Views
from freezeframe.splatting.io.export import CameraPathExport, write_cameras, write_ply
from freezeframe.splatting.scene.gaussians import Gaussians
from tests.splatting.io.ply_reader import read_ply


def crowd(count: int, *, degree: int, seed: int = 0) -> Gaussians:
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int):
        return torch.randn(*shape, generator=random)

    return Gaussians(
        means=2 * normal(count, 3),
        quats=normalize(normal(count, 4), dim=1),
        scales=normal(count, 3) - 3,
        opacities=2 * normal(count) + 1,
        colours=0.4 * normal(count, (degree + 1) ** 2, 3),
    )


def rows(path) -> tuple[list[str], list[tuple[float, ...]]]:
    """A second reader: names of the columns, and the rows, of a file of floats."""
    head, body = path.read_bytes().split(b"end_header\n", 1)
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    names = [line.split()[2] for line in lines if line.startswith("property float ")]
    assert [line for line in lines[2:] if not line.startswith("property")] == [lines[2]]
    count = int(lines[2].removeprefix("element vertex "))
    assert len(body) == 4 * len(names) * count
    return names, list(struct.iter_unpack(f"<{len(names)}f", body))


@pytest.mark.parametrize(("degree", "rest"), [(0, 0), (1, 9), (2, 24), (3, 45)])
def test_columns_are_those_of_the_first_gaussian_splatting(tmp_path, degree, rest):
    """Their order, as the authors' own files have it, and what each column holds."""
    scene = crowd(7, degree=degree)
    write_ply(scene, tmp_path / "scene.ply")
    names, table = rows(tmp_path / "scene.ply")
    assert names == [
        "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *[f"f_rest_{k}" for k in range(rest)],
        "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
    ]  # fmt: skip
    for n, row in enumerate(table):
        values = dict(zip(names, row, strict=True))
        assert [values[k] for k in ("x", "y", "z")] == scene.means[n].tolist()
        assert [values[k] for k in ("nx", "ny", "nz")] == [0, 0, 0]
        assert values["opacity"] == float(scene.opacities[n])
        assert values["scale_1"] == float(scene.scales[n, 1])
        assert values["rot_0"] == pytest.approx(float(scene.quats[n, 0]), abs=1e-6)
        assert values["f_dc_2"] == float(scene.colours[n, 0, 2])
        for band in range(rest // 3):  # all of red, then all of green
            assert values[f"f_rest_{band}"] == float(scene.colours[n, band + 1, 0])
            assert values[f"f_rest_{band + rest // 3}"] == float(scene.colours[n, band + 1, 1])


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_what_is_written_is_read_back(tmp_path, degree):
    scene = crowd(300, degree=degree)
    write_ply(scene, tmp_path / "scene.ply")
    again = read_ply(tmp_path / "scene.ply")
    for name, value in scene.parts().items():
        assert torch.allclose(getattr(again, name), value, atol=1e-6), name


@pytest.mark.parametrize("degree", [0, 2])
def test_a_compressed_scene_is_the_same_but_for_its_steps(tmp_path, degree):
    """Each value within the steps of its bits: 11 or 10 of a chunk's range, 10 of a turn, 8 of light."""
    scene = crowd(600, degree=degree)
    scene = scene.with_tensors({"opacities": scene.opacities.clamp_min(-4)})  # what is fainter is left out
    write_ply(scene, tmp_path / "small.ply", compressed=True)
    again = read_ply(tmp_path / "small.ply")
    assert len(again) == 600
    # Chunks reorder: each finds itself by place.
    distances = torch.cdist(again.means, scene.means)
    own = distances.argmin(1)
    assert len(own.unique()) == 600
    assert float((again.means - scene.means[own]).abs().max()) < 16 / 1023
    assert float((again.scales - scene.scales[own]).abs().max()) < 10 / 1023
    turned = (again.quats * scene.quats[own]).sum(1).abs().clamp(max=1)
    assert float(2 * turned.acos().max()) < 0.01  # radians
    lights = again.opacities.sigmoid() - scene.opacities[own].sigmoid()
    assert float(lights.abs().max()) < 1 / 255
    assert float((again.colours[:, 0] - scene.colours[own, 0]).abs().max()) < 4 / 255
    if degree:
        assert float((again.colours[:, 1:] - scene.colours[own, 1:]).abs().max()) <= 4 / 256 + 1e-6


def test_a_compressed_scene_is_small(tmp_path):
    """16 bytes of 68, and a chunk's 72 bytes for 256."""
    scene = crowd(2560, degree=0).with_tensors({"opacities": torch.ones(2560)})
    write_ply(scene, tmp_path / "large.ply")
    write_ply(scene, tmp_path / "small.ply", compressed=True)
    large, small = ((tmp_path / name).stat().st_size for name in ("large.ply", "small.ply"))
    assert small < 0.26 * large


@pytest.mark.parametrize("compressed", [False, True])
def test_a_scene_of_one_and_a_flat_one_survive(tmp_path, compressed):
    """A chunk without extent has no steps."""
    for number, count in enumerate((1, 257)):
        scene = crowd(count, degree=0)
        means = scene.means.clone()
        means[:, 2] = 1.5
        scene = scene.with_tensors({"means": means, "opacities": torch.ones(count)})
        path = tmp_path / f"{number}.ply"
        write_ply(scene, path, compressed=compressed)
        again = read_ply(path)
        assert len(again) == count
        assert torch.allclose(again.means[:, 2], torch.tensor(1.5))
        assert all(bool(value.isfinite().all()) for value in again.parts().values())


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_no_number_is_left_out(tmp_path, compressed):
    scene = crowd(9, degree=1).with_tensors({"opacities": torch.ones(9)})
    scene.opacities[2] = math.nan
    scene.means[5, 1] = math.inf
    write_ply(scene, tmp_path / "scene.ply", compressed=compressed)
    assert len(read_ply(tmp_path / "scene.ply")) == 7


def test_nothing_is_overwritten_unless_forced_and_nothing_is_left_behind(tmp_path):
    path = tmp_path / "scene.ply"
    write_ply(crowd(3, degree=0), path)
    with pytest.raises(UnwritableOutput, match="--force"):
        write_ply(crowd(4, degree=0), path)
    assert len(read_ply(path)) == 3
    write_ply(crowd(4, degree=0), path, force=True)
    assert len(read_ply(path)) == 4
    assert [each.name for each in tmp_path.iterdir()] == ["scene.ply"]


def test_where_nothing_can_be_written_the_reason_is_told(tmp_path):
    with pytest.raises(UnwritableOutput, match="folder"):
        write_ply(crowd(3, degree=0), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableOutput, match="not a folder"):
        write_ply(crowd(3, degree=0), tmp_path / "file" / "scene.ply")
    nothing = Gaussians(**{name: value[:0] for name, value in crowd(3, degree=0).parts().items()})
    with pytest.raises(FreezeframeError, match="no Gaussians"):
        write_ply(nothing, tmp_path / "scene.ply")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def camera_path(count: int = 3) -> CameraPathExport:
    random = torch.Generator().manual_seed(0)
    return CameraPathExport(
        views=Views(
            viewmats=torch.randn(count, 4, 4, generator=random),
            Ks=torch.rand(count, 3, 3, generator=random),
        ),
        times=tuple(k / 24 for k in range(count)),
        size=(360, 640),
        shutter=0.4,
    )


def test_a_camera_path_is_written_with_its_conventions(tmp_path):
    path = tmp_path / "cameras.json"
    before = camera_path()
    write_cameras(before, path)
    document = json.loads(path.read_text())
    frames = document["frames"]
    assert torch.equal(torch.tensor([each["world_to_camera"] for each in frames]), before.views.viewmats)
    assert torch.equal(torch.tensor([each["intrinsics"] for each in frames]), before.views.Ks)
    assert tuple(each["time"] for each in frames) == before.times
    assert (document["schema"], document["kind"]) == (1, "camera_path")
    assert (document["width"], document["height"], document["shutter_fraction"]) == (640, 360, 0.4)
    for word in ("world_to_camera", "y down", "centre of the first pixel", "seconds"):
        assert word in document["convention"]
    with pytest.raises(UnwritableOutput, match="--force"):
        write_cameras(before, path)


def test_times_and_cameras_must_be_as_many():
    with pytest.raises(ValueError, match="as many"):
        CameraPathExport(views=camera_path().views, times=(0.0,), size=(3, 4), shutter=1.0)
