"""Windows of a picture."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor


def center_crop(image: Tensor, side: int, *, multiple: int = 1) -> Tensor:
    """The middle `side` x `side` pixels of [..., H, W], or all of a smaller picture; a view.

    The top left corner lies at a multiple of `multiple` pixels, such as the block size of JPEG.
    """
    top, left = (max(0, length - side) // 2 // multiple * multiple for length in image.shape[-2:])
    return image[..., top : top + side, left : left + side]


def largest_mean_window(values: npt.NDArray[np.float32], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the window of `size` (height, width) with the largest mean of [H, W] `values`."""
    height, width = (min(length, limit) for length, limit in zip(size, values.shape, strict=True))
    # The border mode has no effect: windows that reach over the border are cut off.
    mean = cv2.boxFilter(values, -1, (width, height), anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
    valid = mean[: values.shape[0] - height + 1, : values.shape[1] - width + 1]
    top, left = (int(index) for index in np.unravel_index(int(valid.argmax()), valid.shape))
    return slice(top, top + height), slice(left, left + width)
