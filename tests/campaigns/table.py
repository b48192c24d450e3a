"""Counts of outcomes as a Markdown page."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from freezeframe.tests.campaigns.invariants import Outcome

HEAD = """# Campaigns

Robustness of the commands on randomly corrupted inputs, generated from a seed. In every case: no source is
changed, no partial file stands under an output's name, no traceback is shown, no run hangs or exceeds its
memory limit, nothing but resume data remains, the verification passes or one sentence names the file and the
cure, and a second reader decodes the output.

    make campaign                                              # all of it, hours; writes this page
    python -m tests.campaigns.run mutations --seed {seed} --case 7   # one case again, in full
    python -m tests.campaigns.run --folder DIR                 # every file of a collection

"""


@dataclass(frozen=True, slots=True)
class Tally:
    """The outcomes of one campaign."""

    name: str
    start_time: float
    minutes: float = 0.0
    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)

    def add(self, number: int, outcome: Outcome) -> None:
        self.outcomes.append((number, outcome))

    def ended(self, now: float) -> Tally:
        return replace(self, minutes=(now - self.start_time) / 60)

    @property
    def faults(self) -> dict[str, list[int]]:
        """Numbers of the cases by the kind of violation."""
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for number, outcome in self.outcomes:
            if outcome.fault:
                numbers[normalize_fault(outcome.fault)].append(number)
        return dict(sorted(numbers.items(), key=lambda kind: -len(kind[1])))


def format_page(tallies: Sequence[Tally], *, seed: int) -> str:
    """All campaigns as Markdown."""
    rows = [_row(tally) for tally in tallies]
    parts = [
        HEAD.format(seed=seed),
        f"## Counts, seed {seed}\n",
        "| campaign | cases | passed | failed | minutes | longest, s | peak memory, MB |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        *[_outcomes(tally) for tally in tallies],
    ]
    return "\n".join(parts)


def normalize_fault(fault: str) -> str:
    """A fault without numbers and names, so that similar ones are counted together."""
    bare = re.sub(r"'[^']*'|\([^)]*\)", "...", fault) if not fault.startswith("traceback") else fault
    return (
        re.sub(r"\d+(\.\d+)?", "N", bare)[:160].replace("|", "/")
        if not fault.startswith("traceback")
        else bare[:160]
    )


def _row(tally: Tally) -> str:
    outcomes = [outcome for _, outcome in tally.outcomes]
    failed = sum(bool(outcome.fault) for outcome in outcomes)
    longest = max((outcome.seconds for outcome in outcomes), default=0.0)
    peak_mb = max((outcome.peak_mb for outcome in outcomes), default=0.0)
    cells = (
        tally.name,
        len(outcomes),
        len(outcomes) - failed,
        failed,
        f"{tally.minutes:.0f}",
        f"{longest:.0f}",
        f"{peak_mb:.0f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _outcomes(tally: Tally) -> str:
    kinds = Counter(outcome.kind for _, outcome in tally.outcomes)
    lines = [f"## {tally.name}\n", "| outcome | cases |", "|---|---|"]
    lines += [f"| {kind} | {count} |" for kind, count in kinds.most_common()]
    faults = [f"| {what} | {len(cases)} | {_first(cases)} |" for what, cases in tally.faults.items()]
    if faults:
        lines += ["", "| violation | cases | numbers |", "|---|---|---|", *faults]
    return "\n".join([*lines, ""])


def _first(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:6]))
    return shown + (", ..." if len(numbers) > 6 else "")
