"""Chroma resampling with perfect reconstruction: `downsample(upsample(plane))` equals `plane`.

Linear interpolation and decimation with its dual filter are a biorthogonal pair. Chroma siting is that of
MPEG-2 and later: co-sited with every second luma sample of a row (LeGall 5/3 wavelet), midway between two
rows (3/1 spline of Cohen, Daubechies & Feauveau 1992). The long decimation filters also suppress aliasing of
fine stripes in a changed picture.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]

# Taps, and the index of the centre tap.
_IDENTITY_FILTER = (np.array([1], np.float32), 0)
_COLUMN_FILTER = (np.array([-1, 2, 6, 2, -1], np.float32) / 8, 2)
_ROW_FILTER = (np.array([-1, 3, 3, -1], np.float32) / 4, 1)


def upsample(plane: npt.NDArray[np.generic], size: tuple[int, int], subsampled: tuple[bool, bool]) -> Plane:
    """Interpolate a plane linearly to `size` (height, width) along the subsampled axes (rows, columns)."""
    full = plane.astype(np.float32)
    rows, columns = subsampled
    if columns:
        full = _double_columns(full)
    if rows:
        # OpenCV's linear resize has the weights of this pair: 3/4 of the near row and 1/4 of the far one.
        full = np.asarray(cv2.resize(full, (full.shape[1], 2 * full.shape[0])), np.float32)
    return full[: size[0], : size[1]]


def downsample(plane: Plane, subsampled: tuple[bool, bool]) -> Plane:
    """Decimate a plane along the subsampled axes (rows, columns); the exact left inverse of `upsample`."""
    rows, columns = subsampled
    if rows and plane.shape[0] % 2:
        plane = _pair_last_row(plane)
    (row_kernel, x), (column_kernel, y) = (
        _COLUMN_FILTER if columns else _IDENTITY_FILTER,
        _ROW_FILTER if rows else _IDENTITY_FILTER,
    )
    border = cv2.BORDER_REPLICATE
    filtered = cv2.sepFilter2D(plane, -1, row_kernel, column_kernel, anchor=(x, y), borderType=border)
    return np.asarray(filtered, np.float32)[:: 1 + rows, :: 1 + columns]


def _double_columns(plane: Plane) -> Plane:
    """Each column, followed by its mean with the next column; the last column is repeated."""
    next_columns = np.concatenate([plane[:, 1:], plane[:, -1:]], axis=1)
    pairs = cv2.merge([plane, (plane + next_columns) / 2])
    return np.asarray(pairs, np.float32).reshape(plane.shape[0], -1)


def _pair_last_row(plane: Plane) -> Plane:
    """Append the row that completes an odd number of rows, so that the last chroma sample is recovered."""
    previous_row = plane[-2:-1] if len(plane) > 1 else plane[-1:]
    return np.concatenate([plane, 1.5 * plane[-1:] - 0.5 * previous_row])
