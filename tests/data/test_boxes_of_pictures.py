"""Reading and writing boxes of pictures: the pixels of the whole picture, and nothing beside them."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from freezeframe.data.color import HLG, PQ
from freezeframe.data.media.photo.photo import PhotoPicture
from freezeframe.data.media.video_in.frame_picture import VideoPicture
from freezeframe.data.media.video_in.planes import planes
from freezeframe.data.types import Box, Frame, Picture
from freezeframe.tests.data.media.photo.test_photo_light import curv, profile_with

FORMATS = [
    *("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "nv12", "nv16", "p010le", "yuv420p10le", "yuv422p10le"),
    *("yuv444p12le", "gray", "gray10le", "rgb24", "gbrp10le", "rgba", "rgb48le", "yuv411p", "yuv440p"),
]
PHOTOS = ["8-bit photo", "16-bit photo with alpha", "photo with a profile"]
SIZE = (37, 51)
BOXES = [
    Box(left=0, top=0, right=51, bottom=37),
    Box(left=12, top=8, right=28, bottom=20),
    Box(left=13, top=7, right=28, bottom=18),
    Box(left=33, top=20, right=51, bottom=37),
    Box(left=0, top=0, right=9, bottom=3),
    Box(left=50, top=36, right=51, bottom=37),
    Box(left=0, top=11, right=1, bottom=12),
]


def picture_of(kind: str, size: tuple[int, int] = SIZE, *, transfer: int = 1) -> VideoPicture | PhotoPicture:
    """Random code values, most of them outside the RGB gamut."""
    rng = np.random.default_rng(len(kind))
    if "photo" in kind:
        code_type = np.uint16 if "16-bit" in kind else np.uint8
        samples = rng.integers(0, np.iinfo(code_type).max, (*size, 4), code_type, endpoint=True)
        profile = profile_with(curv(), curv(512), curv(563)) if "profile" in kind else None
        return PhotoPicture(
            pixels=samples[..., :3], alpha=samples[..., 3] if "alpha" in kind else None, profile=profile
        )
    frame = av.VideoFrame(size[1], size[0], kind)
    bits = frame.format.components[0].bits
    shift = 16 - bits if kind == "p010le" else 0
    for plane in frame.planes:
        codes = rng.integers(0, 1 << bits, plane.buffer_size // (1 if bits == 8 else 2), np.uint16) << shift
        plane.update(codes.astype(np.uint8 if bits == 8 else np.uint16).tobytes())
    frame.color_trc, frame.colorspace, frame.pts, frame.time_base = transfer, 1, 7, Fraction(1, 25)
    return VideoPicture(frame)


def samples_of(picture: Picture) -> list[np.ndarray]:
    """Copies of all planes."""
    if isinstance(picture, VideoPicture):
        return [plane.copy() for plane in planes(picture._planar())]
    assert isinstance(picture, PhotoPicture)
    return [picture.pixels[..., channel] for channel in range(3)]


def reach_of(mask: Tensor, plane: np.ndarray) -> np.ndarray:
    """The samples of a plane that share area with a mask of pixels."""
    steps = [
        1 if of_plane == of_mask else 2 for of_plane, of_mask in zip(plane.shape, mask.shape, strict=True)
    ]
    reach = np.zeros(plane.shape, bool)
    rows, columns = mask.nonzero().numpy().T
    reach[rows // steps[0], columns // steps[1]] = True
    return reach


def everywhere(box: Box) -> Tensor:
    return torch.ones(box.height, box.width, dtype=torch.bool)


def noise(box: Box) -> Tensor:
    return torch.rand(3, box.height, box.width, generator=torch.Generator().manual_seed(box.left))


def paste(box: Box, mask: Tensor) -> Tensor:
    """The mask of a box in the whole picture."""
    whole = torch.zeros(SIZE, dtype=torch.bool)
    whole[box.slices(SIZE)] = mask
    return whole


@pytest.mark.parametrize("kind", FORMATS + PHOTOS)
def test_a_box_has_the_light_of_the_whole_picture(kind: str) -> None:
    """Float32 rounds the matrix product by the shape of its operands: up to 1e-6 of white."""
    picture = picture_of(kind)
    whole = picture.linear()
    for box in BOXES:
        torch.testing.assert_close(picture.linear_in(box), whole[:, *box.slices(SIZE)], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "transfer"),
    [*((kind, 1) for kind in FORMATS + PHOTOS), ("yuv420p10le", PQ), ("yuv420p10le", HLG)],
)
def test_writing_a_box_is_writing_the_picture_where_the_mask_is_and_nothing_elsewhere(
    kind: str, transfer: int
) -> None:
    picture = picture_of(kind, transfer=transfer)
    before, light = samples_of(picture), picture.linear()
    for box in BOXES:
        image, mask = noise(box), noise(box)[0] > 0.4
        whole_mask, whole = paste(box, mask), light.clone()
        whole[:, whole_mask] = image[:, mask]
        expected = samples_of(picture.with_linear(whole))
        after = samples_of(picture.with_linear_in(box, image, mask))
        for old, new, target in zip(before, after, expected, strict=True):
            reach = reach_of(whole_mask, old)
            np.testing.assert_array_equal(new, np.where(reach, target, old))


@pytest.mark.parametrize("kind", FORMATS + PHOTOS)
def test_a_box_that_is_read_and_written_back_stays(kind: str) -> None:
    """To one code value, like the whole picture."""
    picture = picture_of(kind)
    same = samples_of(picture.with_linear(picture.linear()))
    for box in BOXES:
        back = picture.with_linear_in(box, picture.linear_in(box), everywhere(box))
        inside = paste(box, everywhere(box))
        for old, new, target in zip(samples_of(picture), samples_of(back), same, strict=True):
            np.testing.assert_array_equal(new, np.where(reach_of(inside, old), target, old))


@pytest.mark.parametrize("kind", FORMATS + PHOTOS)
def test_an_empty_mask_changes_nothing(kind: str) -> None:
    picture = picture_of(kind)
    for box in BOXES:
        same = picture.with_linear_in(box, noise(box), ~everywhere(box))
        for old, new in zip(samples_of(picture), samples_of(same), strict=True):
            np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("kind", ["yuv420p", "nv12", "yuv422p10le", "gbrp", "16-bit photo with alpha"])
def test_boxes_apart_are_written_in_any_order(kind: str) -> None:
    boxes = [Box(left=3, top=5, right=14, bottom=12), Box(left=30, top=5, right=41, bottom=16)]
    boxes.append(Box(left=16, top=22, right=51, bottom=37))
    assert all(a.gap(b) > 1 for a, b in pairwise(boxes))
    results: list[Picture] = [picture_of(kind), picture_of(kind)]
    for order, result in zip((boxes, boxes[::-1]), range(2), strict=True):
        for box in order:
            results[result] = results[result].with_linear_in(box, noise(box), everywhere(box))
    for one, other in zip(*map(samples_of, results), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 6), (3, 3), (48, 64)])
@pytest.mark.parametrize("kind", ["yuv420p", "yuv422p", "nv12", "8-bit photo"])
def test_a_box_of_the_whole_picture_is_the_picture(kind: str, size: tuple[int, int]) -> None:
    picture = picture_of(kind, size)
    box = Box(left=0, top=0, right=size[1], bottom=size[0])
    assert torch.equal(picture.linear_in(box), picture.linear())
    by_box = picture.with_linear_in(box, noise(box), everywhere(box))
    for one, other in zip(samples_of(by_box), samples_of(picture.with_linear(noise(box))), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_frame_keeps_its_time_and_its_tags() -> None:
    frame = Frame(index=3, time=Fraction(3, 25), picture=picture_of("yuv420p"))
    copy = frame.with_box(BOXES[1], noise(BOXES[1]), everywhere(BOXES[1]))
    assert (copy.index, copy.time) == (3, Fraction(3, 25))
    assert isinstance(frame.picture, VideoPicture)
    assert isinstance(copy.picture, VideoPicture)
    assert not copy.picture.unmodified
    for tag in ("pts", "time_base", "color_trc", "colorspace", "color_range"):
        assert getattr(copy.picture.frame, tag) == getattr(frame.picture.frame, tag)


def test_a_photo_keeps_its_alpha_and_forgets_its_file(tmp_path) -> None:
    photo = picture_of("16-bit photo with alpha")
    photo = PhotoPicture(pixels=photo.pixels, alpha=photo.alpha, exif=b"MM", file=tmp_path / "a.png")
    before = photo.pixels.copy()
    copy = photo.with_linear_in(BOXES[1], noise(BOXES[1]), everywhere(BOXES[1]))
    assert copy.alpha is photo.alpha
    assert (copy.exif, copy.file) == (b"MM", None)
    assert (photo.pixels == before).all(), "the original is unchanged"


@pytest.mark.parametrize("kind", ["yuv420p", "8-bit photo"])
def test_a_box_outside_of_the_picture_raises(kind: str) -> None:
    picture = picture_of(kind)
    for box in (Box(left=-1, top=0, right=4, bottom=4), Box(left=48, top=0, right=52, bottom=4)):
        with pytest.raises(ValueError, match="exceeds a picture of 51x37 pixels"):
            picture.linear_in(box)
        with pytest.raises(ValueError, match="exceeds a picture"):
            picture.with_linear_in(box, noise(box), everywhere(box))
