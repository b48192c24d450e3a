"""Conversion between the code values of a file and linear light.

Encoding has two steps: a transfer function maps linear light to signal values R'G'B' in [0, 1]
(`to_encoded`; its inverse is `to_linear`), and a matrix maps R'G'B' to quantised luma and colour differences
(`ColorSpec.encoder`; its inverse is `ColorSpec.decoder`). All numbers are ITU-T H.273 code points, as in
PyAV.

For standard dynamic range (BT.601, 709, 2020, sRGB) the sRGB function is used throughout: players display
such video and photos with about the same curve, so a frame keeps its code values when it is saved as a photo;
and cameras compress more than the OETF of BT.709 (deconvolution of the REDS pairs gains 0.2 dB more with
sRGB). PQ (SMPTE ST 2084) is display light, with 1 at 1,000 cd/m2; HLG (ARIB STD-B67) is scene light, with 1
at its peak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .errors import UnreadableMedia

UNSPECIFIED = 2
FULL = 2  # AVCOL_RANGE_JPEG; 1 is limited, 0 is untagged
IDENTITY, YCGCO = 0, 8  # matrices that are not defined by two luma weights
LINEAR, SRGB, PQ, HLG = 8, 13, 16, 18  # transfer functions; so are the keys of _POWERS
HD_LINES = 720

LUMA = (0.2126, 0.7152, 0.0722)  # weights of linear red, green and blue in luminance, BT.709

# Luma weights of red and blue, H.273 table 4.
_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
_POWERS = {4: 2.2, 5: 2.8}

# SMPTE ST 2084; its peak of 10,000 cd/m2 in units of 1,000 cd/m2.
_M1, _M2 = 2610 / 16384, 2523 / 32
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128
_PQ_PEAK = 10.0
# ARIB STD-B67.
_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorSpec:
    """Encoding of the code values of a picture. Primaries are passed through, never used."""

    matrix: int
    full: bool  # full range; else black is 16 and white 235 (of 255)
    primaries: int
    transfer: int
    depth: int  # bits per sample

    def __post_init__(self) -> None:
        if self.matrix not in _LUMA_WEIGHTS and self.matrix not in (IDENTITY, YCGCO):
            raise UnreadableMedia(
                f"colour matrix {self.matrix} (ITU-T H.273) is not supported; convert it to BT.709 or BT.2020"
            )

    @property
    def matrix_from_rgb(self) -> np.ndarray:
        """[3, 3] matrix from R'G'B' to Y'CbCr with the colour differences in [-0.5, 0.5]."""
        if self.matrix == IDENTITY:
            return np.eye(3)
        if self.matrix == YCGCO:
            return np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0, -0.5]])
        red, blue = _LUMA_WEIGHTS[self.matrix]
        luma = np.array([red, 1 - red - blue, blue])
        cb = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
        cr = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
        return np.stack([luma, cb, cr])

    @property
    def encoder(self) -> tuple[Tensor, Tensor]:
        """[3, 3] gain and [3, 1] offset from R'G'B' in [0, 1] to code values (not rounded)."""
        scale, offset = self._quantisation()
        gain = scale[:, None] * self.matrix_from_rgb
        return torch.from_numpy(gain).float(), torch.from_numpy(offset[:, None]).float()

    @property
    def decoder(self) -> tuple[Tensor, Tensor]:
        """[3, 3] gain and [3, 1] offset from code values to R'G'B'."""
        scale, offset = self._quantisation()
        gain = np.linalg.inv(scale[:, None] * self.matrix_from_rgb)
        return torch.from_numpy(gain).float(), torch.from_numpy(-gain @ offset[:, None]).float()

    def _quantisation(self) -> tuple[np.ndarray, np.ndarray]:
        """Code values per unit of signal and the code value of zero, per plane (BT.709 part 4.6)."""
        step = 2.0 ** (self.depth - 8)
        top = 2.0**self.depth - 1
        chroma_zero = 128 * step
        if self.matrix == IDENTITY:
            scale, zero = (top, 0.0) if self.full else (219 * step, 16 * step)
            return np.full(3, scale), np.full(3, zero)
        if self.full:
            return np.array([top, top, top]), np.array([0, chroma_zero, chroma_zero])
        return np.array([219, 224, 224]) * step, np.array([16 * step, chroma_zero, chroma_zero])


