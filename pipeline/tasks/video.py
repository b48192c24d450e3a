"""A clip, sharpened."""

from __future__ import annotations

from pathlib import Path

from freezeframe.data.media.folder.source import ImageFolderSink, ImageFolderSource
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.media.video_out.fingerprint import state_of
from freezeframe.data.media.video_out.sink import VideoSink
from freezeframe.data.media.video_out.verify import PlumbingSheet
from freezeframe.pipeline.config import Config, Preset, preset
from freezeframe.pipeline.deblur import Tools, deblur
from freezeframe.pipeline.prepare import prepare, ready
from freezeframe.pipeline.stages.capacity import require_window
from freezeframe.pipeline.support.extras import slow_notes
from freezeframe.pipeline.support.media import PathLike, open_sink, open_source, settings_key, versions
from freezeframe.pipeline.support.progress import Advance, Tell, quiet, silent
from freezeframe.pipeline.support.report import Report
from freezeframe.pipeline.support.summary import plan_text


def deblur_video(
    source: PathLike,
    output: PathLike,
    *,
    config: Config | Preset = "auto",
    progress: Advance = quiet,
    tell: Tell = silent,
) -> Report:
    """Sharpen a clip and write a file that is otherwise exactly the old one.

    Args:
        source: A video file or a folder of numbered images.
        output: A video file or, without a video suffix, a folder for numbered images. Appears only when
            it is complete; an existing one is kept unless `config.output.force`.
        config: Every knob, or the name of a preset.
        progress: Called with frames done since the last call and frames in all (None where unknown), or with
            parts of a stage before the work, and its name.
        tell: Called with sentences about what will be done.

    Returns:
        What was decided about every frame, what it cost, and the plumbing sheet.

    Raises:
        UnreadableMedia: The source is no video, damaged, empty or changes its size.
        UnwritableOutput: The output exists, is the source, or cannot hold what the source holds.
    """
    settings = preset(config) if isinstance(config, str) else config
    restorer = ready(settings)
    opened = open_source(Path(source), settings.output)
    require_window(opened, settings.shots)
    sink = open_sink(opened, Path(output), settings.output, key=settings_key(settings))
    try:
        key = f"{state_of(opened)} {settings_key(settings)}"
        tools = prepare(opened, settings, restorer, output=sink.path, key=key, progress=progress)
        tell(_plan_of(opened, tools, settings, first=sink.finished))
        return _deblur_into(opened, sink, tools, settings, progress)
    except BaseException:
        sink.abort()
        raise


def _deblur_into(
    source: VideoSource | ImageFolderSource,
    sink: VideoSink | ImageFolderSink,
    tools: Tools,
    config: Config,
    progress: Advance,
) -> Report:
    watch, seen = tools.watch, tools.survey
    resumed = written = sink.finished
    frames = len(tools.excesses)

    def advance(done: int) -> None:
        nonlocal written
        written += done
        progress(done, frames, "", tools.left(written, config)[1])

    progress(resumed, frames, "", tools.left(resumed, config)[1])
    log = deblur(source, sink, tools, config=config, advance=advance)
    with watch.stage("finish"):
        sheet: PlumbingSheet = sink.finish()
    notes = [*source.notes, *sink.notes, *tools.notes, *tools.scenes.notes(), *map(str, source.damage)]
    if resumed:
        notes.append(f"frames 0 to {resumed - 1} were finished by an earlier run that was interrupted")
    return Report(
        source=source.name,
        output=str(sink.path),
        shutter=seen.shutter,
        shutter_confidence=seen.confidence,
        shots=log.reports(),
        seconds=dict(watch.seconds),
        config=config,
        notes=tuple(notes),
        plumbing=sheet,
        versions=versions(),
    )


def _plan_of(source: VideoSource | ImageFolderSource, tools: Tools, config: Config, *, first: int) -> str:
    """What will be done from frame number `first` on, before it is."""
    work, seconds = tools.left(first, config)
    frames, size = len(tools.excesses), tools.look.size
    line = plan_text(source.name, frames=frames, size=size, rate=source.rate, work=work, seconds=seconds)
    return "\n".join([line, *(f"  note: {note}" for note in slow_notes() if work)])
