"""The shutter network: how logits of patches add up, and the bundled weights."""

from __future__ import annotations

import pytest
import torch

from freezeframe.data.errors import UnreadableMedia
from freezeframe.models.deblur.shutter_net import FRACTIONS, FRAMES, NUM_FEATURES, SIDE, ShutterNet
from freezeframe.models.registry.bundled import PSF_ESTIMATOR, SHUTTER, card, read_shutter_net, verify


def squares(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(count)
    return (
        torch.randn(count, FRAMES, SIDE, SIDE, generator=random),
        0.3 * torch.randn(count, NUM_FEATURES, generator=random),
    )


def test_fractions_are_evenly_spaced_within_an_interval():
    steps = torch.tensor(FRACTIONS).diff()
    assert torch.allclose(steps, steps[:1].expand_as(steps), atol=1e-6)
    assert 0 < FRACTIONS[0] < FRACTIONS[-1] <= 1


def test_the_order_of_squares_says_nothing():
    sense = read_shutter_net()
    votes = sense(*squares(12))
    # Another order of float sums.
    assert torch.allclose(sense.combine(votes), sense.combine(votes.flip(0)), atol=1e-4)


def test_a_square_votes_for_itself_alone():
    sense = read_shutter_net()
    pictures, facts = squares(6)
    assert torch.allclose(sense(pictures, facts)[2:3], sense(pictures[2:3], facts[2:3]), atol=1e-5)


def test_a_vote_takes_from_some_what_it_gives_to_others():
    votes = read_shutter_net()(*squares(5))
    assert torch.allclose(votes.sum(1), torch.zeros(5), atol=1e-3)


def test_many_alike_say_more_than_one_and_less_than_as_many():
    """Neighbouring patches are correlated: n of them count as between one and n."""
    sense = read_shutter_net()
    one = sense(*squares(1))
    alone, many = (sense.combine(each) - sense.level for each in (one, one.expand(16, -1)))
    gain = float(many.norm() / alone.norm())
    assert 1.5 < gain < 12


def test_half_precision_weights_of_the_package_are_those_of_their_card():
    verify(SHUTTER)
    assert card(SHUTTER)["parameters"] == sum(p.numel() for p in ShutterNet().parameters())


def test_other_weights_are_refused_by_name():
    with pytest.raises(UnreadableMedia, match="train shutter"):
        read_shutter_net(PSF_ESTIMATOR)
