"""The bundled blur field network sees known blur, turns with the picture, and answers 0 for sharp ones."""

from __future__ import annotations

import pytest
import torch

from freezeframe.data.blur.blocks import block_mean
from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.models.deblur.blur_field import estimate_blur_field
from freezeframe.models.registry.bundled import BLUR_FIELD, PSF_ESTIMATOR, read_blur_field_net, verify
from freezeframe.pipeline.training.blur_field_validation import BlurCase, camera_field, correct_share
from freezeframe.pipeline.training.restorer_task import load_center

SIZE = (256, 256)  # pixels


@pytest.fixture(scope="module")
def photos(shared_data):
    return [load_center(picture, SIZE[0]) for picture in load_pictures(shared_data / "test" / "photos")]


def test_the_weights_are_those_of_their_card():
    verify(BLUR_FIELD)
    with pytest.raises(UnreadableMedia, match="train blur-field"):
        read_blur_field_net(PSF_ESTIMATOR)


@pytest.mark.slow
@pytest.mark.parametrize("pan", [(6.0, 3.0), (-4.0, 8.0), (13.0, 2.0)])
def test_even_blur_is_found_within_a_pixel(photos, pan):
    network = read_blur_field_net()
    for photo in photos:
        case = BlurCase.of(photo, camera_field((*pan, 0, 0, 0, 0), SIZE))
        assert correct_share(estimate_blur_field(network, case.encoded), case) > 0.9


@pytest.mark.slow
def test_the_blur_of_a_turning_camera_is_found_on_most_of_a_picture(photos):
    """Within 2 px, as it changes by up to 10 px within the windows of the cepstra."""
    network = read_blur_field_net()
    for photo in photos:
        vectors = camera_field((9, 4, 3, 2, 0, 0), SIZE)
        field = estimate_blur_field(network, BlurCase.of(photo, vectors).encoded)
        truth = block_mean(vectors)
        error = torch.minimum((field.vectors - truth).norm(dim=0), (field.vectors + truth).norm(dim=0))
        assert float((error < 2).float().mean()) > 0.7


@pytest.mark.slow
def test_a_quarter_turn_of_the_picture_turns_its_field(photos):
    network = read_blur_field_net()
    seen = BlurCase.of(photos[0], camera_field((8, 3, 2, 0, 0, 0), SIZE)).encoded
    x, y = estimate_blur_field(network, seen).vectors
    field = estimate_blur_field(network, seen.rot90(1, (-2, -1))).vectors
    expected = torch.stack([y, -x]).rot90(1, (-2, -1))
    error = torch.minimum((field - expected).norm(dim=0), (field + expected).norm(dim=0))
    assert float(error.mean()) < 1


@pytest.mark.slow
def test_sharp_pictures_answer_zero(photos):
    network = read_blur_field_net()
    for photo in photos:
        assert not bool(estimate_blur_field(network, photo).vectors.any())
