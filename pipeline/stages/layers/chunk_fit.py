"""The fit of a layer to a few frames of a track.

Nothing here takes a gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median

import numpy as np
import torch

from freezeframe.data.types import Box, Frame, RegionVerdict
from freezeframe.motion.regions.region_map import RegionMap, Track
from freezeframe.pipeline.config import GateConfig
from freezeframe.pipeline.stages.candidates import CANDIDATE_PARAMS, camera_blur
from freezeframe.pipeline.stages.gate import RegionProposal, blur_weight
from freezeframe.splatting.layers.composite import LayerFrames, composite
from freezeframe.splatting.layers.fit import LayerFitConfig, LayerStart, fit_layer
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
        best = self._fit_rigid(track, chunk)
        if not best or self._is_sharp(track, chunk, best):
            return {}
        # Behind a moving camera the flow follows parts that move apart.
        if worst_residual(best, chunk) > self._params.limits[0] and not self._has_flow(chunk):
            best = self._fit_parts(track, chunk, best)
        self._found += [
            each.verdict.shutter
            for index, each in best.items()
            if index in chunk and each.verdict.residual <= self._params.limits[0]
        ]
        return best

    def _fit_rigid(self, track: Track, chunk: range) -> Chunk:
        """The best fit of one layer to the whole chunk."""
        best: Chunk = {}
        for shutter in self._start_shutters():
            proposals = self._fit_frames(track, chunk, RIGID, shutter, known=self._shutter is not None)
            if mean_residual(proposals, chunk) < mean_residual(best, chunk):
                best = proposals
            if worst_residual(best, chunk) <= self._params.limits[1]:
                break
        return best

    def _is_sharp(self, track: Track, chunk: range, fitted: Chunk) -> bool:
        """Whether a layer with almost no blur explains clearly more than the fitted one.

        A layer covers a sharp mover with stripes that a long exposure takes out again, but not all of them.
        """
        if self._shutter is not None or self._found:
            return False
        sharp = self._fit_frames(track, chunk, RIGID, self._params.sharp_shutter, known=True)
        return mean_residual(fitted, chunk) > self._params.max_over_sharp * mean_residual(sharp, chunk)

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
        shutter = rigid[chunk.start].verdict.shutter
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


def mean_residual(proposals: Chunk, shown: range) -> float:
    """Mean residual of the frames that a chunk shows; infinite for none."""
    residuals = [each.verdict.residual for index, each in proposals.items() if index in shown]
    return fmean(residuals) if residuals else math.inf


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


def box_centre(box: Box) -> tuple[float, float]:
    """Centre (x, y) of the pixels of a box."""
    return (box.left + box.right - 1) / 2, (box.top + box.bottom - 1) / 2
