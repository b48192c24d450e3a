"""A tree of clips: every clip is processed, and the failure of one affects no other."""

from __future__ import annotations

import pytest

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.pipeline.tasks.batch import (
    Job,
    JobResult,
    collect_notes,
    find_jobs,
    format_results,
    resolve_output,
    run_batch,
    to_dict,
)


@pytest.fixture
def tree(tmp_path):
    """`tree("a.mp4", "b/c.MOV")`: empty files below a folder."""

    def create(*names):
        for name in names:
            path = tmp_path / "clips" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "clips"

    return create


def test_the_tree_is_kept(tree, tmp_path):
    clips = tree("a.mp4", "b/c.MOV", "b/d/e.mkv", "b/notes.txt")
    jobs = find_jobs(clips, tmp_path / "out", recursive=True)
    assert [job.output.relative_to(tmp_path / "out").as_posix() for job in jobs] == [
        "a.mp4",
        "b/c.MOV",
        "b/d/e.mkv",
    ]
    assert all(job.source.relative_to(clips) == job.output.relative_to(tmp_path / "out") for job in jobs)


def test_folders_inside_are_asked_for(tree, tmp_path):
    clips = tree("a.mp4", "b/c.mp4")
    assert [job.source.name for job in find_jobs(clips, tmp_path / "out", recursive=False)] == ["a.mp4"]


def test_hidden_files_are_left_alone(tree, tmp_path):
    clips = tree("a.mp4", ".b.mp4", ".trash/c.mp4", "._a.mp4")
    assert [job.source.name for job in find_jobs(clips, tmp_path / "out", recursive=True)] == ["a.mp4"]


def test_results_inside_the_input_are_no_input(tree):
    clips = tree("a.mp4", "sharp/a.mp4")
    (job,) = find_jobs(clips, clips / "sharp", recursive=True)
    assert (job.source, job.output) == (clips / "a.mp4", clips / "sharp" / "a.mp4")


def test_the_results_may_lie_above_the_input(tree):
    raw = tree("raw/a.mp4") / "raw"
    (job,) = find_jobs(raw, raw.parent, recursive=True)
    assert (job.source, job.output) == (raw / "a.mp4", raw.parent / "a.mp4")


def test_containers_that_lose_times_become_matroska(tree, tmp_path):
    jobs = find_jobs(tree("a.avi", "a.mkv"), tmp_path / "out", recursive=False)
    assert [job.output.name for job in jobs] == ["a.avi.mkv", "a.mkv"]
    assert resolve_output(tmp_path / "a.mp4") == tmp_path / "a.mp4"


def test_two_clips_never_share_a_result(tree, tmp_path):
    with pytest.raises(UnwritableOutput, match=r"a\.avi\.mkv.*rename"):
        find_jobs(tree("a.avi", "a.avi.mkv"), tmp_path / "out", recursive=False)


@pytest.mark.parametrize("recursive", [True, False])
def test_a_folder_without_clips_is_the_users_error(tree, tmp_path, recursive):
    with pytest.raises(UnreadableMedia, match="no video files") as error:
        find_jobs(tree("notes.txt"), tmp_path / "out", recursive=recursive)
    assert ("--recursive" in str(error.value)) != recursive


def test_impossible_folders_are_refused(tree, tmp_path):
    clips = tree("a.mp4")
    with pytest.raises(UnwritableOutput, match="input folder itself"):
        find_jobs(clips, clips, recursive=False)
    with pytest.raises(UnwritableOutput, match="is a file"):
        find_jobs(clips, clips / "a.mp4", recursive=False)
    with pytest.raises(UnreadableMedia, match="not a folder"):
        find_jobs(clips / "a.mp4", tmp_path / "out", recursive=False)


def test_finished_clips_are_skipped_without_being_opened(tree, tmp_path):
    clips = tree("a.mp4")  # no clip at all: opening it would fail
    output = tmp_path / "a.mp4"
    output.write_bytes(b"finished")
    reported: list[JobResult] = []
    results = run_batch(
        [Job(source=clips / "a.mp4", output=output)],
        options=[],
        workers=1,
        force=False,
        on_result=reported.append,
    )
    assert [result.status for result in results] == ["skipped"]
    assert reported == results
    assert output.read_bytes() == b"finished"


