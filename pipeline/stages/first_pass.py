"""The first pass: scene cuts, a bound of the motion in every frame, and the small fast movers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

from torch import Tensor

from freezeframe.data.types import Source
from freezeframe.motion.flow.thumbnail import coarse_speeds, scene_cut_score
from freezeframe.motion.regions.detector import RegionDetector
from freezeframe.motion.regions.region_map import RegionMap
from freezeframe.pipeline.config import GateConfig

from .gate import Extent, blur_ratio, extent

CUT_THRESHOLD = 0.5  # score above which two consecutive frames belong to different shots
NO_MOTION = Extent(local_px=0.0, global_px=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThumbnailMotion:
    """Result of the first pass."""

    size: tuple[int, int]  # height and width in pixels
    coarse_speeds: tuple[Extent, ...]  # pixels per frame interval, from each frame to the next; 0 at cuts
    cuts: frozenset[int]  # numbers of the first frames of all shots but the first
    regions: RegionMap  # motion of the camera, and movers

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.coarse_speeds) + 1

    def first_of_shot(self, index: int) -> int:
        """Number of the first frame of the shot of frame `index`."""
        return max((cut for cut in self.cuts if cut <= index), default=0)

    def ends_shot(self, index: int) -> bool:
        """Whether frame `index` is the last of its shot."""
        return index + 1 in self.cuts or index + 1 >= self.frames

    def extent(self, index: int) -> Extent:
        """Speeds at frame `index`, pixels per frame interval: maximum of the steps before and after it."""
        steps = (self.coarse_speeds[k] for k in (index - 1, index) if 0 <= k < len(self.coarse_speeds))
        return reduce(Extent.maximum, steps, NO_MOTION)

    def blur_ratio(self, index: int, shutter: float, config: GateConfig) -> float:
        """Bound of the blur of frame `index` over its threshold."""
        return blur_ratio(self.extent(index).scale(shutter), self.size, config)


def estimate_thumbnail_motion(source: Source, *, on_progress: Callable[[int], None]) -> ThumbnailMotion:
    """Estimate motion, cuts and movers of `source` on reduced frames.

    Args:
        source: Frames, streamed.
        on_progress: Called with the number of frames since the last call.
    """
    speeds: list[Extent] = []
    cuts: list[int] = []
    previous: tuple[Fraction, Tensor] | None = None
    size = (0, 0)
    detector = RegionDetector()
    for frame in source.frames():
        luma = frame.picture.luma()
        size = frame.picture.size
        cut = previous is not None and is_cut(previous[1], luma)
        detector.add(luma, cut=cut)
        if previous is not None:
            cuts += [frame.index] * cut
            # Missing frames lengthen the interval.
            gap = max(1, round((frame.time - previous[0]) * source.rate))
            speeds.append(NO_MOTION if cut else extent(coarse_speeds(previous[1], luma) / gap))
        previous = frame.time, luma
        on_progress(1)
    return ThumbnailMotion(
        size=size, coarse_speeds=tuple(speeds), cuts=frozenset(cuts), regions=detector.finish()
    )


def is_cut(before: Tensor, after: Tensor) -> bool:
    """Whether two consecutive lumas, [H, W] uint8, belong to different shots."""
    return scene_cut_score(before, after) > CUT_THRESHOLD
