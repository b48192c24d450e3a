"""A folder of numbered images as a `Sink`: written to a work folder, published when complete."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.background import Worker
from freezeframe.data.media.files.directories import (
    create_parents,
    remove_empty,
    restore_replaced,
    work_dir,
)
from freezeframe.data.media.files.error_translation import translate_read_errors, translate_write_errors
from freezeframe.data.media.files.fingerprint import check_unchanged
from freezeframe.data.media.files.publish import Claim, claim, write_atomic
from freezeframe.data.media.files.suffixes import PHOTO_SUFFIXES
from freezeframe.data.media.files.work_folder import WorkFolder
from freezeframe.data.media.photo.encode import ENCODERS
from freezeframe.data.media.photo.files import encode_photo
from freezeframe.data.media.photo.photo import EXIF_TRANSPOSE, PhotoPicture, to_photo
from freezeframe.data.media.verification import VerificationReport
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.types import Frame, Source

from .verify import ExpectedFolder, verify_folder

QUEUE_DEPTH = 4  # frames waiting to be written


class ImageFolderSink:
    """Writes one folder of images. A rerun of an interrupted job continues after its last complete image."""

    def __init__(self, source: Source, path: str | Path, *, force: bool = False, key: str = "") -> None:
        """Check the output and lock its work folder.

        Args:
            source: The source of the frames; the images are named after its images.
            path: The folder to write.
            force: Replace an existing folder that contains only images.
            key: A hash of all settings that change a frame; an interrupted job with another key is discarded.

        Raises:
            UnwritableOutput: The folder exists, contains other files, or two images would have one name.
        """
        self.path = Path(path)
        self.notes: list[str] = []  # messages to the user
        # A run that was killed while it replaced the user's folder may have left it in the work folder.
        with translate_write_errors(self.path):
            restore_replaced(work_dir(self.path), self.path)
        self._claim = _claim_output(self.path, source, force=force)
        self._source, self._fingerprint = source, source.fingerprint()
        self._names = _names(source, self.path)
        self._orientation = exif_orientation(source)
        with translate_write_errors(self.path), create_parents(self._claim.path) as self._folders:
            self._work = WorkFolder(self._claim.path, _identity(self._fingerprint, source, key))
            self._images = self._work.path / "images"
            self._images.mkdir(exist_ok=True)  # a resumed job lacks it after a power cut during publication
            self._claim = self._recheck_claim(source, force=force)
            self._resume_frame = self._count_complete()
        self._next = self._resume_frame
        self._copied_files: dict[str, Path] = {}  # sources of copied images, by name
        self._worker: Worker[Frame] = Worker(self._process, QUEUE_DEPTH)

    def _recheck_claim(self, source: Source, *, force: bool) -> Claim:
        """Claim again: while this run waited for the lock, another may have written the output."""
        try:
            return _claim_output(self.path, source, force=force)
        except UnwritableOutput:
            self._work.release(keep=self._count_complete() > 0)
            raise

    @property
    def finished_frames(self) -> int:
        return self._resume_frame

    def write(self, frames: Sequence[Frame], /) -> None:
        for frame in frames:
            self._worker.put(frame)

    def finish(self) -> VerificationReport:
        """Verify all images and publish the folder."""
        try:
            self._worker.join()
            if not self._next:
                raise UnwritableOutput(f"{self.path}: no image was written")
            with translate_write_errors(self.path):
                return self._publish()
        finally:
            self.abort()

    def abort(self) -> None:
        """Stop. Complete images are kept for the next run."""
        self._worker.abandon()
        if self._work.held:
            self._work.release(keep=self._count_complete() > 0)
        remove_empty(self._folders)

    def _name(self, index: int) -> str:
        """The name of image `index`; empty if the source has no such image."""
        if self._names is None:
            return f"{index:06d}.png"
        return self._names[index] if index < len(self._names) else ""

    def _count_complete(self) -> int:
        """Number of consecutive images from the first; an image has its name only once it is complete."""
        existing_names = {file.name for file in self._images.iterdir()} if self._images.is_dir() else set()
        count = 0
        while self._name(count) in existing_names:
            count += 1
        for stray in existing_names - {self._name(index) for index in range(count)}:
            (self._images / stray).unlink()
        return count

    def _process(self, frame: Frame) -> None:
        target = self._images / self._name(frame.index)
        picture = frame.picture
        source_file = picture.file if isinstance(picture, PhotoPicture) else None
        if source_file is not None and source_file.suffix == target.suffix:
            with translate_read_errors(source_file):
                data = source_file.read_bytes()
            write_atomic(data, target)
            self._copied_files[target.name] = source_file
        else:
            write_atomic(
                encode_photo(_apply_orientation(to_photo(picture), self._orientation), target), target
            )
        self._next = frame.index + 1

    def _publish(self) -> VerificationReport:
        expected = ExpectedFolder(
            source=self._source, count=self._next, copied=self._copied_files, orientation=self._orientation
        )
        names = [self._name(index) for index in range(self._next)]
        report = verify_folder(self._images, [self._images / name for name in names], expected)
        try:
            check_unchanged(self._source, self._fingerprint)
        except UnreadableMedia:
            shutil.rmtree(self._images)
            raise
        self._claim.publish(self._images)
        return report


def _claim_output(path: Path, source: Source, *, force: bool) -> Claim:
    output_claim = claim(path, inputs=[Path(source.name)], force=force, kind="folder")
    # A mistyped folder name must not cost the user other files.
    existing = list(path.iterdir()) if path.exists() else []
    foreign = [entry for entry in existing if entry.suffix.lower() not in PHOTO_SUFFIXES or entry.is_dir()]
    if foreign:
        raise UnwritableOutput(
            f"{path}: contains other files than images ({foreign[0].name});"
            " it is not replaced: name another folder"
        )
    return output_claim


def _names(source: Source, path: Path) -> tuple[str, ...] | None:
    """Names as in the source folder, with .png for formats that can only be read; None for other sources."""
    images: Sequence[Path] | None = getattr(source, "images", None)
    if images is None:
        return None
    names = tuple(image.name if image.suffix.lower() in ENCODERS else f"{image.stem}.png" for image in images)
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates:
        raise UnwritableOutput(
            f"{path}: two images of the source would both be named {duplicates[0]}; rename one of them"
        )
    return names


def _identity(fingerprint: str, source: Source, key: str) -> str:
    """A hash of everything that changes an image."""
    span = f" {source.start} {source.end}" if isinstance(source, VideoSource) else ""
    return hashlib.sha256(f"{key} {fingerprint}{span}".encode()).hexdigest()


def exif_orientation(source: Source) -> int:
    """The EXIF orientation of a video's display matrix, which image files cannot hold; 1 if there is none."""
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
