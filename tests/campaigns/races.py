"""Concurrent changes of sources and outputs while the command runs: no file is lost or mixed up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from freezeframe.tests.campaigns.invariants import (
    Contents,
    Outcome,
    file_fault,
    message_fault,
    verification_fault,
)
from freezeframe.tests.campaigns.process import ProcessResult, fork, run, start
from freezeframe.tests.campaigns.results import difference, probe_output
from freezeframe.tests.campaigns.seeds import write_clip, write_folder

CASES = 150
FAST = ("--network", "none", "--iterations", "2", "--min-blur", "0.5")
FRAMES = 12  # of a folder of images
OUTPUTS = ("out.mp4", "out.mkv", "out")


def prepare(folder: Path) -> None:
    """Two clips and two folders of images, and the CPU time of each."""

    def write() -> None:
        for number, name in enumerate(("one", "two")):
            write_clip(folder / f"{name}.mp4", frames=16 - 4 * number, seed=number)
            write_folder(folder / name, frames=FRAMES, seed=number)

    assert not fork(write, folder=folder).wait().code
    for source in ("one.mp4", "two.mp4", "one"):
        (folder / f"{source}.work").write_text(str(_run_reference(folder, source, "out.mp4").work))


def case(random: Random, baseline: Path, folder: Path) -> Outcome:
    kind = random.choice(tuple(KINDS))
    return KINDS[kind](random, baseline, folder, kind)


def two_runs(random: Random, baseline: Path, folder: Path, kind: str) -> Outcome:
    """Two runs on one output: one writes it, the other reports the conflict."""
    one = _copy_source(baseline, folder, random.choice(("one.mp4", "one")))
    two = random.choice((one, _copy_source(baseline, folder, "two.mp4")))
    output = random.choice(OUTPUTS)
    wait = random.uniform(0, 1.2) * _work(baseline, one)
    before = Contents.of(folder)
    first = start(("video", one, output, *FAST), folder=folder)
    first.ended_before(wait)
    second = start(("video", two, output, *FAST), folder=folder)
    ends = [(one, first.wait()), (two, second.wait())]
    done = [(source, ended) for source, ended in ends if ended.code == 0]
    faults = [message_fault(ended, names=(output,)) for _, ended in ends]
    faults += [_unreported(ended, "another run", "exists already") for _, ended in ends if ended.code == 2]
    faults += [verification_fault(ended.log) for _, ended in done]
    faults.append("" if len(done) == 1 else f"{len(done)} of two runs ended well")
    faults.append(file_fault(before, Contents.of(folder), written=[output], done=True, output=output))
    faults += [_differs_from_reference(baseline, folder, source, output) for source, _ in done[:1]]
    description = f"video {one} {output} and, {wait:.2f} s later, video {two} {output}"
    return _outcome(kind, faults, description, ends[0][1])


def output_appears(random: Random, baseline: Path, folder: Path, kind: str) -> Outcome:
    """A file or folder appears under the output's name: it stays unchanged, and the run reports it."""
    source = _copy_source(baseline, folder, random.choice(("one.mp4", "one")))
    output = random.choice(OUTPUTS)
    signal_delay = random.uniform(0, 1) * _work(baseline, source)
    running = start(("video", source, output, *FAST), folder=folder)
    late = running.ended_before(signal_delay) or (folder / output).exists()
    if not late:
        _write_foreign(folder / output)
    foreign = Contents.of(folder / output) if output == "out" else Contents.of(folder)
    ended = running.wait()
    after = Contents.of(folder / output) if output == "out" else Contents.of(folder)
    names = [name for name in foreign.digests if output in {"out", name}]
    lost = [name for name in names if after.digests.get(name) != foreign.digests[name]]
    faults = [f"the foreign {output} was overwritten" if lost and not late else ""]
    faults.append(message_fault(ended, names=(output,)))
    if not late and ended.code == 0:
        faults.append("did not report the foreign output")
    return _outcome(kind, faults, f"video {source} {output}, which appears after {signal_delay:.2f} s", ended)


def source_changes(random: Random, baseline: Path, folder: Path, kind: str) -> Outcome:
    """The source is replaced during the run: the result is that of one of both files."""
    source = _copy_source(baseline, folder, "one.mp4")
    output, change = random.choice(OUTPUTS), random.choice(tuple(CHANGES))
    signal_delay = random.uniform(0, 1) * _work(baseline, source)
    running = start(("video", source, output, *FAST), folder=folder)
    running.ended_before(signal_delay)
    CHANGES[change](folder / source, baseline / "two.mp4", random)
    ended = running.wait()
    faults = [message_fault(ended, names=(source, output)), verification_fault(ended.log)]
    if ended.code == 0:
        one, two = (
            _differs_from_reference(baseline, folder, name, output) for name in ("one.mp4", "two.mp4")
        )
        faults.append(one and two and f"mixed of two sources: {one}")
    elif (folder / output).exists():
        faults.append("left an output although it failed")
    description = f"video {source} {output}; {change} after {signal_delay:.2f} s"
    return _outcome(f"{kind}: {change}", faults, description, ended)


