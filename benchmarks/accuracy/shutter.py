"""Error of the shutter fraction estimated from compressed frames: photographs in motion, and real clips.

Run: python -m benchmarks.accuracy.shutter   (needs ../shared/data; about four minutes on one core)
Release: add --ship runs/shutter/weights.safetensors --steps 6500 --hours 0.6
"""

from __future__ import annotations

import tempfile
from itertools import product
from pathlib import Path
from statistics import mean, median

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.accuracy.quality import decode, encode, read, write
from benchmarks.release.card import install_weights, parse_ship_arguments, write_card
from benchmarks.tables import markdown_table
from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.models.registry.bundled import SHUTTER, read_shutter_net
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.motion.shutter.estimator import ShutterEstimate, estimate_shutter, pool_shutters
from freezeframe.pipeline.stages.flows import adjacent_flows
from freezeframe.pipeline.stages.survey import SURVEY_PARAMS

HELD_OUT = Path(__file__).resolve().parents[3] / "shared" / "data" / "test"
PHOTOS, REDS = HELD_OUT / "photos", HELD_OUT / "reds"
CLIP_LENGTH = 5  # frames
SIZE, MARGIN = (448, 288), 60  # pixels
SPEEDS = {"brisk": (4, 16), "slow": (2, 4)}  # pixels per frame interval
SHUTTERS = (0.04, 0.2, 0.45, 0.7, 1.0)
RATES = {"uncompressed": None, "H.264 crf 23": 23, "crf 28": 28, "crf 33": 33}
NOISE = 0.006  # standard deviation, encoded
REDS_RATES = {"PNG": None, "crf 4": 4, "crf 23": 23, "crf 28": 28, "crf 33": 33}
STEPS = 24  # time samples of an exposure


def main() -> None:
    args = parse_ship_arguments(__doc__)
    torch.set_num_threads(1)
    if args.ship:
        install_weights(args.ship, SHUTTER)
    rows = error_rows()
    print(table(rows), flush=True)
    folders = sorted(REDS.glob("*/*"))
    print(table({f"{each.parent.name}, {each.name}": estimate_sequences(each) for each in folders}))
    if args.ship:
        release(rows, steps=args.steps, hours=args.hours)


def table(rows: dict[str, dict[str, float]]) -> str:
    cells = [[name, *(f"{x:.2f}" for x in row.values())] for name, row in rows.items()]
    return markdown_table(["", *next(iter(rows.values()))], cells) + "\n"


def error_rows() -> dict[str, dict[str, float]]:
    """By compression: median and mean error for shutters of 0.2 to 1, and the estimate for the shortest."""
    rng = np.random.default_rng(5)
    errors: dict[tuple[str, str], list[float]] = {(name, speed): [] for name in RATES for speed in SPEEDS}
    sharp: dict[str, list[float]] = {name: [] for name in RATES}
    for path in sorted(PHOTOS.glob("*.png")):
        for speed_class, shutter in product(SPEEDS, SHUTTERS):
            angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(*SPEEDS[speed_class])
            film = record_pan(path, shutter, velocity=speed * np.array([np.cos(angle), np.sin(angle)]))
            for name, rate in RATES.items():
                estimate = estimate_fraction(film if rate is None else encode_decode(film, rate))
                if shutter < 0.1:
                    sharp[name].append(estimate)
                else:
                    errors[name, speed_class].append(abs(estimate - shutter))
    return {
        name: {
            **{f"{speed_class}, median error": median(errors[name, speed_class]) for speed_class in SPEEDS},
            **{f"{speed_class}, mean error": mean(errors[name, speed_class]) for speed_class in SPEEDS},
            f"estimate for {SHUTTERS[0]:g}": mean(sharp[name]),
        }
        for name in RATES
    }


