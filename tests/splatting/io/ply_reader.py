"""A second implementation of .ply scenes, plain and compressed (PlayCanvas, SuperSplat): a reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import recfunctions
from torch import Tensor

from freezeframe.splatting.scene.gaussians import Gaussians

CHUNK = 256  # Gaussians that share ranges of positions, scales and colours
SH_CONSTANT = 0.28209479177387814  # spherical harmonic of degree 0
SH_RANGE = 8.0  # of the coefficients in a byte
OPACITY_MAX = 1 - 1e-6  # opacity with a finite logit
TYPES = {"float": "<f4", "uint": "<u4", "uchar": "<u1"}


def columns(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{k}" for k in range(count))


def read_elements(path: Path) -> dict[str, Any]:
    """Elements of a file as structured arrays."""
    head, body = path.read_bytes().split(b"end_header\n", 1)
    elements: dict[str, tuple[int, list[tuple[str, str]]]] = {}
    fields: list[tuple[str, str]] = []
    for words in (line.split() for line in head.decode("ascii").splitlines()):
        if words[0] == "element":
            fields = []
            elements[words[1]] = int(words[2]), fields
        elif words[0] == "property":
            fields.append((words[2], TYPES[words[1]]))
    arrays, offset = {}, 0
    for name, (count, kinds) in elements.items():
        arrays[name] = np.frombuffer(body, np.dtype(kinds), count, offset)
        offset += arrays[name].nbytes
    assert offset == len(body)
    return arrays


def read_ply(path: Path) -> Gaussians:
    elements = read_elements(path)
    vertices = decompress(elements) if "chunk" in elements else elements["vertex"]

    def tensor(*fields: str) -> Tensor:
        return torch.from_numpy(np.stack([vertices[field].astype(np.float32) for field in fields], axis=1))

    rest = columns("f_rest", sum(name.startswith("f_rest_") for name in vertices.dtype.names))
    first = tensor(*columns("f_dc", 3))[:, None]
    others = tensor(*rest).reshape(len(first), 3, -1).mT if rest else first[:, :0]  # channels first
    return Gaussians(
        means=tensor("x", "y", "z"),
        quats=tensor(*columns("rot", 4)),
        scales=tensor(*columns("scale", 3)),
        opacities=tensor("opacity")[:, 0],
        colours=torch.cat([first, others], dim=1).contiguous(),
    )


def decompress(elements: dict[str, Any]) -> Any:
    """Vertices of a plain file from the elements `chunk`, `vertex` and perhaps `sh` of a compressed one."""
    chunks, packed = elements["chunk"], elements["vertex"]
    chunk = chunks[np.minimum(np.arange(len(packed)) // CHUNK, len(chunks) - 1)]
    position = _lerp(chunk, _unpack_11_10_11(packed["packed_position"]), ("x", "y", "z"))
    scales = _lerp(chunk, _unpack_11_10_11(packed["packed_scale"]), ("scale_x", "scale_y", "scale_z"))
    *encoded, opacity = _unpack(packed["packed_color"], ((24, 8), (16, 8), (8, 8), (0, 8)))
    colours = _lerp(chunk, encoded, ("r", "g", "b"))
    opacity = np.clip(opacity, 1 - OPACITY_MAX, OPACITY_MAX)
    fields = {
        **dict(zip(("x", "y", "z"), position, strict=True)),
        "opacity": np.log(opacity / (1 - opacity)),
        **dict(zip(columns("scale", 3), scales, strict=True)),
        **{name: (each - 0.5) / SH_CONSTANT for name, each in zip(columns("f_dc", 3), colours, strict=True)},
        **dict(zip(columns("rot", 4), _unpack_quaternions(packed["packed_rotation"]), strict=True)),
    }
    if (harmonics := elements.get("sh")) is not None and harmonics.dtype.names:
        # Bytes are floors of fractions: the middle of each step.
        middles = (recfunctions.structured_to_unstructured(harmonics, np.float32) + 0.5) / 256
        fields |= dict(zip(harmonics.dtype.names, ((middles - 0.5) * SH_RANGE).T, strict=True))
    table = np.empty(len(packed), [(name, "<f4") for name in fields])
    for name, values in fields.items():
        table[name] = values
    return table


def _unpack(packed: Any, groups: tuple[tuple[int, int], ...]) -> list[Any]:
    """Fractions in [0, 1] from groups of bits, each given by its lowest bit and its length."""
    return [((packed >> low) & ((1 << bits) - 1)) / ((1 << bits) - 1) for low, bits in groups]


def _unpack_11_10_11(packed: Any) -> list[Any]:
    return _unpack(packed, ((21, 11), (11, 10), (0, 11)))


def _lerp(chunks: Any, fractions: list[Any], names: tuple[str, ...]) -> list[Any]:
    """Values between the minima and maxima of the chunks."""
    ranges = [(chunks[f"min_{name}"], chunks[f"max_{name}"]) for name in names]
    return [low + fraction * (high - low) for fraction, (low, high) in zip(fractions, ranges, strict=True)]


def _unpack_quaternions(packed: Any) -> Any:
    """[4, N] unit quaternions (w, x, y, z): three components, and the index of the largest, the fourth."""
    small = [(each - 0.5) * 2**0.5 for each in _unpack(packed, ((20, 10), (10, 10), (0, 10)))]
    largest_index = packed >> 30
    largest = np.sqrt(np.maximum(0, 1 - sum(each * each for each in small)))
    quaternions = np.empty((4, len(packed)))
    for index in range(4):
        mask = largest_index == index
        quaternions[index, mask] = largest[mask]
        for k, each in zip([k for k in range(4) if k != index], small, strict=True):
            quaternions[k, mask] = each[mask]
    return quaternions
