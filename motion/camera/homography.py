"""The camera's own motion: what maps a whole frame onto the next, and the path that this tells of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freezeframe.motion.flow.estimators import dis_uv, gamma_luma
from freezeframe.motion.flow.interpolation import pixel_grid

Array = NDArray[Any]

_MIN_SIDE = 40  # pixels of the shorter side at which the search starts
_MIN_CONTRAST = 0.01  # gamma-coded standard deviation, the least that a picture must show
_MIN_CORRELATION = 0.25  # correlation of details, the least while players still disturb it
_MIN_BACKGROUND_CORRELATION = 0.6  # the same, the least between a frame's background and its match
_OUTSIDE = 1.0  # difference given to points without a counterpart
_TERMINATION = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT
_LEVELS = 5
_GAUSS_FILTER_SIZE = 3  # pixels of the Gaussian that enhanced correlation takes slopes through
_MAX_CORRELATION_LOSS = 0.005  # correlation that a map found on finer pictures may lose on the coarser ones,
_MAX_DISSIMILARITY_LOSS = 0.05  # and share of what those leave unlike: players disturb coarse pictures most
_MIN_PIXELS = 64  # pixels whose correlation says anything
_RANSAC_THRESHOLD = 1.0  # pixels of flow error that still agree with a homography


def estimate_homography(
    source: Tensor,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    start: Tensor | None = None,
    finest: bool = False,
) -> Tensor | None:
    """The plane-to-plane map of a whole frame: target(H p) shows what source(p) shows. Takes no gradient.

    Phase correlation or the majority of a quick flow, whichever lays the frames better onto each other, for
    the first guess; then enhanced correlation (Evangelidis & Psarakis 2008) from coarse to fine, as far as
    both frames show the same, and once more without the points that disagree, such as players.

    Args:
        source: [3, H, W] linear RGB.
        target: As `source`.
        mask: [H, W], above 0.5 where the background is; None for everywhere.
        start: [3, 3] first guess in pixels, such as `fit_homography` gives.
        finest: Go to the finest pictures, whether the coarser ones confirm it or not.

    Returns:
        [3, 3] float64 with lower right 1, or None where the frames show too little or nothing alike.
    """
    a, b = (gamma_luma(frame).cpu().numpy().astype(np.float32) for frame in (source, target))
    if min(a.std(), b.std()) < _MIN_CONTRAST:
        return None
    valid = np.full(a.shape, 255, np.uint8) if mask is None else _to_mask(mask)
    guess = _first_guess(a, b, valid) if start is None else start.double().cpu().numpy()
    match = _refine_ecc(a, b, valid, guess, finest=finest)
    if match.correlation < _MIN_CORRELATION:
        return None
    inliers = valid & _inlier_mask(a, b, match.matrix)
    refit = _refine_ecc(a, b, inliers, match.matrix, levels=match.level + 1, finest=finest)
    match = refit if finest or refit.correlation >= match.correlation else match
    return torch.from_numpy(match.matrix) if match.correlation >= _MIN_BACKGROUND_CORRELATION else None


def fit_homography(uv: Tensor, confidence: Tensor, *, step: int = 16) -> Tensor | None:
    """The homography that most of a flow agrees with, by RANSAC on every `step`-th pixel. Takes no gradient.

    Args:
        uv: [2, H, W] pixels.
        confidence: [H, W] in [0, 1]; points under 0.5 have no voice.
        step: Pixels between voices.
    """
    x, y = (axis[::step, ::step] for axis in pixel_grid(uv))
    displacement = uv[:, ::step, ::step]
    confident = confidence[::step, ::step] > 0.5
    if int(confident.sum()) < 16:
        return None
    points = torch.stack((x[confident], y[confident]), dim=-1).cpu().numpy()
    ends = points + displacement[:, confident].T.cpu().numpy()
    fitted, _ = cv2.findHomography(points, ends, cv2.RANSAC, _RANSAC_THRESHOLD, maxIters=500)
    return None if fitted is None else torch.from_numpy(np.asarray(fitted, np.float64))


def homography_to_flow(matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """The shift, [2, H, W] pixels, that a homography [3, 3] gives to a frame of `size` (H, W)."""
    x, y = pixel_grid(torch.zeros(size, dtype=matrix.dtype, device=matrix.device))
    ends = torch.einsum("ij,jhw->ihw", matrix, torch.stack((x, y, torch.ones_like(x))))
    uv = ends[:2] / ends[2:] - torch.stack((x, y))
    return uv.float()


def _to_mask(mask: Tensor) -> Array:
    return ((mask > 0.5).cpu().numpy() * 255).astype(np.uint8)


def _first_guess(a: Array, b: Array, valid: Array) -> Array:
    guesses = [np.eye(3), _translation_guess(a, b)]
    luma8 = [(np.clip(image, 0, 1) * 255).astype(np.uint8) for image in (a, b)]
    consensus = fit_homography(dis_uv(*luma8, preset="fast"), torch.from_numpy(valid / 255.0))
    if consensus is not None:
        guesses.append(consensus.numpy())
    # The median is the background's word, as long as it fills half of the frame.
    return min(guesses, key=lambda guess: float(np.median(_difference(a, b, guess)[valid > 0])))


def _translation_guess(a: Array, b: Array) -> Array:
    window = cv2.createHanningWindow(a.shape[::-1], cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(a, b, window)
    guess = np.eye(3)
    guess[:2, 2] = dx, dy
    # Wild guesses come from frames with little in common: better to start from rest.
    return guess if abs(dx) < a.shape[1] / 2 and abs(dy) < a.shape[0] / 2 else np.eye(3)


@dataclass(frozen=True, slots=True)
class _Match:
    """How one picture is laid onto another, as seen in pictures 2^level times smaller."""

    matrix: Array
    correlation: float  # correlation of details
    level: int


def _refine_ecc(  # noqa: PLR0913
    a: Array, b: Array, valid: Array, guess: Array, *, levels: int = _LEVELS, finest: bool = False
) -> _Match:
    """Enhanced correlation from coarse to fine, as far as both pictures show the same.

    Two exposures blurred in different ways agree on what is coarser than their blur and on nothing finer:
    there a map is led astray. The coarser pictures are the judge, for noise does not disturb those.
    """
    best = _Match(guess, 0.0, 0)
    for level in reversed(range(levels)):
        if level and min(a.shape) * 0.5**level < _MIN_SIDE:
            continue
        finer = _ecc_at_level(a, b, valid, best.matrix, level)
        if finest and not finer.correlation:
            return finer
        if finest or not best.correlation:
            best = finer
            continue
        loss = best.correlation - _detail_correlation(a, b, valid, finer.matrix, level + 1)
        if not finer.correlation or loss > _MAX_CORRELATION_LOSS + _MAX_DISSIMILARITY_LOSS * (
            1 - best.correlation
        ):
            break
        best = finer
    return best


def _ecc_at_level(a: Array, b: Array, valid: Array, guess: Array, level: int) -> _Match:
    """Enhanced correlation of reduced pictures; likeness 0 and the guess where it finds nothing."""
    one, other, small_valid = _downsample(a, b, valid, level)
    to_small = _scaling(one.shape[1] / a.shape[1], one.shape[0] / a.shape[0])
    # OpenCV masks the picture that it warps: so the source is warped, by the way back.
    inverse = (to_small @ np.linalg.inv(guess) @ np.linalg.inv(to_small)).astype(np.float32)
    steps = (_TERMINATION, 30 * 2**level, 1e-6)
    try:
        correlation, warp_matrix = cv2.findTransformECC(
            other, one, inverse / inverse[2, 2], cv2.MOTION_HOMOGRAPHY, steps, small_valid, _GAUSS_FILTER_SIZE
        )
    except cv2.error:
        return _Match(guess, 0.0, level)
    matrix = np.linalg.inv(to_small) @ np.linalg.inv(np.asarray(warp_matrix, np.float64)) @ to_small
    return _Match(matrix / matrix[2, 2], float(correlation), level)


def _detail_correlation(a: Array, b: Array, valid: Array, matrix: Array, level: int) -> float:
    """Correlation of details of reduced pictures, laid onto each other by a map of the whole ones."""
    one, other, small_valid = (image.astype(np.float32) for image in _downsample(a, b, valid, level))
    to_small = _scaling(one.shape[1] / a.shape[1], one.shape[0] / a.shape[0])
    small_matrix = to_small @ matrix @ np.linalg.inv(to_small)
    smoothed = [
        cv2.GaussianBlur(image, (_GAUSS_FILTER_SIZE, _GAUSS_FILTER_SIZE), 0) for image in (one, other)
    ]
    size = one.shape[::-1]
    overlap = cv2.warpPerspective(small_valid, small_matrix, size, flags=cv2.INTER_NEAREST) > 0
    warped = cv2.warpPerspective(smoothed[0], small_matrix, size)
    if overlap.sum() < _MIN_PIXELS:
        return 0.0
    return float(np.corrcoef(warped[overlap], smoothed[1][overlap])[0, 1])


def _downsample(a: Array, b: Array, valid: Array, level: int) -> tuple[Array, Array, Array]:
    one, other = (_details(image, 0.5**level) for image in (a, b))
    small_valid = cv2.resize(valid, one.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return one, other, _without_border(small_valid)


def _details(image: Array, shrink: float) -> Array:
    """A reduced picture less its own soft copy: broad shades would outweigh everything that can be placed."""
    small = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return np.asarray(small - cv2.GaussianBlur(small, (0, 0), 4))


def _without_border(valid: Array) -> Array:
    """The mask less its rim, where smoothing has invented a mirror image."""
    rim = min(12, *(side // 16 for side in valid.shape))
    inner = np.zeros_like(valid)
    inner[rim:-rim, rim:-rim] = valid[rim:-rim, rim:-rim]
    return inner


def _scaling(x: float, y: float) -> Array:
    """Full-size pixel centres to those of a picture x and y times as large."""
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def _inlier_mask(a: Array, b: Array, matrix: Array) -> Array:
    """255 where the target, laid onto the source, differs no more than is usual; [H, W] uint8."""
    difference = _difference(a, b, matrix)
    median = float(np.median(difference[difference < _OUTSIDE])) if (difference < _OUTSIDE).any() else 0.0
    return ((difference < 3 * median + 0.01) * 255).astype(np.uint8)


def _difference(a: Array, b: Array, matrix: Array) -> Array:
    """Mean difference around each point between the source and the target laid onto it."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(
        b, matrix, a.shape[::-1], flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=-1
    )
    difference = cv2.GaussianBlur(np.abs(a - warped), (0, 0), 2)
    return np.where(warped >= 0, difference, _OUTSIDE)
