"""The survey: the shutter of a clip, estimated in short runs of frames before its first frame is processed.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from freezeframe.data.media.video_in.reduced import reduced_linear
from freezeframe.data.types import Clip, Flow, Frame, Source
from freezeframe.motion.shutter.estimator import ShutterEstimate, estimate_shutter, pool_shutters
from freezeframe.pipeline.config import MeasureConfig
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .flows import ESTIMATORS, FlowPair, Flows, adjacent_flows

SURVEY_STAGE = "measuring the shutter"  # label of the progress bar


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyParams:
    """Prior of the shutter fraction, and how much of a clip the survey reads."""

    prior_mean: float = 0.7  # users submit blurred clips, so assume a long exposure
    prior_std: float = 0.3
    min_runs: int = 3  # runs that are always read, if there are so many
    stop_confidence: float = 0.9  # confidence at which the survey stops
    min_confidence: float = 0.5  # confidence from which the estimate of one run bounds the shutter
    max_size_px: int = 1280  # longer side of the images of the survey; half of it misleads the estimate
    min_half_size_px: int = 120  # shorter side below which flow needs the full resolution
    shot_frames: int = 6  # frames of a shot for its own estimate


SURVEY_PARAMS = SurveyParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The shutter of a clip."""

    estimate: ShutterEstimate | None  # None: set by the user
    shutter: float  # exposure time over frame interval
    max_shutter: float  # largest confident estimate of any run
    confidence: float  # [0, 1]
    exhaustive: bool = False  # whether every frame of the clip was read


def survey(
    source: Source,
    config: MeasureConfig,
    *,
    progress: ProgressCallback = null_progress,
    params: SurveyParams = SURVEY_PARAMS,
) -> Survey:
    """Estimate the shutter in a few runs of frames, spread over the clip."""
    if config.shutter is not None:
        return Survey(estimate=None, shutter=config.shutter, max_shutter=config.shutter, confidence=1.0)
    estimates: list[ShutterEstimate] = []
    frame_count = 0
    progress(0, config.survey_runs, SURVEY_STAGE)
    for run in source.sample_clips(config.survey_runs, config.survey_length):
        frame_count += len(run)
        # A frame with one neighbour is a weak measurement: use two frames only if there are no more.
        if len(run) >= 3 or (len(run) == 2 and not estimates):
            estimates.append(_estimate_run(run, config, params))
        progress(1, config.survey_runs, SURVEY_STAGE)
        if (
            len(estimates) >= params.min_runs
            and pool_shutters(estimates).confidence >= params.stop_confidence
        ):
            break
    pooled = pool_shutters(estimates)
    shutter = _shrink_to_prior(pooled, params)
    confident = [each.fraction for each in estimates if each.confidence > params.min_confidence]
    return Survey(
        estimate=pooled,
        shutter=shutter,
        max_shutter=max([shutter, *confident]),
        confidence=pooled.confidence,
        exhaustive=frame_count == source.count,
    )


def shot_shutter(
    clip: Clip, neighbour_flows: Flows, survey: Survey, *, params: SurveyParams = SURVEY_PARAMS
) -> float:
    """The shutter of one shot, from the survey of the clip and from a few frames of the shot.

    Edited clips join footage of several cameras: the frames of the shot have the weight of the whole survey.

    Args:
        clip: First window of the shot.
        neighbour_flows: Flows in both directions between its consecutive frames.
        survey: Of the whole clip.
        params: Number of frames, and the prior.
    """
    # Frames that the survey has read are no further evidence.
    if survey.estimate is None or survey.exhaustive:
        return survey.shutter
    first = max(0, (len(clip.images) - params.shot_frames) // 2)
    subset = range(first, min(len(clip.images), first + params.shot_frames))
    flows = {
        (i - first, j - first): flow
        for (i, j), flow in neighbour_flows.items()
        if i in subset and j in subset
    }
    shot_estimate = estimate_shutter(clip.images[subset.start : subset.stop], flows)
    return _shrink_to_prior(pool_shutters([survey.estimate, shot_estimate]), params)


def half_resolution_pair(pair: FlowPair, min_size: int, source: Tensor, target: Tensor) -> tuple[Flow, Flow]:
    """Flows of `pair` at half resolution, a quarter of the work: enough for motion without detail.

    Args:
        pair: Estimator.
        min_size: Shorter side in pixels below which half an image is too small.
        source: [3, H, W] linear RGB.
        target: [3, H, W] linear RGB.
    """
    size = source.shape[1:]
    if min(size) < 2 * min_size:
        return pair(source, target)
    small = (interpolate(image[None], scale_factor=0.5, mode="area")[0] for image in (source, target))
    forward, backward = pair(*small)
    return _upsample(forward, size), _upsample(backward, size)


def _upsample(flow: Flow, size: Sequence[int]) -> Flow:
    planes = [2 * flow.uv[0], 2 * flow.uv[1], flow.confidence]
    shape = (size[1], size[0])
    # Bilinear by OpenCV: torch takes three times as long.
    large = [torch.from_numpy(cv2.resize(plane.cpu().numpy(), shape)).to(plane) for plane in planes]
    return Flow(uv=torch.stack(large[:2]), confidence=large[2].clamp(0, 1))


def _shrink_to_prior(estimate: ShutterEstimate, params: SurveyParams) -> float:
    return (
        estimate.posterior_median(params.prior_mean, params.prior_std)
        if estimate.confidence
        else params.prior_mean
    )


def survey_images(frames: Sequence[Frame], params: SurveyParams = SURVEY_PARAMS) -> Tensor:
    """[T, 3, H, W] linear RGB of frames of one shot, reduced: a fraction of an interval has no unit."""
    factor = max(1, round(max(frames[0].picture.size) / params.max_size_px))
    return torch.stack([reduced_linear(frame.picture, factor) for frame in frames])


def survey_flows(images: Tensor, config: MeasureConfig, params: SurveyParams = SURVEY_PARAMS) -> Flows:
    """Flows in both directions between consecutive images of [T, 3, H, W], at half their resolution."""
    pair = partial(half_resolution_pair, ESTIMATORS[config.estimator], params.min_half_size_px)
    return adjacent_flows(images, pair)


def _estimate_run(run: Sequence[Frame], config: MeasureConfig, params: SurveyParams) -> ShutterEstimate:
    images = survey_images(run, params)
    return estimate_shutter(images, survey_flows(images, config, params))
