"""The benchmark: every method on every frame of pairs with ground truth, under one protocol."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from freezeframe.data.datasets.paired import Comparison, FrameSequence, PairedDataset, folder_pair
from freezeframe.data.datasets.sequences import SetName, open_set
from freezeframe.data.datasets.single_images import photos as lone_photos
from freezeframe.data.errors import FreezeframeError, UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.publish import Claim, claim
from freezeframe.pipeline.support.json_report import save_json
from freezeframe.pipeline.support.media import versions
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .html_report import Crop, render_html, select_crops
from .markdown_table import render_table
from .methods import FREEZEFRAME, GROUND_TRUTH, INPUT, Method, measure_shutter, read, write
from .peak_memory import peak_memory_mb, reset_peak_memory
from .scoring import Metrics, mean_over_frames, mean_over_sequences, score_sequence

SCHEMA = 1  # version of the JSON file
PROTOCOL = (
    "8-bit RGB after rounding, read back from the files that each method wrote; float64; every frame, the"
    " first and the last too; mean per sequence, then over sequences; no alignment unless the set's authors"
    " align."
)
CROPS_PER_END = 6  # crops on the compare page of the smallest and of the largest gains


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Results of a benchmark."""

    name: str
    comparison: Comparison
    frames: int
    rows: Mapping[str, Metrics]  # by method
    sequences: Mapping[str, Mapping[str, Metrics]]  # by sequence and method
    per_frame: Mapping[str, Mapping[str, Sequence[Metrics]]]  # by sequence, method and frame
    crops: Sequence[Crop] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "schema": SCHEMA,
            "dataset": self.name,
            "comparison": self.comparison,
            "protocol": PROTOCOL,
            "frames": self.frames,
            "methods": dict(self.rows),
            "sequences": dict(self.sequences),
            "per_frame": dict(self.per_frame),
            "versions": versions(),
        }

    def text(self) -> str:
        """The table as Markdown."""
        return render_table(
            self.rows,
            title=f"{self.name}: {self.frames} frames in {len(self.sequences)} sequences",
            comparison=self.comparison,
        )

    def save(self, claims: Mapping[str, Claim]) -> None:
        """Write bench.json, bench.md and compare.html to the paths of `claim_results`."""
        save_json(claims["bench.json"], self.to_dict())
        claims["bench.md"].write((self.text() + "\n").encode())
        claims["compare.html"].write(render_html(self.name, self.text(), self.crops).encode())


