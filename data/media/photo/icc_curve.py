"""Tone curve of a photo: conversion between its code values and linear light.

An ICC profile may have one curve per channel (ICC.1:2010, 10.5 `curv`, 10.15 `para`); linear light stays in
the primaries of the profile. The sRGB function is used for photos without a profile, and for profiles that
have only look-up tables. Not differentiable.
"""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded, to_linear

CURVE_SAMPLES = 65536  # signal steps of a sampled curve
_SRGB_TOLERANCE = 2e-4  # linear light (1/20 of an 8-bit step); a closer curve is sRGB with rounding errors

Lut = npt.NDArray[np.float32]
Curve = npt.NDArray[np.float64]


def linear_lut(profile: bytes | None, depth: int) -> Lut:
    """[3, 2^depth] linear light in [0, 1] of each code value, per channel."""
    curves = _curves(profile) or (_srgb_curve(),) * 3
    positions = np.linspace(0, CURVE_SAMPLES - 1, 1 << depth)
    return np.stack([np.interp(positions, np.arange(CURVE_SAMPLES), curve) for curve in curves]).astype(
        np.float32
    )


def encode_with_profile(image: Tensor, profile: bytes | None) -> Tensor:
    """[3, H, W] signal in [0, 1] of [3, H, W] linear light, which is clipped to [0, 1]. Takes no gradient."""
    linear = image.detach().cpu().float().clamp(0, 1)
    curves = _curves(profile)
    if curves is None:
        return to_encoded(linear, SRGB).clamp_(0, 1)
    signal = np.linspace(0, 1, CURVE_SAMPLES, dtype=np.float32)
    encoded = [np.interp(plane, curve, signal) for plane, curve in zip(linear.numpy(), curves, strict=True)]
    return torch.from_numpy(np.stack(encoded).astype(np.float32))


@lru_cache(maxsize=1)
def _srgb_curve() -> Curve:
    return to_linear(torch.linspace(0, 1, CURVE_SAMPLES, dtype=torch.float64), SRGB).numpy()


@lru_cache(maxsize=8)
def _curves(profile: bytes | None) -> tuple[Curve, ...] | None:
    """Linear light at `CURVE_SAMPLES` signal steps, per channel; None for the sRGB function."""
    if profile is None:
        return None
    try:
        tags = _tags(profile)
        with np.errstate(all="ignore"):  # overflow is rejected below
            curves = tuple(_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
    except (KeyError, struct.error, ValueError):
        return None
    if any(np.any(np.diff(curve) < 0) or curve[-1] - curve[0] < 0.5 for curve in curves):
        return None  # not invertible
    is_srgb = all(np.abs(curve - _srgb_curve()).max() < _SRGB_TOLERANCE for curve in curves)
    return None if is_srgb else curves


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """The profile's tags by signature (ICC.1:2010, 7.3)."""
    (count,) = struct.unpack_from(">I", profile, 128)
    rows = [struct.unpack_from(">4sII", profile, 132 + 12 * row) for row in range(min(count, 200))]
    return {name: profile[start : start + size] for name, start, size in rows}


def _curve(tag: bytes) -> Curve:
    signal = np.linspace(0, 1, CURVE_SAMPLES)
    if tag[:4] == b"para":
        linear = _parametric_curve(tag, signal)
    elif tag[:4] == b"curv":
        linear = _table_curve(tag, signal)
    else:
        raise ValueError(f"unknown tone curve type {tag[:4]!r}")
    if not np.isfinite(linear).all():
        raise ValueError("tone curve is not finite")
    return np.clip(linear, 0, 1)


def _table_curve(tag: bytes, signal: Curve) -> Curve:
    """A table of linear light at even signal steps, a single exponent, or (empty) the identity."""
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return signal
    table = np.array(struct.unpack_from(f">{count}H", tag, 12), dtype=np.float64)
    if count == 1:
        return np.asarray(signal ** (table[0] / 256))
    return np.asarray(np.interp(signal, np.linspace(0, 1, count), table / 65535))


def _parametric_curve(tag: bytes, signal: Curve) -> Curve:
    """(a x + b)^g + e from the knee d on, c x + f below; the five types define 1 to 7 of the parameters."""
    (kind,) = struct.unpack_from(">H", tag, 8)
    count = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}.get(kind)
    if count is None:
        raise ValueError(f"unknown parametric tone curve type {kind}")
    parameters = [value / 65536 for value in struct.unpack_from(f">{count}i", tag, 12)]
    g, a, b, c, d, e, f = parameters + [1.0, 0.0, 0.0, 0.0, 0.0, 0.0][count - 1 :]
    if kind in (1, 2):
        # Below -b/a the curve is constant: 0, or for type 2 the offset c.
        c, d, e, f = 0.0, -b / a if a else 0.0, c * (kind == 2), c * (kind == 2)
    power_segment = np.power(np.clip(a * signal + b, 0, None), g) + e
    return np.asarray(np.where(signal >= d, power_segment, c * signal + f))
