"""How well the shutter is told from frames that a codec has been at: photographs in motion, five frames each.

Run: python -m benchmarks.shutter   (needs ../shared/data; about four minutes on one core)
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import mean, median

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.quality import decode, encode, read, write
from freezeframe.data.color import SRGB, to_light, to_signal
from freezeframe.motion.estimate import dis_pair
from freezeframe.motion.exposure import shutter_fraction
from freezeframe.pipeline.measure import USUAL_SHUTTER, VARIETY, adjacent_flows

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "train"
COUNT, SIZE, MARGIN = 8, (448, 288), 120  # photographs, pixels
SHUTTERS = (0.04, 0.2, 0.45, 0.7, 1.0)
RATES = {"as filmed": None, "H.264 crf 23": 23, "crf 28": 28, "crf 33": 33}
NOISE = 0.006  # codes
STEPS = 24  # moments of an exposure


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(5)
    errors: dict[str, list[float]] = {name: [] for name in RATES}
    sharp: dict[str, list[float]] = {name: [] for name in RATES}
    for path in sorted(PHOTOS.glob("*.webp"))[1::3][:COUNT]:
        for shutter in SHUTTERS:
            angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(4, 16)
            film = filmed(path, shutter, way=speed * np.array([np.cos(angle), np.sin(angle)]))
            for name, rate in RATES.items():
                found = told(film if rate is None else compressed(film, rate))
                (sharp if shutter < 0.1 else errors)[name].append(
                    found if shutter < 0.1 else abs(found - shutter)
                )
    print(
        f"| | median error, shutters {SHUTTERS[1]:g} to 1 | within 0.15 | what {SHUTTERS[0]:g} is taken for |"
    )
    print("|---|---|---|---|")
    for name in RATES:
        near = mean(error <= 0.15 for error in errors[name])
        print(f"| {name} | {median(errors[name]):.2f} | {100 * near:.0f} % | {mean(sharp[name]):.2f} |")


def filmed(path: Path, shutter: float, *, way: np.ndarray) -> Tensor:
    """[5, 3, H, W] sRGB codes of a photograph that moves by `way` pixels per frame, (x, y)."""
    photo = cv2.imread(str(path))[..., ::-1].astype(np.float32) / 255
    place = (
        cv2.resize(photo, (SIZE[0] + 2 * MARGIN, SIZE[1] + 2 * MARGIN), interpolation=cv2.INTER_AREA) ** 2.2
    )
    frames = []
    for t in range(-2, 3):
        moments = [t + shutter * ((k + 0.5) / STEPS - 0.5) for k in range(STEPS)]
        frames.append(np.mean([view(place, way * moment) for moment in moments], axis=0))
    light = torch.from_numpy(np.stack(frames).astype(np.float32)).permute(0, 3, 1, 2)
    codes = to_signal(light.clamp(0, 1).contiguous(), SRGB)
    random = torch.Generator().manual_seed(0)
    return (codes + NOISE * torch.randn(codes.shape, generator=random)).clamp(0, 1)


def view(place: np.ndarray, shift: np.ndarray) -> np.ndarray:
    matrix = np.array([[1, 0, shift[0] - MARGIN], [0, 1, shift[1] - MARGIN]])
    return np.asarray(cv2.warpAffine(place, matrix, SIZE, flags=cv2.INTER_LANCZOS4))


def compressed(codes: Tensor, rate: int) -> Tensor:
    """What a decoder shows of them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "frames"
        folder.mkdir()
        for i, frame in enumerate(codes):
            write(folder / f"{i:03d}.png", (frame * 255).round().byte().permute(1, 2, 0).contiguous().numpy())
        shown = decode(
            encode(folder, Path(scratch) / "a.mp4", crf=rate, pix_fmt="yuv420p"), Path(scratch) / "b"
        )
        return torch.stack(
            [
                torch.from_numpy(read(path)).permute(2, 0, 1).float() / 255
                for path in sorted(shown.glob("*.png"))
            ]
        )


def told(codes: Tensor) -> float:
    light = to_light(codes.clone(), SRGB)
    return shutter_fraction(light, adjacent_flows(light, dis_pair)).typical(USUAL_SHUTTER, VARIETY)


if __name__ == "__main__":
    main()
