"""Finished frames of an unfinished segment, saved losslessly: the state of an encoder cannot be saved.

A part holds the frames of some windows. Changed frames are stored in a file as gray FFV1 frames, with the
samples of all planes one after another; unchanged frames are decoded from the source again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError

from freezeframe.data.media.video_in.frame_picture import VideoPicture, flatten_samples, with_samples
from freezeframe.data.media.video_in.stream_info import ffmpeg_url
from freezeframe.data.types import Frame

from .plan import Plan
from .segment_encoder import is_unmodified, to_video_picture
from .segment_store import Part

Samples = npt.NDArray[np.generic]

MIN_ROW_SAMPLES = 64  # samples per row: FFV1 cannot slice narrower pictures
_GRAY_FORMATS = {8: "gray", 10: "gray10le", 12: "gray12le", 16: "gray16le"}


class PartWriter:
    """Saves frames one by one; those after the last `commit` are discarded."""

    def __init__(self, file: Path, plan: Plan) -> None:
        self._file, self._plan = file, plan
        self._frames = self._committed_frames = 0
        self._changed: list[int] = []
        self._container: Any = None
        self._stream: Any = None

    @property
    def committed_frames(self) -> int:
        return self._committed_frames

    def add(self, frame: Frame) -> None:
        if not is_unmodified(frame):
            self._changed.append(self._frames)
            self._write_samples(to_video_picture(frame.picture, self._plan))
        self._frames += 1

    def commit(self) -> None:
        """Mark the end of a window."""
        self._committed_frames = self._frames

    def close(self) -> Part:
        """Finish the file and flush it to disk."""
        changed = tuple(index for index in self._changed if index < self._committed_frames)
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            with self._file.open("rb") as file:
                os.fsync(file.fileno())
        return Part(file=self._file if changed else None, frames=self._committed_frames, changed=changed)

    def abandon(self) -> None:
        with suppress(FFmpegError, OSError, ValueError):
            if self._container is not None:
                self._container.close()

    def _write_samples(self, picture: VideoPicture) -> None:
        samples = flatten_samples(picture)
        width = max(MIN_ROW_SAMPLES, picture.size[1])
        rows = np.zeros((-(-len(samples) // width), width), samples.dtype)
        rows.reshape(-1)[: len(samples)] = samples
        gray = av.VideoFrame.from_ndarray(rows, format=_GRAY_FORMATS[picture.depth])
        if self._container is None:
            self._container = av.open(ffmpeg_url(self._file), "w", format="matroska")
            self._stream = self._container.add_stream("ffv1", rate=25, options={"level": "3"})
            self._stream.height, self._stream.width = rows.shape
            self._stream.pix_fmt = gray.format.name
        self._container.mux(self._stream.encode(gray))


def read_part(part: Part, source: Iterator[Frame], plan: Plan) -> Iterator[Frame]:
    """The frames of a part; `source` starts at its first frame."""
    pictures, changed = _read_samples(part), set(part.changed)
    for index, frame in enumerate(islice(source, part.frames)):
        if index not in changed:
            yield frame
            continue
        template = to_video_picture(frame.picture, plan)
        yield replace(frame, picture=with_samples(template, next(pictures)))


def _read_samples(part: Part) -> Iterator[Samples]:
    if part.file is None:
        return
    with av.open(ffmpeg_url(part.file)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray().reshape(-1)
