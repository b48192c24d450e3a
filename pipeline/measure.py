"""The measure stage: how everything in a window moved, and for how long the shutter was open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..data.types import Clip, Flow, Frame, Motion, Source, stack_light
from ..motion.diagnose import cut_score, glance
from ..motion.estimate import dis_pair, kornia_pair
from ..motion.exposure import ShutterEstimate, pool_shutters, shutter_fraction
from ..motion.warp import compose, warp
from .config import GateConfig, MeasureConfig
from .gate import sustained_blur
from .shots import Window

Pair = tuple[int, int]
Flows = dict[Pair, Flow]
FlowPair = Callable[[Tensor, Tensor], tuple[Flow, Flow]]

ESTIMATORS: Mapping[str, FlowPair] = {"dis": dis_pair, "kornia": kornia_pair}
USUAL_SHUTTER = 0.5  # the 180 degree rule of film, where nothing can be measured
CUT = 0.5  # score above which two frames show different scenes


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is known of a clip before its first frame is worked on."""

    shutter: float  # exposure time over frame interval
    confidence: float  # [0, 1]


def survey(source: Source, config: MeasureConfig) -> Survey:
    """Measure the shutter in a few places spread over the clip: one number, so that no window differs."""
    if config.shutter is not None:
        return Survey(shutter=config.shutter, confidence=1.0)
    runs = source.glimpses(config.survey_runs, config.survey_length)
    found = pool_shutters([_shutter_of(run, config) for run in runs if len(run) > 1])
    # Little evidence moves the estimate little from what cameras usually do.
    shutter = found.confidence * found.fraction + (1 - found.confidence) * USUAL_SHUTTER
    return Survey(shutter=min(1.0, max(0.01, shutter)), confidence=found.confidence)


class Memory:
    """The flows that one window hands to the next: their contexts overlap."""

    def __init__(self) -> None:
        self._known: dict[tuple[Fraction, Fraction], tuple[Flow, Flow]] = {}

    def recall(self, clip: Clip, pair: FlowPair) -> Flows:
        """Flows both ways between consecutive frames of `clip`; only unknown ones are estimated."""
        moments = list(zip(clip.times, clip.times[1:], strict=False))
        self._known = {
            moment: self._known.get(moment) or pair(clip.images[i], clip.images[i + 1])
            for i, moment in enumerate(moments)
        }
        both = enumerate(self._known[moment] for moment in moments)
        return {key: flow for i, (there, back) in both for key, flow in (((i, i + 1), there), ((i + 1, i), back))}


def is_cut(before: Tensor, after: Tensor) -> bool:
    """Whether two consecutive lumas, [H, W] uint8, show different scenes."""
    return cut_score(before, after) > CUT


def stirring(window: Window, config: GateConfig) -> list[int]:
    """Positions in the window of kept frames that may be blurred: those near which anything moves at all.

    Looks at small lumas only: still frames cost next to nothing.
    """
    start, stop = max(0, window.kept.start - 1), min(len(window.frames), window.kept.stop + 1)
    lumas = [frame.picture.luma() for frame in window.frames[start:stop]]
    steps = [glance(a, b) for a, b in zip(lumas, lumas[1:], strict=False)]
    near = {i: steps[max(0, i - start - 1) : i - start + 1] for i in window.kept}
    # A lone frame has no neighbour to tell whether it moved.
    return [i for i, moved in near.items() if not moved or max(moved) >= config.blur]


def measure(clip: Clip, config: MeasureConfig, *, memory: Memory) -> Motion:
    """Flow between each frame and its neighbours, and each frame's own velocity.

    Args:
        clip: Frames of one shot.
        config: Which estimator.
        memory: Flows of the window before, some of which this one shares; brought up to date.
    """
    near = memory.recall(clip, ESTIMATORS[config.estimator])
    velocity = velocities(near, clip.images)
    return Motion(
        flows=ChainedFlows(near),
        velocity=velocity,
        movers=velocity.new_zeros(len(velocity), *velocity.shape[2:]),
        shutter=clip.shutter,
    )


def blurred(motion: Motion, kept: range, config: GateConfig) -> list[int]:
    """Which of the frames `kept` are blurred enough to be worked on."""
    return [i for i in kept if sustained_blur(motion.blur[i]) >= config.blur]


def adjacent_flows(images: Tensor, pair: FlowPair) -> Flows:
    """Flow both ways between consecutive frames of [T, 3, H, W]."""
    flows: Flows = {}
    for i in range(len(images) - 1):
        flows[i, i + 1], flows[i + 1, i] = pair(images[i], images[i + 1])
    return flows


def velocities(near: Flows, images: Tensor) -> Tensor:
    """[T, 2, H, W] pixels per frame interval at each frame's own time.

    Central differences: measured on the REDS pairs, weighting them by trust loses 0.05 dB of what follows.
    """
    still = images.new_zeros(2, *images.shape[2:])
    ahead = [near[i, i + 1].shift if (i, i + 1) in near else None for i in range(len(images))]
    behind = [-near[i, i - 1].shift if (i, i - 1) in near else None for i in range(len(images))]
    return torch.stack([_mean([a, b], still) for a, b in zip(ahead, behind, strict=True)])


@dataclass(frozen=True, slots=True)
class ChainedFlows(Mapping[Pair, Flow]):
    """Flows between any two frames, chained when asked for from those between consecutive frames.

    Chaining costs one warp where a new estimate costs ten, and loses 0.01 to 0.06 dB of what follows. Kept
    for every pair, the flows would need several times the memory of the frames.
    """

    near: Flows

    def __getitem__(self, pair: Pair) -> Flow:
        if pair in self.near:
            return self.near[pair]
        i, j = pair
        between = i + (1 if j > i else -1)
        first, second = self.near[i, between], self[between, j]
        trust = first.trust * warp(second.trust[None], first.shift)[0]
        return Flow(shift=compose(first.shift, second.shift), trust=trust)

    def __iter__(self) -> Iterator[Pair]:
        frames = sorted({i for pair in self.near for i in pair})
        return ((i, j) for i in frames for j in frames if i != j)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _mean(known: Sequence[Tensor | None], otherwise: Tensor) -> Tensor:
    given = [value for value in known if value is not None]
    return torch.stack(given).mean(0) if given else otherwise


def _shutter_of(run: Sequence[Frame], config: MeasureConfig) -> ShutterEstimate:
    images = stack_light(run)
    return shutter_fraction(images, adjacent_flows(images, ESTIMATORS[config.estimator]))
