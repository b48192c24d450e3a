"""Judge honestly: every method on every frame of pairs with known truth, under one protocol.

8-bit RGB after rounding, read back from the files that each method wrote; float64; every frame, the first and
the last too; mean per sequence, then over sequences; no alignment unless the set's authors align.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from freezeframe.data.datasets.paired import Pairs, Rule, Take, folder_pair
from freezeframe.data.datasets.sequences import SetName, open_set
from freezeframe.data.datasets.single_images import photos as lone_photos
from freezeframe.data.errors import FreezeframeError, UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.publish import Claim, claim
from freezeframe.pipeline.commands.build_config import save_json
from freezeframe.pipeline.support.media import versions
from freezeframe.pipeline.support.progress import Advance, quiet

from .html_report import Crop, cuts, page
from .markdown_table import table
from .methods import INPUT, OURS, TRUTH, Method, read, shutter_of, write
from .peak_memory import forget_peak, peak_megabytes
from .scoring import Figures, judge, over_frames, over_takes

SHOWN = 6  # frames on the compare page from either end: where we gain least and most


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What came out."""

    name: str
    rule: Rule
    frames: int
    rows: Mapping[str, Figures]  # by method
    takes: Mapping[str, Mapping[str, Figures]]  # by take, by method
    every: Mapping[str, Mapping[str, Sequence[Figures]]]  # by take, by method, by frame
    crops: Sequence[Crop] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "set": self.name,
            "comparison": self.rule,
            "protocol": " ".join((__doc__ or "").split()),
            "frames": self.frames,
            "methods": dict(self.rows),
            "sequences": dict(self.takes),
            "every frame": dict(self.every),
            "versions": versions(),
        }

    def text(self) -> str:
        """The table, in Markdown."""
        return table(
            self.rows,
            title=f"{self.name}: {self.frames} frames in {len(self.takes)} sequences",
            rule=self.rule,
        )

    def save(self, places: Mapping[str, Claim]) -> None:
        """Write bench.json, bench.md and compare.html where `claims_in` said that they can go."""
        save_json(places["bench.json"], self.to_dict())
        places["bench.md"].write((self.text() + "\n").encode())
        places["compare.html"].write(page(self.name, self.text(), self.crops).encode())


def bench(pairs: Pairs, methods: Mapping[str, Method], *, progress: Advance = quiet) -> Benchmark:
    """Let every method restore every take, and judge what it wrote.

    Args:
        pairs: Blurred frames with their truth.
        methods: By the name of their row; doing nothing and the truth itself are added.
        progress: Told of frames restored or judged, and how many there are.
    """
    total = pairs.frames * (len(methods) + 1)
    progress(0, total)
    every: dict[str, dict[str, list[Figures]]] = {}
    takes: dict[str, dict[str, Figures]] = {}
    crops: list[Crop] = []
    for take in pairs.takes:
        with tempfile.TemporaryDirectory(prefix="freezeframe-bench-") as scratch:
            place = Path(scratch)
            source = staged(take, place / "input")
            found, costs = _restored(source, methods, place, done=partial(progress, len(take.blurred), total))
            found |= {TRUTH: [truths[len(truths) // 2] for truths in take.truths]}
            figures = judge(
                take, found, rule=pairs.rule, shutter=shutter_of(source), tell=partial(progress, 1, total)
            )
            means = over_frames(figures, given=INPUT)
            crops = _notable([*crops, *cuts(take, found, figures, by=OURS if OURS in found else INPUT)])
        every[take.name] = figures
        takes[take.name] = {name: mean | costs.get(name, {}) for name, mean in means.items()}
    rows = {name: over_takes([take[name] for take in takes.values()]) for name in (INPUT, *methods, TRUTH)}
    return Benchmark(
        name=pairs.name,
        rule=pairs.rule,
        frames=pairs.frames,
        rows=rows,
        takes=takes,
        every=every,
        crops=crops,
    )


def pairs_of(
    blurred: Path, truth: Path | None, *, name: SetName | None, split: str | None, photos: bool
) -> Pairs:
    """What the user named: a published set, or two folders."""
    if name is not None and truth is None:
        return open_set(blurred, name, split=split)
    if name is not None:
        raise FreezeframeError(f"{truth}: a set brings its own truth; name either --set or two folders")
    if truth is None:
        raise FreezeframeError(
            f"{blurred}: no reference folder given; name the sharp frames after it, or use --set"
        )
    return lone_photos(blurred, truth) if photos else folder_pair(blurred, truth)


def staged(take: Take, folder: Path) -> Path:
    """The blurred frames of a take as numbered PNG in a new folder: what each method gets.

    Raises:
        UnreadableMedia: The truth is of another size.
    """
    sizes = [read(path).shape[1::-1] for path in (take.blurred[0], take.truths[0][0])]
    if sizes[0] != sizes[1]:
        given, true = ("x".join(map(str, size)) for size in sizes)
        raise UnreadableMedia(
            f"{take.truths[0][0]}: is {true}, its blurred frame {given}; give both in one size"
        )
    folder.mkdir(parents=True)
    for number, path in enumerate(take.blurred):
        target = folder / f"{number:06d}.png"
        if path.suffix.lower() == ".png":
            shutil.copyfile(path, target)
        else:
            write(target, read(path))
    return folder


def claims_in(folder: Path, *, inputs: Iterable[Path] = (), force: bool) -> dict[str, Claim]:
    """Learn before hours of work that results would replace others, or cannot be written."""
    names = ("bench.json", "bench.md", "compare.html")
    if any((folder / name).exists() for name in names) and not force:
        raise UnwritableOutput(f"{folder}: holds a benchmark already; choose another --out or add --force")
    return {name: claim(folder / name, inputs=inputs, force=force, trial=True) for name in names}


def _restored(
    source: Path, methods: Mapping[str, Method], place: Path, *, done: Callable[[], None]
) -> tuple[dict[str, Sequence[Path]], dict[str, Figures]]:
    """Every method's pictures of the frames in `source`, and what they cost."""
    given = sorted(source.iterdir())
    found: dict[str, Sequence[Path]] = {INPUT: given}
    costs: dict[str, Figures] = {}
    for number, (name, method) in enumerate(methods.items()):
        output = place / str(number)
        forget_peak()
        begun = time.perf_counter()
        method(source, output)
        costs[name] = {"seconds": (time.perf_counter() - begun) / len(given)}
        peak = peak_megabytes()
        costs[name] |= {} if peak is None else {"megabytes": peak}
        found[name] = [output / path.name for path in given]
        done()
    return found, costs


def _notable(crops: list[Crop]) -> list[Crop]:
    ordered = sorted(crops, key=lambda crop: crop.gain)
    return ordered if len(ordered) <= 2 * SHOWN else [*ordered[:SHOWN], *ordered[-SHOWN:]]
