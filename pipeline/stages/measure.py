"""The measure stage: how everything in a window moved, and for how long the shutter was open.

Nothing here takes a gradient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from freezeframe.data.types import Clip, Flow, Frame, Motion, Source, stack_light
from freezeframe.motion.camera.homography import homography_of_flow
from freezeframe.motion.camera.segmentation import movers
from freezeframe.motion.flow.estimators import dis_pair, kornia_pair
from freezeframe.motion.flow.thumbnail import closer_speeds
from freezeframe.motion.flow.warp import warp
from freezeframe.motion.shutter.estimator import ShutterEstimate, pool_shutters, shutter_fraction
from freezeframe.pipeline.config import GateConfig, MeasureConfig
from freezeframe.pipeline.support.progress import Advance, quiet

from .continuity import dilated, widened
from .first_pass import FirstPass
from .gate import Extent, blur_weight, excess, extent
from .shots import Window

Pair = tuple[int, int]
Flows = dict[Pair, Flow]
FlowPair = Callable[[Tensor, Tensor], tuple[Flow, Flow]]

ESTIMATORS: Mapping[str, FlowPair] = {"dis": dis_pair, "kornia": kornia_pair}
USUAL_SHUTTER = (
    0.7  # where nothing can be measured: who brings a clip to be sharpened kept the shutter open long
)
VARIETY = 0.3  # standard deviation of shutters among such clips
WARY = 0.85  # share of the threshold at which the first pass asks for a closer look
PLAIN = 3.0  # times the threshold from which none is needed: on real clips it never says otherwise
SURER = 0.93  # share of the threshold at which that sends a frame to be measured
SMALLEST_HALF = 120  # pixels of the shorter side below which half a picture tells no motion
SURVEYING = "measuring the shutter"  # what `survey` calls its work
SURVEYED = 1280  # pixels of the longer side of what the survey looks at; half of that misleads it
LOOKS = 32  # closer looks, more than a window's context
KEPT = 4  # chained flows: with windows of five frames nothing is chained twice
FEWEST_RUNS = 3  # places looked at in any clip that has so many
CERTAIN = 0.9  # confidence at which the survey looks no further
SURE = 0.5  # confidence from which a glimpse counts as a shutter of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is known of a clip before its first frame is worked on."""

    estimate: ShutterEstimate | None  # None: the user said it
    shutter: float  # exposure time over frame interval
    longest: float  # of any place that was looked at
    confidence: float  # [0, 1]
    whole: bool = False  # every frame of the clip was looked at


def survey(source: Source, config: MeasureConfig, *, progress: Advance = quiet) -> Survey:
    """Measure the shutter in a few places spread over the clip; `progress` is told of each."""
    if config.shutter is not None:
        return Survey(estimate=None, shutter=config.shutter, longest=config.shutter, confidence=1.0)
    found: list[ShutterEstimate] = []
    looked_at = 0
    progress(0, config.survey_runs, SURVEYING)
    for run in source.glimpses(config.survey_runs, config.survey_length):
        # A frame seen from one side only tells little: two frames serve where there are no more.
        looked_at += len(run)
        if len(run) >= 3 or (len(run) == 2 and not found):
            found.append(_shutter_of(run, config))
        progress(1, config.survey_runs, SURVEYING)
        if len(found) >= FEWEST_RUNS and pool_shutters(found).confidence >= CERTAIN:
            break
    pooled = pool_shutters(found)
    shutter = _tempered(pooled)
    sure = [each.fraction for each in found if each.confidence > SURE]
    return Survey(
        estimate=pooled,
        shutter=shutter,
        longest=max([shutter, *sure]),
        confidence=pooled.confidence,
        whole=looked_at == source.count,
    )


def candidates(
    window: Window, look: FirstPass, survey: Survey, memory: Memory, config: GateConfig
) -> list[int]:
    """Positions in the window of kept frames that may be blurred, or are near one that may be.

    Where the first pass is in doubt, a closer look decides: flow of pictures of half the size.

    Args:
        window: Frames of one shot.
        look: What the first pass saw.
        survey: The longest shutter of the clip.
        memory: Closer looks of the window before.
        config: Thresholds.
    """

    def stirs(i: int) -> bool:
        first = look.excess(window.frames[i].index, survey.longest, config) / config.soft
        if first < WARY or first >= PLAIN:
            return first >= PLAIN
        pairs = [(k, k + 1) for k in (i - 1, i) if 0 <= k < len(window.frames) - 1]
        blur = [memory.closer(window.frames[a], window.frames[b], config) for a, b in pairs]
        found = [excess(each.times(survey.longest), look.size, config) for each in blur]
        return max(found, default=0.0) >= SURER * config.soft

    chosen = widened([stirs(i) for i in range(len(window.frames))])
    return [i for i in window.kept if chosen[i]]


