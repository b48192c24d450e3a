"""Linear light of photos: each tone curve against its closed form, and its inverse."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from PIL import ImageCms

from freezeframe.data.color import SRGB, to_linear
from freezeframe.data.media.photo.icc_curve import linear_lut
from freezeframe.data.media.photo.photo import PhotoPicture

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile_with(*curves: bytes) -> bytes:
    """A profile with tone curves only."""
    names = (b"rTRC", b"gTRC", b"bTRC")
    start = 132 + 12 * len(curves)
    table, body = struct.pack(">I", len(curves)), b""
    for name, curve in zip(names, curves, strict=False):
        table += struct.pack(">4sII", name, start + len(body), len(curve))
        body += curve
    return b"\0" * 16 + b"RGB " + b"\0" * 108 + table + body


def para(kind: int, *values: float) -> bytes:
    numbers = [round(value * 65536) for value in values]
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + struct.pack(f">{len(numbers)}i", *numbers)


def curv(*values: int) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(f">I{len(values)}H", len(values), *values)


def test_without_a_profile_the_curve_is_srgb() -> None:
    encoded = torch.linspace(0, 1, 256)
    assert torch.from_numpy(linear_lut(None, 8)[0]).allclose(to_linear(encoded, SRGB), atol=1e-6)
    assert np.array_equal(linear_lut(None, 8), linear_lut(PROFILE, 8))


X = np.linspace(0, 1, 256)
CURVES = {
    "bare exponent": (curv(563), X ** (563 / 256)),  # u8Fixed8: the 2.19921875 of Adobe RGB
    "identity": (curv(), X),
    "table": (curv(0, 16384, 65535), np.interp(X, [0, 0.5, 1], [0, 16384 / 65535, 1])),
    "kind 0": (para(0, 1.8), X**1.8),
    "kind 1": (para(1, 2.0, 1.25, -0.25), np.where(X >= 0.2, (1.25 * X - 0.25) ** 2, 0)),
    "kind 2": (para(2, 2.0, 1.0, -0.25, 0.25), np.where(X >= 0.25, (X - 0.25) ** 2, 0) + 0.25),
    "kind 3": (
        para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
        to_linear(torch.tensor(X), SRGB).numpy(),
    ),
    "kind 4": (
        para(4, 2.0, 0.75, 0.0, 0.5, 0.25, 0.4375, 0.0),
        np.where(X >= 0.25, (0.75 * X) ** 2 + 0.4375, 0.5 * X),
    ),
}


@pytest.mark.parametrize("name", CURVES)
def test_light_follows_the_profile(name: str) -> None:
    """To 2.5e-4: the rounding of s15Fixed16 numbers and 65536 nodes is smaller."""
    tag, truth = CURVES[name]
    assert np.abs(linear_lut(profile_with(tag, tag, tag), 8) - truth).max() < 2.5e-4


def test_each_channel_has_its_own_curve() -> None:
    lut = linear_lut(profile_with(curv(), curv(512), curv(256 * 3)), 8)
    assert np.allclose(lut, [X, X**2, X**3], atol=1e-4)


@pytest.mark.parametrize(
    "profile",
    [
        profile_with(),
        profile_with(curv(512), curv(512)),
        b"no profile at all",
        profile_with(*[b"what\0\0\0\0"] * 3),
        profile_with(*[para(9, 1.0)] * 3),
        profile_with(*[curv(65535, 0)] * 3),
        profile_with(*[para(0, -3.0)] * 3),
        profile_with(*[para(3, 30000.0, 9.0, 9.0, 1.0, 0.0)] * 3),
        PROFILE[:400],
    ],
)
def test_profiles_without_a_usable_curve_count_as_srgb(profile: bytes) -> None:
    assert np.array_equal(linear_lut(profile, 8), linear_lut(None, 8))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("curve", [None, curv(563), para(0, 1.8), CURVES["kind 1"][0]])
def test_light_and_back_is_the_same_code(depth: int, curve: bytes | None) -> None:
    """The error is below half a code value: rounding restores every one where the curve is not constant."""
    top = (1 << depth) - 1
    first = top // 4 if curve == CURVES["kind 1"][0] else 0
    encoded = np.linspace(first, top, 4096).round().astype(np.uint8 if depth == 8 else np.uint16)
    profile = profile_with(curve, curve, curve) if curve else None
    picture = PhotoPicture(pixels=encoded.reshape(64, 64, 1).repeat(3, axis=2), profile=profile)
    back = picture.with_linear(picture.linear())
    # Near black a power law has more code values than float32 nodes resolve.
    exact = picture.pixels >= (0 if depth == 8 or curve is None else 4096)
    assert np.array_equal(back.pixels[exact], picture.pixels[exact])
    assert (back.depth, back.profile, back.file) == (depth, profile, None)


def test_light_keeps_the_channels_and_the_place() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[1, 4] = (255, 128, 0)
    linear = PhotoPicture(pixels=pixels).linear()
    assert linear.shape == (3, 4, 6)
    assert linear.dtype == torch.float32
    assert linear[:, 1, 4].tolist() == pytest.approx([1, 0.21586, 0], abs=1e-5)
    assert float(linear.sum()) == pytest.approx(1.21586, abs=1e-5)


def test_luma_is_dark_to_bright_in_both_depths() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    deep = ramp.astype(np.uint16) * 257
    for pixels in (ramp, deep):
        luma = PhotoPicture(pixels=pixels).luma()
        assert luma.dtype == torch.uint8
        assert np.array_equal(luma.numpy(), ramp[..., 0])


def test_too_bright_light_is_white() -> None:
    black = PhotoPicture(pixels=np.zeros((4, 5, 3), np.uint8))
    white = black.with_linear(torch.full((3, 4, 5), 7.0))
    assert (white.pixels == 255).all()
