"""The bundled refiner: it matches its model card, restores, and leaves clean photos unchanged."""

from __future__ import annotations

import pytest
import torch

from freezeframe.data.errors import FreezeframeError, UnreadableMedia
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.data.synthesis.degradations.compose import EVAL_STRENGTH, KINDS, degrade
from freezeframe.models.registry.architectures import read_network
from freezeframe.models.registry.bundled import REFINER, WEIGHTS, card, read_refiner, verify
from freezeframe.models.store import weights_cache
from freezeframe.pipeline.training.restorer_task import (
    apply_network,
    capped_psnr,
    load_center,
)

LEAST = {
    "noise": 6.0, "shot": 4.0, "jpeg": 0.6, "motion": 2.5, "defocus": 2.5, "rain": 2.0, "haze": 2.0,
    "dark": 5.0, "mixed": 1.0,
}  # dB; the others: not less than before  # fmt: skip


@pytest.fixture(scope="module")
def network():
    return read_refiner()


@pytest.fixture(scope="module")
def photos(shared_data):
    return [load_center(picture, 192) for picture in load_pictures(shared_data / "test" / "photos")]


def test_the_file_is_that_of_its_card_and_fits():
    verify(REFINER)
    assert REFINER.stat().st_size < 8e6
    assert card(REFINER)["licence"] == "Apache-2.0"


def test_another_file_is_not_that_of_the_card(tmp_path):
    other = tmp_path / "refiner.safetensors"
    other.write_bytes(REFINER.read_bytes()[:-1])
    (tmp_path / "refiner.json").write_text(REFINER.with_suffix(".json").read_text())
    with pytest.raises(FreezeframeError, match="install the package again"):
        verify(other)


def test_it_is_found_by_its_name_and_recognised():
    weights = weights_cache.find("refiner")
    assert weights.path == REFINER
    assert read_network(weights.path).title == "refiner"


def test_other_weights_are_refused():
    with pytest.raises(UnreadableMedia, match="train restorer"):
        read_refiner(WEIGHTS)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "clean"])
def test_every_degradation_is_made_less(kind, network, photos):
    gains = []
    for i, photo in enumerate(photos):
        worse = degrade(photo, kind, seed=i, strength=EVAL_STRENGTH)
        gains.append(capped_psnr(apply_network(network, worse), photo) - capped_psnr(worse, photo))
    assert sum(gains) / len(gains) > LEAST.get(kind, 0.0)


def test_black_and_white_stay(network):
    """No degradation: a change of at most half a code value. Flat grey resembles thick haze."""
    for level in (0.0, 0.1, 0.9, 1.0):
        even = torch.full((1, 3, 64, 64), level)
        assert (network(even) - even).abs().max() < 0.5 / 255


def test_what_a_camera_compressed_lightly_stays(network, photos):
    for i, photo in enumerate(photos):
        degraded = degrade(photo, "jpeg", seed=i, strength=0.016)
        assert capped_psnr(apply_network(network, degraded), photo) > capped_psnr(degraded, photo) - 0.1
