"""What is gained on single photos: 30 GoPro patches, no neighbours, no motion to measure.

Run: python -m benchmarks.accuracy.gopro_patches   (needs ../shared/data; a minute)
"""

from __future__ import annotations

from pathlib import Path

from freezeframe.data.datasets.single_images import photos
from freezeframe.data.metrics.image import srgb_codes
from freezeframe.data.metrics.temporal import light_of
from freezeframe.pipeline.adaptation.network import plain_network
from freezeframe.pipeline.bench.methods import INPUT, OURS, methods_for, read, write
from freezeframe.pipeline.bench.run import bench
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.stages.fusion_network import finish_photo

PATCHES = Path(__file__).resolve().parents[3] / "shared" / "data" / "test" / "gopro_patches"
FLOOR = 0.8  # dB
ALONE = "multi-frame network, given one frame"


def main() -> None:
    methods = methods_for(Config(), restorer=None)
    rows = {name: methods[name] for name in ("unsharp mask", OURS)} | {ALONE: alone}
    found = bench(photos(PATCHES / "blur", PATCHES / "sharp"), rows)
    print(found.text())
    gain = found.rows[OURS]["psnr"] - found.rows[INPUT]["psnr"]
    print(f"\nshipped refiner {gain:+.2f} dB over the input (floor {FLOOR:+.1f})")


def alone(source: Path, output: Path) -> None:
    """The network of the fuse stage without neighbours."""
    network = plain_network(Config())
    output.mkdir()
    for path in sorted(source.glob("*.png")):
        light = finish_photo(light_of(read(path)), network)
        write(output / path.name, srgb_codes(light))


if __name__ == "__main__":
    main()
