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

from freezeframe.data.types import Clip, Flow, Frame, Motion, Source, stack_linear
from freezeframe.motion.camera.homography import fit_homography
from freezeframe.motion.camera.segmentation import segment_movers
from freezeframe.motion.flow.estimators import dis_pair, kornia_pair
from freezeframe.motion.flow.thumbnail import fine_speeds
from freezeframe.motion.flow.warp import warp
from freezeframe.motion.shutter.estimator import ShutterEstimate, estimate_shutter, pool_shutters
from freezeframe.pipeline.config import GateConfig, MeasureConfig
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .continuity import dilate, dilate_mask
from .first_pass import ThumbnailMotion
from .gate import Extent, blur_ratio, blur_weight, extent
from .shots import Window

Pair = tuple[int, int]
Flows = dict[Pair, Flow]
FlowPair = Callable[[Tensor, Tensor], tuple[Flow, Flow]]

ESTIMATORS: Mapping[str, FlowPair] = {"dis": dis_pair, "kornia": kornia_pair}
SHUTTER_PRIOR_MEAN = (
    0.7  # where nothing can be measured: who brings a clip to be sharpened kept the shutter open long
)
SHUTTER_PRIOR_STD = 0.3  # standard deviation of shutters among such clips
RECHECK_RATIO = 0.85  # share of the threshold at which the first pass asks for a closer look
CERTAIN_RATIO = 3.0  # times the threshold from which none is needed: on real clips it never says otherwise
FINE_SPEED_RATIO = 0.93  # share of the threshold at which that sends a frame to be measured
MIN_HALF_SIZE = 120  # pixels of the shorter side below which half a picture tells no motion
SURVEY_STAGE = "measuring the shutter"  # what `survey` calls its work
SURVEY_SIZE = 1280  # pixels of the longer side of what the survey looks at; half of that misleads it
MAX_FINE_SPEEDS = 32  # closer looks, more than a window's context
MAX_CHAINED = 4  # chained flows: with windows of five frames nothing is chained twice
MIN_RUNS = 3  # places looked at in any clip that has so many
STOP_CONFIDENCE = 0.9  # confidence at which the survey looks no further
MIN_CONFIDENCE = 0.5  # confidence from which a glimpse counts as a shutter of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is known of a clip before its first frame is worked on."""

    estimate: ShutterEstimate | None  # None: the user said it
    shutter: float  # exposure time over frame interval
    max_shutter: float  # of any place that was looked at
    confidence: float  # [0, 1]
    exhaustive: bool = False  # every frame of the clip was looked at


def survey(source: Source, config: MeasureConfig, *, progress: ProgressCallback = null_progress) -> Survey:
    """Measure the shutter in a few places spread over the clip; `progress` is told of each."""
    if config.shutter is not None:
        return Survey(estimate=None, shutter=config.shutter, max_shutter=config.shutter, confidence=1.0)
    estimates: list[ShutterEstimate] = []
    frame_count = 0
    progress(0, config.survey_runs, SURVEY_STAGE)
    for run in source.sample_clips(config.survey_runs, config.survey_length):
        # A frame seen from one side only tells little: two frames serve where there are no more.
        frame_count += len(run)
        if len(run) >= 3 or (len(run) == 2 and not estimates):
            estimates.append(_estimate_shutter(run, config))
        progress(1, config.survey_runs, SURVEY_STAGE)
        if len(estimates) >= MIN_RUNS and pool_shutters(estimates).confidence >= STOP_CONFIDENCE:
            break
    pooled = pool_shutters(estimates)
    shutter = _shrink_to_prior(pooled)
    confident = [each.fraction for each in estimates if each.confidence > MIN_CONFIDENCE]
    return Survey(
        estimate=pooled,
        shutter=shutter,
        max_shutter=max([shutter, *confident]),
        confidence=pooled.confidence,
        exhaustive=frame_count == source.count,
    )


def candidates(
    window: Window,
    thumbnail_motion: ThumbnailMotion,
    survey: Survey,
    flow_cache: FlowCache,
    config: GateConfig,
) -> list[int]:
    """Positions in the window of kept frames that may be blurred, or are near one that may be.

    Where the first pass is in doubt, a closer look decides: flow of pictures of half the size.

    Args:
        window: Frames of one shot.
        thumbnail_motion: What the first pass saw.
        survey: The longest shutter of the clip.
        flow_cache: Closer looks of the window before.
        config: Thresholds.
    """

    def may_be_blurred(i: int) -> bool:
        first = (
            thumbnail_motion.blur_ratio(window.frames[i].index, survey.max_shutter, config)
            / config.ramp_start
        )
        if first < RECHECK_RATIO or first >= CERTAIN_RATIO:
            return first >= CERTAIN_RATIO
        pairs = [(k, k + 1) for k in (i - 1, i) if 0 <= k < len(window.frames) - 1]
        blur = [flow_cache.fine_speed(window.frames[a], window.frames[b], config) for a, b in pairs]
        ratios = [blur_ratio(each.scale(survey.max_shutter), thumbnail_motion.size, config) for each in blur]
        return max(ratios, default=0.0) >= FINE_SPEED_RATIO * config.ramp_start

    selected = dilate_mask([may_be_blurred(i) for i in range(len(window.frames))])
    return [i for i in window.owned if selected[i]]


