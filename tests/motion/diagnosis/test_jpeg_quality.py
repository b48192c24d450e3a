from __future__ import annotations

import cv2
import numpy as np
import pytest

from freezeframe.motion.diagnosis.jpeg_quality import estimate_jpeg_quality


def scene(height: int = 240, width: int = 320, seed: int = 0) -> np.ndarray:
    """[H, W, 3] uint8: squares of several sizes, blurred by one pixel, with a little noise."""
    rng = np.random.default_rng(seed)
    layers = [
        rng.uniform(0, 255, (height // k + 1, width // k + 1, 3)).repeat(k, 0).repeat(k, 1)[:height, :width]
        for k in (5, 11, 23, 57)
    ]
    soft = cv2.GaussianBlur(np.mean(layers, axis=0), (0, 0), 1.0)
    return np.clip(soft + rng.normal(0, 1.5, soft.shape), 0, 255).round().astype(np.uint8)


def coded(image: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize("quality", [10, 15, 20, 30, 40, 50, 60, 75, 85])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_quality_of_the_coder_is_read_off_its_steps(quality, seed):
    """To 2: neighbouring qualities share most of their rounded quantisation steps."""
    assert estimate_jpeg_quality(coded(scene(seed=seed), quality)) == pytest.approx(quality, abs=2)


@pytest.mark.parametrize("shift", [(0, 3), (5, 0), (3, 7), (1, 1)], ids=str)
def test_the_grid_may_begin_anywhere(shift):
    """The block grid of cropped photos does not start in the corner."""
    top, left = shift
    assert estimate_jpeg_quality(coded(scene(), 25)[top:, left:]) == pytest.approx(25, abs=2)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_photo_may_have_been_rotated_since(quarters):
    """The block grid starts at another corner, and the quantisation table is transposed."""
    rotated = np.rot90(coded(scene(250, 333), 25), quarters)
    assert estimate_jpeg_quality(rotated) == pytest.approx(25, abs=2)


def test_grey_codes_tell_as_much():
    grey = cv2.cvtColor(scene(), cv2.COLOR_RGB2GRAY)
    _, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 20])
    decoded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    assert estimate_jpeg_quality(decoded) == pytest.approx(20, abs=2)


def test_what_was_never_coded_or_was_scaled_since_shows_nothing():
    photo = scene()
    assert estimate_jpeg_quality(photo) is None
    scaled = cv2.resize(coded(photo, 20), None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    assert estimate_jpeg_quality(scaled) is None
    noise = np.random.default_rng(3).normal(0, 15, photo.shape)
    assert estimate_jpeg_quality(np.clip(photo + noise, 0, 255).round()) is None
    assert estimate_jpeg_quality(coded(photo, 20) + noise) is None, "noise of 15 over steps of 30 hides them"
    assert estimate_jpeg_quality(np.full((200, 200, 3), 128, np.uint8)) is None
    assert estimate_jpeg_quality(photo[:10, :10]) is None


def test_the_last_of_two_codings_counts_where_it_is_the_coarser_one():
    assert estimate_jpeg_quality(coded(coded(scene(), 80), 25)) == pytest.approx(25, abs=2)


@pytest.mark.slow
def test_photographs(shared_data):
    for path in sorted((shared_data / "test" / "photos").rglob("*.png"))[:2]:
        photo = cv2.imread(str(path))[:512, :512, ::-1]
        assert estimate_jpeg_quality(photo) is None
        for quality in (10, 20, 30, 40):
            assert estimate_jpeg_quality(coded(photo, quality)) == pytest.approx(quality, abs=2)
