"""Deblur a clip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from freezeframe.data.media.files.directories import work_dir
from freezeframe.data.media.files.preflight import check_collisions
from freezeframe.data.media.folder.confidence_maps import ConfidenceMapFolder
from freezeframe.data.media.folder.sink import ImageFolderSink
from freezeframe.data.media.folder.source import ImageFolderSource
from freezeframe.data.media.verification import VerificationReport
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.media.video_out.sink import VideoSink
from freezeframe.models.runtime.backends import backends_used
from freezeframe.pipeline.config import Config, Preset, preset
from freezeframe.pipeline.deblur import ClipState, deblur
from freezeframe.pipeline.prepare import prepare, prepare_restorer
from freezeframe.pipeline.support.extras import slow_notes
from freezeframe.pipeline.support.limits.capacity import check_window_memory
from freezeframe.pipeline.support.media import PathLike, open_sink, open_source, settings_key, versions
from freezeframe.pipeline.support.progress import (
    MessageCallback,
    ProgressCallback,
    null_message,
    null_progress,
)
from freezeframe.pipeline.support.report import Report
from freezeframe.pipeline.support.text.summary import format_plan


def deblur_video(  # noqa: PLR0913  # source, outputs, settings, and the callbacks
    source: PathLike,
    output: PathLike,
    *,
    config: Config | Preset = "auto",
    confidence_maps: PathLike | None = None,
    progress: ProgressCallback = null_progress,
    on_message: MessageCallback = null_message,
) -> Report:
    """Deblur a clip; everything else in the file stays as it is.

    Args:
        source: A video file or a folder of numbered images.
        output: A video file or, without a video suffix, a folder of numbered images. It appears when it is
            complete; an existing one is replaced only with `config.output.force`.
        config: Settings, or the name of a preset.
        confidence_maps: A folder for one PNG per changed frame, `000123.png` by the index of the frame. Its
            pixels are those of the coded frame, as in the boxes of the report. Red, green and blue say how
            much of a pixel is copied, deconvolved and reconstructed; they sum to 255. The folder appears
            after the output; an existing one of other files than maps is never replaced.
        progress: Called with the frames since the last call and the frames in all, or with the units and the
            label of a stage before the first frame.
        on_message: Called with the plan of the run.

    Returns:
        Verdict on every frame, time per stage, and verification of the output.

    Raises:
        UnreadableMedia: The source is no video, damaged, empty, or its frames change their size.
        UnwritableOutput: The output exists, is the source, or its format cannot hold the source's streams.
    """
    settings = preset(config) if isinstance(config, str) else config
    restorer = prepare_restorer(settings)
    opened = open_source(Path(source), settings.output)
    check_window_memory(opened, settings.shots)
    folder = None if confidence_maps is None else Path(confidence_maps)
    check_collisions({"the output": Path(output), "the folder of confidence maps": folder})
    key = f"{opened.fingerprint()} {settings_key(settings)}"
    with _open_maps(folder, opened, Path(output), force=settings.output.force, key=key) as maps:
        job_id = maps.job_id if maps else ""
        sink = open_sink(opened, Path(output), settings.output, key=settings_key(settings) + job_id)
        if maps is not None:
            maps.discard_from(sink.finished_frames)
        try:
            state = prepare(opened, settings, restorer, output=sink.path, key=key, progress=progress)
            on_message(_format_plan(opened, state, settings, first=sink.finished_frames))
            return _deblur_into(opened, sink, state, settings, progress, maps=maps)
        except BaseException:
            sink.abort()
            raise


def _deblur_into(  # noqa: PLR0913  # source, outputs, state, settings, and the callback
    source: VideoSource | ImageFolderSource,
    sink: VideoSink | ImageFolderSink,
    state: ClipState,
    config: Config,
    progress: ProgressCallback,
    *,
    maps: ConfidenceMapFolder | None,
) -> Report:
    watch, clip_survey = state.watch, state.survey
    resumed = written = sink.finished_frames
    frames = len(state.work)

    def on_progress(count: int) -> None:
        nonlocal written
        written += count
        progress(count, frames, "", state.remaining_work(written, config)[1])

    progress(resumed, frames, "", state.remaining_work(resumed, config)[1])
    log = deblur(source, sink, state, config=config, on_progress=on_progress, maps=maps)
    with watch.stage("finalize"):
        verification: VerificationReport = sink.finish()
        if maps is not None:
            maps.publish()
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


@contextmanager
def _open_maps(
    folder: Path | None, source: VideoSource | ImageFolderSource, output: Path, *, force: bool, key: str
) -> Iterator[ConfidenceMapFolder | None]:
    """The folder of confidence maps, or None; an interrupted run keeps its maps."""
    if folder is None:
        yield None
        return
    inputs = [Path(source.name)]
    maps = ConfidenceMapFolder(folder, inputs=inputs, force=force, key=f"{key} {output.resolve()}")
    try:
        yield maps
    finally:
        # They are of use only to a run that continues this one.
        maps.close(keep=any(work_dir(path).exists() for path in (output, output.resolve())))


def _format_plan(
    source: VideoSource | ImageFolderSource, state: ClipState, config: Config, *, first: int
) -> str:
    """The plan of a run from frame number `first` on."""
    work, seconds = state.remaining_work(first, config)
    frames, size = len(state.work), state.thumbnail_motion.size
    line = format_plan(source.name, frames=frames, size=size, rate=source.rate, work=work, seconds=seconds)
    return "\n".join([line, *(f"  note: {note}" for note in slow_notes() if work)])