def test_a_folder_that_cannot_be_made_fails_its_own_clip_only(tree, tmp_path):
    clips = tree("a.mp4", "b/c.mp4")
    blocked, ready = tmp_path / "file", tmp_path / "ready.mp4"
    blocked.touch()
    ready.touch()
    jobs = [
        Job(source=clips / "b/c.mp4", output=blocked / "c.mp4"),
        Job(source=clips / "a.mp4", output=ready),
    ]
    results = run_batch(jobs, options=[], workers=2, force=False, on_result=lambda _: None)
    assert [result.status for result in results] == ["failed", "skipped"]
    assert str(blocked) in results[0].message


def test_what_may_surprise_is_said_before_the_work(tree, tmp_path):
    """Notes on renamed outputs and on clips that are left out; outputs inside the input are no clips."""
    clips = tree("a.avi", "b.mp4", "c/d.mp4", "c/e.mp4", "out/b.mp4")
    jobs = find_jobs(clips, clips / "out", recursive=False)
    renamed, deeper = collect_notes(jobs, clips, clips / "out")
    assert "becomes a.avi.mkv" in renamed
    assert "2 clips in sub-folders left out; add --recursive" in deeper
    assert not list(
        collect_notes(find_jobs(clips / "c", tmp_path / "o", recursive=False), clips / "c", tmp_path / "o")
    )


def test_the_table_names_every_clip_and_adds_up(tmp_path):
    job = Job(source=tmp_path / "a.mp4", output=tmp_path / "b.mp4")
    results = [
        JobResult(job=job, status="done", seconds=151, frames={"deblurred": 69, "fallback": 11}),
        JobResult(job=job, status="failed", message="cut off"),
    ]
    lines = format_results(results).splitlines()
    assert lines[0].split() == [
        "clip",
        "status",
        "deblurred",
        "left",
        "unchanged",
        "rejected",
        "time",
        "note",
    ]
    assert lines[1].split() == [str(job.source), "done", "69", "0", "11", "02:31"]
    assert lines[2].split() == [str(job.source), "failed", "cut", "off"]
    assert lines[-1] == "1 done, 0 skipped, 1 failed"


def test_json_names_its_schema_and_every_clip(tmp_path):
    job = Job(source=tmp_path / "a.mp4", output=tmp_path / "b.mp4")
    result = JobResult(job=job, status="done", seconds=1.5, frames={"deblurred": 3})
    assert to_dict([result]) == {
        "schema": 1,
        "clips": [
            {"source": str(job.source), "output": str(job.output), "status": "done",
             "frames": {"deblurred": 3}, "seconds": 1.5, "note": ""},
        ],
    }  # fmt: skip


@pytest.mark.slow
def test_a_damaged_clip_fails_alone(film, write_clip, tmp_path):
    """Two good clips and a bad one, two at a time; then only the bad one runs again."""
    still = film((0, 0), [0.0] * 4)
    clips, out = tmp_path / "clips", tmp_path / "out"
    good = [write_clip(clips / name, still) for name in ("a.mkv", "deep/c.mkv")]
    (clips / "b.mkv").write_bytes(good[0].read_bytes()[:100])
    jobs = find_jobs(clips, out, recursive=True)
    first, again = (
        run_batch(jobs, options=["--preset", "sports"], workers=2, force=False, on_result=lambda _: None)
        for _ in range(2)
    )
    assert [result.status for result in first] == ["done", "failed", "done"]
    assert "b.mkv" in first[1].message
    assert first[0].frames == {"passthrough": 4}
    assert first[0].seconds > 0
    assert [result.status for result in again] == ["skipped", "failed", "skipped"]
    assert {path.name for path in out.rglob("*") if path.is_file()} == {"a.mkv", "c.mkv"}
