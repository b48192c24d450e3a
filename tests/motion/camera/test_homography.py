from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from freezeframe.data.types import Flow
from freezeframe.motion.camera.homography import estimate_homography, fit_homography, homography_to_flow
from freezeframe.motion.camera.rotation_path import homography_residual
from freezeframe.motion.camera.segmentation import detect_overlays, segment_movers
from freezeframe.motion.flow.estimators import dis_flow

SIZE = (288, 448)


def tilt(t):
    """Rotation, zoom, translation and a little perspective about the centre of the frame."""
    angle, scale = 0.02 * t, 1.01**t
    centre = np.array([[1, 0, 224], [0, 1, 144], [0, 0, 1.0]])
    c, s = math.cos(angle) * scale, math.sin(angle) * scale
    return (
        centre
        @ np.array([[c, -s, 8.3 * t], [s, c, -5.1 * t], [4e-5 * t, -2e-5 * t, 1]])
        @ np.linalg.inv(centre)
    )


def off_by(result, true):
    """Largest distance in pixels over the frame without its outer tenth."""
    distance = (
        (homography_to_flow(result, SIZE) - homography_to_flow(torch.from_numpy(true), SIZE))
        .square()
        .sum(0)
        .sqrt()
    )
    return float(distance[29:-29, 45:-45].max())


@pytest.mark.parametrize("shutter", [0.0, 0.5])
def test_a_known_homography_is_found_to_a_tenth_of_a_pixel(shutter, film):
    frames = film(tilt, [0, 1], shutter=shutter, noise=0.008)
    assert off_by(estimate_homography(frames[0], frames[1]), tilt(1)) < 0.1


def test_back_and_forth_are_inverse(film):
    """To 0.1 px."""
    a, b = film(tilt, [0, 1], noise=0.008)
    both = estimate_homography(b, a) @ estimate_homography(a, b)
    assert off_by(both, np.eye(3)) < 0.1


def test_the_flow_gives_the_same_homography(film):
    """An independent estimate of the same homography, to a third of a pixel."""
    a, b = film(tilt, [0, 1], noise=0.008)
    flow = dis_flow(a, b)
    result = fit_homography(flow.uv, flow.confidence)
    assert off_by(result, tilt(1)) < 0.34
    assert off_by(estimate_homography(a, b, start=result), tilt(1)) < 0.1
    assert homography_residual(flow, result) < 0.34


def test_a_player_does_not_bias_the_homography(film):
    """A quarter of the image moves independently; masked or not, the homography is that of the background."""
    a, b = film(tilt, [0, 1], noise=0.008)
    a[:, 100:220, 60:300], b[:, 100:220, 60:300] = a[:, 60:180, 60:300].clone(), a[:, 60:180, 72:312].clone()
    mask = torch.ones(SIZE)
    mask[90:230, 50:310] = 0
    assert off_by(estimate_homography(a, b, mask=mask), tilt(1)) < 0.15
    assert off_by(estimate_homography(a, b), tilt(1)) < 0.5


def test_without_texture_there_is_no_homography():
    flat = torch.full((3, *SIZE), 0.3)
    assert estimate_homography(flat, flat) is None
    assert fit_homography(torch.zeros(2, *SIZE), torch.zeros(SIZE)) is None


def test_different_scenes_have_no_homography(film, scene, panning):
    a = film(panning(0, 0), [0])[0]
    assert estimate_homography(a, film(panning(0, 0), [0], of=scene[::-1, ::-1].copy())[0]) is None


def pan_with_runner():
    """Flow of a pan of 10 px with a square that moves by -6 px, and the pan's homography."""
    uv = torch.zeros(2, *SIZE)
    uv[0] = 10
    uv[0, 100:180, 200:300] = -6
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[0, 2] = 10
    return Flow(uv=uv, confidence=torch.ones(SIZE)), matrix


def test_a_runner_moves_and_the_stadium_does_not():
    result = segment_movers(*pan_with_runner())
    assert float(result[110:170, 210:290].min()) > 0.95
    result[95:185, 195:305] = 0
    assert float(result.max()) < 0.05


def test_a_still_camera_has_no_movers_but_what_moves(film, panning):
    flow = dis_flow(*film(panning(0, 0), [0, 1], noise=0.01))
    assert float(segment_movers(flow, torch.eye(3)).mean()) < 0.1


def test_a_score_board_is_found_while_the_camera_pans():
    flow, matrix = pan_with_runner()
    flow.uv[:, 20:50, 30:130] = 0
    result = detect_overlays([(flow, matrix)] * 4)
    assert float(result[22:48, 32:128].min()) > 0.9
    result[20:50, 30:130] = 0
    assert float(result.max()) < 0.1


def test_without_a_pan_nothing_is_an_overlay():
    rest = Flow(uv=torch.zeros(2, *SIZE), confidence=torch.ones(SIZE))
    assert float(detect_overlays([(rest, torch.eye(3))] * 5).max()) == 0


@pytest.mark.parametrize("length", [8, 12, 16])
def test_exposures_blurred_in_different_ways_are_registered_to_a_pixel(length, film):
    """Horizontal and vertical blur: the frames correlate only at scales coarser than the blur."""
    matrix_b = tilt(1)

    def move_along(direction, matrix):
        return lambda t: np.array([[1, 0, direction[0] * t], [0, 1, direction[1] * t], [0, 0, 1.0]]) @ matrix

    a = film(move_along((length, 0), np.eye(3)), [0], shutter=1.0, noise=0.008)[0]
    b = film(move_along((0, length), matrix_b), [0], shutter=1.0, noise=0.008)[0]
    result = estimate_homography(a, b)
    assert result is not None
    assert off_by(result, matrix_b) < 1
