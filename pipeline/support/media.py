"""Open sources and sinks by path; settings key and versions of a run."""

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
from freezeframe.data.version import VERSION
from freezeframe.pipeline.config import Config, OutputConfig

PathLike = str | Path


def open_source(path: Path, output: OutputConfig) -> VideoSource | ImageFolderSource:
    """Open a video file or a folder of numbered images.

    Raises:
        UnreadableMedia: The path does not exist, or a frame rate is given for a video file.
    """
    if not path.exists():
        raise UnreadableMedia(f"{path}: there is no such file or folder; check the spelling")
    if path.is_dir():
        rate = {} if output.rate is None else {"rate": output.rate}
        return open_folder(path, start=output.start, end=output.end, **rate)
    if output.rate is not None:
        raise UnreadableMedia(
            f"{path}: has its own timestamps; a frame rate (--fps) is for folders of images"
        )
    return open_video(path, start=output.start, end=output.end, skip_damaged=output.skip_damaged)


def open_sink(
    source: VideoSource | ImageFolderSource, path: Path, options: OutputConfig, *, key: str
) -> VideoSink | ImageFolderSink:
    """Open a video file if `path` has a video suffix, else a folder of numbered images.

    Frames that an interrupted run of the same `key` finished are kept.

    Raises:
        UnwritableOutput: The path cannot be written, or has a suffix of something else.
    """
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        _check_suffix(path)
        return ImageFolderSink(source, path, force=options.force, key=key)
    return VideoSink(source, path, codec=options.codec, quality=options.quality, force=options.force, key=key)


def _check_suffix(path: Path) -> None:
    """Refuse a mistyped file name, which would become a folder."""
    kind = path.suffix.lower()
    if not kind or kind[1:].isdecimal() or path.is_dir():
        return
    why = "holds too few colours for video" if kind == ".gif" else "is no suffix of a video"
    raise UnwritableOutput(
        f"{path}: {kind} {why}; write one of {', '.join(CONTAINERS)}, or name a folder without a suffix"
    )


def settings_key(config: Config) -> str:
    """Hash of all settings that change a frame; a run resumes only work of the same key."""
    payload = asdict(replace(config, output=replace(config.output, force=False)))
    return hashlib.sha256(json.dumps([payload, VERSION], default=str).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries, for reports; "absent" if not installed."""
    names = ("torch", "kornia", "av", "opencv-python-headless", "numpy", "numba")
    installed = {name: _version(name) for name in names}
    return {"freezeframe": VERSION, "python": platform.python_version(), **installed}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
