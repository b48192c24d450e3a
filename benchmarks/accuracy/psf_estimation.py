"""Accuracy of the PSF estimator on single photographs, and gain of a Wiener filter with its estimate.

Run: python -m benchmarks.accuracy.psf_estimation   (held-out photographs; half a minute)
Release: add --ship runs/blur/weights.safetensors --steps 2500 --hours 0.25
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from benchmarks.accuracy.restorers import PHOTOS, SEED
from benchmarks.release.card import install_weights, parse_ship_arguments, write_card
from benchmarks.tables import markdown_table
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.data.synthesis.degradations.compose import EVAL_STRENGTH, KINDS, degrade
from freezeframe.models.deblur.psf_estimator import PsfEstimator, cepstrum
from freezeframe.models.deblur.wiener import NOISES, wiener_candidates
from freezeframe.models.registry.bundled import PSF_ESTIMATOR, read_psf_estimator
from freezeframe.pipeline.training.psf_task import estimator_accuracy
from freezeframe.pipeline.training.restorer_task import capped_psnr, load_center

SIDE = 256  # pixels


def main() -> None:
    args = parse_ship_arguments(__doc__)
    estimator = read_psf_estimator(args.ship or PSF_ESTIMATOR)
    photos = [load_center(picture, SIDE) for picture in load_pictures(PHOTOS)]
    accuracy = estimator_accuracy(estimator, photos)
    if args.ship:
        release(args.ship, estimator, accuracy, steps=args.steps, hours=args.hours)
    print(accuracy_table(accuracy), gain_table(estimator, photos), sep="\n\n")


def accuracy_table(accuracy: dict[str, float]) -> str:
    head = f"Within 1.5 px of the blur vector and 0.5 px of the radius, 32 of each, middle {SIDE} pixels:\n\n"
    return head + markdown_table(
        list(accuracy), [[f"{100 * fraction:.0f} %" for fraction in accuracy.values()]]
    )


def gain_table(estimator: PsfEstimator, photos: Sequence[Tensor]) -> str:
    """PSNR gain in dB of the Wiener filter for each assumed noise level."""
    rows = []
    for kind in KINDS:
        gains: list[list[float]] = [[] for _ in NOISES]
        for i, photo in enumerate(photos):
            degraded = degrade(photo, kind, seed=SEED + i, strength=EVAL_STRENGTH)
            with torch.no_grad():
                changes = wiener_candidates(degraded[None], *estimator(cepstrum(degraded[None])))[0].split(3)
            before = capped_psnr(degraded, photo)
            for gains_of_guess, change in zip(gains, changes, strict=True):
                gains_of_guess.append(
                    capped_psnr(((degraded + change).clamp(0, 1) * 255).round() / 255, photo) - before
                )
        rows.append([kind, *(f"{mean(each):+.2f}" for each in gains)])
    return markdown_table(["", *(f"noise {noise:g}" for noise in NOISES)], rows)


def release(
    weights: Path, estimator: PsfEstimator, accuracy: dict[str, float], *, steps: int, hours: float
) -> None:
    """Copy weights into the package and write their card."""
    install_weights(weights, PSF_ESTIMATOR)
    card = {
        "name": "freezeframe PSF estimator",
        "parameters": sum(p.numel() for p in estimator.parameters()),
        "format": "bf16 safetensors",
        "trained": f"{steps} steps, {hours:g} hours on one CPU core, see docs/model-cards/psf-estimator.md",
        "data": "patches of photographs under CC0, Unsplash, Apache-2.0 and CC BY 4.0, of Kodak's test "
        "photographs, and of synthetic patterns, blurred by data/synthesis/degradations/psf.py",
        "licence": "Apache-2.0",
        "accuracy, four held-out Kodak photographs": accuracy,
    }
    write_card(PSF_ESTIMATOR, card)


if __name__ == "__main__":
    main()
