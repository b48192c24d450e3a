"""Test-time fine-tuning: on sharp frames only, accepted only with a gain."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from freezeframe.data.color import SRGB, to_encoded
from freezeframe.data.synthesis.demo.bookshelf import bookshelf
from freezeframe.models.deblur.fusion_net import FRAME, FusionNet, NetConfig
from freezeframe.pipeline.adaptation.fine_tuning import (
    AdaptationSet,
    collect_adaptation_set,
    fine_tune,
    interpolate_weights,
    make_sample,
    train_copy,
    train_val_split,
)
from freezeframe.pipeline.stages.fuse import FUSE_PARAMS
from tests.support.pictures import frames_of as memory_frames

SHUTTER = 0.8


class Runs:
    """A source of short runs: pans at each of `speeds`, in pixels per frame."""

    def __init__(self, frames_of, speeds):
        self.runs = [frames_of(speed) for speed in speeds]

    def sample_clips(self, runs, length):
        del runs, length
        return iter(self.runs)


@pytest.fixture(scope="module")
def frames_of(film, wide_leaves):
    def make(speed):
        images = film((speed, 0), range(-2, 3), shutter=SHUTTER, of=wide_leaves)
        return list(memory_frames(images))

    return make


@pytest.fixture
def network():
    torch.manual_seed(0)
    return FusionNet(NetConfig(widths=(8, 8, 8), down=(1, 1, 1), up=(1, 1)))


def test_a_clip_without_sharp_frames_teaches_nothing(frames_of, network):
    result = fine_tune(network, Runs(frames_of, [12, 12, 12]), shutter=SHUTTER, minutes=1)
    assert not result.accepted
    assert result.network is network
    assert "sharp" in result.message


def test_sharp_frames_and_motions_are_told_apart(frames_of):
    material = collect_adaptation_set(Runs(frames_of, [0, 12, 12]), shutter=SHUTTER)
    assert len(material.sharp) == 1
    assert len(material.motions) == 2
    speeds = [float(motion[0].median()) for motion in material.motions]
    # A pan to the left by twelve pixels; half a pixel is the accuracy of flow on blurred frames.
    assert speeds == pytest.approx([12.0] * 2, abs=0.5)


@pytest.mark.slow
def test_a_lesson_is_the_sharp_frame_as_the_clip_would_have_blurred_it():
    """The network input shows the truth blurred along the motion, at the same position."""
    picture = bookshelf(128, 128, seed=2)
    motion = torch.zeros(2, 128, 128)
    motion[0] = 10.0
    adaptation_set = AdaptationSet(sharp=[picture], noise=0.0, motions=[motion], shutter=SHUTTER)
    network_input, truth = make_sample([picture], adaptation_set, rng=np.random.default_rng(3))
    near, far = ((network_input[FRAME] - other).square().mean() for other in (truth, truth.roll(6, 2)))
    assert 1e-4 < near < far
    # Detail is lost along the motion, and kept across it.
    along, across = (
        torch.diff(network_input[FRAME], dim=d).abs().mean() / torch.diff(truth, dim=d).abs().mean()
        for d in (2, 1)
    )
    assert along < 0.6 < across


def test_lessons_are_compressed_and_noisy():
    """Like the clip: the sample of a still frame differs from the frame."""
    picture = bookshelf(128, 128, seed=2)
    still = torch.zeros(2, 128, 128)
    errors = []
    for noise in (0.0, 0.02):
        adaptation_set = AdaptationSet(sharp=[picture], noise=noise, motions=[still], shutter=SHUTTER)
        network_input, truth = make_sample([picture], adaptation_set, rng=np.random.default_rng(3))
        errors.append(float((network_input[FRAME] - truth).square().mean().sqrt()))
    assert 1 / 255 < errors[0] < errors[1] < 0.06


def test_lessons_gather_the_light_that_the_deconvolution_assumes():
    """Stripes blurred over many periods are as bright as the mean of their linear values to that power."""
    dark, bright = 0.1, 0.9
    picture = torch.full((3, 128, 128), dark)
    picture[..., ::2] = bright
    motion = torch.zeros(2, 128, 128)
    motion[0] = 24.0
    adaptation_set = AdaptationSet(sharp=[picture], noise=0.0, motions=[motion], shutter=SHUTTER)
    network_input, _ = make_sample([picture], adaptation_set, rng=np.random.default_rng(3))
    gamma = FUSE_PARAMS.response_gamma
    mean = ((dark**gamma + bright**gamma) / 2) ** (1 / gamma)
    expected = float(to_encoded(torch.tensor(mean), SRGB))
    # The plain mean would be darker by six of 255 code values.
    assert float(network_input[FRAME, 32:96, 32:96].mean()) == pytest.approx(expected, abs=2.5 / 255)


def test_what_is_held_out_is_never_learned_from():
    picture = torch.rand(3, 20, 31)
    train_part, val_part = train_val_split(picture)
    assert torch.equal(torch.cat([train_part, val_part], 2), picture)
    assert train_part.shape[2] > val_part.shape[2] > 0


def test_a_share_of_what_was_learned_is_taken(network):
    model = copy.deepcopy(network)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(1.0)
    mixed = interpolate_weights(network, model, 0.25)
    for now, before in zip(mixed.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(now - before, torch.full_like(now, 0.25))


def test_a_moment_of_lessons_moves_the_weights(network):
    """At least one step is taken; the initial network stays as it is."""
    picture, motion = bookshelf(96, 96, seed=2), torch.full((2, 96, 96), 5.0)
    adaptation_set = AdaptationSet(sharp=[picture], noise=0.0, motions=[motion], shutter=SHUTTER)
    before = copy.deepcopy(network.state_dict())
    trained = train_copy(network, [picture], adaptation_set, seconds=0.2)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert any(not torch.equal(before[name], value) for name, value in trained.state_dict().items())


@pytest.mark.slow
def test_learning_stops_in_time_and_is_kept_only_where_it_wins(frames_of, network):
    result = fine_tune(network, Runs(frames_of, [0, 12, 0, 12, 0, 0]), shutter=SHUTTER, minutes=0.15)
    assert result.accepted == (result.network is not network)
    assert "held-out" in result.message
