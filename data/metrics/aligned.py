"""Metrics against a reference of another camera, after photometric and geometric alignment.

Protocol of RealBlur (Rim et al. 2020), after that of Köhler et al. (2012): brightness matched by least
squares, a homography by enhanced correlation (Evangelidis & Psarakis 2008), PSNR and SSIM within the overlap.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from freezeframe.data.srgb import SrgbImage

from .image import SSIM_BORDER, ssim_map

Values = npt.NDArray[np.float64]

_MAX_ITERATIONS = 100  # of enhanced correlation
_GAUSS_FILTER_SIZE = 5  # pixels of the Gaussian before its gradients


def aligned_psnr_ssim(image: SrgbImage, truth: SrgbImage) -> tuple[float, float]:
    """PSNR in dB and SSIM of two [H, W, 3] uint8 images, after alignment of the first to the second."""
    registered, valid = align_to_truth(image, truth)
    reference = truth.astype(np.float64)
    error = ((registered - reference) ** 2).mean(2)[valid].mean()
    similarity = ssim_map(np.where(valid[..., None], registered, 0), np.where(valid[..., None], reference, 0))
    inner = slice(SSIM_BORDER, -SSIM_BORDER)
    return (
        float(10 * np.log10(255**2 / error)) if error else float("inf"),
        float(similarity[valid[inner, inner]].mean()),
    )


def align_to_truth(image: SrgbImage, truth: SrgbImage) -> tuple[Values, npt.NDArray[np.bool_]]:
    """`image` in the geometry and brightness of `truth`, [H, W, 3] code values, and the overlap [H, W]."""
    source, reference = image.astype(np.float32), truth.astype(np.float32)
    gain_matched = source * float(
        (source * reference).sum(dtype=np.float64) / max(1.0, np.square(source, dtype=np.float64).sum())
    )
    matrix = _homography(gain_matched, reference)
    size = truth.shape[1], truth.shape[0]
    inverse = cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(
        gain_matched, matrix, size, flags=cv2.INTER_CUBIC | inverse, borderMode=cv2.BORDER_REFLECT
    )
    valid = cv2.warpPerspective(
        np.ones(image.shape[:2], np.uint8), matrix, size, flags=cv2.INTER_NEAREST | inverse
    )
    return np.asarray(warped, np.float64), np.asarray(valid) > 0


def _homography(image: npt.NDArray[np.float32], truth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    identity = np.eye(3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _MAX_ITERATIONS, 0.0)
    template, source = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (truth, image))
    everywhere = np.full(template.shape, 255, np.uint8)
    try:
        _, matrix = cv2.findTransformECC(
            template, source, identity.copy(), cv2.MOTION_HOMOGRAPHY, stop, everywhere, _GAUSS_FILTER_SIZE
        )
    except cv2.error:  # no texture to register
        return identity
    return np.asarray(matrix, np.float32)
