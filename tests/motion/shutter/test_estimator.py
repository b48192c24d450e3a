from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from freezeframe.data.srgb import srgb_to_linear
from freezeframe.data.synthesis.degradations.codec import h264
from freezeframe.data.types import Flow
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.motion.flow.velocity import estimate_velocities
from freezeframe.motion.shutter.estimator import (
    SHUTTER_FRACTIONS,
    estimate_shutter,
    pool_shutters,
)
from freezeframe.pipeline.stages.survey import SURVEY_PARAMS


def flows_between(frames):
    flows = {}
    for i in range(len(frames) - 1):
        flows[i, i + 1], flows[i + 1, i] = dis_pair(frames[i], frames[i + 1])
    return flows


def estimate_from_frames(frames):
    return estimate_shutter(frames, flows_between(frames))


def steady(dx, dy, size=(6, 8)):
    uv = torch.tensor([dx, dy]).reshape(2, 1, 1).expand(2, *size)
    return Flow(uv=uv, confidence=torch.ones(size))


@pytest.mark.parametrize(
    ("shutter", "dx", "dy"),
    [
        *((shutter, 9.0, 3.0) for shutter in (0.1, 0.3, 0.5, 0.8, 1.0)),
        (0.5, -6.0, 14.0),
        *(pytest.param(shutter, -6.0, 14.0, marks=pytest.mark.slow) for shutter in (0.1, 0.3, 0.8, 1.0)),
    ],
)
def test_shutter_is_found_to_a_tenth(shutter, dx, dy, film, panning):
    frames = film(panning(dx, dy), [-1.5, -0.5, 0.5, 1.5], shutter=shutter, noise=0.008)
    estimates = estimate_from_frames(frames)
    assert estimates.fraction == pytest.approx(shutter, abs=0.1)
    assert estimates.confidence > 0.3


def test_still_frames_have_confidence_zero(film, panning):
    frames = film(panning(0, 0), [0, 1, 2], noise=0.01)
    assert estimate_from_frames(frames).confidence == 0


def test_frames_without_texture_have_no_confidence():
    frames = torch.full((3, 3, 120, 160), 0.4)
    flows = {(i, j): steady(9.0, 0.0, (120, 160)) for i, j in ((0, 1), (1, 2))}
    flows |= {(j, i): steady(-9.0, 0.0, (120, 160)) for i, j in ((0, 1), (1, 2))}
    assert estimate_shutter(frames, flows).confidence < 0.1


def test_one_wrong_sample_is_outvoted(film, panning):
    good = [estimate_from_frames(film(panning(10.0, k), [0, 1, 2], shutter=0.5)) for k in (-3.0, 0.0, 3.0)]
    bad = estimate_from_frames(film(panning(10.0, 0.0), [0, 1, 2], shutter=0.1))
    assert pool_shutters([bad, *good]).fraction == pytest.approx(0.5, abs=0.1)
    assert pool_shutters([]).confidence == 0


def combined(*, network, spectra, steepness=40):
    """Estimate from a network likelihood at one fraction and a stronger spectral likelihood at another."""
    bells = [-steep * (SHUTTER_FRACTIONS - at) ** 2 for at, steep in ((network, steepness), (spectra, 40))]
    empty = pool_shutters([])
    network_log_likelihood = np.where(SHUTTER_FRACTIONS <= 1, bells[0], -10)
    return pool_shutters(
        [
            replace(
                empty,
                network_log_likelihood=network_log_likelihood,
                spectral_log_likelihood=empty.spectral_log_likelihood + 50 * bells[1],
            )
        ]
    )


def test_spectra_decide_near_the_estimate_of_the_network():
    assert combined(network=0.6, spectra=0.5).fraction == pytest.approx(0.5, abs=0.03)
    assert combined(network=0.6, spectra=0.7).fraction == pytest.approx(0.7, abs=0.03)


