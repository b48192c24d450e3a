"""The diagnosis of a clip or photo, and its text: a summary, then a table of sections."""

from __future__ import annotations

import cmath
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

from freezeframe.data.types import Cause
from freezeframe.motion.diagnosis.diagnose import Diagnosis
from freezeframe.pipeline.support.text.table import align_columns
from freezeframe.pipeline.support.text.units import pluralize, suggest_min_blur

from .region_text import blurred_objects, blurred_regions, format_regions, object_sentence, slope_name
from .regions import ProbedRegion

SCHEMA = 1  # version of the JSON file
SECTIONS = 12  # largest number of rows of the table


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryConfig:
    """Thresholds of the summary."""

    static_camera_px: float = 0.5  # pixels per frame; median speed below which a camera is static
    min_shutter_confidence: float = 0.5  # confidence from which a shutter counts as measured
    min_direction_coherence: float = 0.6  # resultant length of the blur from which it has a direction
    min_noise: float = 0.015  # standard deviation from which noise is mentioned, of the range
    min_blockiness: float = 0.15  # from which compression blocking is mentioned


DEFAULT = SummaryConfig()

CAUSE_NAMES: dict[Cause, str] = {
    "camera": "the camera",
    "object": "moving objects",
    "defocus": "missed focus",
    "none": "small, fast objects",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledFrame:
    """The diagnosis of one frame."""

    index: int
    time: float  # seconds
    blur_px: float  # pixels: motion blur exceeded in 2 % of the frame, the measure of `video`
    region_px: float  # pixels: longest blur of the small fast movers of the frame; 0 without
    blurred_as_whole: bool  # whether `deblur_video` would process the whole frame
    blurred: bool  # whether it would process the frame or a mover in it
    camera_speed: float | None  # pixels per frame, median of the background; None without neighbours
    diagnosis: Diagnosis

    @property
    def worst_px(self) -> float:
        """Longest blur of the frame or of a mover in it, pixels."""
        return max(self.blur_px, self.region_px)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Diagnosis of a clip, folder of images or photo. Size and directions are those of the coded frame."""

    name: str
    kind: Literal["clip", "photo"]
    size: tuple[int, int]  # height and width in pixels, as coded
    rate: float | None  # average frames per second; None without timestamps
    frames: int
    shutter: float | None  # exposure time over frame interval, (0, 1]; None for a photo
    shutter_confidence: float  # [0, 1]
    exposure_time: float | None  # seconds; None if unknown
    blur_threshold_px: float  # pixels; frames with less blur pass unchanged
    sampled_frames: tuple[SampledFrame, ...]
    regions: tuple[ProbedRegion, ...] = ()  # movers and blurred parts, the most blurred first
    scene_cuts: tuple[int, ...] = ()  # first frames of all shots but the first
    rotated_90: bool = False  # whether players rotate the picture by 90 degrees
    notes: tuple[str, ...] = ()

    @property
    def camera(self) -> Literal["static", "moving"] | None:
        """The camera for most of the time; None if unknown."""
        speeds = [each.camera_speed for each in self.sampled_frames if each.camera_speed is not None]
        if not speeds:
            return None
        return "static" if median(speeds) < DEFAULT.static_camera_px else "moving"

    @property
    def summary(self) -> tuple[str, ...]:
        """The diagnosis in sentences."""
        return tuple(format_sentences(self))

    def text(self) -> str:
        """The summary, and a table of the clip in at most `SECTIONS` rows."""
        lines = [format_heading(self), *(f"  {sentence}" for sentence in self.summary)]
        if regions := blurred_regions(self.regions):
            lines += ["", *format_regions(regions, rotated_90=self.rotated_90)]
        if len(self.sampled_frames) > 1:
            lines += ["", *format_sections(self)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"schema": SCHEMA, **asdict(self), "camera": self.camera, "summary": list(self.summary)}


def format_heading(result: Probe) -> str:
    """Name, size and length of the source."""
    height, width = result.size
    if result.kind == "photo":
        return f"{result.name}: photo, {width}x{height}"
    frame_rate = f" at {result.rate:.4g} fps" if result.rate else ""
    sampled = "all" if len(result.sampled_frames) == result.frames else str(len(result.sampled_frames))
    return (
        f"{result.name}: {width}x{height}, {pluralize(result.frames, 'frame')}{frame_rate}, {sampled} sampled"
    )


def format_sentences(result: Probe) -> Iterator[str]:
    """The summary, the most important sentence first."""
    first, *others = _blur_texts(result)
    yield f"{first}; {_shutter_text(result)}" if _shutter_text(result) else first
    yield from others
    soft = sum(sampled_frame.diagnosis.cause == "defocus" for sampled_frame in result.sampled_frames)
    if soft:
        yield f"{_count_text(soft, result)} out of focus, which motion deblurring does not remove"
    if result.camera is not None:
        yield f"the camera is {result.camera}"
    yield from _artifact_sentences(result)
    if result.scene_cuts:
        scene_cuts = (
            "1 cut, before frame"
            if len(result.scene_cuts) == 1
            else f"{len(result.scene_cuts)} cuts, before frames"
        )
        yield f"{scene_cuts} {_join_numbers(result.scene_cuts)}"
    yield from (f"note: {note}" for note in result.notes)


def format_sections(result: Probe) -> list[str]:
    """One row per section: frames, times, median and largest blur, direction and cause."""
    header = ("frames", "seconds", "blur px", "worst", "direction", "cause")
    rows = [_row(result, section) for section in _sections(result.sampled_frames)]
    return [f"  {line}" for line in align_columns([header, *rows], ">>>><<")]


def direction(sampled_frames: Sequence[SampledFrame], *, rotated_90: bool) -> str:
    """The main direction of the blur in the picture as played; `mixed` if there is none."""
    total = sum(sampled_frame.diagnosis.blur for sampled_frame in sampled_frames)
    # Doubled angles: opposite vectors are one direction.
    mean = sum(
        cmath.rect(sampled_frame.diagnosis.blur, 2 * sampled_frame.diagnosis.direction)
        for sampled_frame in sampled_frames
    )
    if not total or abs(mean) < DEFAULT.min_direction_coherence * total:
        return "mixed"
    return slope_name(cmath.phase(mean) / 2, rotated_90=rotated_90)


def cause(sampled_frame: SampledFrame) -> Cause:
    """The cause of a frame's blur; if most of it is sharp, the cause in its most blurred region."""
    if sampled_frame.diagnosis.cause != "none" or not sampled_frame.blurred_as_whole:
        return sampled_frame.diagnosis.cause
    regions = [region for row in sampled_frame.diagnosis.regions for region in row]
    return max(regions, key=lambda region: region.blur).cause


def _blur_texts(result: Probe) -> list[str]:
    """Sentences on whole frames and on fast objects, the more important one first."""
    objects = blurred_objects(result.regions)
    threshold = f"more than {result.blur_threshold_px:.1f} px of motion blur"
    if any(sampled_frame.blurred_as_whole for sampled_frame in result.sampled_frames):
        return [_whole_text(result), *([object_sentence(objects)] if objects else [])]
    if result.kind == "photo":
        return [f"its edges show no motion blur of more than {result.blur_threshold_px:.1f} px"]
    if objects:
        return [object_sentence(objects), f"apart from them no sampled frame has {threshold}"]
    return [
        f"no sampled frame has {threshold}, so `freezeframe video` would leave them unchanged"
        f"{_min_blur_hint(result)}"
    ]


def _whole_text(result: Probe) -> str:
    blurred = [each for each in result.sampled_frames if each.blurred_as_whole]
    worst, median_blur = max(s.blur_px for s in blurred), median(s.blur_px for s in blurred)
    lengths = f"{worst:.1f} px" if len(blurred) == 1 else f"up to {worst:.1f} px, median {median_blur:.1f} px"
    by = f"by {_cause_text(result, blurred)}, {_direction_text(result, blurred)}"
    return f"{_count_text(len(blurred), result)} blurred ({lengths}) {by}"


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
    # A second cause is named if it accounts for a fifth of the blurred frames.
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
    exposure = f"{_exposure_text(result.exposure_time)} ({degrees})" if result.exposure_time else degrees
    if result.shutter_confidence < DEFAULT.min_shutter_confidence:
        return f"too little motion to measure the shutter; assuming {exposure}"
    return f"shutter about {exposure}"


def _exposure_text(seconds: float) -> str:
    return f"1/{1 / seconds:.0f} s" if seconds < 0.3 else f"{seconds:.1f} s"


def _artifact_sentences(result: Probe) -> Iterator[str]:
    noise = median(sampled_frame.diagnosis.noise for sampled_frame in result.sampled_frames)
    if noise > DEFAULT.min_noise:
        yield f"noisy: standard deviation {noise:.1%} of the range"
    blockiness = median(sampled_frame.diagnosis.blockiness for sampled_frame in result.sampled_frames)
    if blockiness > DEFAULT.min_blockiness:
        yield "compression blocking is visible"


def _sections(sampled_frames: Sequence[SampledFrame]) -> Iterator[Sequence[SampledFrame]]:
    count = min(SECTIONS, len(sampled_frames))
    bounds = [round(len(sampled_frames) * k / count) for k in range(count + 1)]
    return (sampled_frames[a:b] for a, b in itertools.pairwise(bounds))


def _row(result: Probe, section: Sequence[SampledFrame]) -> tuple[str, ...]:
    first, last = section[0], section[-1]
    frames = f"{first.index}-{last.index}" if last is not first else f"{first.index}"
    span = f"{first.time:.2f}-{last.time:.2f}" if last is not first else f"{first.time:.2f}"
    seconds = span if result.rate else ""
    median_blur, worst = median(s.blur_px for s in section), max(s.blur_px for s in section)
    main_cause, _ = Counter(cause(sampled_frame) for sampled_frame in section).most_common(1)[0]
    direction_name = (
        direction(section, rotated_90=result.rotated_90) if main_cause in ("camera", "object") else ""
    )
    return frames, seconds, f"{median_blur:.1f}", f"{worst:.1f}", direction_name, main_cause


def _join_numbers(numbers: Sequence[int], *, most: int = 8) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return f"{shown} and {len(numbers) - most} more" if len(numbers) > most else shown
