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
    create_parents,
    remove,
    remove_empty,
    remove_work_dir,
    restore_replaced,
    save,
)
from freezeframe.data.media.files.suffixes import PHOTO_SUFFIXES
from freezeframe.data.media.photo.decode import translate_read_errors
from freezeframe.data.media.photo.encode import ENCODERS
from freezeframe.data.media.photo.files import encode_photo
from freezeframe.data.media.photo.photo import EXIF_TRANSPOSE, PhotoPicture, to_photo
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.media.video_out.fingerprint import check_unchanged, source_state
from freezeframe.data.media.video_out.segment_encoder import translate_write_errors
from freezeframe.data.media.video_out.verify import VerificationReport
from freezeframe.data.types import Frame, Source

from .verify import ExpectedFolder, verify_folder

QUEUE_DEPTH = 4  # frames that wait to be written


class ImageFolderSink:
    """Writes one folder of images. An interrupted run of the same job goes on after its last whole image."""

    def __init__(self, source: Source, path: str | Path, *, force: bool = False, key: str = "") -> None:
        self.path = Path(path)
        self.notes: list[str] = []  # words to the user
        # What an earlier run had moved aside when it was killed is the user's: it is back before we look.
        with translate_write_errors(self.path):
            restore_replaced(_work_dir(self.path), self.path)
        self._claim = _check_output(self.path, source, force=force)
        self._work_dir = _work_dir(self._claim.path)
        self._source, self._source_state = source, source_state(source)
        self._names = _names(source, self.path)
        self._orientation = _orientation(source)
        with translate_write_errors(self.path), create_parents(self._claim.path) as self._folders:
            self._lock = Lock(self._work_dir, self.path)
            self._claim = self._recheck_claim(source, force=force)
            self._resume_frame = _resume(
                self._work_dir, _identity(self._source_state, source, key), self._name
            )
        self._next = self._resume_frame
        self._copied_files: dict[str, Path] = {}  # images of this run that are their source's own bytes
        self._worker: Worker[Frame] = Worker(self._process, QUEUE_DEPTH)

    def _recheck_claim(self, source: Source, *, force: bool) -> Claim:
        """The claim once more: another run that was waited for may have finished its output meanwhile."""
        try:
            return _check_output(self.path, source, force=force)
        except UnwritableOutput:
            if not _count_complete(self._work_dir, self._name):
                remove_work_dir(self._work_dir)
            self._lock.release()
            raise

    @property
    def finished_frames(self) -> int:
        return self._resume_frame

    def write(self, frames: Sequence[Frame], /) -> None:
        for frame in frames:
            self._worker.put(frame)

    def finish(self) -> VerificationReport:
        """Check all images, then give the folder its name."""
        try:
            self._worker.join()
            if not self._next:
                raise UnwritableOutput(f"{self.path}: not a single image was written")
            with translate_write_errors(self.path):
                return self._publish()
        finally:
            self.abort()

    def abort(self) -> None:
        """Stop. Whole images stay for the next run."""
        self._worker.abandon()
        if self._lock.held and not _count_complete(self._work_dir, self._name):
            remove_work_dir(self._work_dir)
        self._lock.release()
        remove_empty(self._folders)

    def _name(self, index: int) -> str:
        """The name of image number `index`; none where the source has no such image."""
        if self._names is None:
            return f"{index:06d}.png"
        return self._names[index] if index < len(self._names) else ""

    def _process(self, frame: Frame) -> None:
        target = _images(self._work_dir) / self._name(frame.index)
        picture = frame.picture
        source_file = picture.file if isinstance(picture, PhotoPicture) else None
        if source_file is not None and source_file.suffix == target.suffix:
            with translate_read_errors(source_file):
                data = source_file.read_bytes()
            save(data, target)
            self._copied_files[target.name] = source_file
        else:
            save(encode_photo(_apply_orientation(to_photo(picture), self._orientation), target), target)
        self._next = frame.index + 1

    def _publish(self) -> VerificationReport:
        images = _images(self._work_dir)
        expected_output = ExpectedFolder(
            source=self._source, count=self._next, copied=self._copied_files, orientation=self._orientation
        )
        report = verify_folder(
            images, [images / self._name(index) for index in range(self._next)], expected_output
        )
        try:
            check_unchanged(self._source, self._source_state)
        except UnreadableMedia:
            shutil.rmtree(images)
            raise
        self._claim.publish(images)
        return report


