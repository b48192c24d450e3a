"""A fingerprint changes with its file, and with nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.files.fingerprint import fingerprint, unchanged_check

LENGTH = 3 << 20  # bytes; more than the samples at both ends


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    os.utime(path, ns=(0, 0))
    return path


def test_equal_files_have_one_fingerprint(tmp_path: Path):
    assert fingerprint(write(tmp_path / "a", b"same")) == fingerprint(write(tmp_path / "b", b"same"))


@pytest.mark.parametrize("content", [b"x" + bytes(LENGTH - 1), bytes(LENGTH - 1) + b"x", bytes(LENGTH + 1)])
def test_a_byte_at_either_end_or_another_length_changes_it(tmp_path: Path, content: bytes):
    before = fingerprint(write(tmp_path / "a", bytes(LENGTH)))
    assert fingerprint(write(tmp_path / "a", content)) != before


def test_a_file_that_changes_or_goes_is_named(tmp_path: Path):
    path = write(tmp_path / "a.jpg", b"before")
    check = unchanged_check(path)
    check()
    write(path, b"after!")
    with pytest.raises(UnreadableMedia, match=r"a\.jpg: changed while it was read"):
        check()
    path.unlink()
    with pytest.raises(UnreadableMedia, match=r"a\.jpg: changed while it was read"):
        check()
