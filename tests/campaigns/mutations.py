"""Randomly corrupted files through every command: a verified result, or one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from freezeframe.tests.campaigns.invariants import (
    Contents,
    Outcome,
    decode_fault,
    file_fault,
    hint_fault,
    message_fault,
    rejection_kind,
    verification_fault,
)
from freezeframe.tests.campaigns.mutate import mutate_bytes
from freezeframe.tests.campaigns.process import fork, run
from freezeframe.tests.campaigns.seeds import PHOTOS, whole_files, write_folder

CASES = 1000
FAST = ("--network", "none", "--iterations", "2", "--min-blur", "0.5")


@dataclass(frozen=True, slots=True)
class Plan:
    """One command on one corrupted file."""

    arguments: tuple[str, ...]
    output: str  # empty if the command writes nothing
    names: tuple[str, ...]  # an error message must name one of them


def prepare(folder: Path) -> None:
    """Write the valid files, in a process of its own because the libraries start threads."""
    ended = fork(
        lambda: (whole_files(folder / "whole"), write_folder(folder / "frames")), folder=folder
    ).wait()
    assert not ended.code, ended.log


def case(random: Random, baseline: Path, folder: Path) -> Outcome:
    """Corrupt one file, run one command on it, and check the invariants."""
    files = sorted((baseline / "whole").iterdir())
    file = random.choice(files)
    content, mutations = mutate_bytes(
        file.read_bytes(), random, [other.read_bytes() for other in random.choices(files, k=2)]
    )
    source = folder / f"in{file.suffix}"
    source.write_bytes(content)
    photo = file.suffix.lower() in PHOTOS
    plans = _photo_plans(source, baseline, random) if photo else _video_plans(source, file.name, random)
    plan = random.choice(plans)()
    description = f"{file.name} ({mutations}): {' '.join(plan.arguments)}"
    return evaluate_command(plan, folder, description)


def evaluate_command(plan: Plan, folder: Path, description: str) -> Outcome:
    """Run the command and check the invariants."""
    before = Contents.of(folder)
    ended = run(plan.arguments, folder=folder)
    after = Contents.of(folder)
    new = [name for name in before.new_in(after) if not name.startswith(".")]
    allowed = (0, 1, 2) if plan.arguments[0] == "restore" and plan.output == "out" else (0, 2)
    done = ended.code in {0, 1}
    fault = (
        message_fault(ended, names=(*plan.names, plan.output or plan.names[0]), allowed=allowed)
        or hint_fault(ended.log, plan.arguments[0])
        or file_fault(
            before, after, written=[plan.output], done=done and bool(plan.output), output=plan.output
        )
        or verification_fault(ended.log)
        or decode_fault(folder, new)
    )
    kind = f"{plan.arguments[0]}: " + ("done" if done else f"refused ({rejection_kind(ended.log)})")
    return Outcome(
        kind=kind, fault=fault, description=description, seconds=ended.seconds, peak_mb=ended.peak_mb
    )


def _video_plans(source: Path, original: str, random: Random) -> list[Callable[[], Plan]]:
    name, suffix = source.name, random.choice((".mkv", ".mp4", ".mov"))
    fast = FAST if random.random() < 0.94 else ()
    skip = ("--skip-damaged",) if random.random() < 0.4 else ()
    if "__" in original:  # a real clip, with many frames
        skip = (*skip, "--end", "0.3")

    def video(output: str) -> Callable[[], Plan]:
        return lambda: Plan(("video", name, output, *fast, *skip), output, (name, output))

    def probe() -> Plan:
        return Plan(("probe", name), "", (name,))

    def restore() -> Plan:
        return Plan(("restore", name, f"out{suffix}"), f"out{suffix}", (name, f"out{suffix}"))

    return [*[video(f"out{suffix}")] * 13, *[video("out")] * 3, *[probe] * 3, restore]


def _photo_plans(source: Path, baseline: Path, random: Random) -> list[Callable[[], Plan]]:
    name, suffix = source.name, random.choice((".png", ".jpg", ".tif"))

    def restore() -> Plan:
        return Plan(("restore", name, f"out{suffix}"), f"out{suffix}", (name,))

    def restore_folder() -> Plan:
        _beside(source, baseline, "album", count=1)
        return Plan(("restore", "album", "out"), "out", (name, "album"))

    def probe() -> Plan:
        return Plan(("probe", name), "", (name,))

    def burst() -> Plan:
        names = _beside(source, baseline, "shots", count=2)
        return Plan(("burst", *names, "--out", f"out{suffix}"), f"out{suffix}", (name,))

    def video() -> Plan:
        _beside(source, baseline, "frames", count=4)
        return Plan(("video", "frames", "out", *FAST), "out", (name, "frames"))

    return [*[restore] * 3, restore_folder, *[probe] * 2, *[burst] * 2, *[video] * 2]


def _beside(source: Path, baseline: Path, folder_name: str, *, count: int) -> list[str]:
    """Put the corrupted picture among valid ones of the same size, in a folder of its own."""
    folder = source.parent / folder_name
    folder.mkdir()
    source.rename(folder / source.name)
    for number in range(count):
        shutil.copyfile(baseline / "frames" / f"{number:06d}.png", folder / f"{number:06d}.png")
    return [f"{folder_name}/{name}" for name in _order(folder)]


def _order(folder: Path) -> Iterator[str]:
    return iter(sorted(path.name for path in folder.iterdir()))
