"""The layer stage: small fast movers, each fitted as a layer to a few frames of its track.

A track is divided into chunks of a few frames. One layer is fitted to each chunk and the frames beside it.
Chunks depend on the track alone: windows, and runs that continue an interrupted one, use the same.

Nothing here takes a gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from freezeframe.data.types import Box, Frame, RegionVerdict
from freezeframe.motion.regions.region_map import RegionMap, Track
from freezeframe.pipeline.config import GateConfig
from freezeframe.splatting.layers.composite import LayerFrames, composite
from freezeframe.splatting.layers.fit import LayerFitConfig, LayerStart, fit_layer
from freezeframe.splatting.layers.layer import Crops, Layer
from freezeframe.splatting.layers.loss import LossConfig

from .candidates import CANDIDATE_PARAMS, camera_blur
from .crops import crop_box, make_crops, sharpen_background
from .crossfade import crossfade
from .gate import RegionProposal, blur_weight
from .shots import Window
from .survey import Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerParams:
    """Tunables of the stage."""

    rigid_frames: int = 6  # of a chunk of a mover that hardly changes its shape
    limber_frames: int = 2  # of a chunk of one whose parts move apart
    overlap: int = 1  # frames beside a chunk that are fitted too
    min_blur_px: float = 2.0  # pixels; less blur of a mover is left as it is
    max_area: int = 300 * 300  # pixels of a mover; larger ones are left to the flow
    margin: float = 10.0  # pixels of the texture around the mover
    blur_share: float = 0.6  # of the blur, that the texture is smaller than the silhouette
    known_shutter: float = 0.8  # confidence of the survey from which its shutter is not fitted, if
    known_speed_px: float = 2.0  # the camera moves by so many pixels per frame: movers alone mislead it
    start_shutters: tuple[float, ...] = (0.85, 0.45)  # of an unknown one; the next where one explains little
    max_shutter: float = 0.97  # of start values
    # Residual up to which a layer is shown, and from which it is not: beside the recorded frame, and beside a
    # frame that is deconvolved because the camera moves. In 20 frames of the sample `sports` and in three
    # pans, layers of up to 0.10 gain 0.3 to 6 dB over deconvolution; from 0.12 on they lose up to 1.8 dB.
    limits: tuple[float, float] = (0.15, 0.22)
    limits_over_flow: tuple[float, float] = (0.10, 0.12)
    visible_coverage: float = 0.1  # coverage from which a pixel shows the layer only, where the camera moves


LAYER_PARAMS = LayerParams()
RIGID = LayerFitConfig(loss=LossConfig(deformation=0.003, deformation_change=0.006))
# Few frames and a mesh that bends say less about each texel: more of it is left to the prior.
LIMBER = LayerFitConfig(
    loss=LossConfig(
        colour_tv=0.012, chroma_tv=0.02, alpha_tv=0.004, deformation=0.0003, deformation_change=0.0006
    ),
    lr_deformation=0.2,
    node_spacing=12.0,  # about the width of a limb
)


Chunk = dict[int, RegionProposal]  # by the number of the frame: those shown, and those fitted beside them


class LayerCache:
    """Fitted chunks whose frames are not all written yet."""

    def __init__(self) -> None:
        self._chunks: dict[tuple[int, range], Chunk] = {}  # by the track, and the frames to show
        self._shot = -1
        self._shutters: list[float] = []  # of the movers of the shot that layers explain

    def propose(
        self,
        window: Window,
        regions: RegionMap,
        survey: Survey,
        gate: GateConfig,
        *,
        params: LayerParams = LAYER_PARAMS,
    ) -> dict[int, list[RegionProposal]]:
        """Changes of the frames that a window writes, by their numbers.

        Args:
            window: Frames of one shot.
            regions: Movers of the clip.
            survey: Shutter of the clip.
            gate: Threshold of blur.
            params: Tunables.
        """
        frames = {frame.index: frame for frame in window.frames}
        if window.shot != self._shot:
            self._shot, self._shutters = window.shot, []
        shutter = known_shutter(survey, regions, params)
        fitter = ChunkFitter(frames, regions, gate, shutter=shutter, found=self._shutters, params=params)
        first, last = window.written[0].index, window.written[-1].index
        proposals: dict[int, list[RegionProposal]] = {frame.index: [] for frame in window.written}
        for track in regions.tracks:
            fitted: list[tuple[range, Chunk]] = []
            for chunk in chunks(track.span, params.rigid_frames):
                seen = chunk.start - params.overlap <= last and first < chunk.stop + params.overlap
                if seen and fitter.may_be_blurred(track, chunk):
                    key = track.number, chunk
                    if key not in self._chunks:
                        self._chunks[key] = fitter.fit(track, chunk)
                    fitted.append((chunk, self._chunks[key]))
            for index, found in proposals.items():
                candidates = [(shown, chunk[index]) for shown, chunk in fitted if index in chunk]
                if candidates:
                    found.append(crossfade(candidates, index, params.overlap))
        self._forget(last - params.overlap)
        return proposals

    def _forget(self, last: int) -> None:
        """Drop the chunks that end with frame `last` or before it."""
        self._chunks = {key: chunk for key, chunk in self._chunks.items() if key[1].stop - 1 > last}


def chunks(span: range, length: int) -> list[range]:
    """Parts of about `length` frames each."""
    count = max(1, round(len(span) / length))
    edges = np.linspace(span.start, span.stop, count + 1).round().astype(int).tolist()
    return [range(first, stop) for first, stop in itertools.pairwise(edges)]


def min_blur(size: tuple[int, int], gate: GateConfig, params: LayerParams = LAYER_PARAMS) -> float:
    """Blur of a mover from which it is fitted, in pixels, in a frame of `size` (height, width)."""
    return max(params.min_blur_px, gate.min_blur_px, gate.global_blur * size[0])


def region_blur_ratio(
    regions: RegionMap, index: int, size: tuple[int, int], shutter: float, gate: GateConfig
) -> float:
    """Largest blur of the small movers of frame `index` over the threshold."""
    here = range(index, index + 1)
    blurs = [max_blur(track, here, shutter) for track in regions.tracks_at(index) if is_small(track, here)]
    return max(blurs, default=0.0) / min_blur(size, gate)


def is_small(track: Track, indices: range, params: LayerParams = LAYER_PARAMS) -> bool:
    """Whether a mover is small enough to be fitted in frames `indices`."""
    boxes = [track.at(index).box for index in indices]
    return max(box.width * box.height for box in boxes) <= params.max_area


def max_blur(track: Track, indices: range, shutter: float) -> float:
    """Largest blur of a mover in frames `indices`, in pixels."""
    return max(math.hypot(*image_velocity(track, index)) for index in indices) * shutter


def image_velocity(track: Track, index: int) -> tuple[float, float]:
    """Velocity of the centre in the picture, (x, y) pixels per frame interval."""
    first, last = max(track.span.start, index - 1), min(track.span.stop - 1, index + 1)
    (x0, y0), (x1, y1) = track.at(first).centre, track.at(last).centre
    return (x1 - x0) / max(1, last - first), (y1 - y0) / max(1, last - first)


class ChunkFitter:
    """Fits layers to the tracks of one window.

    Args:
        frames: Frames of the shot by their numbers.
        regions: Motion of the camera, and movers.
        gate: Thresholds of blur.
        shutter: Exposure time over frame interval; None if unknown.
        found: Shutters of the movers before; longer afterwards.
        params: Tunables.
    """

    def __init__(  # noqa: PLR0913  # a clip, and what is known of it
        self,
        frames: Mapping[int, Frame],
        regions: RegionMap,
        gate: GateConfig,
        *,
        shutter: float | None,
        found: list[float],
        params: LayerParams = LAYER_PARAMS,
    ) -> None:
        self._frames, self._regions, self._gate, self._params = frames, regions, gate, params
        self._shutter, self._found = shutter, found
        self._min_blur = min_blur(next(iter(frames.values())).picture.size, gate, params)

    def may_be_blurred(self, track: Track, chunk: range) -> bool:
        """Whether a mover is small, and fast enough for blur at the longest likely exposure."""
        shutter = self._shutter or max(self._params.start_shutters)
        speeds = [math.hypot(*image_velocity(track, index)) for index in chunk]
        # The median: limbs that swing move the centre of a player whom the camera follows.
        return is_small(track, chunk, self._params) and shutter * median(speeds) >= self._min_blur

    def fit(self, track: Track, chunk: range) -> Chunk:
        """Fit a layer to a chunk; where it explains too little, smaller ones that change their shape.

        A streak on a straight path is explained by every shutter from 0 on: a short exposure of a long mover.
        Its sharp edges exclude longer ones. An unknown shutter therefore starts high, and the fit lowers it.

        Args:
            track: The mover.
            chunk: Numbers of the frames to show.
        """
        first: Chunk = {}
        for shutter in self._start_shutters():
            proposals = self._fit_frames(track, chunk, RIGID, shutter, known=self._shutter is not None)
            first = first or proposals
            if worst_residual(proposals, chunk) <= self._params.limits[0]:
                self._found += [each.verdict.shutter for each in proposals.values()]
                return proposals
            if worst_residual(proposals, chunk) <= self._params.limits[1]:
                break
        # Behind a moving camera the flow follows parts that move apart.
        return first if not first or self._has_flow(chunk) else self._fit_parts(track, chunk, first)

    def _has_flow(self, chunk: range) -> bool:
        """Whether the frames of a chunk are deconvolved as a whole, because the camera moves."""
        size = next(iter(self._frames.values())).picture.size
        shutter = self._shutter or max(self._params.start_shutters)
        blurs = [camera_blur(self._regions, index, size, shutter) for index in chunk]
        return max(blurs) > CANDIDATE_PARAMS.still_blur

    def _start_shutters(self) -> tuple[float, ...]:
        if self._shutter is not None:
            return (self._shutter,)
        # One camera has one shutter: that of the movers before.
        return (float(np.median(self._found)),) if self._found else self._params.start_shutters

    def _fit_parts(self, track: Track, chunk: range, rigid: Chunk) -> Chunk:
        """Fit parts of a chunk with a mesh that bends more; each frame keeps the better layer."""
        best = dict(rigid)
        shutter = self._start_shutters()[0] if self._found else rigid[chunk.start].verdict.shutter
        for part in chunks(chunk, self._params.limber_frames):
            if max(rigid[index].verdict.residual for index in part) <= self._params.limits[0]:
                continue
            for index, proposal in self._fit_frames(track, part, LIMBER, shutter, known=True).items():
                if index in part and proposal.verdict.residual < best[index].verdict.residual:
                    best[index] = proposal
        return best

    def _fit_frames(
        self, track: Track, shown: range, config: LayerFitConfig, shutter: float, *, known: bool
    ) -> Chunk:
        """Fit one layer to the frames `shown` and those beside them; a `known` shutter stays as it is."""
        params = self._params
        around = range(shown.start - params.overlap, shown.stop + params.overlap)
        indices = [index for index in around if index in track.span and index in self._frames]
        if len(indices) < 2:
            return {}
        crops = make_crops(self._frames, track, indices, self._regions)
        start = start_values(track, indices, shutter, known=known, params=params)
        layer = fit_layer(crops, start, config=config)
        fitted_shutter = float(layer.shutter.detach())
        background = sharpen_background(crops, indices, self._regions, fitted_shutter)
        images = composite(layer, crops, background)
        over_flow = self._has_flow(shown)
        weight = images.coverage / params.visible_coverage if background is not None else images.coverage > 0
        return {
            index: RegionProposal(
                verdict=self._verdict(track, (crops, k), layer, images, over_flow=over_flow),
                image=images.images[k],
                weight=weight[k].float().clamp(0, 1),
                coverage=images.coverage[k],
                background_is_deconvolved=background is not None,
            )
            for k, index in enumerate(indices)
        }

    def _verdict(
        self, track: Track, crop: tuple[Crops, int], layer: Layer, images: LayerFrames, *, over_flow: bool
    ) -> RegionVerdict:
        crops, k = crop
        x, y = layer.velocity(crops.times)[k].tolist()
        shutter = float(layer.shutter.detach())
        blur = math.hypot(x, y) * shutter
        residual = float((images.residual[k] / images.absent[k].clamp_min(1e-6)).nan_to_num(1.0))
        accepted, rejected = self._params.limits_over_flow if over_flow else self._params.limits
        explained = (rejected - residual) / (rejected - accepted)
        strength = min(1.0, max(0.0, explained)) * blur_weight(blur / self._min_blur, self._gate)
        return RegionVerdict(
            track=track.number,
            box=crop_box(crops, k),
            mover="object",
            blur=blur,
            direction=math.atan2(y, x),
            shutter=shutter,
            method="layer" if strength else "input",
            residual=residual,
            strength=strength,
        )


def worst_residual(proposals: Chunk, shown: range) -> float:
    """Largest residual of the frames that a chunk shows; infinite for none."""
    return max((each.verdict.residual for k, each in proposals.items() if k in shown), default=math.inf)


def start_values(
    track: Track, indices: Sequence[int], shutter: float, *, known: bool, params: LayerParams = LAYER_PARAMS
) -> LayerStart:
    """Start values of a fit, from the detections of a track.

    Args:
        track: The mover.
        indices: Numbers of the frames.
        shutter: Exposure time over frame interval.
        known: Whether it stays as it is.
        params: Tunables.
    """
    detections = [track.at(index) for index in indices]
    blur = np.abs([image_velocity(track, index) for index in indices]) * shutter
    boxes = np.array([(each.box.width, each.box.height) for each in detections])
    size = np.median(boxes - params.blur_share * blur, axis=0) + params.margin
    width, height = (max(12, int(side)) for side in size)
    centroids = np.array([each.centre for each in detections])
    # A silhouette may be heavier on one side; the texture is centred on its box.
    centres = np.array([box_centre(each.box) for each in detections])
    return LayerStart(
        position=torch.from_numpy(centroids + np.median(centres - centroids, axis=0)).float(),
        size=(height, width),
        shutter=min(params.max_shutter, shutter),
        shutter_known=known,
    )


def known_shutter(survey: Survey, regions: RegionMap, params: LayerParams) -> float | None:
    """The shutter of the user or of a confident survey of a moving camera; else None."""
    speeds = [step[:2, 2].norm().item() for step in regions.camera if step is not None]
    moving = bool(speeds) and float(np.median(speeds)) >= params.known_speed_px
    set_by_user = survey.estimate is None and survey.confidence == 1
    return survey.shutter if set_by_user or (moving and survey.confidence >= params.known_shutter) else None


def max_mover_shutter(survey: Survey, regions: RegionMap, params: LayerParams = LAYER_PARAMS) -> float:
    """Longest plausible shutter of the movers: the known one, or that from which the fit starts."""
    return known_shutter(survey, regions, params) or max(params.start_shutters)


def box_centre(box: Box) -> tuple[float, float]:
    """Centre (x, y) of the pixels of a box."""
    return (box.left + box.right - 1) / 2, (box.top + box.bottom - 1) / 2
