"""Gain on single photos: 30 GoPro patches, without neighbouring frames.

Run: python -m benchmarks.accuracy.gopro_patches   (needs ../shared/data; a minute)
"""

from __future__ import annotations

from pathlib import Path

from freezeframe.data.datasets.single_images import photos
from freezeframe.data.srgb import linear_to_srgb, srgb_to_linear
from freezeframe.pipeline.adaptation.network import load_plain_network
from freezeframe.pipeline.bench.methods import FREEZEFRAME, INPUT, methods_for, read, write
from freezeframe.pipeline.bench.run import bench
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.stages.fusion_network import run_fusion_network_on_photo

PATCHES = Path(__file__).resolve().parents[3] / "shared" / "data" / "test" / "gopro_patches"
MIN_GAIN_DB = 0.8  # dB
SINGLE_FRAME_NETWORK = "fusion network, single frame"


def main() -> None:
    methods = methods_for(Config(), restorer=None)
    rows = {name: methods[name] for name in ("unsharp_mask", FREEZEFRAME)} | {
        SINGLE_FRAME_NETWORK: single_frame_network
    }
    benchmark = bench(photos(PATCHES / "blur", PATCHES / "sharp"), rows)
    print(benchmark.text())
    gain = benchmark.rows[FREEZEFRAME]["psnr"] - benchmark.rows[INPUT]["psnr"]
    print(f"\nbundled refiner {gain:+.2f} dB over the input (floor {MIN_GAIN_DB:+.1f})")


def single_frame_network(source: Path, output: Path) -> None:
    """The fusion network without neighbouring frames."""
    network = load_plain_network(Config())
    output.mkdir()
    for path in sorted(source.glob("*.png")):
        linear = run_fusion_network_on_photo(srgb_to_linear(read(path)), network)
        write(output / path.name, linear_to_srgb(linear))


if __name__ == "__main__":
    main()