class FlowCache:
    """What one window hands to the next: flows, for their contexts overlap, and the shutter of the shot."""

    def __init__(self) -> None:
        self._known: dict[tuple[Fraction, Fraction], tuple[Flow, Flow]] = {}
        self._shutter: tuple[int, float] | None = None
        self._fine_speeds: dict[int, Extent] = {}

    def fine_speed(self, before: Frame, after: Frame, config: GateConfig) -> Extent:
        """Speeds between consecutive frames, [pixels per frame interval], by a closer look than the first."""
        if before.index not in self._fine_speeds:
            while len(self._fine_speeds) >= MAX_FINE_SPEEDS:
                del self._fine_speeds[next(iter(self._fine_speeds))]
            speed = fine_speeds(before.picture.luma(), after.picture.luma())
            self._fine_speeds[before.index] = extent(speed, config)
        return self._fine_speeds[before.index]

    def has_shutter(self, shot: int) -> bool:
        """Whether the shutter of this shot has been estimated."""
        return self._shutter is not None and self._shutter[0] == shot

    def flows(self, clip: Clip, pair: FlowPair) -> Flows:
        """Flows both ways between consecutive frames of `clip`; only unknown ones are estimated."""
        time_pairs = list(itertools.pairwise(clip.times))
        self._known = {
            time_pair: self._known.get(time_pair) or pair(clip.images[i], clip.images[i + 1])
            for i, time_pair in enumerate(time_pairs)
        }
        flows: Flows = {}
        for i, time_pair in enumerate(time_pairs):
            flows[i, i + 1], flows[i + 1, i] = self._known[time_pair]
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
    flow_cache: FlowCache,
    detect_movers: bool = False,
) -> Motion:
    """Flow between each frame and its neighbours, each frame's own velocity, and what moves by itself.

    Args:
        clip: Frames of one shot.
        shot: Its number.
        survey: What the whole clip told about its shutter.
        config: Which estimator.
        flow_cache: What the window before measured; brought up to date.
        detect_movers: Find out what moves otherwise than the camera; else nothing does.
    """
    neighbour_flows = flow_cache.flows(clip, ESTIMATORS[config.estimator])
    velocity = velocities(neighbour_flows, clip.images, intervals(clip.times))
    no_motion = velocity.new_zeros(velocity.shape[2:])
    independent_motion = [
        _movers(neighbour_flows, i, clip.images) if detect_movers else no_motion for i in range(len(velocity))
    ]
    return Motion(
        flows=ChainedFlows(neighbour_flows),
        velocity=velocity,
        independent_motion=torch.stack(independent_motion)
        if detect_movers
        else no_motion.expand(len(velocity), -1, -1),
        shutter=flow_cache.shutter(shot, lambda: shot_shutter(clip, neighbour_flows, survey)),
    )


def frame_blur_ratio(motion: Motion, i: int, config: GateConfig) -> float:
    """How many times over the gate's threshold the measured blur of frame `i` is."""
    height, width = motion.velocity.shape[2:]
    lengths = torch.hypot(*(motion.velocity[i, :, ::4, ::4] * motion.shutter))
    return blur_ratio(extent(lengths, config), (height, width), config)


def blurred(motion: Motion, owned: range, config: GateConfig) -> list[int]:
    """Which of the frames `owned` are blurred enough to be worked on."""
    return [i for i in owned if frame_blur_ratio(motion, i, config) >= 1]


def blur_weights(motion: Motion, config: GateConfig) -> list[float]:
    """Share of its correction that the blur of each frame asks for, [T] in [0, 1], steady over time.

    Args:
        motion: Of consecutive frames of one shot.
        config: Thresholds.
    """
    count = len(motion.velocity)
    return dilate([blur_weight(frame_blur_ratio(motion, i, config), config) for i in range(count)])


