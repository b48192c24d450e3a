"""Compressed .ply scenes, as PlayCanvas and SuperSplat keep them: 16 bytes and the harmonics per Gaussian.

Up to 256 neighbours share a chunk, which holds the range of their places, sizes and colours; each of them is
a fraction of that range.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib import recfunctions

from freezeframe.splatting.rasterizer.spherical_harmonics import CONSTANT

from .ply import columns

CHUNK = 256
OPACITY_MAX = 1 - 1e-6  # opacity whose logit is still a number
HARMONICS = 8.0  # range of the coefficients in a byte


def decompress(elements: Mapping[str, Any]) -> Any:
    """The rows of a standard file, from the tables `chunk`, `vertex` and perhaps `sh` of a compressed one."""
    chunks, packed = elements["chunk"], elements["vertex"]
    chunk_index = np.arange(len(packed)) // CHUNK
    chunk = chunks[np.minimum(chunk_index, len(chunks) - 1)]
    x, y, z = _lerp_chunk(chunk, _unpack_11_10_11(packed["packed_position"]), ("x", "y", "z"))
    sizes = _lerp_chunk(chunk, _unpack_11_10_11(packed["packed_scale"]), ("scale_x", "scale_y", "scale_z"))
    *encoded, opacity = _unpack_fractions(packed["packed_color"], ((24, 8), (16, 8), (8, 8), (0, 8)))
    colours = _lerp_chunk(chunk, encoded, ("r", "g", "b"))
    opacity = np.clip(opacity, 1 - OPACITY_MAX, OPACITY_MAX)
    fields = {
        "x": x, "y": y, "z": z, "opacity": np.log(opacity / (1 - opacity)),
        **dict(zip(columns("scale", 3), sizes, strict=True)),
        **{name: (each - 0.5) / CONSTANT for name, each in zip(columns("f_dc", 3), colours, strict=True)},
        **dict(zip(columns("rot", 4), _unpack_quaternions(packed["packed_rotation"]), strict=True)),
    }  # fmt: skip
    if (harmonics := elements.get("sh")) is not None and harmonics.dtype.names:
        # Bytes are the floors of fractions: the middle of each step.
        middles = (recfunctions.structured_to_unstructured(harmonics, np.float32) + 0.5) / 256
        fields |= dict(zip(harmonics.dtype.names, ((middles - 0.5) * HARMONICS).T, strict=True))
    table = np.empty(len(packed), [(name, "<f4") for name in fields])
    for name, values in fields.items():
        table[name] = values
    return table


def _unpack_fractions(packed: Any, places: tuple[tuple[int, int], ...]) -> list[Any]:
    """Fractions in [0, 1] from groups of bits, each given by its lowest bit and its length."""
    return [((packed >> low) & ((1 << bits) - 1)) / ((1 << bits) - 1) for low, bits in places]


def _unpack_11_10_11(packed: Any) -> list[Any]:
    return _unpack_fractions(packed, ((21, 11), (11, 10), (0, 11)))


def _lerp_chunk(chunks: Any, fractions: list[Any], names: tuple[str, ...]) -> list[Any]:
    """Values between the ends that the chunks tell; version 1 told none of colours."""
    found = []
    for fraction, name in zip(fractions, names, strict=True):
        low, high = (chunks[f"{end}_{name}"] if f"{end}_{name}" in chunks.dtype.names else float(end == "max")
                     for end in ("min", "max"))  # fmt: skip
        found.append(low + fraction * (high - low))
    return found


def _unpack_quaternions(packed: Any) -> Any:
    """[4, N] unit quaternions (w, x, y, z): three of their numbers, and which one was the largest."""
    small = [(each - 0.5) * 2**0.5 for each in _unpack_fractions(packed, ((20, 10), (10, 10), (0, 10)))]
    largest = packed >> 30
    rest = np.sqrt(np.maximum(0, 1 - sum(each * each for each in small)))
    found = np.empty((4, len(packed)))
    for place in range(4):
        here = largest == place
        others = [k for k in range(4) if k != place]
        found[place, here] = rest[here]
        for k, each in zip(others, small, strict=True):
            found[k, here] = each[here]
    return found
