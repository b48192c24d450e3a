"""A folder of confidence maps: one PNG per changed frame, published when the output is complete."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
from torch import Tensor

from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.files.directories import (
    create_parents,
    remove_empty,
    restore_replaced,
    work_dir,
)
from freezeframe.data.media.files.error_translation import translate_write_errors
from freezeframe.data.media.files.publish import Claim, claim, write_atomic
from freezeframe.data.media.files.work_folder import WorkFolder

_NAME = re.compile(r"\d{6,}\.png")
_JOB_ID = "job_id"  # file of the work folder


class ConfidenceMapFolder:
    """Writes one folder of maps, named by the index of their frame: `000123.png`.

    The maps of an interrupted run are kept as long as the frames of its output. `job_id` belongs to the
    output's key: if the maps are lost, so are the frames, and the run starts again.
    """

    def __init__(self, path: Path, *, inputs: Iterable[Path], force: bool, key: str) -> None:
        """Check the folder and lock its work folder.

        Args:
            path: The folder to write.
            inputs: Files and folders that are read.
            force: Replace an existing folder that contains only maps.
            key: A hash of all that changes a map, and of the output.

        Raises:
            UnwritableOutput: The folder exists, or contains other files.
        """
        self._path = path
        # A run that was killed while it replaced the user's folder may have left it in the work folder.
        with translate_write_errors(path):
            restore_replaced(work_dir(path), path)
        self._claim = _claim_folder(path, inputs, force=force)
        with translate_write_errors(path), create_parents(self._claim.path) as self._folders:
            self._work = WorkFolder(self._claim.path, key)
            self._maps = self._work.path / "maps"
            self._maps.mkdir(exist_ok=True)
            self.job_id = self._read_job_id()

    def discard_from(self, first: int) -> None:
        """Remove the maps from frame `first` on: these frames are processed again."""
        for file in self._maps.iterdir():
            if not _NAME.fullmatch(file.name) or int(file.stem) >= first:
                file.unlink()

    def write(self, index: int, shares: Tensor) -> None:
        """Write the map of frame `index`, [3, H, W] uint8, atomically."""
        pixels = shares.permute(1, 2, 0).numpy()[..., ::-1]  # OpenCV's order is BGR
        _, png = cv2.imencode(".png", np.ascontiguousarray(pixels))
        with translate_write_errors(self._path):
            write_atomic(png.tobytes(), self._maps / f"{index:06d}.png")

    def publish(self) -> None:
        """Give the folder its name.

        Raises:
            UnwritableOutput: Another entry appeared in the meantime; the maps lie beside it.
        """
        self._claim.publish(self._maps)

    def close(self, *, keep: bool) -> None:
        """Stop. With `keep`, maps that are not published stay for the next run."""
        if self._work.held:
            self._work.release(keep=keep and self._maps.exists())
        remove_empty(self._folders)

    def _read_job_id(self) -> str:
        file = self._work.path / _JOB_ID
        if not file.exists():
            write_atomic(uuid4().hex.encode(), file)
        return file.read_text()


def _claim_folder(path: Path, inputs: Iterable[Path], *, force: bool) -> Claim:
    folder_claim = claim(path, inputs=inputs, force=force, kind="folder")
    # A mistyped folder name must not cost the user other files.
    foreign = (
        [entry.name for entry in path.iterdir() if not _NAME.fullmatch(entry.name)] if path.exists() else []
    )
    if foreign:
        raise UnwritableOutput(
            f"{path}: contains other files than confidence maps ({foreign[0]});"
            " it is not replaced: name another folder"
        )
    return folder_claim
