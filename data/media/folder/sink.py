"""Folders of numbered images as a `Sink`: filled out of sight, shown when complete."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.background import Worker
from freezeframe.data.media.files.lock import NAME as LOCK
from freezeframe.data.media.files.lock import Lock
from freezeframe.data.media.files.publish import (
    Claim,
    claim,
    made_for,
    put_back,
    remove,
    remove_empty,
    remove_job,
    save,
)
from freezeframe.data.media.files.suffixes import PHOTO_SUFFIXES
from freezeframe.data.media.photo.decode import saying_what
from freezeframe.data.media.photo.encode import ENCODERS
from freezeframe.data.media.photo.files import encoded
from freezeframe.data.media.photo.photo import TURNS, PhotoPicture, photo_of
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.media.video_out.fingerprint import refuse_changed, state_of
from freezeframe.data.media.video_out.segment_encoder import saying_why
from freezeframe.data.media.video_out.verify import PlumbingSheet
from freezeframe.data.types import Frame, Source

from .verify import Promise, sheet_of

BEHIND = 4  # frames that wait to be written


class ImageFolderSink:
    """Writes one folder of images. An interrupted run of the same job goes on after its last whole image."""

    def __init__(self, source: Source, path: str | Path, *, force: bool = False, key: str = "") -> None:
        self.path = Path(path)
        self.notes: list[str] = []  # words to the user
        # What an earlier run had moved aside when it was killed is the user's: it is back before we look.
        with saying_why(self.path):
            put_back(_job(self.path), self.path)
        self._claim = _refuse(self.path, source, force=force)
        self._job = _job(self._claim.path)
        self._source, self._before = source, state_of(source)
        self._names = _names(source, self.path)
        self._turn = _turn(source)
        with saying_why(self.path), made_for(self._claim.path) as self._folders:
            self._lock = Lock(self._job, self.path)
            self._claim = self._still(source, force=force)
            self._resumed = _resume(self._job, _identity(self._before, source, key), self._name)
        self._next = self._resumed
        self._copied: dict[str, Path] = {}  # images of this run that are their source's own bytes
        self._worker: Worker[Frame] = Worker(self._take, BEHIND)

    def _still(self, source: Source, *, force: bool) -> Claim:
        """The claim once more: another run that was waited for may have finished its output meanwhile."""
        try:
            return _refuse(self.path, source, force=force)
        except UnwritableOutput:
            if not _whole(self._job, self._name):
                remove_job(self._job)
            self._lock.release()
            raise

    @property
    def finished(self) -> int:
        return self._resumed

    def write(self, frames: Sequence[Frame], /) -> None:
        for frame in frames:
            self._worker.put(frame)

    def finish(self) -> PlumbingSheet:
        """Check all images, then give the folder its name."""
        try:
            self._worker.join()
            if not self._next:
                raise UnwritableOutput(f"{self.path}: not a single image was written")
            with saying_why(self.path):
                return self._publish()
        finally:
            self.abort()

    def abort(self) -> None:
        """Stop. Whole images stay for the next run."""
        self._worker.abandon()
        if self._lock.held and not _whole(self._job, self._name):
            remove_job(self._job)
        self._lock.release()
        remove_empty(self._folders)

    def _name(self, index: int) -> str:
        """The name of image number `index`; none where the source has no such image."""
        if self._names is None:
            return f"{index:06d}.png"
        return self._names[index] if index < len(self._names) else ""

    def _take(self, frame: Frame) -> None:
        target = _images(self._job) / self._name(frame.index)
        picture = frame.picture
        own = picture.file if isinstance(picture, PhotoPicture) else None
        if own is not None and own.suffix == target.suffix:
            with saying_what(own):
                data = own.read_bytes()
            save(data, target)
            self._copied[target.name] = own
        else:
            save(encoded(_turned(photo_of(picture), self._turn), target), target)
        self._next = frame.index + 1

    def _publish(self) -> PlumbingSheet:
        images = _images(self._job)
        promise = Promise(source=self._source, count=self._next, copied=self._copied, turn=self._turn)
        sheet = sheet_of(images, [images / self._name(index) for index in range(self._next)], promise)
        try:
            refuse_changed(self._source, self._before)
        except UnreadableMedia:
            shutil.rmtree(images)
            raise
        self._claim.publish(images)
        return sheet


def _refuse(path: Path, source: Source, *, force: bool) -> Claim:
    """Stop before any work where the output cannot or must not be written."""
    found = claim(path, inputs=[Path(source.name)], force=force, kind="folder")
    # Whoever mistypes a folder's name must not lose what is in it.
    there = list(path.iterdir()) if path.exists() else []
    other = [item for item in there if item.suffix.lower() not in PHOTO_SUFFIXES or item.is_dir()]
    if other:
        raise UnwritableOutput(
            f"{path}: holds other things than images ({other[0].name});"
            " it is not replaced: name another folder"
        )
    return found


def _names(source: Source, path: Path) -> tuple[str, ...] | None:
    """Names as in the source folder, .png where their kind is only read; None for other sources."""
    images: Sequence[Path] | None = getattr(source, "images", None)
    if images is None:
        return None
    names = tuple(image.name if image.suffix.lower() in ENCODERS else f"{image.stem}.png" for image in images)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UnwritableOutput(
            f"{path}: two images of the source would both be {twice[0]}; rename one of them"
        )
    return names


def _identity(state: str, source: Source, key: str) -> Mapping[str, str]:
    """Changes with everything that changes an image."""
    part = f" {source.start} {source.end}" if isinstance(source, VideoSource) else ""
    return {"identity": hashlib.sha256(f"{key} {state}{part}".encode()).hexdigest()}


def _resume(job: Path, identity: Mapping[str, str], name: Callable[[int], str]) -> int:
    """How many images of the same job are whole; what another job left is thrown away."""
    label = job / "job.json"
    with suppress(OSError, ValueError):
        if json.loads(label.read_text()) == identity:
            _images(job).mkdir(exist_ok=True)  # gone where a power cut came just after they were shown
            return _whole(job, name)
    for entry in job.iterdir():
        if entry.name != LOCK:
            remove(entry)
    _images(job).mkdir()
    save(json.dumps(identity).encode(), label)
    return 0


def _whole(job: Path, name: Callable[[int], str]) -> int:
    """The images from the first on without a gap; each appears under its name only when it is whole."""
    there = {file.name for file in _images(job).iterdir()} if _images(job).is_dir() else set()
    count = 0
    while name(count) in there:
        count += 1
    for stray in there - {name(index) for index in range(count)}:
        (_images(job) / stray).unlink()
    return count


def _job(path: Path) -> Path:
    return path.with_name(f".{path.name}.freezeframe")


def _images(job: Path) -> Path:
    return job / "images"


def _turn(source: Source) -> int:
    """The EXIF orientation that says the same as a video's display matrix; images cannot carry a matrix."""
    matrix = source.info.display_matrix if isinstance(source, VideoSource) else None
    if matrix is None:
        return 1
    a, b, _, c, d = (round(value / 65536, 3) for value in matrix[:5])
    return _MATRICES.get((a, b, c, d), 1)


# x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, 6.2.2).
_MATRICES: dict[tuple[float, float, float, float], int] = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}


def _turned(picture: PhotoPicture, turn: int) -> PhotoPicture:
    if turn == 1:
        return picture
    return replace(picture, pixels=np.ascontiguousarray(TURNS[turn](picture.pixels)))
