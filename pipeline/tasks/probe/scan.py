"""The diagnosis of every few frames of a clip, after its first pass.

Flow is estimated on reduced lumas: a diagnosis needs blur lengths to half a pixel. Edges, noise and blocks
are measured at full resolution.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.media.video_in.frame_picture import VideoPicture
from freezeframe.data.media.video_in.reduced import gray_levels
from freezeframe.data.types import Box, Clip, Flow, Frame, Picture, Source
from freezeframe.motion.camera.homography import fit_homography
from freezeframe.motion.camera.segmentation import SegmentationConfig, segment_movers
from freezeframe.motion.diagnosis.diagnose import Array, diagnose, diagnose_luma
from freezeframe.motion.flow.estimators import dis_uv, gamma_luma, gamma_luma_uint8, make_flow_pair
from freezeframe.pipeline.config import GateConfig, MeasureConfig
from freezeframe.pipeline.stages.blurred_parts import BlurredPart
from freezeframe.pipeline.stages.first_pass import ThumbnailMotion
from freezeframe.pipeline.stages.flows import FlowCache
from freezeframe.pipeline.stages.gate import blur_ratio, blur_threshold, extent
from freezeframe.pipeline.stages.layers.movers import max_blur, max_mover_shutter, region_blur_ratio
from freezeframe.pipeline.stages.survey import Survey, shot_shutter, survey_flows, survey_images

from .frame_regions import RegionFinder
from .result import SampledFrame

FrameTriplet = tuple[Frame | None, Frame, Frame | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanParams:
    """Tunables of the scan."""

    flow_side_px: int = 480  # longer side of the lumas whose flow is estimated
    sharp_side_px: int = 320  # the same where the first pass excludes
    sharp_px: float = 1.0  # so many pixels of blur
    homography_step_px: int = 16  # pixels of the frame between the samples of a homography


SCAN_PARAMS = ScanParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMotion:
    """Motion at one frame, on a grid that spans the frame."""

    velocity: Tensor  # [2, h, w] pixels of the frame per frame interval
    independent: Tensor  # [h, w] in [0, 1]: probability of motion other than the camera's


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurredFrame:
    """A frame, and the regions in it that would be processed."""

    frame: Frame
    regions: tuple[BlurredPart, ...] = ()


class ClipScanner:
    """Diagnoses frames of a clip with a known first pass and shutter."""

    def __init__(self, rate: Fraction, thumbnail_motion: ThumbnailMotion, survey: Survey) -> None:
        self._rate, self._thumbnail_motion, self._survey = rate, thumbnail_motion, survey
        self._mover_shutter = max_mover_shutter(survey, thumbnail_motion.regions)
        self._shutters, self._finder = FlowCache(), RegionFinder(thumbnail_motion, survey)
        self.sampled_frames: list[SampledFrame] = []
        self.parts: dict[int, tuple[BlurredPart, ...]] = {}  # that would be deconvolved, by frame
        self.most_blurred: BlurredFrame

    def scan(self, source: Source, stride: int, on_frame: Callable[[], None]) -> None:
        """Diagnose every `stride`-th frame of `source`; `on_frame` is called after each frame."""
        for triplet in frame_triplets(source.frames(), self._thumbnail_motion.cuts):
            if triplet[1].index % stride == 0:
                self._add(triplet)
            on_frame()

    def _add(self, triplet: FrameTriplet) -> None:
        frame, neighbours = triplet[1], [each for each in triplet if each is not None]
        sampled = (
            self._diagnose(triplet, self._shutter(neighbours))
            if len(neighbours) > 1
            else diagnose_single_frame(frame)
        )
        if sampled.worst_px > max((each.worst_px for each in self.sampled_frames), default=-1.0):
            self.most_blurred = BlurredFrame(
                frame=frame, regions=(*self._finder.movers(frame), *self.parts.get(frame.index, ()))
            )
        self.sampled_frames.append(sampled)

    def _shutter(self, frames: list[Frame]) -> float:
        """The shutter of the shot of consecutive frames, from the first ones that are asked for."""
        if self._survey.estimate is None or self._survey.exhaustive:
            return self._survey.shutter

        def estimate() -> float:
            images = survey_images(frames)
            times = tuple(frame.time for frame in frames)
            clip = Clip(images=images, times=times, shutter=self._survey.shutter, owned=range(len(images)))
            return shot_shutter(clip, survey_flows(images, MeasureConfig()), self._survey)

        shot = sum(cut <= frames[-1].index for cut in self._thumbnail_motion.cuts)
        return self._shutters.shutter(shot, estimate)

    def _diagnose(self, triplet: FrameTriplet, shutter: float) -> SampledFrame:
        frame, regions = triplet[1], self._thumbnail_motion.regions
        bound = self._thumbnail_motion.extent(frame.index).local_px * self._survey.max_shutter
        if bound >= SCAN_PARAMS.sharp_px:
            motion = frame_motion(triplet, self._rate)
        else:
            boxes = [track.at(frame.index).box for track in regions.tracks_at(frame.index)]
            motion = coarse_motion(triplet, self._rate, boxes)
        diagnosis = diagnose_luma(
            full_luma(frame.picture), blur=motion.velocity * shutter, independent_motion=motion.independent
        )
        gate, size, longest = GateConfig(), frame.picture.size, self._mover_shutter
        ratio = blur_ratio(extent(torch.hypot(*motion.velocity) * shutter), size, gate)
        here = range(frame.index, frame.index + 1)
        if ratio >= 1:
            self.parts[frame.index] = self._finder.deconvolved_parts(frame, motion.velocity * shutter)
        return SampledFrame(
            index=frame.index,
            time=float(frame.time),
            blur_px=diagnosis.blur,
            region_px=max((max_blur(t, here, longest) for t in regions.tracks_at(frame.index)), default=0.0),
            blurred_as_whole=ratio >= 1,
            blurred=max(ratio, region_blur_ratio(regions, frame.index, size, longest, gate)) >= 1,
            camera_speed=camera_speed(motion),
            diagnosis=diagnosis,
        )


def frame_triplets(frames: Iterable[Frame], cuts: frozenset[int]) -> Iterator[FrameTriplet]:
    """Each frame between its neighbours of the same shot; None at the ends of a shot."""
    before: Frame | None = None
    current: Frame | None = None
    for after in frames:
        cut = after.index in cuts
        if current is not None:
            yield before, current, None if cut else after
        before, current = None if cut else current, after
    if current is not None:
        yield before, current, None


def frame_motion(triplet: FrameTriplet, rate: Fraction, params: ScanParams = SCAN_PARAMS) -> FrameMotion:
    """Motion of the middle one of three frames; one neighbour may be missing.

    Args:
        triplet: Consecutive frames.
        rate: Frames per second: missing frames lengthen an interval.
        params: Tunables.
    """
    factor = reduction(triplet[1].picture, params.flow_side_px)
    current, others = _lumas(triplet, factor)
    flow = make_flow_pair(dis_uv(current, others[0][0]), dis_uv(others[0][0], current))[0]
    uvs = [flow.uv, *(dis_uv(current, luma) for luma, _ in others[1:])]
    return FrameMotion(
        velocity=_mean_velocity(triplet[1], uvs, [frame for _, frame in others], rate) * factor,
        independent=independent_motion(flow, factor, params),
    )


def coarse_motion(
    triplet: FrameTriplet, rate: Fraction, boxes: Sequence[Box], params: ScanParams = SCAN_PARAMS
) -> FrameMotion:
    """`frame_motion` in a third of the time, for a frame without visible blur.

    Args:
        triplet: As there.
        rate: As there.
        boxes: Of the small fast movers, which move otherwise than the camera.
        params: Tunables.
    """
    picture = triplet[1].picture
    factor = reduction(picture, params.sharp_side_px)
    current, others = _lumas(triplet, factor)
    uvs = [dis_uv(current, luma) for luma, _ in others]
    independent = torch.zeros(*uvs[0].shape[1:])
    for box in boxes:
        independent[
            box.top // factor : 1 + box.bottom // factor, box.left // factor : 1 + box.right // factor
        ] = 1
    velocity = _mean_velocity(triplet[1], uvs, [frame for _, frame in others], rate) * factor
    return FrameMotion(velocity=velocity, independent=independent)


def reduction(picture: Picture, side_px: int) -> int:
    """Factor that reduces the longer side to about `side_px` pixels."""
    return max(1, round(max(picture.size) / side_px))


def _lumas(triplet: FrameTriplet, factor: int) -> tuple[Array, list[tuple[Array, Frame]]]:
    """Reduced luma of the middle frame, and those of the next and of the previous frame, if they exist."""
    others = [(reduced_luma(each.picture, factor), each) for each in (triplet[2], triplet[0]) if each]
    return reduced_luma(triplet[1].picture, factor), others


def _mean_velocity(frame: Frame, uvs: Sequence[Tensor], others: Sequence[Frame], rate: Fraction) -> Tensor:
    """[2, h, w] pixels per frame interval, from the flows of a frame to its neighbours."""
    gaps = [(round((other.time - frame.time) * rate) or other.index - frame.index) for other in others]
    return torch.stack([uv / gap for uv, gap in zip(uvs, gaps, strict=True)]).mean(0)


def independent_motion(flow: Flow, factor: int, params: ScanParams = SCAN_PARAMS) -> Tensor:
    """Probability of motion other than the camera's, [h, w] in [0, 1]; `flow` is `factor` times reduced."""
    step = max(1, params.homography_step_px // factor)
    camera = fit_homography(flow.uv, flow.confidence, step=step)
    if camera is None:
        return torch.zeros_like(flow.confidence)
    config = SegmentationConfig(mover_threshold=1 / factor)
    return segment_movers(flow, camera, config=config)


def camera_speed(motion: FrameMotion) -> float | None:
    """Median speed of the background, pixels of the frame per frame interval."""
    background = torch.hypot(*motion.velocity)[motion.independent < 0.5]
    return float(background.median()) if len(background) else None


def diagnose_single_frame(frame: Frame) -> SampledFrame:
    """Diagnose a frame without neighbours."""
    diagnosis = diagnose(frame.picture.linear())
    blurred = diagnosis.blur >= blur_threshold(frame.picture.size, GateConfig())
    return SampledFrame(
        index=frame.index,
        time=float(frame.time),
        blur_px=diagnosis.blur,
        region_px=0.0,
        blurred_as_whole=blurred,
        blurred=blurred,
        camera_speed=None,
        diagnosis=diagnosis,
    )


def reduced_luma(picture: Picture, factor: int) -> Array:
    """`full_luma` in code values at 1 / `factor` of the resolution, [h, w] uint8."""
    luma = _gamma_codes(picture)
    if factor == 1:
        return luma
    height, width = (max(1, side // factor) for side in luma.shape)
    return np.asarray(cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA))


def full_luma(picture: Picture) -> Array:
    """Gamma-coded luma as that of `gamma_luma`, [H, W] float32; of a video from its luma alone."""
    if not isinstance(picture, VideoPicture):
        return np.asarray(gamma_luma(picture.linear()).numpy())
    return np.asarray(cv2.LUT(picture.luma().numpy(), _gamma_levels(picture)))


def _gamma_codes(picture: Picture) -> Array:
    if not isinstance(picture, VideoPicture):
        return gamma_luma_uint8(picture.linear())
    levels = (255 * _gamma_levels(picture) + 0.5).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(picture.luma().numpy(), levels))


def _gamma_levels(picture: VideoPicture) -> Array:
    """[256] gamma-coded luma of the luma codes of a video."""
    return np.asarray(gamma_luma(gray_levels(picture.spec).expand(3, 1, -1))[0].numpy())
