"""The training task of the shutter network: reproducible, consistent with the shutter fraction, learnable."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from freezeframe.data.synthesis.clips.pans import PanDistribution, make_pan, shutter_density
from freezeframe.models.deblur.shutter_net import FRACTIONS, ShutterNet
from freezeframe.models.registry.bundled import read_shutter_net
from freezeframe.pipeline.training.shutter_task import ShutterTask, shutter_errors, soft_targets


def test_a_seed_is_a_pan():
    one, two, other = (make_pan(seed, []) for seed in (4, 4, 5))
    assert all(np.array_equal(a, b) for a, b in zip(one.frames, two.frames, strict=True))
    assert one.shutter == two.shutter != other.shutter
    assert one.frames[0].shape == (*PanDistribution().size, 3)


def test_shutters_are_drawn_as_densely_as_is_said():
    x = np.linspace(PanDistribution().min_shutter, 1, 100_001)
    assert np.trapezoid(shutter_density(x), x) == pytest.approx(1, abs=1e-3)


def test_the_answer_asked_for_lies_around_the_truth():
    targets = soft_targets(torch.tensor([0.3, 0.5, 0.74]))
    assert torch.allclose(targets.sum(1), torch.ones(3))
    assert torch.allclose(targets @ torch.tensor(FRACTIONS), torch.tensor([0.3, 0.5, 0.74]), atol=5e-3)


@pytest.mark.slow
def test_a_batch_is_a_matter_of_its_step_and_can_be_learned(tmp_path):
    task = ShutterTask([], tmp_path, 4, 3, 0)
    batch = task.batch(2, rank=0)
    assert torch.equal(batch, task.batch(2, rank=0))
    assert not torch.equal(batch, task.batch(3, rank=0))
    torch.manual_seed(0)
    network = ShutterNet()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    first = float(task.loss(network, batch).detach())
    for _ in range(15):
        optimizer.zero_grad()
        loss = task.loss(network, batch)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < first - 0.1  # nats


def test_the_trial_scores_what_is_nearer_higher():
    """The bundled weights score higher than random ones."""
    clips = [make_pan(10**9 + k, []) for k in range(4)]
    bundled = shutter_errors(read_shutter_net(), clips)
    torch.manual_seed(0)
    assert bundled["all"] > shutter_errors(ShutterNet().eval(), clips)["all"] + 0.05