def image_changes(random: Random, baseline: Path, folder: Path, kind: str) -> Outcome:
    """One image of a folder is replaced or removed during the run."""
    source = _copy_source(baseline, folder, "one")
    image = folder / source / f"{random.randrange(FRAMES):06d}.png"
    signal_delay, remove = random.uniform(0, 1) * _work(baseline, source), random.random() < 0.5
    output = random.choice(OUTPUTS)
    running = start(("video", source, output, *FAST), folder=folder)
    running.ended_before(signal_delay)
    if remove:
        image.unlink()
    else:
        shutil.copyfile(baseline / "two" / "000003.png", image)
    ended = running.wait()
    faults = [message_fault(ended, names=(source, image.name, output)), verification_fault(ended.log)]
    if ended.code == 0:
        faults.append(_differs_from_reference(baseline, folder, source, output))
    elif (folder / output).exists():
        faults.append("left an output although it failed")
    change = "removed" if remove else "replaced"
    description = f"video {source} {output}; {image.name} {change} after {signal_delay:.2f} s"
    return _outcome(kind, faults, description, ended)


def names_collide(random: Random, baseline: Path, folder: Path, kind: str) -> Outcome:
    """Report, JSON or plot under the name of another file: refused, and nothing changes."""
    _copy_source(baseline, folder, "one.mp4")
    _copy_source(baseline, folder, "two")
    shutil.copyfile(baseline / "one" / "000000.png", folder / "photo.png")
    os.link(folder / "photo.png", folder / "linked.png")
    (folder / "words.json").write_text("{}\n")
    words = random.choice(COLLISIONS)
    before = Contents.of(folder)
    ended = run(words, folder=folder)
    after = Contents.of(folder)
    changed = [name for name in before.modified_in(after) if name != "words.json"]  # an earlier report may go
    new = [name for name in before.new_in(after) if not name.startswith(".")]
    faults = [f"changed: {', '.join(changed)}" if changed else ""]
    faults.append("" if ended.code == 2 else f"exit code {ended.code}, although two files have one name")
    faults.append(f"wrote {', '.join(new)} nevertheless" if new else "")
    faults.append(message_fault(ended, names=words[1:]))
    return _outcome(kind, faults, " ".join(words), ended)


Case = Callable[[Random, Path, Path, str], Outcome]
KINDS: Mapping[str, Case] = {
    "two runs on one output": two_runs,
    "the output appears": output_appears,
    "the source changes": source_changes,
    "an image of the source changes": image_changes,
    "names collide": names_collide,
}
VIDEO = ("video", "one.mp4", "out.mp4", *FAST)
COLLISIONS = (
    (*VIDEO, "--report", "out.mp4"),
    (*VIDEO, "--json", "out.mp4"),
    (*VIDEO, "--report", "one.mp4"),
    (*VIDEO, "--report", "same.json", "--json", "same.json"),
    (*VIDEO, "--report", "./same.json", "--json", "two/../same.json"),
    ("restore", "photo.png", "new.png", "--report", "new.png"),
    ("restore", "photo.png", "linked.png"),
    ("restore", "photo.png", "linked.png", "--force"),
    ("probe", "photo.png", "--plot", "photo.png"),
    ("probe", "photo.png", "--plot", "linked.png"),
    ("probe", "two", "--plot", "two/000001.png"),
    ("probe", "two", "--plot", "two/new.png"),
    ("probe", "one.mp4", "--plot", "photo.png"),
    ("probe", "one.mp4", "--plot", "new.png", "--json", "new.png"),
    ("video", "two", "two/out.mp4", *FAST, "--report", "two/out.mp4"),
    ("video", "two", "out", *FAST, "--report", "out/000000.png"),
)


def _replace(path: Path, other: Path, random: Random) -> None:
    shutil.copyfile(other, path.with_name("other.mp4"))
    path.with_name("other.mp4").replace(path)


def _rewrite(path: Path, other: Path, random: Random) -> None:
    path.write_bytes(other.read_bytes())


def _truncate(path: Path, other: Path, random: Random) -> None:
    os.truncate(path, random.randrange(path.stat().st_size))


def _append(path: Path, other: Path, random: Random) -> None:
    with path.open("ab") as file:
        file.write(random.randbytes(5000))


def _delete(path: Path, other: Path, random: Random) -> None:
    path.unlink()


CHANGES: Mapping[str, Callable[[Path, Path, Random], None]] = {
    "replaced": _replace,
    "rewritten in place": _rewrite,
    "truncated": _truncate,
    "appended to": _append,
    "deleted": _delete,
}


def _outcome(kind: str, faults: list[str], description: str, ended: ProcessResult) -> Outcome:
    fault = next(filter(None, faults), "")
    return Outcome(
        kind=kind, fault=fault, description=description, seconds=ended.seconds, peak_mb=ended.peak_mb
    )


def _copy_source(baseline: Path, folder: Path, name: str) -> str:
    copy = shutil.copytree if (baseline / name).is_dir() else shutil.copy2
    copy(baseline / name, folder / name)
    return name


def _write_foreign(path: Path) -> None:
    if path.suffix:
        path.write_bytes(b"precious")
        return
    path.mkdir()
    (path / "notes.txt").write_text("precious")


def _unreported(ended: ProcessResult, *words: str) -> str:
    return "" if any(word in ended.log for word in words) else f"names no cause: {ended.log.strip()[-160:]}"


def _differs_from_reference(baseline: Path, folder: Path, source: str, output: str) -> str:
    reference = baseline / _reference(source, output)
    if not reference.exists():
        _run_reference(baseline, source, output)
    return difference(probe_output(reference), probe_output(folder / output))


def _run_reference(baseline: Path, source: str, output: str) -> ProcessResult:
    ended = run(("video", source, _reference(source, output), *FAST), folder=baseline)
    assert ended.code == 0, ended.log
    return ended


def _reference(source: str, output: str) -> str:
    return f"{source.replace('.', '_')}_{output}"


def _work(baseline: Path, source: str) -> float:
    return float((baseline / f"{source}.work").read_text())
