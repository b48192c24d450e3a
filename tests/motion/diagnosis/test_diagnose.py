from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest
import torch

from freezeframe.motion.diagnosis.diagnose import blockiness, diagnose, noise_level
from freezeframe.motion.diagnosis.edge_width import find_edges
from freezeframe.motion.flow.estimators import gamma_luma, gamma_luma_uint8


def vectors(frame, dx, dy):
    return torch.tensor([dx, dy]).reshape(2, 1, 1).expand(2, *frame.shape[1:])


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.04])
def test_noise_is_measured_to_15_percent(noise, film, panning):
    """Grain of each channel, averaged into luma by its three weights."""
    frame = film(panning(0, 0), [0], noise=noise)[0]
    expected = noise * math.sqrt(0.2126**2 + 0.7152**2 + 0.0722**2)
    assert noise_level(gamma_luma(frame).numpy()) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("sigma", [4.0, 8.0])
def test_noise_of_photographs(sigma, shared_data):
    """To 15 %, plus the noise of the photographs, 0.8 code values."""
    for path in sorted((shared_data / "test/photos").glob("*.png")):
        encoded = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        grain = np.random.default_rng(1).normal(0, sigma, encoded.shape)
        noisy = np.clip(encoded + grain + 0.5, 0, 255).astype(np.uint8)
        diagnosis = noise_level((noisy / 255).astype(np.float32)) * 255
        assert sigma * 0.85 - 0.3 < diagnosis < sigma * 1.15 + 0.8, path.name


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_a_blurred_step_is_as_wide_as_its_blur(sigma):
    """In closed form: a step after a Gaussian, to a tenth."""
    x = np.arange(80.0)
    step = np.array([0.3 + 0.2 * math.erf((c - 39.6) / sigma / math.sqrt(2)) for c in x], np.float32)
    edges = find_edges(np.tile(step, (60, 1)))
    assert edges.width_quantile() == pytest.approx(sigma, rel=0.1)
    assert np.all(np.minimum(edges.normal_angle, np.pi - edges.normal_angle) < 0.05), (
        "the normal is along the rows"
    )


def test_defocus_is_not_taken_for_motion(scene, film, panning):
    soft = film(panning(0, 0), [0], of=cv2.GaussianBlur(scene, (0, 0), 3.0), noise=0.004)[0]
    diagnosis = diagnose(soft, blur=vectors(soft, 0.0, 0.0))
    assert diagnosis.cause == "defocus"
    assert diagnosis.defocus == pytest.approx(3.0, rel=0.25)


def test_motion_is_not_taken_for_defocus(film, panning):
    frame = film(panning(12.0, 0.0), [0], shutter=1.0, noise=0.004)[0]
    diagnosis = diagnose(frame, blur=vectors(frame, 12.0, 0.0))
    assert (diagnosis.cause, round(diagnosis.blur)) == ("camera", 12)
    assert diagnosis.defocus < 1.6, "edges parallel to the motion stay sharp"


@pytest.mark.parametrize(("dx", "dy"), [(14.0, 0.0), (0.0, 14.0), (10.0, 10.0)])
def test_the_direction_of_blur_is_estimated_from_one_frame(dx, dy, film, panning):
    """From its edges, to 20 degrees."""
    diagnosis = diagnose(film(panning(dx, dy), [0], shutter=1.0, noise=0.004)[0])
    angle_error = (diagnosis.direction - math.atan2(dy, dx) + math.pi / 2) % math.pi - math.pi / 2
    assert diagnosis.blur > 3
    assert abs(angle_error) < math.radians(20)


def test_a_single_sharp_frame_has_no_cause_of_blur(film, panning):
    diagnosis = diagnose(film(panning(0, 0), [0], noise=0.004)[0])
    assert (diagnosis.cause, diagnosis.blur) == ("none", 0.0)
    assert diagnosis.sharpness > 0.2


def test_sharpness_falls_as_blur_grows(film, panning):
    def sharpness(d):
        return diagnose(film(panning(d, d), [0], shutter=1.0)[0]).sharpness

    values = [sharpness(d) for d in (0, 4, 8)]
    assert values == sorted(values, reverse=True)


def test_a_runner_is_an_object(film, panning):
    frame = film(panning(0, 0), [0])[0]
    blur, independent_motion = torch.zeros(2, *frame.shape[1:]), torch.zeros(frame.shape[1:])
    blur[0, 100:250, 150:300], independent_motion[100:250, 150:300] = 9.0, 1.0
    diagnosis = diagnose(frame, blur=blur, independent_motion=independent_motion)
    assert diagnosis.cause == "object"
    assert {r.cause for row in diagnosis.regions for r in row} == {"none", "object"}


def test_coding_blocks_show(film, panning):
    encoded = gamma_luma_uint8(film(panning(0, 0), [0], noise=0.01)[0])
    coded = cv2.imdecode(
        cv2.imencode(".jpg", encoded, [cv2.IMWRITE_JPEG_QUALITY, 15])[1], cv2.IMREAD_GRAYSCALE
    )
    assert blockiness(encoded / 255) < 0.1
    assert blockiness(coded / 255) > 0.5
    assert blockiness(coded[3:, 5:] / 255) > 0.5, "whatever the phase of the grid"


def test_a_diagnosis_is_plain_json(film, panning):
    diagnosis = diagnose(film(panning(0, 0), [0])[0]).to_dict()
    assert json.loads(json.dumps(diagnosis)) == json.loads(json.dumps(diagnosis))
    assert len(diagnosis["regions"]) == 6