def release(rows: dict[str, dict[str, float]], *, steps: int, hours: float) -> None:
    """Write the card of the weights."""
    card = {
        "name": "freezeframe shutter network",
        "parameters": sum(p.numel() for p in read_shutter_net().parameters()),
        "format": "bf16 safetensors",
        "trained": f"{steps} steps, {hours:g} hours on one CPU core, see docs/model-cards/shutter.md",
        "data": "cameras moving across photographs under CC0, Unsplash, Apache-2.0 and CC BY 4.0, Kodak's "
        "test photographs and synthetic patterns (data/synthesis/clips/pans.py)",
        "licence": "Apache-2.0",
        "error in frame intervals, four held-out Kodak photographs": {
            name: {key: round(value, 3) for key, value in row.items()} for name, row in rows.items()
        },
    }
    write_card(SHUTTER, card)


def record_pan(path: Path, shutter: float, *, velocity: np.ndarray) -> Tensor:
    """[5, 3, H, W] encoded frames of a photograph that moves by `velocity` (x, y) pixels per frame."""
    photo = cv2.imread(str(path))[..., ::-1].astype(np.float32) / 255
    canvas = (
        cv2.resize(photo, (SIZE[0] + 2 * MARGIN, SIZE[1] + 2 * MARGIN), interpolation=cv2.INTER_AREA) ** 2.2
    )
    frames = []
    for t in range(-2, 3):
        instants = [t + shutter * ((k + 0.5) / STEPS - 0.5) for k in range(STEPS)]
        frames.append(np.mean([view(canvas, velocity * instant) for instant in instants], axis=0))
    linear = torch.from_numpy(np.stack(frames).astype(np.float32)).permute(0, 3, 1, 2)
    encoded = to_encoded(linear.clamp(0, 1).contiguous(), SRGB)
    random = torch.Generator().manual_seed(0)
    return (encoded + NOISE * torch.randn(encoded.shape, generator=random)).clamp(0, 1)


def view(canvas: np.ndarray, offset: np.ndarray) -> np.ndarray:
    matrix = np.array([[1, 0, offset[0] - MARGIN], [0, 1, offset[1] - MARGIN]])
    return np.asarray(cv2.warpAffine(canvas, matrix, SIZE, flags=cv2.INTER_LANCZOS4))


def encode_decode(encoded: Tensor, rate: int) -> Tensor:
    """The frames after H.264 compression at this constant rate factor."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "frames"
        folder.mkdir()
        for i, frame in enumerate(encoded):
            write(folder / f"{i:03d}.png", (frame * 255).round().byte().permute(1, 2, 0).contiguous().numpy())
        decoded = decode(
            encode(folder, Path(scratch) / "a.mp4", crf=rate, pix_fmt="yuv420p"), Path(scratch) / "b"
        )
        return torch.stack(
            [
                torch.from_numpy(read(path)).permute(2, 0, 1).float() / 255
                for path in sorted(decoded.glob("*.png"))
            ]
        )


def estimate_fraction(encoded: Tensor) -> float:
    return estimate_clip(encoded).posterior_median(SURVEY_PARAMS.prior_mean, SURVEY_PARAMS.prior_std)


def estimate_sequences(folder: Path) -> dict[str, float]:
    """The shutter fraction of the frames in a folder, by compression, sampled as in the pipeline."""
    pictures = np.stack([read(path) for path in sorted(folder.glob("*.png"))])
    encoded = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    results = {}
    for name, rate in REDS_RATES.items():
        decoded = encoded if rate is None else encode_decode(encoded, rate)
        estimates = [
            estimate_clip(decoded[i : i + CLIP_LENGTH])
            for i in range(0, len(decoded) - CLIP_LENGTH + 1, CLIP_LENGTH)
        ]
        results[name] = pool_shutters(estimates).posterior_median(
            SURVEY_PARAMS.prior_mean, SURVEY_PARAMS.prior_std
        )
    return results


def estimate_clip(encoded: Tensor) -> ShutterEstimate:
    linear = to_linear(encoded, SRGB)
    return estimate_shutter(linear, adjacent_flows(linear, dis_pair))


if __name__ == "__main__":
    main()
