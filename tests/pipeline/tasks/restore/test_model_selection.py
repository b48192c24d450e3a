from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from freezeframe.data.srgb import linear_to_srgb
from freezeframe.models.store.catalog import CATALOGUE
from freezeframe.models.store.weights_cache import REFINER, Weights
from freezeframe.pipeline.tasks.restore.model_selection import Degradations, choose, detect_degradations


def weights_of(*names: str) -> list[Weights]:
    return [Weights(name=name, path=Path(f"{name}.pth"), release=CATALOGUE[name]) for name in names]


EVERYTHING = [*weights_of(*CATALOGUE), REFINER]


def photo(seed: int = 0) -> np.ndarray:
    """[H, W, 3] uint8: overlapping rectangles, on no grid: repetition resembles the cepstrum of a blur."""
    rng = np.random.default_rng(seed)
    picture = np.full((360, 480, 3), 120.0)
    for _ in range(300):
        (top, left), (height, width) = rng.integers(-20, (360, 480)), rng.integers(8, 90, 2)
        picture[max(top, 0) : top + height, max(left, 0) : left + width] = rng.uniform(70, 180, 3)
    return picture.round().astype(np.uint8)


def to_linear(codes: np.ndarray) -> torch.Tensor:
    signal = torch.from_numpy(np.ascontiguousarray(codes)).permute(2, 0, 1) / 255
    return torch.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def noisy(sigma: float, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, photo().shape)
    return np.clip(photo() + noise, 0, 255).round().astype(np.uint8)