def _check_output(path: Path, source: Source, *, force: bool) -> Claim:
    """Stop before any work where the output cannot or must not be written."""
    output_claim = claim(path, inputs=[Path(source.name)], force=force, kind="folder")
    # Whoever mistypes a folder's name must not lose what is in it.
    existing = list(path.iterdir()) if path.exists() else []
    foreign = [entry for entry in existing if entry.suffix.lower() not in PHOTO_SUFFIXES or entry.is_dir()]
    if foreign:
        raise UnwritableOutput(
            f"{path}: holds other things than images ({foreign[0].name});"
            " it is not replaced: name another folder"
        )
    return output_claim


def _names(source: Source, path: Path) -> tuple[str, ...] | None:
    """Names as in the source folder, .png where their kind is only read; None for other sources."""
    images: Sequence[Path] | None = getattr(source, "images", None)
    if images is None:
        return None
    names = tuple(image.name if image.suffix.lower() in ENCODERS else f"{image.stem}.png" for image in images)
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates:
        raise UnwritableOutput(
            f"{path}: two images of the source would both be {duplicates[0]}; rename one of them"
        )
    return names


def _identity(state: str, source: Source, key: str) -> Mapping[str, str]:
    """Changes with everything that changes an image."""
    part = f" {source.start} {source.end}" if isinstance(source, VideoSource) else ""
    return {"identity": hashlib.sha256(f"{key} {state}{part}".encode()).hexdigest()}


def _resume(work_dir: Path, identity: Mapping[str, str], name: Callable[[int], str]) -> int:
    """How many images of the same job are whole; what another job left is thrown away."""
    identity_file = work_dir / "job.json"
    with suppress(OSError, ValueError):
        if json.loads(identity_file.read_text()) == identity:
            _images(work_dir).mkdir(exist_ok=True)  # gone where a power cut came just after they were shown
            return _count_complete(work_dir, name)
    for entry in work_dir.iterdir():
        if entry.name != LOCK:
            remove(entry)
    _images(work_dir).mkdir()
    save(json.dumps(identity).encode(), identity_file)
    return 0


def _count_complete(work_dir: Path, name: Callable[[int], str]) -> int:
    """The images from the first on without a gap; each appears under its name only when it is whole."""
    existing_names = (
        {file.name for file in _images(work_dir).iterdir()} if _images(work_dir).is_dir() else set()
    )
    count = 0
    while name(count) in existing_names:
        count += 1
    for stray in existing_names - {name(index) for index in range(count)}:
        (_images(work_dir) / stray).unlink()
    return count


def _work_dir(path: Path) -> Path:
    return path.with_name(f".{path.name}.freezeframe")


def _images(work_dir: Path) -> Path:
    return work_dir / "images"


def _orientation(source: Source) -> int:
    """The EXIF orientation that says the same as a video's display matrix; images cannot carry a matrix."""
    matrix = source.info.display_matrix if isinstance(source, VideoSource) else None
    if matrix is None:
        return 1
    a, b, _, c, d = (round(value / 65536, 3) for value in matrix[:5])
    return _MATRIX_ORIENTATION.get((a, b, c, d), 1)


# x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, 6.2.2).
_MATRIX_ORIENTATION: dict[tuple[float, float, float, float], int] = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}


def _apply_orientation(picture: PhotoPicture, orientation: int) -> PhotoPicture:
    if orientation == 1:
        return picture
    return replace(picture, pixels=np.ascontiguousarray(EXIF_TRANSPOSE[orientation](picture.pixels)))
