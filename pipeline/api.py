"""The library: what the command line can do, Python can do in six lines."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

from torch import Tensor

from ..data.encode import VideoSink
from ..data.errors import UnreadableMedia, UnwritableOutput
from ..data.folders import ImageFolderSink, ImageFolderSource, open_folder
from ..data.origin import state_of, unchanged
from ..data.photo_picture import photo_of
from ..data.photos import claim_photo, encoded, read_burst
from ..data.plumbing import PlumbingSheet
from ..data.suffixes import CONTAINERS, VIDEO_SUFFIXES
from ..data.video import VideoSource, open_video
from ..models.device import find_device
from ..models.load import Restorer, load_restorer
from ..models.shelf import find
from .capacity import PHOTO_BYTES, require, require_window
from .config import Config, OutputConfig, Preset, preset
from .deblur import Tools, deblur
from .extras import slow_notes
from .network import weights_of
from .prepare import prepare
from .probe import probe
from .progress import Advance, Tell, quiet, silent
from .refine import refine
from .report import Report
from .summary import plan_text

__all__ = ["BurstResult", "deblur_burst", "deblur_video", "open_source", "probe", "versions"]

PathLike = str | Path


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


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstResult:
    """What became of a burst."""

    output: Path
    reference: Path  # the photo whose moment and framing the result shows
    image: Tensor  # [3, H, W] linear RGB
    confidence: Tensor  # [H, W] in [0, 1]


def deblur_burst(
    images: Sequence[PathLike],
    output: PathLike,
    *,
    config: Config | Preset = "burst",
    progress: Advance = quiet,
) -> BurstResult:
    """Make one sharp photo from several blurred ones of the same scene.

    Args:
        images: At least two photos of one size, in order of time.
        output: The photo to write; its suffix chooses the format. Metadata come from the reference.
        config: Every knob, or the name of a preset.
        progress: Called with steps done since the last call and steps in all.

    Raises:
        UnreadableMedia: Fewer than two photos, of differing sizes, or unreadable.
        UnwritableOutput: The output exists (without force) or cannot be written.
    """
    settings = preset(config) if isinstance(config, str) else config
    paths = [Path(image) for image in images]
    target = Path(output)
    place = claim_photo(target, inputs=paths, force=settings.output.force)
    restorer, check = ready(settings), unchanged(*paths)
    from .accumulate import fuse_burst

    frames = read_burst(paths)
    require(str(paths[0]), frames[0].picture.size, bytes_per_pixel=PHOTO_BYTES * len(paths))
    light = [frame.picture.linear() for frame in frames]
    merged = fuse_burst(light, strength=settings.strength, progress=progress)
    image = refine(merged.image[None], restorer, settings.refine)[0]
    picture = frames[merged.reference].picture.with_light(image)
    check()
    place.write(encoded(photo_of(picture), target))
    return BurstResult(
        output=target, reference=paths[merged.reference], image=image, confidence=merged.confidence
    )


def open_source(path: Path, output: OutputConfig) -> VideoSource | ImageFolderSource:
    """A video file, or a folder of numbered images."""
    if not path.exists():
        raise UnreadableMedia(f"{path}: there is no such file or folder; check the spelling")
    if path.is_dir():
        rate = {} if output.rate is None else {"rate": output.rate}
        return open_folder(path, start=output.start, end=output.end, **rate)
    if output.rate is not None:
        raise UnreadableMedia(f"{path}: has times of its own; a frame rate (--fps) is for folders of images")
    return open_video(path, start=output.start, end=output.end, skip_damaged=output.skip_damaged)


def open_sink(
    source: VideoSource | ImageFolderSource, path: Path, wish: OutputConfig, *, key: str
) -> VideoSink | ImageFolderSink:
    """A video file where the name has a video suffix, else a folder of numbered images.

    What an earlier run of the same `key` finished is kept.
    """
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        _refuse_odd_suffix(path)
        return ImageFolderSink(source, path, force=wish.force, key=key)
    return VideoSink(source, path, codec=wish.codec, quality=wish.quality, force=wish.force, key=key)


def _refuse_odd_suffix(path: Path) -> None:
    """A mistyped file must not become a folder of that name."""
    kind = path.suffix.lower()
    if not kind or kind[1:].isdecimal() or path.is_dir():
        return
    why = "holds too few colours for video" if kind == ".gif" else "is no suffix of a video"
    raise UnwritableOutput(
        f"{path}: {kind} {why}; write one of {', '.join(CONTAINERS)}, or name a folder without a suffix"
    )


def ready(config: Config) -> Restorer | None:
    """The restorer that the user named, by file or by name, or None; what is not to be had is learned now."""
    find_device(config.device)
    weights_of(config)
    if config.refine.checkpoint is None:
        return None
    weights = find(str(config.refine.checkpoint))
    return load_restorer(weights.path, device=config.device, precision=config.precision)


def settings_key(config: Config) -> str:
    """A fingerprint of everything that changes a frame, so that a resumed run joins only its own kind."""
    what = asdict(replace(config, output=replace(config.output, force=False)))
    return hashlib.sha256(json.dumps([what, _own_version()], default=str).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """What ran, for the report."""
    names = ("torch", "kornia", "av", "opencv-python-headless", "numpy", "numba")
    found = {name: _version(name) for name in names}
    return {"freezeframe": _own_version(), "python": platform.python_version(), **found}


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


def _own_version() -> str:
    from .. import __version__

    return __version__


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
