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
from freezeframe.pipeline.support.units import pluralize, suggest_min_blur

STATIC_CAMERA_PX = 0.5  # pixels per frame; a camera that moves less stands still
SECTIONS = 12  # rows of the table at most
MIN_SHUTTER_CONFIDENCE = 0.5  # confidence from which a shutter counts as measured
MIN_DIRECTION_COHERENCE = 0.6  # share of the blur that must point one way to speak of a direction
MIN_NOISE, MIN_BLOCKINESS = 0.015, 0.15  # from where noise and coding blocks are worth a word

CAUSE_NAMES: dict[Cause, str] = {
    "camera": "the camera",
    "object": "moving objects",
    "defocus": "missed focus",
    "none": "small, fast objects",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledFrame:
    """One frame that was looked at."""

    index: int
    time: float  # seconds
    blur_px: float  # pixels: motion blur that a fiftieth of the frame exceeds, as `video` judges it
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
    exposure_time: float | None  # seconds the shutter was open, where that can be told
    blur_threshold_px: float  # pixels; frames blurred over less pass untouched
    sampled_frames: tuple[SampledFrame, ...]
    scene_cuts: tuple[int, ...] = ()  # first frames of all shots but the first
    rotated_90: bool = False  # whether players turn the picture by a quarter
    notes: tuple[str, ...] = ()

    @property
    def camera(self) -> Literal["still", "moving"] | None:
        """What the camera does for most of the time; None where nothing tells."""
        speeds = [
            sampled_frame.camera for sampled_frame in self.sampled_frames if sampled_frame.camera is not None
        ]
        if not speeds:
            return None
        return "still" if median(speeds) < STATIC_CAMERA_PX else "moving"

    @property
    def summary(self) -> tuple[str, ...]:
        """Sentences for a person."""
        return tuple(format_sentences(self))

    def text(self) -> str:
        """The verdict, and a table of the clip in a dozen sections at most."""
        return format_report(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"camera": self.camera, "summary": list(self.summary)}


def format_report(result: Probe) -> str:
    """The verdict and the table."""
    lines = [format_heading(result), *(f"  {sentence}" for sentence in format_sentences(result))]
    if len(result.sampled_frames) > 1:
        lines += ["", *format_table(result)]
    return "\n".join(lines)


def format_heading(result: Probe) -> str:
    """What was looked at."""
    height, width = result.size
    if result.kind == "photo":
        return f"{result.name}: photo, {width}x{height}"
    frame_rate = f" at {result.rate:.4g} fps" if result.rate else ""
    sampled = "all" if len(result.sampled_frames) == result.frames else str(len(result.sampled_frames))
    return (
        f"{result.name}: {width}x{height}, {pluralize(result.frames, 'frame')}{frame_rate}, {sampled} sampled"
    )


def format_sentences(result: Probe) -> Iterator[str]:
    """The verdict, most important first."""
    yield f"{_blur_text(result)}; {_shutter_text(result)}" if _shutter_text(result) else _blur_text(result)
    soft = sum(sampled_frame.diagnosis.cause == "defocus" for sampled_frame in result.sampled_frames)
    if soft:
        yield f"{_count_text(soft, result)} out of focus, which deblurring motion does not mend"
    if result.camera is not None:
        yield f"the camera is {'static' if result.camera == 'still' else 'moving'}"
    yield from _artifact_sentences(result)
    if result.scene_cuts:
        scene_cuts = (
            "1 cut, before frame"
            if len(result.scene_cuts) == 1
            else f"{len(result.scene_cuts)} cuts, before frames"
        )
        yield f"{scene_cuts} {_join_numbers(result.scene_cuts)}"
    yield from (f"note: {note}" for note in result.notes)


def format_table(result: Probe) -> list[str]:
    """One row per section: the times, how far most frames are blurred and the worst, which way, by what."""
    head = f"  {'frames':>13}  {'seconds':>15}  {'blur px':>7}  {'worst':>6}  {'direction':<11}  cause"
    return [head, *(_row(result, section) for section in _sections(result.sampled_frames))]


def direction(sampled_frames: Sequence[SampledFrame], *, rotated_90: bool) -> str:
    """Which way most of the blur points, as players show the picture."""
    total = sum(sampled_frame.diagnosis.blur for sampled_frame in sampled_frames)
    # Doubled angles: forth and back are one direction.
    mean = sum(
        cmath.rect(sampled_frame.diagnosis.blur, 2 * sampled_frame.diagnosis.direction)
        for sampled_frame in sampled_frames
    )
    if not total or abs(mean) < MIN_DIRECTION_COHERENCE * total:
        return "mixed"
    slope = abs(math.degrees(cmath.phase(mean)) / 2)  # 0 along rows, 90 along columns
    slope = 90 - slope if rotated_90 else slope
    return "horizontal" if slope < 30 else "vertical" if slope > 60 else "diagonal"


def cause(sampled_frame: SampledFrame) -> Cause:
    """What blurs a frame; where most of it is sharp but not all, what blurs its most blurred region."""
    if sampled_frame.diagnosis.cause != "none" or not sampled_frame.blurred:
        return sampled_frame.diagnosis.cause
    regions = [region for row in sampled_frame.diagnosis.regions for region in row]
    return max(regions, key=lambda region: region.blur).cause


def _blur_text(result: Probe) -> str:
    blurred = [sampled_frame for sampled_frame in result.sampled_frames if sampled_frame.blurred]
    blur_threshold_px = f"more than {result.blur_threshold_px:.1f} px"
    if not blurred:
        if result.kind == "photo":
            return f"its edges show no motion blur of {blur_threshold_px}"
        return (
            f"no sampled frame has {blur_threshold_px} of motion blur, so `freezeframe video` would leave them unchanged"
            + _min_blur_hint(result)
        )
    worst, median_blur = max(s.blur_px for s in blurred), median(s.blur_px for s in blurred)
    lengths = f"{worst:.1f} px" if len(blurred) == 1 else f"up to {worst:.1f} px, median {median_blur:.1f} px"
    how = f"by {_cause_text(result, blurred)}, {_direction_text(result, blurred)}"
    return f"{_count_text(len(blurred), result)} blurred ({lengths}) {how}"


def _min_blur_hint(result: Probe) -> str:
    lower = suggest_min_blur([sampled_frame.blur_px for sampled_frame in result.sampled_frames])
    return (
        f" (--min-blur {lower[0]:g} would process {lower[1]} of {len(result.sampled_frames)})"
        if lower
        else ""
    )


def _cause_text(result: Probe, blurred: Sequence[SampledFrame]) -> str:
    if result.kind == "photo":
        return "motion"
    counts = Counter(CAUSE_NAMES[cause(sampled_frame)] for sampled_frame in blurred)
    # A second cause is worth its words where it makes a fifth of the blurred frames.
    return " and ".join(name for name, count in counts.most_common(2) if 5 * count >= len(blurred))


def _direction_text(result: Probe, blurred: Sequence[SampledFrame]) -> str:
    direction_name = direction(blurred, rotated_90=result.rotated_90)
    return "in mixed directions" if direction_name == "mixed" else f"mostly {direction_name}"


def _count_text(count: int, result: Probe) -> str:
    if result.kind == "photo":
        return "the photo is"
    return f"{count} of {len(result.sampled_frames)} frames {'is' if count == 1 else 'are'}"


def _shutter_text(result: Probe) -> str:
    if result.shutter is None:
        return f"shutter {_exposure_text(result.exposure_time)} by its EXIF" if result.exposure_time else ""
    degrees = f"{360 * result.shutter:.0f}°"
    what = f"{_exposure_text(result.exposure_time)} ({degrees})" if result.exposure_time else degrees
    if result.shutter_confidence < MIN_SHUTTER_CONFIDENCE:
        return f"too little motion to measure the shutter; assuming {what}"
    return f"shutter about {what}"


def _exposure_text(seconds: float) -> str:
    return f"1/{1 / seconds:.0f} s" if seconds < 0.3 else f"{seconds:.1f} s"


def _artifact_sentences(result: Probe) -> Iterator[str]:
    noise = median(sampled_frame.diagnosis.noise for sampled_frame in result.sampled_frames)
    if noise > MIN_NOISE:
        yield f"noisy: standard deviation {noise:.1%} of the range"
    if median(sampled_frame.diagnosis.blockiness for sampled_frame in result.sampled_frames) > MIN_BLOCKINESS:
        yield "compression blocking is visible"


def _sections(sampled_frames: Sequence[SampledFrame]) -> Iterator[Sequence[SampledFrame]]:
    count = min(SECTIONS, len(sampled_frames))
    bounds = [round(len(sampled_frames) * k / count) for k in range(count + 1)]
    return (sampled_frames[a:b] for a, b in itertools.pairwise(bounds))


def _row(result: Probe, section: Sequence[SampledFrame]) -> str:
    first, last = section[0], section[-1]
    frames = f"{first.index}-{last.index}" if last is not first else f"{first.index}"
    span = f"{first.time:.2f}-{last.time:.2f}" if last is not first else f"{first.time:.2f}"
    seconds = span if result.rate else ""
    median_blur, worst = median(s.blur_px for s in section), max(s.blur_px for s in section)
    main_cause, _ = Counter(cause(sampled_frame) for sampled_frame in section).most_common(1)[0]
    direction_name = (
        direction(section, rotated_90=result.rotated_90) if main_cause in ("camera", "object") else ""
    )
    return (
        f"  {frames:>13}  {seconds:>15}  {median_blur:7.1f}  {worst:6.1f}  {direction_name:<11}  {main_cause}"
    )


def _join_numbers(numbers: Sequence[int], *, most: int = 8) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return f"{shown} and {len(numbers) - most} more" if len(numbers) > most else shown
