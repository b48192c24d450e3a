"""Gain of the complete command on small fast movers in a sharp picture, and on motion to leave as it is.

Run: python -m benchmarks.movers [--case NAME ...] [--codec png crf18 crf23] [--seeds N] [--save DIR]
(needs ../shared/data)
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tables import markdown_table

from .runs import CODECS, Codec, run_command
from .scenes import CASES, mover_clip
from .score import ClipScore, mean, score_clip
from .strips import save_strips

HEADER = (
    *("case", "codec", "clips", "input inside, dB", "gain inside, dB", "worst clip", "worst frame"),
    *("gain outside, dB", "chroma error before", "after"),
    *("flicker inside before", "after", "detected frames", "pixels changed outside"),
    "s/frame",
)


def main() -> None:
    options = _parser().parse_args()
    print(markdown_table(HEADER, []), flush=True)
    for case in options.case:
        scores: dict[Codec, list[ClipScore]] = {codec: [] for codec in options.codec}
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for codec, score in run_seed(case, seed, options.codec, save=options.save).items():
                scores[codec].append(score)
        for codec, of_codec in scores.items():
            print(f"| {' | '.join(table_row(case, codec, of_codec))} |", flush=True)


def run_seed(
    case: str, seed: int, codecs: Sequence[Codec], *, save: Path | None = None
) -> dict[Codec, ClipScore]:
    """The scores of one clip under each codec; with `save`, its strips as well."""
    clip, scores = mover_clip(case, seed), {}
    for codec in codecs:
        with tempfile.TemporaryDirectory() as scratch:
            run = run_command(clip, Path(scratch), codec=codec)
        scores[codec] = score_clip(clip, run)
        if save is not None:
            save.mkdir(parents=True, exist_ok=True)
            save_strips(clip, run, save / f"{clip.name}_{codec}.png")
    return scores


def table_row(case: str, codec: Codec, clips: Sequence[ClipScore]) -> tuple[str, ...]:
    """Means over frames, then over clips."""
    frames = [frame for clip in clips for frame in clip.frames]
    detected = sum(frame.detected for frame in frames)
    return (
        *(case, codec, str(len(clips))),
        _number(mean([mean([f.inside[0] for f in clip.frames]) for clip in clips])),
        _number(mean([clip.gain for clip in clips]), "+.2f"),
        _number(min((c.gain for c in clips if not math.isnan(c.gain)), default=math.nan), "+.2f"),
        _number(min((c.worst_frame for c in clips if not math.isnan(c.gain)), default=math.nan), "+.2f"),
        _number(mean([f.outside[1] - f.outside[0] for f in frames]), "+.2f"),
        _number(mean([f.chroma[0] for f in frames])),
        _number(mean([f.chroma[1] for f in frames])),
        *(_number(mean([clip.flicker[k] for clip in clips]), ".3f") for k in range(2)),
        f"{detected}/{len(frames)}",
        str(sum(frame.changed_outside for frame in frames)),
        _number(sum(clip.seconds for clip in clips) / len(frames)),
    )


def _number(value: float, form: str = ".2f") -> str:
    return "" if math.isnan(value) else format(value, form)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--codec", nargs="+", choices=CODECS, default=["png"])
    parser.add_argument("--seeds", type=int, default=6, help="clips of each case")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="folder for strips of frames: before, after, truth")
    return parser


if __name__ == "__main__":
    main()