def resolve_matrix(matrix: int, height: int) -> int:
    """The matrix of a file; by convention BT.709 from 720 lines on and BT.601 below if untagged."""
    if matrix not in (UNSPECIFIED, 3):
        return matrix
    return 1 if height >= HD_LINES else 6


def to_linear(signal: Tensor, transfer: int) -> Tensor:
    """Invert a transfer function: R'G'B' of any shape to linear light, a new tensor. Below 0 gives 0."""
    return to_linear_(signal.clone(), transfer)


def to_linear_(signal: Tensor, transfer: int) -> Tensor:
    """`to_linear` in place: the content of `signal` is undefined afterwards.

    Allocation costs more than the arithmetic. Differentiable like torch's in-place functions.
    """
    signal.clamp_(min=0)
    if transfer == LINEAR:
        return signal
    if transfer == PQ:
        root = signal.clamp_(max=1).pow_(1 / _M2)  # the formula has a pole at a signal of 1.99
        return ((root - _C1).clamp_(min=0) / (_C2 - _C3 * root)).pow_(1 / _M1).mul_(_PQ_PEAK)
    if transfer == HLG:
        high = ((signal - _HLG_C) / _HLG_A).exp_().add(_HLG_B).div_(12)
        return _where_in_place(signal <= 0.5, signal.square().div_(3), high)
    if transfer in _POWERS:
        return signal.pow_(_POWERS[transfer])
    return _srgb_to_linear(signal)


def to_encoded(linear: Tensor, transfer: int) -> Tensor:
    """Apply a transfer function: linear light of any shape to R'G'B', in a new tensor."""
    linear = linear.clamp(min=0)
    if transfer == LINEAR:
        return linear
    if transfer == PQ:
        y_m1 = linear.div_(_PQ_PEAK).clamp_(max=1).pow_(_M1)
        return ((_C1 + _C2 * y_m1) / (1 + _C3 * y_m1)).pow_(_M2)
    if transfer == HLG:
        high = (12 * linear - _HLG_B).clamp_(min=1e-6).log_().mul_(_HLG_A).add_(_HLG_C)
        return _where_in_place(linear <= 1 / 12, (3 * linear).sqrt_(), high)
    if transfer in _POWERS:
        return linear.pow_(1 / _POWERS[transfer])
    return _linear_to_srgb(linear)


# IEC 61966-2-1: a power law with a linear segment near black.
_TOE, _POWER, _SLOPE, _KNEE = 0.055, 2.4, 12.92, 0.0031308


def _srgb_to_linear(signal: Tensor) -> Tensor:
    low = signal <= _SLOPE * _KNEE
    linear = (signal + _TOE).div_(1 + _TOE).pow_(_POWER)
    return _where_in_place(low, signal.div_(_SLOPE), linear)


def _linear_to_srgb(linear: Tensor) -> Tensor:
    low = linear <= _KNEE
    # The slope of the power law is unbounded at 0: clamping keeps its gradient finite in the linear segment.
    signal = linear.clamp(min=_KNEE).pow_(1 / _POWER).mul_(1 + _TOE).sub_(_TOE)
    return _where_in_place(low, linear * _SLOPE if linear.requires_grad else linear.mul_(_SLOPE), signal)


def _where_in_place(where: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """`torch.where`, in the memory of `other` unless autograd needs it."""
    if one.requires_grad or other.requires_grad:
        return torch.where(where, one, other)
    return torch.where(where, one, other, out=other)
