"""One quick look at every frame before any work: where scenes change, and which frames may be blurred."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

from torch import Tensor

from freezeframe.data.types import Source
from freezeframe.motion.flow.thumbnail import coarse_speeds, scene_cut_score
from freezeframe.pipeline.config import GateConfig

from .gate import Extent, blur_ratio, extent

CUT_THRESHOLD = 0.5  # score above which two frames show different scenes
NO_MOTION = Extent(local_px=0.0, global_px=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThumbnailMotion:
    """What is known of every frame of a clip before its first one is worked on."""

    size: tuple[int, int]  # height and width
    coarse_speeds: tuple[
        Extent, ...
    ]  # pixels per frame interval between each frame and the next; still at cuts
    cuts: frozenset[int]  # numbers of the first frames of all shots but the first

    @property
    def frames(self) -> int:
        """How many there are."""
        return len(self.coarse_speeds) + 1

    def first_of_shot(self, index: int) -> int:
        """The first frame of the shot that frame `index` belongs to."""
        return max((cut for cut in self.cuts if cut <= index), default=0)

    def ends_shot(self, index: int) -> bool:
        """Whether no frame of the same shot follows frame `index`."""
        return index + 1 in self.cuts or index + 1 >= self.frames

    def extent(self, index: int) -> Extent:
        """Speeds at frame `index`, pixels per frame interval: the larger of the steps before and after it."""
        steps = (self.coarse_speeds[k] for k in (index - 1, index) if 0 <= k < len(self.coarse_speeds))
        return reduce(Extent.maximum, steps, NO_MOTION)

    def blur_ratio(self, index: int, shutter: float, config: GateConfig) -> float:
        """How many times over the gate's threshold frame `index` is blurred at most, as far as seen here."""
        return blur_ratio(self.extent(index).scale(shutter), self.size, config)


def first_pass(source: Source, config: GateConfig, *, on_progress: Callable[[int], None]) -> ThumbnailMotion:
    """Look at every frame of `source`, as thumbnails: two milliseconds each beside the decoding.

    Args:
        source: Frames, streamed.
        config: Of how much of a frame the speed counts.
        on_progress: Told how many frames have been looked at.
    """
    blur_extents: list[Extent] = []
    cuts: list[int] = []
    previous: tuple[Fraction, Tensor] | None = None
    size = (0, 0)
    for frame in source.frames():
        luma = frame.picture.luma()
        size = frame.picture.size
        if previous is not None:
            cut = is_cut(previous[1], luma)
            cuts += [frame.index] * cut
            # Where frames are missing, what moved had longer for it.
            gap = max(1, round((frame.time - previous[0]) * source.rate))
            blur_extents.append(NO_MOTION if cut else extent(coarse_speeds(previous[1], luma) / gap, config))
        previous = frame.time, luma
        on_progress(1)
    return ThumbnailMotion(size=size, coarse_speeds=tuple(blur_extents), cuts=frozenset(cuts))


def is_cut(before: Tensor, after: Tensor) -> bool:
    """Whether two consecutive lumas, [H, W] uint8, show different scenes."""
    return scene_cut_score(before, after) > CUT_THRESHOLD
