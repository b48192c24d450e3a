"""Writers of scenes and camera paths for other programs.

Scenes are written as .ply in the layout of Kerbl et al. 2023, or as compressed .ply of a quarter of the size
(PlayCanvas, SuperSplat). gsplat's plain .ply has no normals, which some readers require.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from freezeframe.data.errors import FreezeframeError
from freezeframe.data.media.files.publish import claim
from freezeframe.splatting.camera.trajectory import Views
from freezeframe.splatting.scene.gaussians import Gaussians

SCHEMA = 1  # version of the JSON file
CONVENTION = (
    "world_to_camera: 4x4 matrix in row-major order from world coordinates (x, y, z, 1) to camera axes: x"
    " right, y down, z forward. intrinsics: 3x3 in pixels, the centre of the first pixel is (0, 0). time:"
    " seconds, the middle of the exposure. shutter_fraction: exposure time over frame interval."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraPathExport:
    """Cameras of M frames with times and image size."""

    views: Views  # at the middle of each exposure
    times: tuple[float, ...]  # [M] seconds, the middle of each exposure
    size: tuple[int, int]  # height and width in pixels
    shutter: float  # exposure time over frame interval

    def __post_init__(self) -> None:
        if not len(self.views.viewmats) == len(self.views.Ks) == len(self.times):
            raise ValueError("as many times as viewmats and Ks are needed")


def write_ply(scene: Gaussians, path: str | Path, *, compressed: bool = False, force: bool = False) -> None:
    """Write the Gaussians with finite values to a .ply file.

    Args:
        scene: The Gaussians.
        path: Ends in .ply.
        compressed: 11 bits per coordinate, 8 per colour, without Gaussians of low opacity (SuperSplat).
        force: Replace an existing file.
    """
    path = Path(path)
    target = claim(path, force=force)
    scene = _drop_non_finite(scene)
    if not len(scene):
        raise FreezeframeError(f"{path}: there are no Gaussians to write; fit the scene again")
    target.write(_compressed_ply(scene) if compressed else _ply(_to_vertex_table(scene)))


def write_cameras(camera_path: CameraPathExport, path: str | Path, *, force: bool = False) -> None:
    """Write a camera path as JSON, with its conventions."""
    height, width = camera_path.size
    views = camera_path.views
    rows = zip(camera_path.times, views.viewmats.tolist(), views.Ks.tolist(), strict=True)
    document = {
        "schema": SCHEMA,
        "kind": "camera_path",
        "convention": CONVENTION,
        "width": width,
        "height": height,
        "shutter_fraction": camera_path.shutter,
        "frames": [{"time": time, "world_to_camera": viewmat, "intrinsics": K} for time, viewmat, K in rows],
    }
    claim(Path(path), force=force).write((json.dumps(document, indent=1) + "\n").encode())


def _drop_non_finite(scene: Gaussians) -> Gaussians:
    parts = {name: value.detach().cpu().float() for name, value in scene.parts().items()}
    is_finite = torch.stack(
        [value.isfinite().reshape(len(scene), value[:1].numel()).all(1) for value in parts.values()]
    )
    return Gaussians(**{name: value[is_finite.all(0)] for name, value in parts.items()})


def _to_vertex_table(scene: Gaussians) -> Any:
    """Structured array [N] in the columns of a plain file; normals are zero."""
    rest = 3 * (scene.colours.shape[1] - 1)
    fields = {
        ("x", "y", "z"): scene.means,
        ("nx", "ny", "nz"): torch.zeros_like(scene.means),
        _columns("f_dc", 3): scene.colours[:, 0],
        _columns("f_rest", rest): scene.colours[:, 1:].mT.reshape(len(scene), rest),
        ("opacity",): scene.opacities[:, None],
        _columns("scale", 3): scene.scales,
        _columns("rot", 4): torch.nn.functional.normalize(scene.quats, dim=1),
    }
    table = np.empty(len(scene), [(name, "<f4") for names in fields for name in names])
    for names, values in fields.items():
        for name, column in zip(names, values.T, strict=True):
            table[name] = column.numpy()
    return table


def _columns(name: str, count: int) -> tuple[str, ...]:
    """name_0, name_1, ..."""
    return tuple(f"{name}_{k}" for k in range(count))


def _ply(vertices: Any) -> bytes:
    """A binary file (Turk 1994) of a structured array of 32-bit floats."""
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    lines += [f"property float {column}" for column in vertices.dtype.names]
    return ("\n".join(lines) + "\nend_header\n").encode() + bytes(vertices.tobytes())


def _compressed_ply(scene: Gaussians) -> bytes:
    from gsplat.exporter import export_splats

    data: bytes = export_splats(
        scene.means,
        scene.scales,
        scene.quats.clone(),  # export_splats normalises them in place
        scene.opacities,
        scene.colours[:, :1],
        scene.colours[:, 1:],
        format="ply_compressed",
    )
    return data