class Memory:
    """What one window hands to the next: flows, for their contexts overlap, and the shutter of the shot."""

    def __init__(self) -> None:
        self._known: dict[tuple[Fraction, Fraction], tuple[Flow, Flow]] = {}
        self._shutter: tuple[int, float] | None = None
        self._closer: dict[int, Extent] = {}

    def closer(self, before: Frame, after: Frame, config: GateConfig) -> Extent:
        """Speeds between consecutive frames, [pixels per frame interval], by a closer look than the first."""
        if before.index not in self._closer:
            while len(self._closer) >= LOOKS:
                del self._closer[next(iter(self._closer))]
            speed = closer_speeds(before.picture.luma(), after.picture.luma())
            self._closer[before.index] = extent(speed, config)
        return self._closer[before.index]

    def knows_shutter(self, shot: int) -> bool:
        """Whether the shutter of this shot has been estimated."""
        return self._shutter is not None and self._shutter[0] == shot

    def flows(self, clip: Clip, pair: FlowPair) -> Flows:
        """Flows both ways between consecutive frames of `clip`; only unknown ones are estimated."""
        moments = list(itertools.pairwise(clip.times))
        self._known = {
            moment: self._known.get(moment) or pair(clip.images[i], clip.images[i + 1])
            for i, moment in enumerate(moments)
        }
        flows: Flows = {}
        for i, moment in enumerate(moments):
            flows[i, i + 1], flows[i + 1, i] = self._known[moment]
        return flows

    def shutter(self, shot: int, estimate: Callable[[], float]) -> float:
        """The shutter of a shot, estimated in its first window: one number, so that no window differs."""
        if self._shutter is None or self._shutter[0] != shot:
            self._shutter = shot, estimate()
        return self._shutter[1]


def measure(  # noqa: PLR0913  # one of them each from the window, the clip, the user and the window before
    clip: Clip,
    shot: int,
    survey: Survey,
    *,
    config: MeasureConfig,
    memory: Memory,
    tell_movers: bool = False,
) -> Motion:
    """Flow between each frame and its neighbours, each frame's own velocity, and what moves by itself.

    Args:
        clip: Frames of one shot.
        shot: Its number.
        survey: What the whole clip told about its shutter.
        config: Which estimator.
        memory: What the window before measured; brought up to date.
        tell_movers: Find out what moves otherwise than the camera; else nothing does.
    """
    near = memory.flows(clip, ESTIMATORS[config.estimator])
    velocity = velocities(near, clip.images, intervals(clip.times))
    still = velocity.new_zeros(velocity.shape[2:])
    apart = [_movers(near, i, clip.images) if tell_movers else still for i in range(len(velocity))]
    return Motion(
        flows=ChainedFlows(near),
        velocity=velocity,
        movers=torch.stack(apart) if tell_movers else still.expand(len(velocity), -1, -1),
        shutter=memory.shutter(shot, lambda: shot_shutter(clip, near, survey)),
    )


def blur_excess(motion: Motion, i: int, config: GateConfig) -> float:
    """How many times over the gate's threshold the measured blur of frame `i` is."""
    height, width = motion.velocity.shape[2:]
    lengths = torch.hypot(*(motion.velocity[i, :, ::4, ::4] * motion.shutter))
    return excess(extent(lengths, config), (height, width), config)


def blurred(motion: Motion, kept: range, config: GateConfig) -> list[int]:
    """Which of the frames `kept` are blurred enough to be worked on."""
    return [i for i in kept if blur_excess(motion, i, config) >= 1]


def blur_weights(motion: Motion, config: GateConfig) -> list[float]:
    """Share of its correction that the blur of each frame asks for, [T] in [0, 1], steady over time.

    Args:
        motion: Of consecutive frames of one shot.
        config: Thresholds.
    """
    count = len(motion.velocity)
    return dilated([blur_weight(blur_excess(motion, i, config), config) for i in range(count)])


