"""Blurred regions of one frame, for its diagnosis.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor
from torch.nn.functional import interpolate

from freezeframe.data.types import Frame
from freezeframe.pipeline.config import GateConfig
from freezeframe.pipeline.stages.blurred_parts import BlurredPart, blurred_parts
from freezeframe.pipeline.stages.candidates import CANDIDATE_PARAMS, camera_blur
from freezeframe.pipeline.stages.first_pass import ThumbnailMotion
from freezeframe.pipeline.stages.gate import moving_mask
from freezeframe.pipeline.stages.layers.movers import image_velocity, max_blur, max_mover_shutter, min_blur
from freezeframe.pipeline.stages.survey import Survey


class RegionFinder:
    """Finds what `deblur_video` would work on in the frames of a clip."""

    def __init__(self, thumbnail_motion: ThumbnailMotion, survey: Survey) -> None:
        self._regions, self._survey = thumbnail_motion.regions, survey
        self._mover_shutter = max_mover_shutter(survey, thumbnail_motion.regions)
        self._threshold = min_blur(thumbnail_motion.size, GateConfig())

    def movers(self, frame: Frame) -> Iterator[BlurredPart]:
        """The small fast movers."""
        for track in self._regions.tracks_at(frame.index):
            blur = max_blur(track, range(frame.index, frame.index + 1), self._mover_shutter)
            if blur >= self._threshold:
                x, y = image_velocity(track, frame.index)
                box = track.at(frame.index).box
                yield BlurredPart(box=box, mover="object", blur=blur, direction=math.atan2(y, x))

    def deconvolved_parts(self, frame: Frame, blur: Tensor) -> tuple[BlurredPart, ...]:
        """What would be deconvolved: not what a layer explains before a still camera.

        Args:
            frame: Blurred in more than its movers.
            blur: Blur vectors on a grid that spans the frame. [2, h, w] pixels of the frame.
        """
        size = frame.picture.size
        vectors = interpolate(blur[None], size=size, mode="bilinear")[0]
        if (
            camera_blur(self._regions, frame.index, size, self._survey.max_shutter)
            > CANDIDATE_PARAMS.still_blur
        ):
            return blurred_parts(vectors, None)
        boxes = [mover.box for mover in self.movers(frame)]
        parts = blurred_parts(vectors, moving_mask(vectors))
        return tuple(part for part in parts if not any(part.box.intersects(box) for box in boxes))
