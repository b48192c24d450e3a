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
from ..data.photo_read import upright_size
from ..data.photos import read_burst, write_photo
from ..data.plumbing import PlumbingSheet
from ..data.segments import fingerprint
from ..data.suffixes import VIDEO_SUFFIXES
from ..data.video import VideoSource, open_video
from ..models.load import Restorer, load_restorer
from ..models.shelf import find
from .config import Config, OutputConfig, Preset, preset
from .deblur import Tools, deblur
from .extras import slow_notes
from .measure import Memory, survey
from .network import network_of
from .probe import probe
from .progress import Advance, Tell, quiet, silent
from .refine import refine
from .report import Report, Stopwatch
from .splat import Scenes
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
    opened = open_source(Path(source), settings.output)
    sink = open_sink(opened, Path(output), settings.output, key=settings_key(settings))
    try:
        return _deblur_into(opened, sink, settings, progress, tell)
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
    refuse_overwriting(target, paths, force=settings.output.force)
    from .accumulate import fuse_burst

    frames = read_burst(paths)
    light = [frame.picture.linear() for frame in frames]
    merged = fuse_burst(light, strength=settings.strength, progress=progress)
    restorer = restorer_for(settings)
    image = refine(merged.image[None], restorer, settings.refine)[0]
    write_photo(frames[merged.reference].picture.with_light(image), target, force=settings.output.force)
    return BurstResult(
        output=target, reference=paths[merged.reference], image=image, confidence=merged.confidence
    )


def open_source(path: Path, output: OutputConfig) -> VideoSource | ImageFolderSource:
    """A video file, or a folder of numbered images."""
    if not path.exists():
        raise UnreadableMedia(f"{path}: there is no such file or folder; check the spelling")
    if path.is_dir():
        return open_folder(path, **({} if output.rate is None else {"rate": output.rate}))
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
        return ImageFolderSink(source, path, force=wish.force, key=key)
    return VideoSink(source, path, codec=wish.codec, quality=wish.quality, force=wish.force, key=key)


def restorer_for(config: Config) -> Restorer | None:
    """The restorer that the user named, by file or by name, or None."""
    if config.refine.checkpoint is None:
        return None
    weights = find(str(config.refine.checkpoint))
    return load_restorer(weights.path, device=config.device, precision=config.precision)


def settings_key(config: Config) -> str:
    """A fingerprint of everything that changes a frame, so that a resumed run joins only its own kind."""
    what = asdict(replace(config, output=replace(config.output, force=False)))
    return hashlib.sha256(json.dumps([what, _own_version()], default=str).encode()).hexdigest()[:16]


def refuse_overwriting(target: Path, inputs: Sequence[Path], *, force: bool) -> None:
    """Stop before any work where the result would replace something."""
    if any(target.exists() and path.exists() and target.samefile(path) for path in inputs):
        raise UnwritableOutput(f"{target}: is one of the inputs; name another output")
    if target.exists() and not force:
        raise UnwritableOutput(f"{target}: exists already; choose another name or add --force")


def versions() -> dict[str, str]:
    """What ran, for the report."""
    names = ("torch", "kornia", "av", "opencv-python-headless", "numpy", "numba")
    found = {name: _version(name) for name in names}
    return {"freezeframe": _own_version(), "python": platform.python_version(), **found}


def _deblur_into(
    source: VideoSource | ImageFolderSource,
    sink: VideoSink | ImageFolderSink,
    config: Config,
    progress: Advance,
    tell: Tell,
) -> Report:
    watch = Stopwatch()
    with watch.stage("survey"):
        seen = survey(source, config.measure, progress=progress)
    restorer = restorer_for(config)
    if source.count != 0:
        tell(_plan_of(source))
    with watch.stage("adapt"):
        key = f"{_identity(source)} {settings_key(config)}"
        network, told = network_of(
            config, source, shutter=seen.shutter, output=sink.path, key=key, progress=progress
        )
    scenes = Scenes()
    tools = Tools(
        survey=seen, network=network, restorer=restorer, memory=Memory(), scenes=scenes, watch=watch
    )
    resumed = sink.finished
    progress(resumed, source.count)
    log = deblur(source, sink, tools, config=config, advance=lambda done: progress(done, source.count))
    with watch.stage("finish"):
        sheet: PlumbingSheet = sink.finish()
    notes = [*source.notes, *sink.notes, *told, *scenes.notes(), *map(str, source.damage)]
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


def _plan_of(source: VideoSource | ImageFolderSource) -> str:
    if isinstance(source, ImageFolderSource):
        size = upright_size(source.images[0])
    else:
        size = (source.info.height, source.info.width)
    return "\n".join(
        [
            plan_text(source.name, frames=source.count, size=size, rate=source.rate),
            *(f"  note: {note}" for note in slow_notes()),
        ]
    )


def _identity(source: VideoSource | ImageFolderSource) -> str:
    return source.fingerprint() if isinstance(source, ImageFolderSource) else fingerprint(source.info.path)


def _own_version() -> str:
    from .. import __version__

    return __version__


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
