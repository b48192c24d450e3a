"""A clip that teaches the network: only with sharp frames, only where it helps."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch

from freezeframe.data.color import SRGB, to_encoded
from freezeframe.data.synthesis.demo.bookshelf import bookshelf
from freezeframe.data.types import Frame
from freezeframe.models.deblur.fusion_net import FRAME, FusionNet, NetConfig
from freezeframe.pipeline.adaptation import fine_tuning as adapting
from freezeframe.pipeline.adaptation.fine_tuning import (
    INTERPOLATION,
    AdaptationSet,
    adapt,
    collect_adaptation_set,
    interpolate_weights,
    make_sample,
    train_val_split,
)
from freezeframe.pipeline.stages.fuse import RESPONSE_GAMMA
from freezeframe.pipeline.support.progress import null_progress

SHUTTER = 0.8


class Runs:
    """A source of which only short runs are looked at: pans at each of `speeds`, in pixels per frame."""

    def __init__(self, frames_of, speeds):
        self.runs = [frames_of(speed) for speed in speeds]

    def sample_clips(self, runs, length):
        del runs, length
        return iter(self.runs)


@dataclass(frozen=True)
class Light:
    """A picture that is light already."""

    image: torch.Tensor

    @property
    def size(self):
        return tuple(self.image.shape[1:])

    def linear(self):
        return self.image


@pytest.fixture(scope="module")
def frames_of(film, wide_leaves):
    def make(speed):
        images = film((speed, 0), range(-2, 3), shutter=SHUTTER, of=wide_leaves)
        return [Frame(index=i, time=Fraction(i, 25), picture=Light(image)) for i, image in enumerate(images)]

    return make


@pytest.fixture
def network():
    torch.manual_seed(0)
    return FusionNet(NetConfig(widths=(8, 8, 8), down=(1, 1, 1), up=(1, 1)))


def test_a_clip_without_sharp_frames_teaches_nothing(frames_of, network):
    found = adapt(network, Runs(frames_of, [12, 12, 12]), shutter=SHUTTER, minutes=1)
    assert not found.accepted
    assert found.network is network
    assert "sharp" in found.message


def test_sharp_frames_and_motions_are_told_apart(frames_of):
    found = collect_adaptation_set(Runs(frames_of, [0, 12, 12]), shutter=SHUTTER)
    assert len(found.sharp) == 1
    assert len(found.motions) == 2
    speeds = [float(motion[0].median()) for motion in found.motions]
    # A pan to the left by twelve pixels; half a pixel is what flow can tell on blurred frames.
    assert speeds == pytest.approx([12.0] * 2, abs=0.5)


def test_a_lesson_is_the_sharp_frame_as_the_clip_would_have_blurred_it():
    """Its evidence shows the truth blurred along the motion, in the same place."""
    picture = bookshelf(128, 128, seed=2)
    motion = torch.zeros(2, 128, 128)
    motion[0] = 10.0
    adaptation_set = AdaptationSet(sharp=[picture], noise=0.0, motions=[motion], shutter=SHUTTER)
    evidence, truth = make_sample([picture], adaptation_set, rng=np.random.default_rng(3))
    near, far = ((evidence[FRAME] - other).square().mean() for other in (truth, truth.roll(6, 2)))
    assert 1e-4 < near < far
    # Along the motion detail is gone, across it it is there.
    along, across = (
        torch.diff(evidence[FRAME], dim=d).abs().mean() / torch.diff(truth, dim=d).abs().mean()
        for d in (2, 1)
    )
    assert along < 0.6 < across


def test_lessons_are_compressed_and_noisy():
    """As the clip was: what a lesson shows of a still frame is not quite that frame."""
    picture = bookshelf(128, 128, seed=2)
    still = torch.zeros(2, 128, 128)
    off = []
    for noise in (0.0, 0.02):
        adaptation_set = AdaptationSet(sharp=[picture], noise=noise, motions=[still], shutter=SHUTTER)
        evidence, truth = make_sample([picture], adaptation_set, rng=np.random.default_rng(3))
        off.append(float((evidence[FRAME] - truth).square().mean().sqrt()))
    assert 1 / 255 < off[0] < off[1] < 0.06


def test_lessons_gather_the_light_that_the_deconvolution_assumes():
    """Stripes smeared over many of their widths are as bright as the mean of their light to its power."""
    dark, bright = 0.1, 0.9
    picture = torch.full((3, 128, 128), dark)
    picture[..., ::2] = bright
    motion = torch.zeros(2, 128, 128)
    motion[0] = 24.0
    adaptation_set = AdaptationSet(sharp=[picture], noise=0.0, motions=[motion], shutter=SHUTTER)
    evidence, _ = make_sample([picture], adaptation_set, rng=np.random.default_rng(3))
    light = ((dark**RESPONSE_GAMMA + bright**RESPONSE_GAMMA) / 2) ** (1 / RESPONSE_GAMMA)
    expected = float(to_encoded(torch.tensor(light), SRGB))
    # Codes by the plain mean would be darker by six of 255.
    assert float(evidence[FRAME, 32:96, 32:96].mean()) == pytest.approx(expected, abs=2.5 / 255)


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
    moved = interpolate_weights(network, model)
    for now, before in zip(moved.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(now - before, torch.full_like(now, INTERPOLATION))


def test_a_moment_of_lessons_moves_the_weights(network):
    """One step at least is taken; the network that is learned from stays as it was."""
    picture, motion = bookshelf(96, 96, seed=2), torch.full((2, 96, 96), 5.0)
    adaptation_set = AdaptationSet(sharp=[picture], noise=0.0, motions=[motion], shutter=SHUTTER)
    before = copy.deepcopy(network.state_dict())
    fine_tuned = adapting._fine_tune(network, [picture], adaptation_set, seconds=1.0, progress=null_progress)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert any(not torch.equal(before[name], value) for name, value in fine_tuned.state_dict().items())


@pytest.mark.slow
def test_learning_stops_in_time_and_is_kept_only_where_it_wins(frames_of, network):
    found = adapt(network, Runs(frames_of, [0, 12, 0, 12, 0, 0]), shutter=SHUTTER, minutes=0.15)
    assert found.accepted == (found.network is not network)
    assert "held out" in found.message
