"""Publishing of results: whatever happens to a path before or during the work, no existing file is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.files.preflight import check_collisions
from freezeframe.data.media.files.publish import Claim, claim


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def folder_of(path: Path, **content: str) -> Path:
    path.mkdir(parents=True)
    for name, text in content.items():
        (path / name).write_text(text)
    return path


def test_a_result_gets_its_name_and_the_folders_that_lead_there(tmp_path: Path):
    claim(tmp_path / "new" / "deep" / "a.txt").write(b"result")
    assert names(tmp_path) == ["new/deep/a.txt"]
    assert (tmp_path / "new/deep/a.txt").read_bytes() == b"result"


def test_folders_made_for_a_result_that_fails_go_again(tmp_path: Path):
    def fail(target: Claim) -> None:
        with target.draft() as path:
            path.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail(claim(tmp_path / "new" / "deep" / "a.txt"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_appears_during_the_work_stays(tmp_path: Path, force: bool):
    target = claim(tmp_path / "a.txt", force=force)
    target.path.write_text("mine")
    (tmp_path / "a-1.txt").write_text("mine too")
    with pytest.raises(UnwritableOutput, match=r"a\.txt: something else .*the result is .*a-2\.txt"):
        target.write(b"result")
    assert [(tmp_path / name).read_text() for name in ("a.txt", "a-1.txt", "a-2.txt")] == [
        "mine",
        "mine too",
        "result",
    ]


def test_what_was_changed_during_the_work_is_not_what_may_be_replaced(tmp_path: Path):
    (tmp_path / "a.txt").write_text("old")
    target = claim(tmp_path / "a.txt", force=True)
    target.path.write_text("changed by its owner")
    with pytest.raises(UnwritableOutput, match=r"a-1\.txt"):
        target.write(b"result")
    assert target.path.read_text() == "changed by its owner"


def test_what_was_there_is_replaced_where_that_was_asked_for(tmp_path: Path):
    (tmp_path / "a.txt").write_text("old")
    os.link(tmp_path / "a.txt", tmp_path / "link.txt")
    with pytest.raises(UnwritableOutput, match="--force"):
        claim(tmp_path / "a.txt")
    claim(tmp_path / "a.txt", force=True).write(b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert (tmp_path / "link.txt").read_text() == "old", "a hard link to the old file is unchanged"


def test_a_file_that_goes_during_the_work_leaves_its_name(tmp_path: Path):
    (tmp_path / "a.txt").write_text("old")
    target = claim(tmp_path / "a.txt", force=True)
    target.path.unlink()
    target.write(b"new")
    assert names(tmp_path) == ["a.txt"]


def finished(tmp_path: Path) -> Path:
    return folder_of(tmp_path / ".job" / "result", result="new")


def publish_error(target: Claim, result: Path) -> str:
    """The error message of publishing; empty if it succeeded."""
    try:
        target.publish(result)
    except UnwritableOutput as error:
        return str(error)
    return ""


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_appears_during_the_work_stays_with_all_in_it(tmp_path: Path, force: bool):
    target = claim(tmp_path / "o", kind="folder", force=force)
    result = finished(tmp_path)
    folder_of(tmp_path / "o", notes="precious")
    assert "o-1" in publish_error(target, result)
    assert names(tmp_path) == ["o-1/result", "o/notes"]


def test_a_note_laid_into_a_folder_that_may_be_replaced_stays(tmp_path: Path):
    folder_of(tmp_path / "o", old="old")
    target = claim(tmp_path / "o", kind="folder", force=True)
    result = finished(tmp_path)
    (tmp_path / "o" / "notes").write_text("precious")
    assert "o-1" in publish_error(target, result)
    assert names(tmp_path) == ["o-1/result", "o/notes", "o/old"]


def test_a_folder_is_replaced_whole_where_that_was_asked_for(tmp_path: Path):
    folder_of(tmp_path / "o", old="old")
    with pytest.raises(UnwritableOutput, match="--force"):
        claim(tmp_path / "o", kind="folder")
    assert not publish_error(claim(tmp_path / "o", kind="folder", force=True), finished(tmp_path))
    assert names(tmp_path) == ["o/result"]


def test_an_empty_folder_may_be_filled(tmp_path: Path):
    (tmp_path / "o").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "o")
    assert not publish_error(claim(tmp_path / "link", kind="folder"), finished(tmp_path))
    assert names(tmp_path) == ["o/result"]
    assert (tmp_path / "link").is_symlink()


def test_no_name_of_an_input_is_written(tmp_path: Path):
    source = folder_of(tmp_path / "in", one="1")
    os.link(source / "one", tmp_path / "hard")
    (tmp_path / "soft").symlink_to(source / "one")
    for path in (source / "one", tmp_path / "hard", tmp_path / "soft", tmp_path / "x" / ".." / "in" / "one"):
        with pytest.raises(UnwritableOutput, match="is the input itself"):
            claim(path, inputs=[source / "one"], force=True)
    for path in (source / "new", tmp_path / "hard"):
        with pytest.raises(UnwritableOutput, match="input"):
            claim(path, inputs=[source], force=True)
    assert names(tmp_path) == ["hard", "in/one", "soft"]


@pytest.mark.parametrize("name", ["", ".", "..", "folder", "pipe", "file/a", "/", "/dev/full", "/proc/a"])
def test_what_cannot_be_a_file_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnwritableOutput):
        claim(Path(name), force=True, trial=True)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("one", "other"), [("a", "a"), ("a", "A"), ("a", "x/../a"), ("a", "a/b"), ("a/b", "a"), ("here", "link")]
)
def test_two_results_are_two_places(tmp_path: Path, one: str, other: str):
    (tmp_path / "here").touch()
    os.link(tmp_path / "here", tmp_path / "link")
    with pytest.raises(UnwritableOutput, match="--report"):
        check_collisions({"the output": tmp_path / one, "--report": tmp_path / other, "--json": None})
    check_collisions({"the output": tmp_path / one, "--report": tmp_path / "another"})
