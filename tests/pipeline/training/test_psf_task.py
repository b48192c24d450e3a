"""What the estimator of blur learns: kernels and what they are, told alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from freezeframe.data.synthesis.degradations.psf import line_kernel
from freezeframe.models.deblur.psf_estimator import LAGS, REACH
from freezeframe.pipeline.training.psf_task import (
    BLURS,
    Blurs,
    best,
    drawn,
    shares,
    shares_of_radius,
    straight,
)


@pytest.mark.parametrize(("length", "angle"), [(9.0, 0.4), (14.0, 2.2), (5.0, 1.5708)])
def test_a_line_is_most_like_itself(length, angle):
    y, x = straight(line_kernel(length, angle=angle))
    assert math.hypot(y, x) == pytest.approx(length, abs=0.15)  # drawn on pixels it is a little longer
    assert abs(math.sin(math.atan2(y, x) - angle)) < 0.02


def test_shares_lie_about_the_way_and_its_opposite():
    ways = torch.tensor([[3.25, -7.5], [0.0, 0.0], [-18.0, 2.0]])
    found = shares(ways)
    assert torch.allclose(found.sum((1, 2)), torch.ones(3))
    assert torch.equal(found, found.flip(1, 2))
    along = torch.arange(LAGS).float() - REACH
    half = found[0].clone()
    half[:REACH] = 0
    assert float((half.sum(1) * along).sum() / half.sum()) == pytest.approx(3.25)
    assert float((half.sum(0) * along).sum() / half.sum()) == pytest.approx(-7.5)
    assert found[1, REACH, REACH] == 1


def test_shares_of_radii_are_means_of_them():
    found = shares_of_radius(torch.tensor([0.0, 1.2, 5.0]))
    assert torch.allclose(found.sum(1), torch.ones(3))
    assert float(found[1] @ (0.5 * torch.arange(11.0))) == pytest.approx(1.2)


@pytest.mark.parametrize("name", list(BLURS))
def test_kernels_sum_to_one_and_lie_in_reach(name):
    rng = np.random.default_rng(3)
    for _ in range(20):
        kernel, (y, x, radius) = BLURS[name][1](rng)
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
        assert max(abs(y), abs(x)) <= REACH
        assert (radius > 0) == (name == "disk")


def test_the_best_is_the_likeliest():
    ways = torch.zeros(LAGS, LAGS)
    ways[REACH - 5, REACH + 7] = 1
    assert best(ways).tolist() == [-5, 7]


def test_a_batch_is_a_matter_of_its_seed_and_can_be_learned_from():
    course = Blurs([], 4, 128, 0)
    batch = course.batch(3, rank=0)
    assert torch.equal(batch, course.batch(3, rank=0))
    assert not torch.equal(batch, course.batch(4, rank=0))
    torch.manual_seed(0)
    network = course.network()
    miss = course.miss(network, batch)
    miss.backward()
    assert miss.isfinite()
    assert all(p.grad is not None for p in network.parameters())
    assert drawn(np.random.default_rng(0))[0].sum() > 0
