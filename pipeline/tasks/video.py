"""A clip, sharpened."""

from __future__ import annotations

from pathlib import Path

from freezeframe.data.media.folder.source import ImageFolderSink, ImageFolderSource
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.media.video_out.fingerprint import source_state
from freezeframe.data.media.video_out.sink import VideoSink
from freezeframe.data.media.video_out.verify import VerificationReport
from freezeframe.models.runtime.backends import backends_used
from freezeframe.pipeline.config import Config, Preset, preset
from freezeframe.pipeline.deblur import ClipState, deblur
from freezeframe.pipeline.prepare import prepare, prepare_restorer
from freezeframe.pipeline.stages.capacity import check_window_memory
from freezeframe.pipeline.support.extras import slow_notes
from freezeframe.pipeline.support.media import PathLike, open_sink, open_source, settings_key, versions
from freezeframe.pipeline.support.progress import (
    MessageCallback,
    ProgressCallback,
    null_message,
    null_progress,
)
from freezeframe.pipeline.support.report import Report
from freezeframe.pipeline.support.summary import format_plan


def deblur_video(
    source: PathLike,
    output: PathLike,
    *,
    config: Config | Preset = "auto",
    progress: ProgressCallback = null_progress,
    on_message: MessageCallback = null_message,
) -> Report:
    """Sharpen a clip and write a file that is otherwise exactly the old one.

    Args:
        source: A video file or a folder of numbered images.
        output: A video file or, without a video suffix, a folder for numbered images. Appears only when
            it is complete; an existing one is kept unless `config.output.force`.
        config: Every knob, or the name of a preset.
        progress: Called with frames done since the last call and frames in all (None where unknown), or with
            parts of a stage before the work, and its name.
        on_message: Called with sentences about what will be done.

    Returns:
        What was decided about every frame, what it cost, and the plumbing sheet.

    Raises:
        UnreadableMedia: The source is no video, damaged, empty or changes its size.
        UnwritableOutput: The output exists, is the source, or cannot hold what the source holds.
    """
    settings = preset(config) if isinstance(config, str) else config
    restorer = prepare_restorer(settings)
    opened = open_source(Path(source), settings.output)
    check_window_memory(opened, settings.shots)
    sink = open_sink(opened, Path(output), settings.output, key=settings_key(settings))
    try:
        key = f"{source_state(opened)} {settings_key(settings)}"
        state = prepare(opened, settings, restorer, output=sink.path, key=key, progress=progress)
        on_message(_format_plan(opened, state, settings, first=sink.finished_frames))
        return _deblur_into(opened, sink, state, settings, progress)
    except BaseException:
        sink.abort()
        raise


def _deblur_into(
    source: VideoSource | ImageFolderSource,
    sink: VideoSink | ImageFolderSink,
    state: ClipState,
    config: Config,
    progress: ProgressCallback,
) -> Report:
    watch, clip_survey = state.watch, state.survey
    resumed = written = sink.finished_frames
    frames = len(state.blur_ratios)

    def on_progress(done: int) -> None:
        nonlocal written
        written += done
        progress(done, frames, "", state.remaining_work(written, config)[1])

    progress(resumed, frames, "", state.remaining_work(resumed, config)[1])
    log = deblur(source, sink, state, config=config, on_progress=on_progress)
    with watch.stage("finish"):
        verification: VerificationReport = sink.finish()
    notes = [*source.notes, *sink.notes, *state.notes, *state.scenes.notes(), *map(str, source.damage)]
    if resumed:
        notes.append(f"frames 0 to {resumed - 1} were finished by an earlier run that was interrupted")
    return Report(
        source=source.name,
        output=str(sink.path),
        shutter=clip_survey.shutter,
        shutter_confidence=clip_survey.confidence,
        shots=log.reports(),
        seconds=dict(watch.seconds),
        config=config,
        notes=tuple(notes),
        verification=verification,
        versions=versions(),
        backends=backends_used(fusion_network=state.network, restorer=state.restorer),
    )


def _format_plan(
    source: VideoSource | ImageFolderSource, state: ClipState, config: Config, *, first: int
) -> str:
    """What will be done from frame number `first` on, before it is."""
    work, seconds = state.remaining_work(first, config)
    frames, size = len(state.blur_ratios), state.thumbnail_motion.size
    line = format_plan(source.name, frames=frames, size=size, rate=source.rate, work=work, seconds=seconds)
    return "\n".join([line, *(f"  note: {note}" for note in slow_notes() if work)])
