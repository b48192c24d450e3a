"""Gain of a hand-held burst of eight photos with ground truth over the mean and over the sharpest photo.

Run: python -m benchmarks.accuracy.burst   (needs ../shared/data; about two minutes on two cores)
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from freezeframe.data.media.photo.files import read_photo
from freezeframe.data.metrics.image import psnr
from freezeframe.data.synthesis.degradations.sensor import add_poisson_gaussian_noise
from freezeframe.data.synthesis.demo.handheld import handheld_scene
from freezeframe.pipeline.solvers.fourier_burst import fuse_burst

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "test" / "photos"
BURST_LENGTH, SHAKE_PX, MARGIN_PX = 8, 8.0, 32


def gains(photo: Tensor, *, seed: int) -> tuple[float, float, float]:
    """Gain over the mean photo and over the sharpest, and the sharpest's PSNR, in dB."""
    scene = handheld_scene(photo, shake=SHAKE_PX, seed=seed, margin=MARGIN_PX)
    burst = [
        add_poisson_gaussian_noise(
            scene.blurred(float(k), shutter=1.0), shot=0.0, read=1.5 / 255, seed=seed + k
        )
        for k in range(BURST_LENGTH)
    ]
    truth = [scene.sharp(float(k)) for k in range(BURST_LENGTH)]
    before = [psnr(image, sharp) for image, sharp in zip(burst, truth, strict=True)]
    merged = fuse_burst(burst)
    after = psnr(merged.image, truth[merged.reference])
    return after - sum(before) / BURST_LENGTH, after - max(before), max(before)


def main() -> None:
    if not PHOTOS.is_dir():
        raise SystemExit("needs the photographs in ../shared/data/test/photos")
    print("| photo | sharpest | gain over the mean | gain over the sharpest |\n|---|---|---|---|")
    for seed, path in enumerate(sorted(PHOTOS.glob("*.png"))):
        over_mean, over_best, best = gains(read_photo(path).linear()[:, :448, :576], seed=seed)
        print(f"| {path.stem} | {best:.2f} dB | {over_mean:+.2f} dB | {over_best:+.2f} dB |", flush=True)


if __name__ == "__main__":
    main()
