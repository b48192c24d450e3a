"""Scenes and camera paths for other programs.

A scene is a .ply as Gaussian splatting's authors write it (Kerbl et al. 2023), or a compressed one, of a
quarter of the size (PlayCanvas, SuperSplat). All files are written aside, then renamed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.errors import FreezeframeError, UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.publish import write_atomic
from freezeframe.splatting.camera.trajectory import Views
from freezeframe.splatting.scene.gaussians import Gaussians

from .ply import columns, read_elements, write_elements
from .ply_compressed import decompress

CONVENTION = (
    "world_to_camera: 4x4, rows first, takes a point of the scene (x, y, z, 1) to the camera's axes: x right,"
    " y down, z forward. intrinsics: 3x3 in pixels, the centre of the first pixel at (0, 0). time: seconds,"
    " the middle of the exposure. shutter: exposure time over the interval between frames."
)
KIND = "freezeframe camera path 1"


def write_ply(scene: Gaussians, path: str | Path, *, compressed: bool = False, force: bool = False) -> None:
    """Write a scene for viewers and editors; what is not finite is left out.

    Args:
        scene: The Gaussians.
        path: Ends in .ply.
        compressed: 11 bits per place, 8 per colour (faint ones are left out), as SuperSplat reads it.
        force: Replace an existing file.
    """
    path = Path(path)
    _check_writable(path, force=force)
    scene = _drop_non_finite(scene)
    if not len(scene):
        raise FreezeframeError(f"{path}: there are no Gaussians to write; fit the scene anew")
    write_atomic(
        _compressed(scene) if compressed else write_elements("vertex", _to_vertex_table(scene)), path
    )


def read_ply(path: str | Path) -> Gaussians:
    """Read a scene of Gaussians from a .ply, compressed or not.

    Raises:
        UnreadableMedia: It is no binary .ply, is cut short, or holds no Gaussians.
    """
    path = Path(path)
    elements = read_elements(path)
    vertices = _vertices(elements, path)
    required = ["x", "y", "z", "opacity", *columns("f_dc", 3), *columns("scale", 3), *columns("rot", 4)]
    names = () if vertices is None else vertices.dtype.names or ()
    missing = [name for name in required if name not in names]
    if vertices is None or missing:
        raise UnreadableMedia(
            f"{path}: holds no Gaussians ({', '.join(missing)} missing); name a splatted scene"
        )

    def tensor(*fields: str) -> Tensor:
        return torch.from_numpy(np.stack([vertices[field].astype(np.float32) for field in fields], axis=1))

    rest = columns("f_rest", sum(name.startswith("f_rest_") for name in names))
    if len(rest) not in (0, 9, 24, 45):
        raise UnreadableMedia(f"{path}: has {len(rest)} f_rest columns; harmonics have 0, 9, 24 or 45")
    first = tensor(*columns("f_dc", 3))[:, None]
    # Channels first in the file.
    others = tensor(*rest).reshape(len(first), 3, -1).mT if rest else first[:, :0]
    return Gaussians(
        means=tensor("x", "y", "z"),
        quats=tensor(*columns("rot", 4)),
        scales=tensor(*columns("scale", 3)),
        opacities=tensor("opacity")[:, 0],
        colours=torch.cat([first, others], dim=1).contiguous(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraPathExport:
    """Where a camera was, frame by frame."""

    views: Views  # of the M frames
    times: tuple[float, ...]  # [M] seconds, the middle of each exposure
    size: tuple[int, int]  # height and width in pixels
    shutter: float  # exposure time over frame interval

    def __post_init__(self) -> None:
        if not len(self.views.viewmats) == len(self.views.Ks) == len(self.times):
            raise ValueError("as many times as poses and lenses")


def write_cameras(camera_path: CameraPathExport, path: str | Path, *, force: bool = False) -> None:
    """Write a camera path as JSON, which tells its own conventions."""
    path = Path(path)
    _check_writable(path, force=force)
    height, width = camera_path.size
    rows = zip(
        camera_path.times, camera_path.views.viewmats.tolist(), camera_path.views.Ks.tolist(), strict=True
    )
    document = {
        "kind": KIND,
        "convention": CONVENTION,
        "width": width,
        "height": height,
        "shutter": camera_path.shutter,
        "frames": [{"time": time, "world_to_camera": pose, "intrinsics": K} for time, pose, K in rows],
    }
    write_atomic((json.dumps(document, indent=1) + "\n").encode(), path)


def read_cameras(path: str | Path) -> CameraPathExport:
    """Read what `write_cameras` wrote."""
    try:
        document = json.loads(Path(path).read_bytes())
        frames = document["frames"]
        return CameraPathExport(
            views=Views(
                viewmats=torch.tensor([frame["world_to_camera"] for frame in frames]).reshape(-1, 4, 4),
                Ks=torch.tensor([frame["intrinsics"] for frame in frames]).reshape(-1, 3, 3),
            ),
            times=tuple(float(frame["time"]) for frame in frames),
            size=(int(document["height"]), int(document["width"])),
            shutter=float(document["shutter"]),
        )
    except OSError as error:
        raise UnreadableMedia(f"{path}: {error.strerror}; name a camera path") from error
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UnreadableMedia(
            f"{path}: is no camera path of freezeframe ({error!r}); write it anew"
        ) from error


def _vertices(elements: dict[str, Any], path: Path) -> Any:
    if "chunk" not in elements:
        return elements.get("vertex")
    try:
        return decompress(elements)
    except (ValueError, KeyError, IndexError) as error:
        raise UnreadableMedia(
            f"{path}: its compressed tables lack {error}; compress the scene anew"
        ) from error


def _check_writable(path: Path, *, force: bool) -> None:
    if path.is_dir():
        raise UnwritableOutput(f"{path}: is a folder; name a file")
    if path.exists() and not force:
        raise UnwritableOutput(f"{path}: exists already; choose another name or add --force")
    if not path.parent.is_dir():
        raise UnwritableOutput(f"{path}: there is no folder {path.parent}; create it first")


def _drop_non_finite(scene: Gaussians) -> Gaussians:
    parts = {name: value.detach().cpu().float() for name, value in scene.parts().items()}
    is_finite = torch.stack(
        [value.isfinite().reshape(len(scene), value[:1].numel()).all(1) for value in parts.values()]
    )
    return Gaussians(**{name: value[is_finite.all(0)] for name, value in parts.items()})


def _to_vertex_table(scene: Gaussians) -> Any:
    """The Gaussians as the rows of a standard file. Normals are there for readers that ask, and are zero."""
    rest = 3 * (scene.colours.shape[1] - 1)
    fields = {
        ("x", "y", "z"): scene.means,
        ("nx", "ny", "nz"): torch.zeros_like(scene.means),
        columns("f_dc", 3): scene.colours[:, 0],
        columns("f_rest", rest): scene.colours[:, 1:].mT.reshape(len(scene), rest),
        ("opacity",): scene.opacities[:, None],
        columns("scale", 3): scene.scales,
        columns("rot", 4): torch.nn.functional.normalize(scene.quats, dim=1),
    }
    table = np.empty(len(scene), [(name, "<f4") for names in fields for name in names])
    for names, values in fields.items():
        for name, column in zip(names, values.T, strict=True):
            table[name] = column.numpy()
    return table


def _compressed(scene: Gaussians) -> bytes:
    from gsplat.exporter import export_splats

    data: bytes = export_splats(
        scene.means,
        scene.scales,
        scene.quats.clone(),  # normalised in place
        scene.opacities,
        scene.colours[:, :1],
        scene.colours[:, 1:],
        format="ply_compressed",
    )
    return data
