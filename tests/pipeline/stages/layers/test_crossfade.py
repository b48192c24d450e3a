"""Layers of neighbouring chunks fade into one another."""

from __future__ import annotations

import pytest
import torch

from freezeframe.pipeline.stages.gate import RegionProposal, apply_proposal
from freezeframe.pipeline.stages.layers.crossfade import crossfade, ramp

from ..regions import proposal, region

BEFORE, AFTER = range(6), range(6, 12)  # frames that two chunks show
OVERLAP = 1


def shown(layer: RegionProposal) -> torch.Tensor:
    frame, _ = apply_proposal(proposal(layer), 1.0)
    return frame.picture.linear()


def test_the_weights_of_neighbours_sum_to_one():
    for overlap in (1, 2):
        for index in range(2, 10):
            weights = [ramp(chunk, index, overlap) for chunk in (BEFORE, AFTER)]
            assert sum(weights) == pytest.approx(1)
        assert [ramp(BEFORE, index, overlap) for index in (2, 8)] == [1, 0]


@pytest.mark.parametrize(("index", "share"), [(5, 2 / 3), (6, 1 / 3)])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_the_frame_is_the_mean_of_what_it_would_show_by_each_layer(index, share, strength):
    """Boxes, masks and colours differ. Blending is linear, so this holds in every pixel."""
    first = region(strength=strength)
    second = region(strength=strength, left=14, top=8, seed=2)
    faded = crossfade([(BEFORE, first), (AFTER, second)], index, OVERLAP)
    expected = share * shown(first) + (1 - share) * shown(second)
    torch.testing.assert_close(shown(faded), expected, atol=1e-6, rtol=0)
    assert faded.verdict.strength == pytest.approx(strength)
    assert faded.verdict.residual == pytest.approx(0.1 * share + 0.2 * (1 - share))


def test_full_strength_stays_full():
    """Exactly: what layers correct in full is not deconvolved. A short chunk has three layers on a frame."""
    chunks = range(5), range(5, 6), range(6, 12)
    faded = crossfade([(chunk, region(seed=k)) for k, chunk in enumerate(chunks)], 5, OVERLAP)
    assert faded.verdict.strength == 1


def test_inside_of_a_chunk_its_layer_is_shown_as_it_is():
    only = region()
    assert crossfade([(BEFORE, only)], 3, OVERLAP) is only


@pytest.mark.parametrize("index", [5, 6])
def test_a_layer_that_explains_nothing_is_not_mixed_in(index):
    good, bad = region(), region(strength=0.0, seed=2)
    faded = crossfade([(BEFORE, good), (AFTER, bad)], index, OVERLAP)
    torch.testing.assert_close(shown(faded), shown(good))
    assert (faded.verdict.method, faded.verdict.strength) == ("layer", 1.0)


def test_two_that_explain_nothing_leave_the_frame():
    layers = [(BEFORE, region(strength=0.0)), (AFTER, region(strength=0.0, seed=2))]
    verdict = crossfade(layers, 6, OVERLAP).verdict
    assert (verdict.method, verdict.strength, verdict.residual) == ("input", 0.0, 0.2)
