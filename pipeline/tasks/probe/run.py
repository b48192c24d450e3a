"""Diagnosis of a clip before any work: where it is blurred, how far, in which direction and why."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

from freezeframe.data.errors import MissingExtra, UnwritableOutput
from freezeframe.data.media.files.publish import Claim, claim
from freezeframe.data.media.files.suffixes import PHOTO_SUFFIXES
from freezeframe.data.media.folder.source import ImageFolderSource, open_folder
from freezeframe.data.media.photo.files import exposure_seconds, read_photo
from freezeframe.data.media.video_in.source import VideoSource, open_video
from freezeframe.data.types import Frame
from freezeframe.motion.diagnosis.plot import plot_diagnosis
from freezeframe.pipeline.config import Config, GateConfig
from freezeframe.pipeline.prepare import FIRST_PASS, any_motion, default_survey
from freezeframe.pipeline.stages.first_pass import ThumbnailMotion, estimate_thumbnail_motion
from freezeframe.pipeline.stages.gate import blur_threshold
from freezeframe.pipeline.stages.layers.movers import max_mover_shutter
from freezeframe.pipeline.stages.survey import Survey, survey
from freezeframe.pipeline.support.limits.capacity import PHOTO_BYTES, check_memory, check_window_memory
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .regions import probe_regions
from .result import Probe
from .scan import BlurredFrame, ClipScanner, diagnose_single_frame

PLOTS = (".png", ".svg", ".pdf")


def probe(
    source: str | Path,
    *,
    stride: int = 5,
    plot: str | Path | None = None,
    force: bool = False,
    progress: ProgressCallback = null_progress,
) -> Probe:
    """Diagnose a clip, a folder of numbered images or a photo. Holds a few frames at a time.

    Args:
        source: A video file, a folder or a photo.
        stride: Diagnose every `stride`-th frame; all are decoded, to detect the cuts.
        plot: Path of a plot of blur and sharpness over time and of the most blurred frame (.png, .svg, .pdf).
        force: Replace an existing plot.
        progress: Called with the frames done since the last call and their total (None: unknown).

    Raises:
        UnreadableMedia: The source is no video, photo or folder of images.
        UnwritableOutput: The plot exists (without force) or cannot be written.
        MissingExtra: A plot needs matplotlib.
    """
    if stride < 1:
        raise ValueError(f"stride must be 1 or more, not {stride}")
    path = Path(source)
    plot_claim = None if plot is None else _claim_plot(Path(plot), path, force=force)
    result, most_blurred = _probe_photo(path) if _is_photo(path) else _probe_clip(path, stride, progress)
    if plot_claim is not None:
        _write_plot(plot_claim, result, most_blurred)
    return result


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_SUFFIXES and not path.is_dir()


def _probe_photo(path: Path) -> tuple[Probe, BlurredFrame]:
    picture = read_photo(path)
    check_memory(str(path), picture.size, bytes_per_pixel=PHOTO_BYTES)
    frame = Frame(index=0, time=Fraction(0), picture=picture)
    sampled_frame = diagnose_single_frame(frame)
    result = Probe(
        name=str(path),
        kind="photo",
        size=picture.size,
        rate=None,
        frames=1,
        shutter=None,
        shutter_confidence=0.0,
        exposure_time=exposure_seconds(picture),
        blur_threshold_px=blur_threshold(picture.size, GateConfig()),
        sampled_frames=(sampled_frame,),
    )
    return result, BlurredFrame(frame=frame)


def _probe_clip(path: Path, stride: int, progress: ProgressCallback) -> tuple[Probe, BlurredFrame]:
    source, config = _open(path), Config()
    check_window_memory(source, config.shots)
    thumbnail_motion, clip_survey = _prepare(source, config, progress)
    scanner = ClipScanner(source.rate, thumbnail_motion, clip_survey)
    progress(0, thumbnail_motion.frames)
    scanner.scan(source, stride, lambda: progress(1, thumbnail_motion.frames))
    rate = float(source.rate) if isinstance(source, VideoSource) else None
    result = Probe(
        name=source.name,
        kind="clip",
        size=thumbnail_motion.size,
        rate=rate,
        frames=thumbnail_motion.frames,
        shutter=clip_survey.shutter,
        shutter_confidence=clip_survey.confidence,
        exposure_time=clip_survey.shutter / rate if rate else None,
        blur_threshold_px=blur_threshold(thumbnail_motion.size, config.gate),
        sampled_frames=tuple(scanner.sampled_frames),
        regions=probe_regions(
            thumbnail_motion,
            max_mover_shutter(clip_survey, thumbnail_motion.regions),
            scanner.parts,
            stride,
        ),
        scene_cuts=tuple(sorted(thumbnail_motion.cuts)),
        rotated_90=_is_rotated_90(source),
        notes=(*source.notes, *_damage_notes(source)),
    )
    return result, scanner.most_blurred


def _prepare(
    source: VideoSource | ImageFolderSource, config: Config, progress: ProgressCallback
) -> tuple[ThumbnailMotion, Survey]:
    """First pass and survey as those of `deblur_video`."""
    progress(0, source.count, FIRST_PASS)
    thumbnail_motion = estimate_thumbnail_motion(
        source, on_progress=lambda frames: progress(frames, source.count, FIRST_PASS)
    )
    if not any_motion(thumbnail_motion, config):
        return thumbnail_motion, default_survey(config)
    return thumbnail_motion, survey(source, config.measure, progress=progress)


def _open(path: Path) -> VideoSource | ImageFolderSource:
    # A damaged clip still gets a diagnosis.
    return open_folder(path) if path.is_dir() else open_video(path, skip_damaged=True)


def _damage_notes(source: VideoSource | ImageFolderSource) -> Iterator[str]:
    return (str(position) for position in source.damage)


def _is_rotated_90(source: VideoSource | ImageFolderSource) -> bool:
    matrix = source.info.display_matrix if isinstance(source, VideoSource) else None
    return matrix is not None and matrix[0] == 0 and matrix[1] != 0


def _claim_plot(plot: Path, source: Path, *, force: bool) -> Claim:
    """Check that the plot can be written before a long clip is diagnosed."""
    if find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", "plot", "Plotting a diagnosis")
    result = claim(plot, inputs=[source], force=force, trial=plot.suffix.lower() in PLOTS)
    if plot.suffix.lower() not in PLOTS:
        raise UnwritableOutput(f"{plot}: a plot is written as {', '.join(PLOTS)}; name such a file")
    return result


def _write_plot(plot: Claim, result: Probe, most_blurred: BlurredFrame) -> None:
    frame = most_blurred.frame
    index = [sampled_frame.index for sampled_frame in result.sampled_frames].index(frame.index)
    with plot.draft() as path:
        plot_diagnosis(
            path,
            [sampled_frame.diagnosis for sampled_frame in result.sampled_frames],
            times=[sampled_frame.time for sampled_frame in result.sampled_frames],
            frame=frame.picture.linear(),
            index=index,
            blur_threshold_px=result.blur_threshold_px if result.kind == "clip" else None,
            boxes=[(region.box, region.blur, region.mover) for region in most_blurred.regions],
        )
