"""The training task of the PSF estimator: kernels, labels and soft targets agree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from freezeframe.data.synthesis.degradations.psf import line_kernel
from freezeframe.models.deblur.psf_estimator import LAGS, MAX_OFFSET
from freezeframe.pipeline.training.psf_task import (
    PSF_SAMPLERS,
    PsfTask,
    draw_psf,
    equivalent_line,
    most_likely_vector,
    radius_soft_targets,
    soft_targets,
)


@pytest.mark.parametrize(("length", "angle"), [(9.0, 0.4), (14.0, 2.2), (5.0, 1.5708)])
def test_a_line_is_most_like_itself(length, angle):
    y, x = equivalent_line(line_kernel(length, angle=angle))
    assert math.hypot(y, x) == pytest.approx(length, abs=0.15)  # drawn on pixels it is a little longer
    assert abs(math.sin(math.atan2(y, x) - angle)) < 0.02


def test_shares_lie_about_the_way_and_its_opposite():
    blur_vectors = torch.tensor([[3.25, -7.5], [0.0, 0.0], [-18.0, 2.0]])
    targets = soft_targets(blur_vectors)
    assert torch.allclose(targets.sum((1, 2)), torch.ones(3))
    assert torch.equal(targets, targets.flip(1, 2))
    along = torch.arange(LAGS).float() - MAX_OFFSET
    half = targets[0].clone()
    half[:MAX_OFFSET] = 0
    assert float((half.sum(1) * along).sum() / half.sum()) == pytest.approx(3.25)
    assert float((half.sum(0) * along).sum() / half.sum()) == pytest.approx(-7.5)
    assert targets[1, MAX_OFFSET, MAX_OFFSET] == 1


def test_shares_of_radii_are_means_of_them():
    targets = radius_soft_targets(torch.tensor([0.0, 1.2, 5.0]))
    assert torch.allclose(targets.sum(1), torch.ones(3))
    assert float(targets[1] @ (0.5 * torch.arange(11.0))) == pytest.approx(1.2)


@pytest.mark.parametrize("name", list(PSF_SAMPLERS))
def test_kernels_sum_to_one_and_lie_in_reach(name):
    rng = np.random.default_rng(3)
    for _ in range(20):
        kernel, (y, x, radius) = PSF_SAMPLERS[name][1](rng)
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
        assert max(abs(y), abs(x)) <= MAX_OFFSET
        assert (radius > 0) == (name == "disk")


def test_the_best_is_the_likeliest():
    blur_vectors = torch.zeros(LAGS, LAGS)
    blur_vectors[MAX_OFFSET - 5, MAX_OFFSET + 7] = 1
    assert most_likely_vector(blur_vectors).tolist() == [-5, 7]


def test_a_batch_is_a_matter_of_its_seed_and_can_be_learned_from():
    task = PsfTask([], 4, 128, 0)
    batch = task.batch(3, rank=0)
    assert torch.equal(batch, task.batch(3, rank=0))
    assert not torch.equal(batch, task.batch(4, rank=0))
    torch.manual_seed(0)
    network = task.network()
    loss = task.loss(network, batch)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None for p in network.parameters())
    assert draw_psf(np.random.default_rng(0))[0].sum() > 0