def bench(
    pairs: PairedDataset, methods: Mapping[str, Method], *, progress: ProgressCallback = null_progress
) -> Benchmark:
    """Restore every sequence with every method, and score the files that it wrote.

    Args:
        pairs: Blurred frames with their ground truth.
        methods: The methods by name; input and ground truth are added.
        progress: Called with the frames restored or scored since the last call and their total.
    """
    total = pairs.frames * (len(methods) + 1)
    progress(0, total)
    per_frame: dict[str, Mapping[str, Sequence[Metrics]]] = {}
    sequences: dict[str, Mapping[str, Metrics]] = {}
    crops: list[Crop] = []
    for sequence in pairs.sequences:
        score = _bench_sequence(
            sequence, methods, comparison=pairs.comparison, on_frames=lambda count: progress(count, total)
        )
        per_frame[sequence.name], sequences[sequence.name] = score.per_frame, score.means
        crops = _extreme_crops([*crops, *score.crops])
    rows = {
        name: mean_over_sequences([sequence[name] for sequence in sequences.values()])
        for name in (INPUT, *methods, GROUND_TRUTH)
    }
    return Benchmark(
        name=pairs.name,
        comparison=pairs.comparison,
        frames=pairs.frames,
        rows=rows,
        sequences=sequences,
        per_frame=per_frame,
        crops=crops,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _SequenceScore:
    per_frame: Mapping[str, Sequence[Metrics]]  # by method and frame
    means: Mapping[str, Metrics]  # by method, with time and memory
    crops: Sequence[Crop]


def _bench_sequence(
    sequence: FrameSequence,
    methods: Mapping[str, Method],
    *,
    comparison: Comparison,
    on_frames: Callable[[int], None],
) -> _SequenceScore:
    with tempfile.TemporaryDirectory(prefix="freezeframe-bench-") as scratch:
        folder = Path(scratch)
        source = stage_frames(sequence, folder / "input")
        outputs, costs = _run_methods(
            source, methods, folder, on_method=partial(on_frames, len(sequence.blurred))
        )
        outputs |= {GROUND_TRUTH: [truths[len(truths) // 2] for truths in sequence.truths]}
        metrics = score_sequence(
            sequence, outputs, comparison=comparison,
            shutter=measure_shutter(source), on_frame=partial(on_frames, 1),
        )  # fmt: skip
        means = mean_over_frames(metrics, baseline=INPUT)
        scored = FREEZEFRAME if FREEZEFRAME in outputs else INPUT
        return _SequenceScore(
            per_frame=metrics,
            means={name: mean | costs.get(name, {}) for name, mean in means.items()},
            crops=select_crops(sequence, outputs, metrics, by=scored),
        )


def open_pairs(
    blurred: Path, truth: Path | None, *, name: SetName | None, split: str | None, photos: bool
) -> PairedDataset:
    """Open a published dataset, or two folders.

    Raises:
        FreezeframeError: No reference folder is given, or one beside a dataset.
    """
    if name is not None and truth is None:
        return open_set(blurred, name, split=split)
    if name is not None:
        raise FreezeframeError(f"{truth}: a dataset has its own truth; name either --set or two folders")
    if truth is None:
        raise FreezeframeError(
            f"{blurred}: no reference folder given; name the sharp frames after it, or use --set"
        )
    return lone_photos(blurred, truth) if photos else folder_pair(blurred, truth)


def stage_frames(sequence: FrameSequence, folder: Path) -> Path:
    """Write the blurred frames of a sequence as numbered PNG files into a new folder.

    Raises:
        UnreadableMedia: The ground truth has another size.
    """
    sizes = [read(path).shape[1::-1] for path in (sequence.blurred[0], sequence.truths[0][0])]
    if sizes[0] != sizes[1]:
        input_size, truth_size = ("x".join(map(str, size)) for size in sizes)
        raise UnreadableMedia(
            f"{sequence.truths[0][0]}: is {truth_size}, its blurred frame {input_size}; both must have one"
            " size"
        )
    folder.mkdir(parents=True)
    for number, path in enumerate(sequence.blurred):
        target = folder / f"{number:06d}.png"
        if path.suffix.lower() == ".png":
            shutil.copyfile(path, target)
        else:
            write(target, read(path))
    return folder


def claim_results(folder: Path, *, inputs: Iterable[Path] = (), force: bool) -> dict[str, Claim]:
    """Check before hours of work that the results can be written and replace nothing (without `force`)."""
    names = ("bench.json", "bench.md", "compare.html")
    if any((folder / name).exists() for name in names) and not force:
        raise UnwritableOutput(f"{folder}: holds a benchmark already; choose another --out or add --force")
    return {name: claim(folder / name, inputs=inputs, force=force, trial=True) for name in names}


def _run_methods(
    source: Path, methods: Mapping[str, Method], folder: Path, *, on_method: Callable[[], None]
) -> tuple[dict[str, Sequence[Path]], dict[str, Metrics]]:
    """The pictures of every method for the frames in `source`, and its time and memory."""
    inputs = sorted(source.iterdir())
    outputs: dict[str, Sequence[Path]] = {INPUT: inputs}
    costs: dict[str, Metrics] = {}
    for number, (name, method) in enumerate(methods.items()):
        output = folder / str(number)
        reset_peak_memory()
        start_time = time.perf_counter()
        method(source, output)
        costs[name] = {"seconds": (time.perf_counter() - start_time) / len(inputs)}
        peak = peak_memory_mb()
        costs[name] |= {} if peak is None else {"megabytes": peak}
        outputs[name] = [output / path.name for path in inputs]
        on_method()
    return outputs, costs


def _extreme_crops(crops: list[Crop]) -> list[Crop]:
    by_gain = sorted(crops, key=lambda crop: crop.gain)
    return (
        by_gain
        if len(by_gain) <= 2 * CROPS_PER_END
        else [*by_gain[:CROPS_PER_END], *by_gain[-CROPS_PER_END:]]
    )