def shot_shutter(clip: Clip, near: Flows, survey: Survey, *, frames: int = 6) -> float:
    """The shutter of one shot, from the survey of the whole clip and from a few of its own frames.

    Edited clips join footage of several cameras; the shot's own evidence counts as much as all the rest.
    """
    # What has been seen twice is no more certain for it.
    if survey.estimate is None or survey.whole:
        return survey.shutter
    first = max(0, (len(clip.images) - frames) // 2)
    some = range(first, min(len(clip.images), first + frames))
    flows = {(i - first, j - first): flow for (i, j), flow in near.items() if i in some and j in some}
    own = shutter_fraction(clip.images[some.start : some.stop], flows)
    return _tempered(pool_shutters([survey.estimate, own]))


def adjacent_flows(images: Tensor, pair: FlowPair) -> Flows:
    """Flow both ways between consecutive frames of [T, 3, H, W]."""
    flows: Flows = {}
    for i in range(len(images) - 1):
        flows[i, i + 1], flows[i + 1, i] = pair(images[i], images[i + 1])
    return flows


def halved(pair: FlowPair, source: Tensor, target: Tensor) -> tuple[Flow, Flow]:
    """`pair` on pictures of half the size, a quarter of the work: where motion is asked for, not detail."""
    size = source.shape[1:]
    if min(size) < 2 * SMALLEST_HALF:
        return pair(source, target)
    small = (interpolate(image[None], scale_factor=0.5, mode="area")[0] for image in (source, target))
    there, back = pair(*small)
    return _doubled(there, size), _doubled(back, size)


def _doubled(flow: Flow, size: Sequence[int]) -> Flow:
    both = torch.cat([2 * flow.shift, flow.trust[None]])[None]
    large = interpolate(both, size=tuple(size), mode="bilinear", align_corners=False)[0]
    return Flow(shift=large[:2].contiguous(), trust=large[2].clamp(0, 1))


def intervals(times: Sequence[Fraction]) -> list[int]:
    """Frame intervals between consecutive frames: 1, or more where frames are missing between them."""
    steps = [float(after - before) for before, after in itertools.pairwise(times)]
    usual = sorted(steps)[len(steps) // 2] if steps else 1.0
    return [max(1, round(step / usual)) for step in steps]


def velocities(near: Flows, images: Tensor, gaps: Sequence[int] | None = None) -> Tensor:
    """[T, 2, H, W] pixels per frame interval at each frame's own time.

    Plain central differences: on the REDS pairs, leaning to the trusted side loses 0.05 dB of what follows.

    Args:
        near: Flows both ways between consecutive frames.
        images: [T, 3, H, W]
        gaps: [T - 1] frame intervals between consecutive frames; None: 1 each.
    """
    found = images.new_zeros(len(images), 2, *images.shape[2:])
    for i in range(len(images)):
        sides = [(i + 1, i, 1), (i - 1, i - 1, -1)]  # neighbour, gap, direction of time
        seen = [(near[i, j].shift, k, sign) for j, k, sign in sides if (i, j) in near]
        for shift, k, sign in seen:
            found[i].add_(shift, alpha=sign / (gaps[k] if gaps else 1) / len(seen))
    return found


@dataclass(frozen=True, slots=True)
class ChainedFlows(Mapping[Pair, Flow]):
    """Flows between any two frames, chained when asked for from those between consecutive frames.

    Chaining costs one warp where a new estimate costs ten, and loses 0.01 to 0.06 dB of what follows. Kept
    for every pair, the flows would need several times the memory of the frames; the last few are kept, as the
    frame at the other end asks for the same.
    """

    near: Flows
    _last: Flows = field(default_factory=dict, init=False, repr=False, compare=False)

    def __getitem__(self, pair: Pair) -> Flow:
        if pair in self.near:
            return self.near[pair]
        if pair not in self._last:
            found = self._chained(pair)
            while len(self._last) >= KEPT:
                del self._last[next(iter(self._last))]
            self._last[pair] = found
        return self._last[pair]

    def _chained(self, pair: Pair) -> Flow:
        i, j = pair
        if i == j:
            raise KeyError(pair)
        between = i + (1 if j > i else -1)
        first, second = self.near[i, between], self[between, j]
        there = warp(torch.cat([second.shift, second.trust[None]]), first.shift)
        return Flow(shift=first.shift + there[:2], trust=first.trust * there[2])

    def __iter__(self) -> Iterator[Pair]:
        frames = sorted({i for pair in self.near for i in pair})
        return ((i, j) for i in frames for j in frames if i != j)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _tempered(found: ShutterEstimate) -> float:
    """Little evidence moves the estimate little from what cameras usually do."""
    return found.typical(USUAL_SHUTTER, VARIETY) if found.confidence else USUAL_SHUTTER


def _movers(near: Flows, i: int, images: Tensor) -> Tensor:
    flow = near.get((i, i + 1)) or near.get((i, i - 1))
    camera = homography_of_flow(flow.shift, flow.trust) if flow else None
    return images.new_zeros(images.shape[2:]) if flow is None or camera is None else movers(flow, camera)


def _shutter_of(run: Sequence[Frame], config: MeasureConfig) -> ShutterEstimate:
    images = stack_light(run)
    # A fraction has no unit: a smaller picture tells it as well, and sooner.
    if (times := round(max(images.shape[2:]) / SURVEYED)) > 1:
        images = avg_pool2d(images, times)
    return shutter_fraction(images, adjacent_flows(images, partial(halved, ESTIMATORS[config.estimator])))
