"""One quick look at every frame before any work: where scenes change, and which frames may be blurred."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

from torch import Tensor

from freezeframe.data.types import Source
from freezeframe.motion.flow.thumbnail import cut_score, speeds
from freezeframe.pipeline.config import GateConfig

from .gate import Extent, excess, extent

CUT = 0.5  # score above which two frames show different scenes
STILL = Extent(far=0.0, wide=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstPass:
    """What is known of every frame of a clip before its first one is worked on."""

    size: tuple[int, int]  # height and width
    speeds: tuple[Extent, ...]  # pixels per frame interval between each frame and the next; still at cuts
    cuts: frozenset[int]  # numbers of the first frames of all shots but the first

    @property
    def frames(self) -> int:
        """How many there are."""
        return len(self.speeds) + 1

    def first_of_shot(self, index: int) -> int:
        """The first frame of the shot that frame `index` belongs to."""
        return max((cut for cut in self.cuts if cut <= index), default=0)

    def ends_shot(self, index: int) -> bool:
        """Whether no frame of the same shot follows frame `index`."""
        return index + 1 in self.cuts or index + 1 >= self.frames

    def extent(self, index: int) -> Extent:
        """Speeds at frame `index`, pixels per frame interval: the larger of the steps before and after it."""
        steps = (self.speeds[k] for k in (index - 1, index) if 0 <= k < len(self.speeds))
        return reduce(Extent.most, steps, STILL)

    def excess(self, index: int, shutter: float, config: GateConfig) -> float:
        """How many times over the gate's threshold frame `index` is blurred at most, as far as seen here."""
        return excess(self.extent(index).times(shutter), self.size, config)


def first_pass(source: Source, config: GateConfig, *, advance: Callable[[int], None]) -> FirstPass:
    """Look at every frame of `source`, as thumbnails: two milliseconds each beside the decoding.

    Args:
        source: Frames, streamed.
        config: Of how much of a frame the speed counts.
        advance: Told how many frames have been looked at.
    """
    found: list[Extent] = []
    cuts: list[int] = []
    before: tuple[Fraction, Tensor] | None = None
    size = (0, 0)
    for frame in source.frames():
        luma = frame.picture.luma()
        size = frame.picture.size
        if before is not None:
            cut = is_cut(before[1], luma)
            cuts += [frame.index] * cut
            # Where frames are missing, what moved had longer for it.
            gap = max(1, round((frame.time - before[0]) * source.rate))
            found.append(STILL if cut else extent(speeds(before[1], luma) / gap, config))
        before = frame.time, luma
        advance(1)
    return FirstPass(size=size, speeds=tuple(found), cuts=frozenset(cuts))


def is_cut(before: Tensor, after: Tensor) -> bool:
    """Whether two consecutive lumas, [H, W] uint8, show different scenes."""
    return cut_score(before, after) > CUT
