"""What changes before a still camera, on drawn clips with known movers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from freezeframe.motion.regions.changes import changes, reduce_luma

from .conftest import SIZE, Disc, Drawing

CROSSING = Disc(radii=(14, 20), path=lambda t: (60 + 17 * t, 100.0))


def changed(draw, drawing: Drawing) -> list[np.ndarray]:
    return [mask > 0 for mask in changes([luma.numpy() for luma in draw(drawing)])]


def swept(drawing: Drawing, disc: Disc, frame: int, margin: float) -> np.ndarray:
    """What a disc covers during an exposure, widened by `margin` pixels."""
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    covered = np.zeros(SIZE, bool)
    for t in frame + drawing.shutter * np.linspace(-0.5, 0.5, 33):
        x, y = disc.path(t)
        a, b = (radius + margin for radius in disc.radii)
        covered |= ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1
    return covered


@pytest.mark.parametrize("noise", [0.0, 1.5, 5.0])
def test_noise_is_no_change(noise, draw):
    for mask in changed(draw, Drawing(noise=noise)):
        assert mask.mean() < 0.002


def test_flicker_of_the_light_is_no_change(draw):
    for mask in changed(draw, Drawing(light=lambda frame: 1 - 0.08 * (frame % 2))):
        assert mask.mean() < 0.01


def test_a_mover_changes_what_it_covers_in_the_frame_and_nothing_else(draw):
    """What it covers in other frames is background in this one, although it differs there."""
    drawing = Drawing(discs=[CROSSING])
    for frame, mask in enumerate(changed(draw, drawing)):
        inside, around = (swept(drawing, CROSSING, frame, margin) for margin in (-5, 5))
        assert mask[inside].mean() > 0.9
        assert mask[~around].mean() < 0.002


def test_where_something_lingers_no_background_is_known(draw):
    """A thing with texture that sways within its own size covers the same pixels in every frame."""
    lumas = [luma.numpy().copy() for luma in draw(Drawing())]
    texture = np.random.default_rng(1).integers(0, 255, (80, 100), np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(texture, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    for frame, luma in enumerate(lumas):
        sway = 10 + 7 * (frame % 3)
        luma[60:120, 100:160] = texture[10:70, sway : sway + 60]
    for mask in changes(lumas):
        assert (mask[65:115, 105:155] > 0).mean() > 0.8


def test_a_background_needs_frames(draw):
    assert changes([luma.numpy() for luma in draw(Drawing(frames=3))]) == []


def test_large_frames_are_reduced():
    luma = np.random.default_rng(0).integers(0, 255, (540, 1920), np.uint8)
    assert reduce_luma(luma, 960).shape == (270, 960)
    assert reduce_luma(luma, 4000).shape == luma.shape
