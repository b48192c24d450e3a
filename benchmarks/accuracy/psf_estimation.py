"""How often blur is read right from a single photograph, and what undoing it gains by itself.

Run: python -m benchmarks.accuracy.psf_estimation   (held-out photographs; half a minute)
Ship: add --ship runs/blur/weights.safetensors --steps 2500 --hours 0.25
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from benchmarks.accuracy.restorers import PHOTOS, SEED
from freezeframe.data.synthesis.clips.clips import pictures_in
from freezeframe.data.synthesis.degradations.compose import HALF, KINDS, degrade
from freezeframe.models.deblur.psf_estimator import BlurEstimator, cepstrum
from freezeframe.models.deblur.wiener import NOISES, undone
from freezeframe.models.registry.bundled import ESTIMATOR, read_estimator
from freezeframe.pipeline.training.psf_task import likelihoods
from freezeframe.pipeline.training.restorer_task import as_codes, decibels, middle

SIDE = 256  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ship", type=Path, help="weights to copy into the package")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--hours", type=float, default=0.0)
    given = parser.parse_args()
    estimator = read_estimator(given.ship or ESTIMATOR)
    photos = [middle(as_codes(codes), SIDE) for codes in pictures_in(PHOTOS)]
    right = likelihoods(estimator, photos)
    if given.ship:
        ship(given.ship, estimator, right, steps=given.steps, hours=given.hours)
    print(right_table(right), gain_table(estimator, photos), sep="\n\n")


def right_table(right: dict[str, float]) -> str:
    head = f"Right within 1.5 px of way and 0.5 px of radius, 32 of each on the middle {SIDE} pixels:\n\n"
    shares = " | ".join(f"{100 * share:.0f} %" for share in right.values())
    return f"{head}| {' | '.join(right)} |\n{'|---' * len(right)}|\n| {shares} |"


def gain_table(estimator: BlurEstimator, photos: Sequence[Tensor]) -> str:
    """Decibels that each guess of the noise gains, nothing after it."""
    lines = [
        "| | " + " | ".join(f"noise {noise:g}" for noise in NOISES) + " |",
        "|---" * (1 + len(NOISES)) + "|",
    ]
    for kind in KINDS:
        gains: list[list[float]] = [[] for _ in NOISES]
        for i, photo in enumerate(photos):
            worse = degrade(photo, kind, seed=SEED + i, strength=HALF)
            with torch.no_grad():
                changes = undone(worse[None], *estimator(cepstrum(worse[None])))[0].split(3)
            before = decibels(worse, photo)
            for gained, change in zip(gains, changes, strict=True):
                gained.append(decibels(((worse + change).clamp(0, 1) * 255).round() / 255, photo) - before)
        lines.append(f"| {kind} | " + " | ".join(f"{mean(each):+.2f}" for each in gains) + " |")
    return "\n".join(lines)


def ship(
    weights: Path, estimator: BlurEstimator, right: dict[str, float], *, steps: int, hours: float
) -> None:
    """Copy weights into the package and write their card."""
    if weights.resolve() != ESTIMATOR.resolve():
        shutil.copyfile(weights, ESTIMATOR)
    told = {
        "name": "freezeframe estimator of blur",
        "parameters": sum(p.numel() for p in estimator.parameters()),
        "format": "bf16 safetensors",
        "trained": f"{steps} steps, {hours:g} hours on one CPU core, see docs/restorers.md",
        "data": "patches of photographs under CC0, Unsplash, Apache-2.0 and CC BY 4.0, of Kodak's test "
        "photographs, and of drawn patterns, blurred by data/synthesis/degradations/psf.py",
        "licence": "Apache-2.0",
        "share told right, four held-out Kodak photographs": right,
        "sha256": hashlib.sha256(ESTIMATOR.read_bytes()).hexdigest(),
    }
    ESTIMATOR.with_suffix(".json").write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