@pytest.mark.parametrize(("network", "spectra"), [(0.7, 0.1), (0.1, 0.8)])
def test_spectra_do_not_move_the_estimate_far_from_the_network(network, spectra):
    assert combined(network=network, spectra=spectra).fraction == pytest.approx(network, abs=0.21)


def test_spectra_do_not_overrule_a_short_shutter():
    """The same spectral likelihood changes the estimate less if the network sees no blur: do no harm."""
    short, long = (
        combined(network=0.06, spectra=0.24, steepness=300),
        combined(network=0.6, spectra=0.78, steepness=300),
    )
    assert short.fraction < 0.15
    assert long.fraction > 0.69


def test_spectra_decide_alone_without_patches():
    empty = pool_shutters([])
    alone = pool_shutters(
        [
            replace(
                empty,
                spectral_log_likelihood=empty.spectral_log_likelihood - 40 * (SHUTTER_FRACTIONS - 0.3) ** 2,
            )
        ]
    )
    assert alone.fraction == pytest.approx(0.3)


def test_velocity_is_the_central_difference():
    flows = {
        (1, 2): steady(6.0, 1.0),
        (1, 0): steady(-4.0, 1.0),
        (0, 1): steady(5.0, 0.0),
        (2, 1): steady(-5.0, 0.0),
    }
    velocity, confidence = estimate_velocities(flows, 3)
    torch.testing.assert_close(velocity[:, :, 0, 0], torch.tensor([[5.0, 0], [5.0, 0], [5.0, 0]]))
    assert float(confidence[0].min()) == 1
    assert 0 < float(confidence[1].max()) < 1, "acceleration lowers the confidence"


def test_time_reversal_reverses_velocity():
    flows = {(0, 1): steady(3.0, -2.0), (1, 0): steady(-3.0, 2.0)}
    back = {(1 - i, 1 - j): flow for (i, j), flow in flows.items()}
    torch.testing.assert_close(estimate_velocities(flows, 2)[0], -estimate_velocities(back, 2)[0].flip(0))


@pytest.mark.slow
@pytest.mark.parametrize("shutter", [0.1, 0.3, 0.5, 0.8, 1.0])
def test_photographs_in_motion(shutter, shared_data, film, panning):
    """Twelve photographs at 6 to 20 px per frame: median error at most 0.1, of the pooled estimate 0.06."""
    rng = np.random.default_rng(3)
    estimates = []
    for path in sorted((shared_data / "train").glob("*.webp"))[::3][:12]:
        photo = cv2.imread(str(path))[..., ::-1].astype(np.float32) / 255
        scene = cv2.resize(photo, (688, 528), interpolation=cv2.INTER_AREA) ** 2
        angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(6, 20)
        move = panning(speed * np.cos(angle), speed * np.sin(angle))
        estimates.append(estimate_from_frames(film(move, [-1, 0, 1], shutter=shutter, noise=0.006, of=scene)))
    assert np.median([abs(f.fraction - shutter) for f in estimates]) <= 0.1
    assert pool_shutters(estimates).fraction == pytest.approx(shutter, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [None, 23])
@pytest.mark.parametrize("sequence", ["000", "001"])
def test_real_frames_tell_blurred_from_sharp(sequence, rate, shared_data):
    """REDS, also as H.264: long exposures for blurred frames, short ones for sharp frames."""
    shutters = {}
    for kind in ("blur", "sharp"):
        paths = sorted((shared_data / "test/reds" / sequence / kind).glob("*.png"))
        frames = [np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]) for path in paths]
        decoded = frames if rate is None else h264(frames, crf=rate)
        images = torch.stack([srgb_to_linear(np.asarray(frame)) for frame in decoded])
        samples = [estimate_from_frames(images[i : i + 5]) for i in (0, 5)]
        shutters[kind] = pool_shutters(samples).posterior_median(
            SURVEY_PARAMS.prior_mean, SURVEY_PARAMS.prior_std
        )
    assert 0.6 <= shutters["blur"] <= 1
    assert shutters["sharp"] <= 0.2