def compress(quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", photo()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize("sigma", [8, 15, 25, 50])
def test_noise_is_measured_per_colour(sigma):
    detected = detect_degradations(to_linear(noisy(sigma)))
    # Clipping at black and white removes some of the strongest noise.
    assert detected.noise == pytest.approx(sigma, rel=0.2)
    assert list(detected.types) == ["noise"]


def test_noise_of_a_grey_picture_is_that_of_its_one_colour():
    grayscale = noisy(25)[..., :1].repeat(3, -1)
    detected = detect_degradations(to_linear(grayscale))
    assert detected.grayscale
    assert detected.noise == pytest.approx(25, rel=0.2)


@pytest.mark.parametrize("quality", [10, 20, 40])
def test_coding_is_found(quality):
    detected = detect_degradations(to_linear(compress(quality)))
    assert detected.quality == pytest.approx(quality, abs=2)
    assert list(detected.types) == ["jpeg"]


def blurred(kernel: np.ndarray) -> np.ndarray:
    """Blur in linear light. Rectangles have few edges for a PSF estimate: the scene gets a fine texture."""
    grain = np.random.default_rng(3).uniform(0, 1, (360, 480, 3)).astype(np.float32)
    scene = 0.5 * (photo() / 255.0) ** 2.2 + 0.5 * grain
    return (255 * cv2.filter2D(scene, -1, kernel).clip(0, 1) ** (1 / 2.2)).round().astype(np.uint8)


@pytest.mark.parametrize("length", [7, 15])
def test_motion_of_a_lone_picture_is_found(length):
    detected = detect_degradations(to_linear(blurred(np.full((1, length), 1 / length, np.float32))))
    assert detected.blur == pytest.approx(length, abs=1)
    assert detected.defocus == 0


def test_defocus_is_found():
    """A disk of radius 3 has a standard deviation of 1.5 along x and along y."""
    y, x = np.mgrid[-4:5, -4:5]
    disk = (np.hypot(y, x) <= 3).astype(np.float32)
    detected = detect_degradations(to_linear(blurred(disk / disk.sum())))
    assert detected.defocus == pytest.approx(1.5, abs=0.3)
    assert detected.blur == 0


def test_a_sound_picture_needs_nobody():
    detected = detect_degradations(to_linear(photo()))
    assert not detected.types
    choice = choose(detected, EVERYTHING)
    assert choice.weights is None
    assert choice.is_clean


def test_the_codes_that_are_examined_are_those_of_the_file():
    codes = noisy(20)
    assert np.array_equal(linear_to_srgb(to_linear(codes)), codes), "else the steps of a JPEG would be lost"


@pytest.mark.parametrize(
    ("degradations", "name"),
    [
        (Degradations(noise=16), "color-noise15"),
        (Degradations(noise=24), "color-noise25"),
        (Degradations(noise=45), "color-noise50"),
        (Degradations(noise=24, grayscale=True), "gray-noise25"),
        (Degradations(quality=11), "swinir-color-jpeg10"),
        (Degradations(quality=33), "swinir-color-jpeg30"),
        (Degradations(quality=50), "swinir-color-jpeg40"),
        (Degradations(quality=20, grayscale=True), "swinir-gray-jpeg20"),
        (Degradations(blur=12), "-gopro-"),
        (Degradations(defocus=3), "restormer-defocus"),
    ],
    ids=lambda value: value.text() if isinstance(value, Degradations) else "",
)
def test_the_nearest_level_is_chosen_and_the_reason_says_what_was_measured(degradations, name):
    restorers = [weights for weights in EVERYTHING if weights.name != "restormer-motion"]
    choice = choose(degradations, restorers)
    assert choice.weights is not None
    assert name in choice.weights.name
    assert choice.reason.startswith(degradations.text())
    assert choice.weights.name in choice.reason


def test_a_restorer_of_any_level_is_taken_where_no_level_fits():
    """Noise of 5.5 is 2.7 times less than 15: a network for 15 would oversmooth."""
    assert "restormer" in choose(Degradations(noise=5.5), EVERYTHING).weights.name
    only = weights_of("swinir-color-noise15", "restormer-color-noise")
    assert choose(Degradations(noise=5.5), only).weights.name == "restormer-color-noise"
    assert choose(Degradations(noise=14), only).weights.name == "swinir-color-noise15"


def test_several_ills_are_given_to_who_cures_several():
    both = Degradations(noise=20, quality=20)
    assert choose(both, EVERYTHING).weights.release.target == "all_in_one"
    # Noise of 20 is worse than quality 20, with an RMS error of about 10; that of quality 5 is 17.
    specialists = weights_of("swinir-color-noise25", "swinir-color-jpeg10")
    assert choose(both, specialists).weights.name == "swinir-color-noise25"
    worse = Degradations(noise=12, quality=5)
    assert choose(worse, specialists).weights.name == "swinir-color-jpeg10"


def test_who_cures_several_stands_in_for_a_missing_specialist():
    assert choose(Degradations(noise=20), [*weights_of("swinir-color-jpeg10"), REFINER]).weights == REFINER


def test_colour_is_not_given_to_a_network_for_grey():
    assert choose(Degradations(noise=25), weights_of("swinir-gray-noise25")).weights is None
    assert (
        choose(Degradations(noise=25, grayscale=True), weights_of("swinir-color-noise25")).weights is not None
    )


def test_who_invents_is_never_chosen_unasked():
    assert (
        choose(Degradations(noise=25), weights_of("dreamclear", "varformer", "swinir-real-large-x4")).weights
        is None
    )


def test_a_file_of_unknown_purpose_is_not_chosen():
    assert choose(Degradations(noise=25), [Weights(name="mine", path=Path("mine.pth"))]).weights is None


@pytest.mark.parametrize(
    ("degradations", "cure"),
    [
        (Degradations(noise=25), r"models fetch (swinir|restormer)-color-noise25"),
        (Degradations(quality=10), "models fetch swinir-color-jpeg10"),
        (Degradations(blur=9), "models fetch restormer-motion"),
    ],
)
def test_with_nobody_at_hand_the_reason_says_how_to_get_help(degradations, cure):
    choice = choose(degradations, [])
    assert choice.weights is None
    assert not choice.is_clean
    assert degradations.text() in choice.reason
    import re

    assert re.search(cure, choice.reason)
