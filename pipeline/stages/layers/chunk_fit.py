"""The fit of a layer to a few frames of a track.

Nothing here takes a gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

import numpy as np
import torch

from freezeframe.data.types import Box, Frame, RegionVerdict
from freezeframe.motion.regions.region_map import RegionMap, Track
from freezeframe.pipeline.config import GateConfig
from freezeframe.pipeline.stages.candidates import CANDIDATE_PARAMS, camera_blur
from freezeframe.pipeline.stages.gate import RegionProposal, blur_weight
from freezeframe.splatting.layers.composite import LayerFrames, composite
from freezeframe.splatting.layers.fit import LayerFitConfig, LayerStart, fit_layer, shrink
from freezeframe.splatting.layers.layer import Crops, Layer
from freezeframe.splatting.layers.loss import LossConfig

from .crops import crop_box, make_crops, sharpen_background
from .movers import LAYER_PARAMS, LayerParams, image_velocity, is_small, min_blur

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


def chunks(span: range, length: int) -> list[range]:
    """Parts of about `length` frames each."""
    count = max(1, round(len(span) / length))
    edges = np.linspace(span.start, span.stop, count + 1).round().astype(int).tolist()
    return [range(first, stop) for first, stop in itertools.pairwise(edges)]


@dataclass(frozen=True, slots=True)
class TrackCrops:
    """Crops of a track, in the frames that a chunk shows and in those beside it."""

    track: Track
    shown: range
    indices: Sequence[int]  # numbers of the frames of the crops
    crops: Crops

    def around(self, part: range, overlap: int) -> TrackCrops:
        """The crops of a part of the chunk and of the frames beside it."""
        first, last = part.start - overlap, part.stop - 1 + overlap
        picks = [k for k, index in enumerate(self.indices) if first <= index <= last]
        return TrackCrops(self.track, part, [self.indices[k] for k in picks], self.crops.select(picks))


@dataclass(frozen=True, slots=True)
class CoarseFit:
    """A layer at half the resolution, and the residuals of the frames that its chunk shows."""

    layer: Layer
    shutter: float
    mean: float
    worst: float
    is_distinct: bool = False  # whether it explains clearly more than the fit with the highest start


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
        crops = self._observe(track, chunk)
        if crops is None:
            return {}
        coarse = self._fit_coarse(crops)
        if self._is_sharp(crops, coarse):
            return {}
        best: Chunk = {}
        if coarse.worst <= self._params.limits[1] or self._has_flow(chunk):
            start = self._start(crops, coarse.shutter)
            best = self._proposals(crops, fit_layer(crops.crops, start, config=RIGID, layer=coarse.layer))
            self._remember(best, chunk)
        # Behind a moving camera the flow follows parts that move apart.
        return best if self._has_flow(chunk) else self._fit_parts(crops, best, coarse)

    def _observe(self, track: Track, chunk: range) -> TrackCrops | None:
        """The crops of a chunk and of the frames beside it; None if there is only one."""
        around = range(chunk.start - self._params.overlap, chunk.stop + self._params.overlap)
        indices = [index for index in around if index in track.span and index in self._frames]
        if len(indices) < 2:
            return None
        return TrackCrops(track, chunk, indices, make_crops(self._frames, track, indices, self._regions))

    def _start(self, crops: TrackCrops, shutter: float) -> LayerStart:
        """Start values with the shutter of the camera, or an unknown one that starts at `shutter`."""
        known = self._camera_shutter()
        return start_values(
            crops.track, crops.indices, known or shutter, known=known is not None, params=self._params
        )

    def _camera_shutter(self) -> float | None:
        """The shutter that is known, or that of the movers before: one camera has one shutter."""
        return float(np.median(self._found)) if self._shutter is None and self._found else self._shutter

    def _remember(self, proposals: Chunk, shown: range) -> None:
        """Keep the shutters of layers that explain their frames."""
        self._found += [
            each.verdict.shutter
            for index, each in proposals.items()
            if index in shown and each.verdict.residual <= self._params.limits[0]
        ]

    def _fit_coarse(self, crops: TrackCrops) -> CoarseFit:
        """The best fit at half the resolution, which takes an eighth of the time, from all start values."""
        fits = []
        for shutter in self._params.start_shutters:
            fits.append(self._coarse(crops, self._start(crops, shutter)))
            if fits[-1].worst <= self._params.limits[1] or self._camera_shutter() is not None:
                break
        best = min(fits, key=lambda fit: fit.mean)
        return replace(best, is_distinct=fits[0].mean > self._params.clearly * best.mean)

    def _is_sharp(self, crops: TrackCrops, fitted: CoarseFit) -> bool:
        """Whether a layer with almost no blur explains clearly more than the fitted one.

        A layer covers a sharp mover with stripes that a long exposure takes out again, but not all of them.
        """
        if self._shutter is not None:
            return False
        shutter = self._params.sharp_shutter
        start = start_values(crops.track, crops.indices, shutter, known=True, params=self._params)
        return fitted.mean > self._params.clearly * self._coarse(crops, start).mean

    def _coarse(self, crops: TrackCrops, start: LayerStart) -> CoarseFit:
        finest = 2 if min(start.size) >= self._params.coarse_side else 1
        layer = fit_layer(crops.crops, start, config=RIGID, finest=finest)
        residuals = composite(layer, shrink(crops.crops, layer.downscale)).relative_residual
        shown = [float(residuals[k]) for k, index in enumerate(crops.indices) if index in crops.shown]
        return CoarseFit(layer, float(layer.shutter.detach()), fmean(shown), max(shown))

    def _has_flow(self, chunk: range) -> bool:
        """Whether the frames of a chunk are deconvolved as a whole, because the camera moves."""
        size = next(iter(self._frames.values())).picture.size
        shutter = self._shutter or max(self._params.start_shutters)
        blurs = [camera_blur(self._regions, index, size, shutter) for index in chunk]
        return max(blurs) > CANDIDATE_PARAMS.still_blur

    def _fit_parts(self, crops: TrackCrops, rigid: Chunk, coarse: CoarseFit) -> Chunk:
        """Fit parts of a chunk with a mesh that bends more; each frame keeps the better layer."""
        best = dict(rigid)
        for part in chunks(crops.shown, self._params.limber_frames):
            if worst_residual(rigid, part) <= self._params.limits[0]:
                continue
            few = crops.around(part, self._params.overlap)
            if len(few.indices) < 2:
                continue
            start = self._start_of_part(few, coarse)
            fitted = self._proposals(few, fit_layer(few.crops, start, config=LIMBER))
            self._remember(fitted, part)
            for index, proposal in fitted.items():
                known = best.get(index)
                if known is None or (index in part and proposal.verdict.residual < known.verdict.residual):
                    best[index] = proposal
        return best

    def _start_of_part(self, crops: TrackCrops, coarse: CoarseFit) -> LayerStart:
        """A rigid layer of a mover that bends mistakes the shutter: an unknown one starts high again."""
        if self._camera_shutter() is None and coarse.is_distinct:
            return start_values(crops.track, crops.indices, coarse.shutter, known=True, params=self._params)
        return self._start(crops, max(self._params.start_shutters))

    def _proposals(self, crops: TrackCrops, layer: Layer) -> Chunk:
        """What the frames would show by a layer."""
        shutter = float(layer.shutter.detach())
        background = sharpen_background(crops.crops, crops.indices, self._regions, shutter)
        images = composite(layer, crops.crops, background)
        weight = images.coverage > 0
        if background is not None:
            weight = images.coverage / self._params.visible_coverage
        return {
            index: RegionProposal(
                verdict=self._verdict(crops, k, layer, images),
                image=images.images[k],
                weight=weight[k].float().clamp(0, 1),
                coverage=images.coverage[k],
                background_is_deconvolved=background is not None,
            )
            for k, index in enumerate(crops.indices)
        }

    def _verdict(self, crops: TrackCrops, k: int, layer: Layer, images: LayerFrames) -> RegionVerdict:
        x, y = layer.velocity(crops.crops.times)[k].tolist()
        shutter = float(layer.shutter.detach())
        blur = math.hypot(x, y) * shutter
        residual = float(images.relative_residual[k])
        over_flow = self._has_flow(crops.shown)
        accepted, rejected = self._params.limits_over_flow if over_flow else self._params.limits
        explained = (rejected - residual) / (rejected - accepted)
        strength = min(1.0, max(0.0, explained)) * blur_weight(blur / self._min_blur, self._gate)
        return RegionVerdict(
            track=crops.track.number,
            box=crop_box(crops.crops, k),
            mover="object",
            blur=blur,
            direction=math.atan2(y, x),
            shutter=shutter,
            method="layer" if strength else "input",
            residual=residual,
            strength=strength,
        )


def worst_residual(proposals: Chunk, shown: range) -> float:
    """Largest residual of the frames `shown`; infinite where they are not fitted."""
    return max(proposals[k].verdict.residual if k in proposals else math.inf for k in shown)


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


def box_centre(box: Box) -> tuple[float, float]:
    """Centre (x, y) of the pixels of a box."""
    return (box.left + box.right - 1) / 2, (box.top + box.bottom - 1) / 2
