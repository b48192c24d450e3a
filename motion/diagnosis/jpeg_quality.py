"""How strongly a picture was once coded as JPEG, told by its pixels alone.

A decoded picture's cosine transform, block by block, lies at multiples of the coder's quantisation steps
(Fan & de Queiroz 2003, identification of bitmap compression history). Only the steps of the standard's own
tables, scaled as the Independent JPEG Group's coder scales them, are looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# ITU-T T.81, table K.1: luminance, the corner of low frequencies that is still there at quality 10.
_STEPS = np.array([[16, 11, 10, 16], [12, 12, 14, 19], [14, 13, 16, 24], [14, 17, 22, 29]], float)
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # of the coder's luma
QUALITIES = tuple(range(5, 96))
_MIN_PERIODICITY = 0.5  # mean cosine from which on the coefficients do lie at multiples
_NEAR_BEST = 0.85  # of the best cosine: finer steps that divide the true ones come as close
_MIN_COEFFICIENTS = 40  # coefficients beside zero, of one frequency
_MAX_BLOCKS, _COARSE_BLOCKS = 4096, 1024  # blocks looked at, and to begin with


def estimate_jpeg_quality(encoded: Array) -> int | None:
    """The quality, 5 to 95, at which a picture was coded last; None where it does not show.

    Not shown are pictures that were scaled since, and those of quality so high that rounding hides it.

    Args:
        encoded: [H, W, 3] R'G'B' or [H, W] grey codes, 0 to 255, as decoded.
    """
    luma = encoded @ _WEIGHTS if encoded.ndim == 3 else encoded.astype(np.float32)
    if min(luma.shape) < 24:
        return None
    corners = product(_phases(luma), _phases(luma.T))
    spectra = [_spectra(luma[top:, left:] - 128) for top, left in corners]
    # The steps of a photo that was turned by a quarter since are turned as well.
    candidates = [each for one in spectra for each in (one, one.swapaxes(0, 1))]
    periodicity = _periodicities(max(candidates, key=_coarse_periodicity), QUALITIES)
    if periodicity.max() < _MIN_PERIODICITY:
        return None
    plausible = periodicity >= _NEAR_BEST * periodicity.max()
    first = int(plausible.argmax())
    coarsest = first + int(np.append(~plausible[first:], True).argmax())
    return QUALITIES[first + int(periodicity[first:coarsest].argmax())]


def _phases(luma: Array) -> set[int]:
    """Rows at which blocks may begin: the picture's own, and where rows differ most, judged in two ways."""
    steps = np.abs(np.diff(luma, axis=0))
    jumps = steps[1:-1] - (steps[:-2] + steps[2:]) / 2
    # By sign alone, too: the edges of things are far higher than those of blocks.
    candidates = (np.median(_by_phase(jumps.mean(1)), axis=0), _by_phase((jumps > 0).mean(1)).mean(0))
    # Jump k lies between rows k + 1 and k + 2.
    return {0, *(int(each.argmax() + 2) % 8 for each in candidates)}


def _by_phase(rows: Array) -> Array:
    return rows[: len(rows) // 8 * 8].reshape(-1, 8)


def _spectra(luma: Array) -> Array:
    """[4, 4, N] cosine transforms of N blocks: rows of vertical, columns of horizontal frequencies."""
    rows, columns = (size // 8 for size in luma.shape)
    grid: Array = luma[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8)
    blocks: Array = grid.transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    blocks = blocks[:: max(1, len(blocks) // _MAX_BLOCKS)]
    cosines = _cosines()
    return np.asarray(np.einsum("ui,nij,vj->uvn", cosines, blocks, cosines, optimize=True))


@lru_cache(maxsize=1)
def _cosines() -> Array:
    """[4, 8] the four slowest waves of the orthonormal cosine transform of eight samples."""
    wave, sample = np.arange(4)[:, None], np.arange(8)
    waves = np.cos(np.pi * (2 * sample + 1) * wave / 16) / 2
    waves[0] /= np.sqrt(2)
    return np.asarray(waves, np.float32)


def _coarse_periodicity(spectra: Array) -> float:
    """The best closeness of some blocks to some qualities: enough to tell where blocks begin."""
    subset = spectra[..., :: max(1, spectra.shape[-1] // _COARSE_BLOCKS)]
    return float(_periodicities(subset, QUALITIES[1::2]).max())


def _periodicities(spectra: Array, qualities: Sequence[int]) -> Array:
    return np.array([_periodicity(spectra, quality) for quality in qualities])


def _periodicity(spectra: Array, quality: int) -> float:
    """Mean cosine of all that is not zero, one turn per quantisation step: 1 if all lie at multiples."""
    steps = _quantisation_steps(quality)[..., None]
    nonzero = np.abs(spectra) > 0.6 * steps
    nonzero[0, 0] = False  # the mean of a block is large: any step comes close to its multiples
    nonzero &= nonzero.sum(-1, keepdims=True) >= _MIN_COEFFICIENTS
    if not nonzero.any():
        return 0.0
    cycles = (spectra / steps)[nonzero]
    return float(np.cos(2 * np.pi * cycles).mean())


def _quantisation_steps(quality: int) -> Array:
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    return np.asarray(np.floor((_STEPS * scale + 50) / 100).clip(1, 255))
