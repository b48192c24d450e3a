"""Laws of the clips and scores of `benchmarks.movers`."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from benchmarks.movers.fast import LARGE, path
from benchmarks.movers.movers import table_row
from benchmarks.movers.scenes import MIN_COVERAGE, draw_shot, exposure, latent, mover_mask, record
from benchmarks.movers.score import ClipScore, chroma_error, flicker_in, psnr_in, score_frame
from benchmarks.movers.shot import ClipFormat, Shot

pytestmark = pytest.mark.usefixtures("shared_data")
FRAME = 4


def background(shot: Shot) -> Shot:
    return replace(shot, scene=replace(shot.scene, layers=shot.scene.layers[:1]))


@pytest.mark.parametrize("case", ["compact_still", "runner_still"])
def test_the_mask_holds_all_light_of_the_movers(case):
    """Outside it, a mover covers at most 2 % of a pixel; grain exceeds white a little."""
    shot, _ = draw_shot(case, 1)
    change = (exposure(shot, FRAME) - exposure(background(shot), FRAME)).abs().amax(0)
    mask = mover_mask(shot, FRAME)
    assert change[~mask].max() < 1.5 * MIN_COVERAGE
    assert change[mask].mean() > 0.05


def test_a_still_camera_sees_the_same_background_in_all_frames():
    shot, _ = draw_shot("compact_still", 1)
    assert torch.equal(exposure(background(shot), 0), exposure(background(shot), FRAME))


def test_a_panning_camera_moves_the_background_by_its_speed():
    shot, _ = draw_shot("compact_pan", 1)
    layer = shot.scene.layers[0]
    moved = layer.corners(5.0)[0] - layer.corners(4.0)[0]
    assert 7 < abs(moved[0]) < 13  # 8 to 12 px, and the shake
    assert abs(moved[1]) < 2


def test_a_clip_of_a_seed_is_reproducible():
    def clip(seed):
        shot, rng = draw_shot("ball_three_diameters", seed)
        return record(replace(shot, frames=1), rng, name="clip", case="case")

    first, again, other = clip(0), clip(0), clip(1)
    assert torch.equal(first.frames[0], again.frames[0])
    assert torch.equal(first.sharp[0], again.sharp[0])
    assert not torch.equal(first.frames[0], other.frames[0])


def test_scrolling_text_is_sharp_in_every_frame():
    shot, _ = draw_shot("scrolling_text", 0)
    assert torch.allclose(exposure(shot, FRAME), latent(shot, FRAME), atol=1e-5)
    assert not torch.allclose(latent(shot, FRAME), latent(shot, FRAME + 1), atol=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_a_path_has_its_speed_in_the_middle_of_the_clip(seed):
    clip = ClipFormat(LARGE, 11)
    motion, facing = path(np.random.default_rng(seed), clip, speed=(14, 28), reach=20, steepness=0.5)
    step = (motion(5.5) - motion(4.5))[:2, 2]
    assert 14 - 1e-6 <= np.linalg.norm(step) <= 28 + 1e-6
    assert np.sign(step[0]) == facing


def test_scores_of_a_uniform_error():
    """An error of 10 code values is 20 log10(255 / 10) dB, and of a grey one no chroma error."""
    truth = np.full((8, 8, 3), 100, np.uint8)
    mask = np.zeros((8, 8), bool)
    mask[:, :4] = True
    before = truth + np.uint8(10) * mask[..., None]
    assert psnr_in(before, truth, mask) == pytest.approx(20 * math.log10(25.5))
    assert psnr_in(before, truth, ~mask) == math.inf
    assert chroma_error(before, truth, mask) == pytest.approx(0)
    blue = truth + np.array([0, 0, 10], np.uint8)  # Cb 5, Cr -0.7220 / 1.5748 code values
    assert chroma_error(blue, truth, mask) == pytest.approx(math.sqrt((5**2 + (0.722 / 1.5748) ** 2) / 2))


def test_gain_and_touched_pixels():
    truth = np.full((8, 8, 3), 100, np.uint8)
    mask = np.zeros((8, 8), bool)
    mask[:, :4] = True
    before, after = truth + np.uint8(10), truth + np.uint8(10) - np.uint8(5) * mask[..., None]
    after[0, 7] = 0
    score = score_frame(truth, mask, before, after)
    assert score.gain == pytest.approx(20 * math.log10(2))
    assert score.detected
    assert score.changed_outside == 1
    row = table_row("case", "png", [ClipScore(name="clip", frames=(score,), seconds=0.5, flicker=(0, 1))])
    assert row[4:7] == ("+6.02", "+6.02", "+6.02")


def test_flicker_is_that_inside_of_the_masks():
    """Texture that halves its contrast every other frame: the second difference is 2 ln 2 in each frame."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 1, (64, 64)), (0, 0), 3)
    noise *= 60 / np.abs(noise).max()
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:48] = True
    inner = cv2.erode(mask.astype(np.uint8), np.ones((9, 9))) > 0  # away from the step at the border

    def frames(region):
        """Half of the contrast in `region` of every other frame."""
        contrasts = [np.where(region & (k % 2 == 0), 0.5, 1) for k in range(6)]
        codes = [(128 + noise * contrast).round().astype(np.uint8) for contrast in contrasts]
        return [code[..., None].repeat(3, 2) for code in codes]

    steady, inside, outside = frames(mask & ~mask), frames(mask), frames(~mask)
    assert flicker_in(inside, steady, [inner] * 6) == pytest.approx(2 * math.log(2), rel=0.02)
    assert flicker_in(outside, steady, [inner] * 6) == pytest.approx(0, abs=1e-3)
    assert flicker_in(inside, inside, [inner] * 6) == 0, "the object itself flickers"
    nothing = np.zeros((64, 64), bool)
    assert math.isnan(flicker_in(inside, steady, [nothing] * 6))
    gap = [inner, inner, inner, nothing, inner, inner]
    assert flicker_in(inside, steady, gap) == pytest.approx(2 * math.log(2), rel=0.02)
