"""Optical flow between the frames of a window: estimated between neighbours, chained between distant frames.

Nothing here takes a gradient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction

import torch
from torch import Tensor

from freezeframe.data.types import Box, Clip, Flow, Frame
from freezeframe.motion.flow.estimators import dis_pair, kornia_pair
from freezeframe.motion.flow.thumbnail import fine_speeds
from freezeframe.motion.flow.warp import warp

from .gate import Extent, extent

Pair = tuple[int, int]  # (i, j): from frame i to frame j
Flows = dict[Pair, Flow]
FlowPair = Callable[[Tensor, Tensor], tuple[Flow, Flow]]  # flows in both directions between two images

ESTIMATORS: Mapping[str, FlowPair] = {"dis": dis_pair, "kornia": kornia_pair}
MAX_FINE_SPEEDS = 32  # cached speeds: more than the context of a window needs
MAX_CHAINED = 4  # cached chained flows: with windows of five frames no flow is chained twice


def adjacent_flows(images: Tensor, pair: FlowPair) -> Flows:
    """Flows in both directions between consecutive images of [T, 3, H, W]."""
    flows: Flows = {}
    for i in range(len(images) - 1):
        flows[i, i + 1], flows[i + 1, i] = pair(images[i], images[i + 1])
    return flows


class FlowCache:
    """Flows and speeds of overlapping windows, and the shutter of the current shot."""

    def __init__(self) -> None:
        self._flows: dict[tuple[Fraction, Fraction], tuple[Flow, Flow]] = {}
        self._box: Box | None = None  # of the clip that the flows belong to
        self._shutter: tuple[int, float] | None = None
        self._fine_speeds: dict[int, Extent] = {}

    def fine_speed(self, before: Frame, after: Frame) -> Extent:
        """Speeds between consecutive frames at half resolution, pixels per frame interval."""
        if before.index not in self._fine_speeds:
            while len(self._fine_speeds) >= MAX_FINE_SPEEDS:
                del self._fine_speeds[next(iter(self._fine_speeds))]
            speed = fine_speeds(before.picture.luma(), after.picture.luma())
            self._fine_speeds[before.index] = extent(speed)
        return self._fine_speeds[before.index]

    def has_shutter(self, shot: int) -> bool:
        """Whether the shutter of this shot has been estimated."""
        return self._shutter is not None and self._shutter[0] == shot

    def flows(self, clip: Clip, pair: FlowPair) -> Flows:
        """Flows in both directions between consecutive frames of `clip`; only unknown ones are estimated."""
        time_pairs = list(itertools.pairwise(clip.times))
        if clip.box != self._box:
            self._flows, self._box = {}, clip.box
        self._flows = {
            time_pair: self._flows.get(time_pair) or pair(clip.images[i], clip.images[i + 1])
            for i, time_pair in enumerate(time_pairs)
        }
        flows: Flows = {}
        for i, time_pair in enumerate(time_pairs):
            flows[i, i + 1], flows[i + 1, i] = self._flows[time_pair]
        return flows

    def shutter(self, shot: int, estimate: Callable[[], float]) -> float:
        """The shutter of a shot, estimated in its first window, so that all windows use one value."""
        if self._shutter is None or self._shutter[0] != shot:
            self._shutter = shot, estimate()
        return self._shutter[1]


class ChainedFlows(Mapping[Pair, Flow]):
    """Flows between any two frames, composed of the flows between consecutive frames on access.

    Composition costs one warp, a tenth of a new estimate, and loses 0.01 to 0.06 dB of the deblurred result.
    All pairs together would need several times the memory of the frames; the last few are cached, because
    deconvolution of the frame at the other end uses the same flow.
    """

    def __init__(self, neighbour_flows: Flows) -> None:
        self.neighbour_flows = neighbour_flows
        self._cache: Flows = {}

    def __getitem__(self, pair: Pair) -> Flow:
        if pair in self.neighbour_flows:
            return self.neighbour_flows[pair]
        if pair not in self._cache:
            chained = self._chain(pair)
            while len(self._cache) >= MAX_CHAINED:
                del self._cache[next(iter(self._cache))]
            self._cache[pair] = chained
        return self._cache[pair]

    def _chain(self, pair: Pair) -> Flow:
        i, j = pair
        if i == j:
            raise KeyError(pair)
        step = i + (1 if j > i else -1)
        first, second = self.neighbour_flows[i, step], self[step, j]
        forward = warp(torch.cat([second.uv, second.confidence[None]]), first.uv)
        return Flow(uv=first.uv + forward[:2], confidence=first.confidence * forward[2])

    def __iter__(self) -> Iterator[Pair]:
        frames = sorted({i for pair in self.neighbour_flows for i in pair})
        return ((i, j) for i in frames for j in frames if i != j)

    def __len__(self) -> int:
        return sum(1 for _ in self)
