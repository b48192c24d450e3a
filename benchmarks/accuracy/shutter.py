"""How well the shutter is told from frames that a codec has been at: photographs in motion, and real clips.

Run: python -m benchmarks.accuracy.shutter   (needs ../shared/data; about four minutes on one core)
Ship: python -m benchmarks.accuracy.shutter --ship runs/shutter/weights.safetensors --steps 6500 --hours 0.6
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
from itertools import product
from pathlib import Path
from statistics import mean, median

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.accuracy.quality import decode, encode, read, write
from freezeframe.data.color import SRGB, to_light, to_signal
from freezeframe.models.registry.bundled import SHUTTER, read_shutter_sense
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.motion.shutter.estimator import ShutterEstimate, pool_shutters, shutter_fraction
from freezeframe.pipeline.stages.measure import USUAL_SHUTTER, VARIETY, adjacent_flows

HELD_OUT = Path(__file__).resolve().parents[3] / "shared" / "data" / "test"
PHOTOS, REDS = HELD_OUT / "photos", HELD_OUT / "reds"
GLIMPSE = 5  # frames
SIZE, MARGIN = (448, 288), 60  # pixels
SPEEDS = {"brisk": (4, 16), "slow": (2, 4)}  # pixels per frame interval
SHUTTERS = (0.04, 0.2, 0.45, 0.7, 1.0)
RATES = {"as filmed": None, "H.264 crf 23": 23, "crf 28": 28, "crf 33": 33}
NOISE = 0.006  # codes
REDS_RATES = {"PNG": None, "crf 4": 4, "crf 23": 23, "crf 28": 28, "crf 33": 33}
STEPS = 24  # moments of an exposure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ship", type=Path, help="weights to copy into the package")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--hours", type=float, default=0.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.ship and given.ship.resolve() != SHUTTER.resolve():
        shutil.copyfile(given.ship, SHUTTER)
    rows = measured()
    print(table(rows), flush=True)
    print(table({f"{take.parent.name}, {take.name}": told_real(take) for take in sorted(REDS.glob("*/*"))}))
    if given.ship:
        write_card(rows, steps=given.steps, hours=given.hours)


def table(rows: dict[str, dict[str, float]]) -> str:
    head = ["", *next(iter(rows.values()))]
    lines = [
        head,
        ["---"] * len(head),
        *([name, *(f"{x:.2f}" for x in row.values())] for name, row in rows.items()),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def measured() -> dict[str, dict[str, float]]:
    """By rate: median and mean error over shutters from 0.2 to 1, and what the shortest one is taken for."""
    rng = np.random.default_rng(5)
    errors: dict[tuple[str, str], list[float]] = {(name, speed): [] for name in RATES for speed in SPEEDS}
    sharp: dict[str, list[float]] = {name: [] for name in RATES}
    for path in sorted(PHOTOS.glob("*.png")):
        for pace, shutter in product(SPEEDS, SHUTTERS):
            angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(*SPEEDS[pace])
            film = filmed(path, shutter, way=speed * np.array([np.cos(angle), np.sin(angle)]))
            for name, rate in RATES.items():
                found = told(film if rate is None else compressed(film, rate))
                if shutter < 0.1:
                    sharp[name].append(found)
                else:
                    errors[name, pace].append(abs(found - shutter))
    return {
        name: {
            **{f"{pace}, median error": median(errors[name, pace]) for pace in SPEEDS},
            **{f"{pace}, mean error": mean(errors[name, pace]) for pace in SPEEDS},
            f"what {SHUTTERS[0]:g} is taken for": mean(sharp[name]),
        }
        for name in RATES
    }


def write_card(rows: dict[str, dict[str, float]], *, steps: int, hours: float) -> None:
    told = {
        "name": "freezeframe sense for shutters",
        "parameters": sum(p.numel() for p in read_shutter_sense().parameters()),
        "format": "bf16 safetensors",
        "trained": f"{steps} steps, {hours:g} hours on one CPU core, see docs/training.md",
        "data": "cameras moving across photographs under CC0, Unsplash, Apache-2.0 and CC BY 4.0, Kodak's "
        "test photographs and drawn patterns (data/synthesis/clips/pans.py)",
        "licence": "Apache-2.0",
        "error in frame intervals, four held-out Kodak photographs": {
            name: {key: round(value, 3) for key, value in row.items()} for name, row in rows.items()
        },
        "sha256": hashlib.sha256(SHUTTER.read_bytes()).hexdigest(),
    }
    SHUTTER.with_suffix(".json").write_text(json.dumps(told, indent=2) + "\n")


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
    return glimpsed(codes).typical(USUAL_SHUTTER, VARIETY)


def told_real(folder: Path) -> dict[str, float]:
    """The same of the pictures in a folder, by rate, glimpse by glimpse as the pipeline looks at a clip."""
    pictures = np.stack([read(path) for path in sorted(folder.glob("*.png"))])
    codes = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    found = {}
    for name, rate in REDS_RATES.items():
        shown = codes if rate is None else compressed(codes, rate)
        glimpses = [glimpsed(shown[i : i + GLIMPSE]) for i in range(0, len(shown) - GLIMPSE + 1, GLIMPSE)]
        found[name] = pool_shutters(glimpses).typical(USUAL_SHUTTER, VARIETY)
    return found


def glimpsed(codes: Tensor) -> ShutterEstimate:
    light = to_light(codes, SRGB)
    return shutter_fraction(light, adjacent_flows(light, dis_pair))


if __name__ == "__main__":
    main()
