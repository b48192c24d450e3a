"""Sources and sinks by their paths, and the keys by which a resumed run knows its own work."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.suffixes import CONTAINERS, VIDEO_SUFFIXES
from freezeframe.data.media.folder.sink import ImageFolderSink
from freezeframe.data.media.folder.source import ImageFolderSource, open_folder
from freezeframe.data.media.video_in.source import VideoSource, open_video
from freezeframe.data.media.video_out.sink import VideoSink
from freezeframe.pipeline.config import Config, OutputConfig

PathLike = str | Path


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
    source: VideoSource | ImageFolderSource, path: Path, options: OutputConfig, *, key: str
) -> VideoSink | ImageFolderSink:
    """A video file where the name has a video suffix, else a folder of numbered images.

    What an earlier run of the same `key` finished is kept.
    """
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        _check_suffix(path)
        return ImageFolderSink(source, path, force=options.force, key=key)
    return VideoSink(source, path, codec=options.codec, quality=options.quality, force=options.force, key=key)


def _check_suffix(path: Path) -> None:
    """A mistyped file must not become a folder of that name."""
    kind = path.suffix.lower()
    if not kind or kind[1:].isdecimal() or path.is_dir():
        return
    why = "holds too few colours for video" if kind == ".gif" else "is no suffix of a video"
    raise UnwritableOutput(
        f"{path}: {kind} {why}; write one of {', '.join(CONTAINERS)}, or name a folder without a suffix"
    )


def settings_key(config: Config) -> str:
    """A fingerprint of everything that changes a frame, so that a resumed run joins only its own kind."""
    payload = asdict(replace(config, output=replace(config.output, force=False)))
    return hashlib.sha256(json.dumps([payload, _own_version()], default=str).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """What ran, for the report."""
    names = ("torch", "kornia", "av", "opencv-python-headless", "numpy", "numba")
    installed = {name: _version(name) for name in names}
    return {"freezeframe": _own_version(), "python": platform.python_version(), **installed}


def _own_version() -> str:
    from freezeframe import __version__

    return __version__


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
