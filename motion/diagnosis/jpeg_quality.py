"""JPEG quality of an image, estimated from its decoded pixels.

The DCT coefficients of the blocks of a decoded image lie at multiples of the quantisation steps (Fan & de
Queiroz 2003, identification of bitmap compression history). Only the tables of the standard are considered,
scaled as in the codec of the Independent JPEG Group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# ITU-T T.81, table K.1: luminance, the low frequencies that are not quantised to zero at quality 10.
_STEPS = np.array([[16, 11, 10, 16], [12, 12, 14, 19], [14, 13, 16, 24], [14, 17, 22, 29]], float)
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # JFIF luma
QUALITIES = tuple(range(5, 96))


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegQualityConfig:
    """Tunables of the estimate."""

    min_periodicity: float = 0.5  # mean cosine of an image with quantised coefficients
    near_best: float = 0.85  # of the best mean cosine: steps that divide the true ones come as close
    min_coefficients: int = 40  # nonzero coefficients of one frequency
    max_blocks: int = 4096
    coarse_blocks: int = 1024  # used to estimate the phase of the block grid


_DEFAULT = JpegQualityConfig()


def estimate_jpeg_quality(encoded: Array, *, config: JpegQualityConfig = _DEFAULT) -> int | None:
    """Quality, 5 to 95, of the last JPEG compression of an image; None if there is no evidence of one.

    There is none after rescaling, and at qualities so high that rounding dominates.

    Args:
        encoded: [H, W, 3] R'G'B' or [H, W] grey code values, 0 to 255, as decoded.
        config: Tunables.
    """
    luma = encoded @ _WEIGHTS if encoded.ndim == 3 else encoded.astype(np.float32)
    if min(luma.shape) < 24:
        return None
    corners = product(_phases(luma), _phases(luma.T))
    spectra = [_block_dct(luma[top:, left:] - 128, config.max_blocks) for top, left in corners]
    # A photo that was rotated by 90 degrees since has the transposed table.
    candidates = [each for one in spectra for each in (one, one.swapaxes(0, 1))]
    best = max(candidates, key=lambda spectrum: _coarse_periodicity(spectrum, config))
    periodicity = _periodicities(best, QUALITIES, config)
    if periodicity.max() < config.min_periodicity:
        return None
    plausible = periodicity >= config.near_best * periodicity.max()
    first = int(plausible.argmax())
    end = first + int(np.append(~plausible[first:], True).argmax())
    return QUALITIES[first + int(periodicity[first:end].argmax())]


def _phases(luma: Array) -> set[int]:
    """Candidates for the first row of the block grid: 0, and those of the largest steps by two criteria."""
    steps = np.abs(np.diff(luma, axis=0))
    excess = steps[1:-1] - (steps[:-2] + steps[2:]) / 2
    # The second criterion is the sign alone: edges of the scene are far higher than those of blocks.
    candidates = (np.median(_by_phase(excess.mean(1)), axis=0), _by_phase((excess > 0).mean(1)).mean(0))
    # Element k of `excess` lies between rows k + 1 and k + 2.
    return {0, *(int(each.argmax() + 2) % 8 for each in candidates)}


def _by_phase(rows: Array) -> Array:
    return rows[: len(rows) // 8 * 8].reshape(-1, 8)


def _block_dct(luma: Array, max_blocks: int) -> Array:
    """[4, 4, N] low DCT coefficients of N blocks: rows of vertical, columns of horizontal frequencies."""
    rows, columns = (size // 8 for size in luma.shape)
    grid: Array = luma[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8)
    blocks: Array = grid.transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    blocks = blocks[:: max(1, len(blocks) // max_blocks)]
    basis = _dct_basis()
    return np.asarray(np.einsum("ui,nij,vj->uvn", basis, blocks, basis, optimize=True))


@lru_cache(maxsize=1)
def _dct_basis() -> Array:
    """[4, 8] the four lowest frequencies of the orthonormal DCT-II of eight samples."""
    frequency, sample = np.arange(4)[:, None], np.arange(8)
    basis = np.cos(np.pi * (2 * sample + 1) * frequency / 16) / 2
    basis[0] /= np.sqrt(2)
    return np.asarray(basis, np.float32)


def _coarse_periodicity(spectra: Array, config: JpegQualityConfig) -> float:
    """Highest periodicity over some blocks and qualities: enough to find the phase of the block grid."""
    subset = spectra[..., :: max(1, spectra.shape[-1] // config.coarse_blocks)]
    return float(_periodicities(subset, QUALITIES[1::2], config).max())


def _periodicities(spectra: Array, qualities: Sequence[int], config: JpegQualityConfig) -> Array:
    return np.array([_periodicity(spectra, quality, config) for quality in qualities])


def _periodicity(spectra: Array, quality: int, config: JpegQualityConfig) -> float:
    """Mean cosine, with the quantisation step as period, of nonzero coefficients: 1 if all are multiples."""
    steps = _quantisation_steps(quality)[..., None]
    nonzero = np.abs(spectra) > 0.6 * steps
    nonzero[0, 0] = False  # means of blocks are large: near multiples of any step
    nonzero &= nonzero.sum(-1, keepdims=True) >= config.min_coefficients
    if not nonzero.any():
        return 0.0
    cycles = (spectra / steps)[nonzero]
    return float(np.cos(2 * np.pi * cycles).mean())


def _quantisation_steps(quality: int) -> Array:
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    return np.asarray(np.floor((_STEPS * scale + 50) / 100).clip(1, 255))
