"""A diagnosis, and its words: sentences first, then a table of sections."""

from __future__ import annotations

import cmath
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

from freezeframe.data.types import Cause
from freezeframe.motion.diagnosis.diagnose import Diagnosis
from freezeframe.pipeline.support.units import counted, lower_limit

STILL = 0.5  # pixels per frame; a camera that moves less stands still
SECTIONS = 12  # rows of the table at most
SURE = 0.5  # confidence from which a shutter counts as measured
STEADY = 0.6  # share of the blur that must point one way to speak of a direction
NOISY, BLOCKY = 0.015, 0.15  # from where noise and coding blocks are worth a word

MAKERS: dict[Cause, str] = {
    "camera": "the camera",
    "object": "moving objects",
    "defocus": "missed focus",
    "none": "small, fast objects",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One frame that was looked at."""

    index: int
    time: float  # seconds
    reach: float  # pixels: motion blur that a fiftieth of the frame exceeds, as `video` judges it
    blurred: bool  # whether that is enough for `deblur_video` to work on the frame
    camera: float | None  # pixels per frame by which most of the background moves; None without neighbours
    diagnosis: Diagnosis


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What ails a clip, a folder of images or a photo. Sizes and directions are those of the coded frame."""

    name: str
    kind: Literal["clip", "photo"]
    size: tuple[int, int]  # height and width in pixels, as coded
    rate: float | None  # average frames per second; None where no clock tells
    frames: int
    shutter: float | None  # exposure time over frame interval, (0, 1]; None for a photo
    shutter_confidence: float  # [0, 1]
    exposure: float | None  # seconds the shutter was open, where that can be told
    limit: float  # pixels; frames blurred over less pass untouched
    sights: tuple[Sight, ...]
    cuts: tuple[int, ...] = ()  # first frames of all shots but the first
    turned: bool = False  # whether players turn the picture by a quarter
    notes: tuple[str, ...] = ()

    @property
    def camera(self) -> Literal["still", "moving"] | None:
        """What the camera does for most of the time; None where nothing tells."""
        speeds = [sight.camera for sight in self.sights if sight.camera is not None]
        if not speeds:
            return None
        return "still" if median(speeds) < STILL else "moving"

    @property
    def verdict(self) -> tuple[str, ...]:
        """Sentences for a person."""
        return tuple(sentences(self))

    def text(self) -> str:
        """The verdict, and a table of the clip in a dozen sections at most."""
        return page(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"camera": self.camera, "verdict": list(self.verdict)}


def page(found: Probe) -> str:
    """The verdict and the table."""
    lines = [heading(found), *(f"  {sentence}" for sentence in sentences(found))]
    if len(found.sights) > 1:
        lines += ["", *table(found)]
    return "\n".join(lines)


def heading(found: Probe) -> str:
    """What was looked at."""
    height, width = found.size
    if found.kind == "photo":
        return f"{found.name}: photo, {width}x{height}"
    pace = f" at {found.rate:.4g} fps" if found.rate else ""
    sampled = "all" if len(found.sights) == found.frames else str(len(found.sights))
    return f"{found.name}: {width}x{height}, {counted(found.frames, 'frame')}{pace}, {sampled} sampled"


def sentences(found: Probe) -> Iterator[str]:
    """The verdict, most important first."""
    yield f"{_blur(found)}; {_shutter(found)}" if _shutter(found) else _blur(found)
    soft = sum(sight.diagnosis.cause == "defocus" for sight in found.sights)
    if soft:
        yield f"{_of(soft, found)} out of focus, which deblurring motion does not mend"
    if found.camera is not None:
        yield f"the camera is {'static' if found.camera == 'still' else 'moving'}"
    yield from _flaws(found)
    if found.cuts:
        cuts = "1 cut, before frame" if len(found.cuts) == 1 else f"{len(found.cuts)} cuts, before frames"
        yield f"{cuts} {_listed(found.cuts)}"
    yield from (f"note: {note}" for note in found.notes)


def table(found: Probe) -> list[str]:
    """One row per section: the times, how far most frames are blurred and the worst, which way, by what."""
    head = f"  {'frames':>13}  {'seconds':>15}  {'blur px':>7}  {'worst':>6}  {'direction':<11}  cause"
    return [head, *(_row(found, section) for section in _sections(found.sights))]


def direction(sights: Sequence[Sight], *, turned: bool) -> str:
    """Which way most of the blur points, as players show the picture."""
    total = sum(sight.diagnosis.blur for sight in sights)
    # Doubled angles: forth and back are one direction.
    mean = sum(cmath.rect(sight.diagnosis.blur, 2 * sight.diagnosis.direction) for sight in sights)
    if not total or abs(mean) < STEADY * total:
        return "mixed"
    slope = abs(math.degrees(cmath.phase(mean)) / 2)  # 0 along rows, 90 along columns
    slope = 90 - slope if turned else slope
    return "horizontal" if slope < 30 else "vertical" if slope > 60 else "diagonal"


def cause(sight: Sight) -> Cause:
    """What blurs a frame; where most of it is sharp but not all, what blurs its most blurred region."""
    if sight.diagnosis.cause != "none" or not sight.blurred:
        return sight.diagnosis.cause
    regions = [region for row in sight.diagnosis.regions for region in row]
    return max(regions, key=lambda region: region.blur).cause


def _blur(found: Probe) -> str:
    blurred = [sight for sight in found.sights if sight.blurred]
    limit = f"more than {found.limit:.1f} px"
    if not blurred:
        if found.kind == "photo":
            return f"its edges show no motion blur of {limit}"
        return (
            f"no sampled frame has {limit} of motion blur, so `freezeframe video` would leave them unchanged"
            + _lower(found)
        )
    worst, usual = max(s.reach for s in blurred), median(s.reach for s in blurred)
    lengths = f"{worst:.1f} px" if len(blurred) == 1 else f"up to {worst:.1f} px, median {usual:.1f} px"
    how = f"by {_makers(found, blurred)}, {_way(found, blurred)}"
    return f"{_of(len(blurred), found)} blurred ({lengths}) {how}"


def _lower(found: Probe) -> str:
    lower = lower_limit([sight.reach for sight in found.sights])
    return f" (--min-blur {lower[0]:g} would process {lower[1]} of {len(found.sights)})" if lower else ""


def _makers(found: Probe, blurred: Sequence[Sight]) -> str:
    if found.kind == "photo":
        return "motion"
    counts = Counter(MAKERS[cause(sight)] for sight in blurred)
    # A second cause is worth its words where it makes a fifth of the blurred frames.
    return " and ".join(maker for maker, count in counts.most_common(2) if 5 * count >= len(blurred))


def _way(found: Probe, blurred: Sequence[Sight]) -> str:
    which = direction(blurred, turned=found.turned)
    return "in mixed directions" if which == "mixed" else f"mostly {which}"


def _of(count: int, found: Probe) -> str:
    if found.kind == "photo":
        return "the photo is"
    return f"{count} of {len(found.sights)} frames {'is' if count == 1 else 'are'}"


def _shutter(found: Probe) -> str:
    if found.shutter is None:
        return f"shutter {_fraction(found.exposure)} by its EXIF" if found.exposure else ""
    degrees = f"{360 * found.shutter:.0f}°"
    what = f"{_fraction(found.exposure)} ({degrees})" if found.exposure else degrees
    if found.shutter_confidence < SURE:
        return f"too little motion to measure the shutter; assuming {what}"
    return f"shutter about {what}"


def _fraction(seconds: float) -> str:
    return f"1/{1 / seconds:.0f} s" if seconds < 0.3 else f"{seconds:.1f} s"


def _flaws(found: Probe) -> Iterator[str]:
    noise = median(sight.diagnosis.noise for sight in found.sights)
    if noise > NOISY:
        yield f"noisy: standard deviation {noise:.1%} of the range"
    if median(sight.diagnosis.blockiness for sight in found.sights) > BLOCKY:
        yield "compression blocking is visible"


def _sections(sights: Sequence[Sight]) -> Iterator[Sequence[Sight]]:
    count = min(SECTIONS, len(sights))
    bounds = [round(len(sights) * k / count) for k in range(count + 1)]
    return (sights[a:b] for a, b in itertools.pairwise(bounds))


def _row(found: Probe, section: Sequence[Sight]) -> str:
    first, last = section[0], section[-1]
    frames = f"{first.index}-{last.index}" if last is not first else f"{first.index}"
    span = f"{first.time:.2f}-{last.time:.2f}" if last is not first else f"{first.time:.2f}"
    seconds = span if found.rate else ""
    usual, worst = median(s.reach for s in section), max(s.reach for s in section)
    made, _ = Counter(cause(sight) for sight in section).most_common(1)[0]
    which = direction(section, turned=found.turned) if made in ("camera", "object") else ""
    return f"  {frames:>13}  {seconds:>15}  {usual:7.1f}  {worst:6.1f}  {which:<11}  {made}"


def _listed(numbers: Sequence[int], *, most: int = 8) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return f"{shown} and {len(numbers) - most} more" if len(numbers) > most else shown
