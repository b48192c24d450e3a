"""What the network gains on single photos: 30 GoPro patches, no neighbours, no motion to measure.

Run: python -m benchmarks.gopro_patches [--network FILE]   (needs ../shared/data; seconds)
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from freezeframe.data.sets_photos import photos
from freezeframe.models.shipped import WEIGHTS
from freezeframe.pipeline.bench import bench
from freezeframe.pipeline.bench_methods import INPUT, OURS, methods_for
from freezeframe.pipeline.config import Config

PATCHES = Path(__file__).resolve().parents[2] / "shared" / "data" / "test" / "gopro_patches"
FLOOR = 0.8  # dB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, default=WEIGHTS)
    given = parser.parse_args()
    config = replace(Config(), fuse=replace(Config().fuse, network=given.network))
    methods = methods_for(config, restorer=None)
    found = bench(
        photos(PATCHES / "blur", PATCHES / "sharp"), {name: methods[name] for name in ("unsharp mask", OURS)}
    )
    print(found.text())
    gain = found.rows[OURS]["psnr"] - found.rows[INPUT]["psnr"]
    print(f"\nnetwork {gain:+.2f} dB over the input (floor {FLOOR:+.1f})")


if __name__ == "__main__":
    main()
