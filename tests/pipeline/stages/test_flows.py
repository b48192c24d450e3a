"""Flows between the frames of a window, chained and cached."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from freezeframe.data.types import Clip, Flow
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.motion.flow.warp import warp
from freezeframe.pipeline.stages.flows import ChainedFlows, FlowCache, adjacent_flows

INNER = (..., slice(20, -20), slice(24, -24))  # pixels that are visible in every frame


def compose(first: Tensor, second: Tensor) -> Tensor:
    """The flow from A to C, of `first` (A to B) and `second` (B to C), [2, H, W] each."""
    return first + warp(second, first)


def test_flows_between_far_frames_are_composed_of_near_ones(film):
    neighbour_flows = adjacent_flows(film((4.0, 3.0), [0, 1, 2, 3]), dis_pair)
    chained = ChainedFlows(neighbour_flows)
    assert chained[1, 2] is neighbour_flows[1, 2]
    torch.testing.assert_close(chained[0, 2].uv, compose(neighbour_flows[0, 1].uv, neighbour_flows[1, 2].uv))
    torch.testing.assert_close(chained[2, 0].uv, compose(neighbour_flows[2, 1].uv, neighbour_flows[1, 0].uv))
    middle = chained[3, 0].uv[INNER].flatten(1).median(1).values
    torch.testing.assert_close(middle, torch.tensor([-12.0, -9.0]), atol=1, rtol=0)


def test_chains_are_kept_for_the_other_end_and_only_a_few(film):
    chained = ChainedFlows(adjacent_flows(film((2.0, 0.0), range(6)), dis_pair))
    first = chained[0, 2]
    assert chained[0, 2] is first
    others = [chained[i, j] for i, j in ((1, 3), (2, 4), (3, 5), (3, 1))]
    assert chained[1, 3] is others[0]
    again = chained[0, 2]
    assert again is not first
    assert torch.equal(again.uv, first.uv)
    assert torch.equal(again.confidence, first.confidence)


def test_chains_are_trusted_no_more_than_their_links(film):
    neighbour_flows = adjacent_flows(film((6.0, 0.0), [0, 1, 2]), dis_pair)
    assert bool((ChainedFlows(neighbour_flows)[0, 2].confidence <= neighbour_flows[0, 1].confidence).all())


def test_chains_know_every_pair_of_different_frames(film):
    chained = ChainedFlows(adjacent_flows(film((2.0, 0.0), [0, 1, 2]), dis_pair))
    pairs = {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}
    assert set(chained) == pairs
    assert len(chained) == 6
    assert (1, 1) not in chained
    assert (0, 3) not in chained


class Counted:
    """DIS with a counter of its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, source: Tensor, target: Tensor) -> tuple[Flow, Flow]:
        self.calls += 1
        return dis_pair(source, target)


def test_no_flow_is_estimated_twice(film):
    """Windows of four frames that overlap by two: one estimate per pair of neighbours."""
    images, flow_cache, counted = film((4.0, 1.0), range(6)), FlowCache(), Counted()
    times = tuple(Fraction(i, 25) for i in range(6))

    def window(first: int) -> Clip:
        part = slice(first, first + 4)
        return Clip(images=images[part], times=times[part], shutter=0.5, owned=range(4))

    before = flow_cache.flows(window(0), counted)
    after = flow_cache.flows(window(2), counted)
    assert counted.calls == 5
    assert after[0, 1] is before[2, 3]
    assert after[1, 0] is before[3, 2]
    fresh = adjacent_flows(images[2:], dis_pair)
    torch.testing.assert_close(after[2, 3].uv, fresh[2, 3].uv)


def test_one_shutter_per_shot():
    flow_cache, estimates = FlowCache(), iter([0.3, 0.9])
    shutters = [flow_cache.shutter(shot, lambda: next(estimates)) for shot in (0, 0, 0, 1, 1)]
    assert shutters == [0.3, 0.3, 0.3, 0.9, 0.9]
