"""Run campaigns: `python -m tests.campaigns.run [mutations ...] [--seed S] [--count N | --case N]`.

A case depends on the seed and its number alone, so that each can be repeated by itself.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Protocol, cast

from freezeframe.tests.campaigns.invariants import Outcome
from freezeframe.tests.campaigns.process import fork, preload, run
from freezeframe.tests.campaigns.seeds import write_clip
from freezeframe.tests.campaigns.table import Tally, format_page

CAMPAIGNS = ("mutations", "kills", "batches", "races", "limits")
SEED = 16


class Campaign(Protocol):
    """Cases by number, each from its own random numbers and a common baseline."""

    @property
    def CASES(self) -> int: ...  # noqa: N802

    def prepare(self, baseline: Path, /) -> None: ...

    def case(self, random: Random, baseline: Path, folder: Path, /) -> Outcome: ...


def main(words: Sequence[str] | None = None) -> int:
    args = _arguments(words)
    preload()
    tallies = [_campaign(name, campaign, args) for name, campaign in _selected(args)]
    if args.out:
        args.out.write_text(format_page(tallies, seed=args.seed))
    sys.stdout.write(format_page(tallies, seed=args.seed))
    return int(any(tally.faults for tally in tallies))


def _selected(args: argparse.Namespace) -> Iterator[tuple[str, Campaign]]:
    if args.folder:
        from freezeframe.tests.campaigns.folder_campaign import FolderCampaign

        yield args.folder.name, FolderCampaign(args.folder)
        return
    for name in args.names or CAMPAIGNS:
        yield name, cast("Campaign", importlib.import_module(f"{__package__}.{name}"))


def _campaign(name: str, campaign: Campaign, args: argparse.Namespace) -> Tally:
    end = args.first + args.count if args.count else campaign.CASES
    numbers = range(args.first, end) if args.case is None else [args.case]
    tally = Tally(name=name, start_time=time.monotonic())
    # Not a TemporaryDirectory: it would be removed at the end of every forked process too.
    folder = Path(tempfile.mkdtemp(prefix="campaign"))
    try:
        baseline = folder / "whole"
        baseline.mkdir()
        _compile(folder)
        campaign.prepare(baseline)
        for number, outcome in _cases(campaign, numbers, baseline, args):
            tally.add(number, outcome)
            _print_outcome(f"{name} {number}", args, outcome)
    finally:
        shutil.rmtree(folder)
    return tally.ended(time.monotonic())


def _compile(folder: Path) -> None:
    """Compile the kernels, which are cached on disk, before the first case."""
    fork(lambda: write_clip(folder / "in.mp4", frames=4), folder=folder).wait()
    run(("video", "in.mp4", "out.mkv", "--network", "none", "--min-blur", "0.5"), folder=folder)


def _cases(
    campaign: Campaign, numbers: Sequence[int], baseline: Path, args: argparse.Namespace
) -> Iterator[tuple[int, Outcome]]:
    for number in numbers:
        folder = baseline.parent / f"case{number}"
        folder.mkdir()
        yield number, campaign.case(Random(f"{args.seed} {number}"), baseline, folder)
        if args.keep:
            shutil.copytree(
                baseline.parent, args.keep, ignore=shutil.ignore_patterns("whole*"), dirs_exist_ok=True
            )
        for left in baseline.parent.glob(f"{folder.name}*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _print_outcome(case: str, args: argparse.Namespace, outcome: Outcome) -> None:
    if outcome.fault or args.verbose or args.case is not None:
        sys.stdout.write(f"{case}: {outcome.fault or 'passed'} [{outcome.kind}] {outcome.description}\n")
        sys.stdout.flush()


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.run", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CAMPAIGNS)}; all of them unless given")
    parser.add_argument("--folder", type=Path, help="instead: every file of this folder, once")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--count", type=int, help="cases of each campaign; default: all")
    parser.add_argument("--case", type=int, help="only this case, with its description")
    parser.add_argument("--keep", type=Path, help="copy the folder and log of each case here")
    parser.add_argument("--out", type=Path, help="write the tables here, as Markdown")
    parser.add_argument("--verbose", action="store_true", help="a line for every case")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