def shot_shutter(clip: Clip, neighbour_flows: Flows, survey: Survey, *, frames: int = 6) -> float:
    """The shutter of one shot, from the survey of the whole clip and from a few of its own frames.

    Edited clips join footage of several cameras; the shot's own evidence counts as much as all the rest.
    """
    # What has been seen twice is no more certain for it.
    if survey.estimate is None or survey.exhaustive:
        return survey.shutter
    first = max(0, (len(clip.images) - frames) // 2)
    subset = range(first, min(len(clip.images), first + frames))
    flows = {
        (i - first, j - first): flow
        for (i, j), flow in neighbour_flows.items()
        if i in subset and j in subset
    }
    own = estimate_shutter(clip.images[subset.start : subset.stop], flows)
    return _shrink_to_prior(pool_shutters([survey.estimate, own]))


def adjacent_flows(images: Tensor, pair: FlowPair) -> Flows:
    """Flow both ways between consecutive frames of [T, 3, H, W]."""
    flows: Flows = {}
    for i in range(len(images) - 1):
        flows[i, i + 1], flows[i + 1, i] = pair(images[i], images[i + 1])
    return flows


def at_half_resolution(pair: FlowPair, source: Tensor, target: Tensor) -> tuple[Flow, Flow]:
    """`pair` on pictures of half the size, a quarter of the work: where motion is asked for, not detail."""
    size = source.shape[1:]
    if min(size) < 2 * MIN_HALF_SIZE:
        return pair(source, target)
    small = (interpolate(image[None], scale_factor=0.5, mode="area")[0] for image in (source, target))
    forward, backward = pair(*small)
    return _upsample(forward, size), _upsample(backward, size)


def _upsample(flow: Flow, size: Sequence[int]) -> Flow:
    both = torch.cat([2 * flow.uv, flow.confidence[None]])[None]
    large = interpolate(both, size=tuple(size), mode="bilinear", align_corners=False)[0]
    return Flow(uv=large[:2].contiguous(), confidence=large[2].clamp(0, 1))


def intervals(times: Sequence[Fraction]) -> list[int]:
    """Frame intervals between consecutive frames: 1, or more where frames are missing between them."""
    steps = [float(after - before) for before, after in itertools.pairwise(times)]
    median_step = sorted(steps)[len(steps) // 2] if steps else 1.0
    return [max(1, round(step / median_step)) for step in steps]


def velocities(neighbour_flows: Flows, images: Tensor, gaps: Sequence[int] | None = None) -> Tensor:
    """[T, 2, H, W] pixels per frame interval at each frame's own time.

    Plain central differences: on the REDS pairs, leaning to the trusted side loses 0.05 dB of what follows.

    Args:
        neighbour_flows: Flows both ways between consecutive frames.
        images: [T, 3, H, W]
        gaps: [T - 1] frame intervals between consecutive frames; None: 1 each.
    """
    velocity = images.new_zeros(len(images), 2, *images.shape[2:])
    for i in range(len(images)):
        sides = [(i + 1, i, 1), (i - 1, i - 1, -1)]  # neighbour, gap, direction of time
        observed = [(neighbour_flows[i, j].uv, k, sign) for j, k, sign in sides if (i, j) in neighbour_flows]
        for uv, k, sign in observed:
            velocity[i].add_(uv, alpha=sign / (gaps[k] if gaps else 1) / len(observed))
    return velocity


@dataclass(frozen=True, slots=True)
class ChainedFlows(Mapping[Pair, Flow]):
    """Flows between any two frames, chained when asked for from those between consecutive frames.

    Chaining costs one warp where a new estimate costs ten, and loses 0.01 to 0.06 dB of what follows. Kept
    for every pair, the flows would need several times the memory of the frames; the last few are kept, as the
    frame at the other end asks for the same.
    """

    neighbour_flows: Flows
    _last: Flows = field(default_factory=dict, init=False, repr=False, compare=False)

    def __getitem__(self, pair: Pair) -> Flow:
        if pair in self.neighbour_flows:
            return self.neighbour_flows[pair]
        if pair not in self._last:
            chained = self._chained(pair)
            while len(self._last) >= MAX_CHAINED:
                del self._last[next(iter(self._last))]
            self._last[pair] = chained
        return self._last[pair]

    def _chained(self, pair: Pair) -> Flow:
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


def _shrink_to_prior(estimate: ShutterEstimate) -> float:
    """Little evidence moves the estimate little from what cameras usually do."""
    return (
        estimate.posterior_median(SHUTTER_PRIOR_MEAN, SHUTTER_PRIOR_STD)
        if estimate.confidence
        else SHUTTER_PRIOR_MEAN
    )


def _movers(neighbour_flows: Flows, i: int, images: Tensor) -> Tensor:
    flow = neighbour_flows.get((i, i + 1)) or neighbour_flows.get((i, i - 1))
    camera = fit_homography(flow.uv, flow.confidence) if flow else None
    return (
        images.new_zeros(images.shape[2:]) if flow is None or camera is None else segment_movers(flow, camera)
    )


def _estimate_shutter(run: Sequence[Frame], config: MeasureConfig) -> ShutterEstimate:
    images = stack_linear(run)
    # A fraction has no unit: a smaller picture tells it as well, and sooner.
    if (factor := round(max(images.shape[2:]) / SURVEY_SIZE)) > 1:
        images = avg_pool2d(images, factor)
    return estimate_shutter(
        images, adjacent_flows(images, partial(at_half_resolution, ESTIMATORS[config.estimator]))
    )
