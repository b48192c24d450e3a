"""Gain of a deconvolution along the blur field that is seen in one photograph.

The fields: one vector for the whole picture, by the PSF estimator; that of a turning camera, fitted to the
PSF estimator on small windows; that of the blur field network; and the better explained one of these two.
The deconvolution is the same.

Run: python -m benchmarks.accuracy.blur_field   (needs ../shared/data; three minutes)
Release: add --ship runs/blur_field/weights.safetensors --steps 4600 --hours 0.9
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import Tensor

from benchmarks.accuracy.gopro_patches import PATCHES
from benchmarks.accuracy.restorers import PHOTOS, SEED
from benchmarks.release.card import install_weights, parse_ship_arguments, write_card
from benchmarks.tables import markdown_table
from freezeframe.data.blur.blocks import BLOCK_SIZE
from freezeframe.data.color import SRGB, to_encoded
from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.clips.blurred_photo import BlurDistribution, BlurredPhoto, blurred_photo
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.data.synthesis.degradations.compose import EVAL_STRENGTH, Kind, degrade
from freezeframe.models.deblur.blur_field import BlurField, estimate_blur_field
from freezeframe.models.deblur.psf_estimator import PsfEstimator, cepstrum
from freezeframe.models.registry.bundled import BLUR_FIELD, read_blur_field_net, read_psf_estimator
from freezeframe.pipeline.solvers.field_deconvolution import deconvolve_along_field
from freezeframe.pipeline.solvers.photo_blur import estimate_photo_blur
from freezeframe.pipeline.solvers.photo_deblur import deblur_photo
from freezeframe.pipeline.training.blur_field_validation import BlurCase, camera_field
from freezeframe.pipeline.training.psf_task import most_likely_vector
from freezeframe.pipeline.training.restorer_task import bytes_to_float, capped_psnr, load_center

SIDE = 256  # pixels of a rendered or cropped photograph
CASES = 8  # rendered photographs of each kind
FLOORS_DB = {
    "GoPro patches": 1.8, "rotation": 4.0, "motion": 4.94, "shake": 2.5, "defocus": 4.9, "inside movers": 3.0
}  # fmt: skip
MOVERS = BlurDistribution(
    kinds={"mover": 1.0}, length=(5.0, 20.0), density=(1.2, 1.5), pattern_probability=0.0,
    highlight_probability=0.0, defocus_probability=0.0, mover_radius=(0.12, 0.3),
)  # fmt: skip

LENGTHS_PX = (5.0, 20.0)  # of the blur of a turning camera, everywhere

Method = Callable[[Tensor], Tensor]
"""A sharpened photograph of a blurred one, [3, H, W] encoded both."""

Gains = dict[str, dict[str, list[float]]]
"""Gains in dB of each photograph by kind and method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A blurred photograph and the sharp one, encoded, and where errors count."""

    blurred: Tensor  # [3, H, W]
    sharp: Tensor  # [3, H, W]
    weight: Tensor  # [H, W]


def main() -> None:
    args = parse_ship_arguments(__doc__)
    estimator, network = read_psf_estimator(), read_blur_field_net(args.ship or BLUR_FIELD)
    methods: dict[str, Method] = {
        "one vector": lambda photo: deconvolve_along_field(photo, even_field(estimator, photo)),
        "camera": lambda photo: deconvolve_along_field(photo, estimate_photo_blur(estimator, photo)),
        "network": lambda photo: deconvolve_along_field(photo, estimate_blur_field(network, photo)),
        "better": lambda photo: deblur_photo(network, estimator, photo).encoded,
    }
    gains = {
        name: {method: [gain(case, restore) for case in cases] for method, restore in methods.items()}
        for name, cases in all_cases()
    }
    print(table(gains))
    if args.ship:
        release(args.ship, gains, steps=args.steps, hours=args.hours)


def table(gains: Gains) -> str:
    methods = list(next(iter(gains.values())))
    rows = [
        [
            f"{name} ({len(row[methods[0]])})",
            *(f"{mean(each):+.2f} ({min(each):+.2f})" for each in row.values()),
            f"{FLOORS_DB.get(name, 0.0):+.2f}",
        ]
        for name, row in gains.items()
    ]
    return markdown_table(["gain in dB, mean (worst)", *methods, "floor"], rows)


def release(weights: Path, gains: Gains, *, steps: int, hours: float) -> None:
    """Copy weights into the package and write their card."""
    install_weights(weights, BLUR_FIELD)
    card = {
        "name": "freezeframe blur field network",
        "parameters": sum(p.numel() for p in read_blur_field_net(weights).parameters()),
        "format": "bf16 safetensors",
        "trained": f"{steps} steps, {hours:g} hours on one CPU core, see docs/model-cards/blur-field.md",
        "data": "photographs under CC0, Unsplash, Apache-2.0 and CC BY 4.0, Kodak's test photographs and "
        "drawn patterns, blurred by data/synthesis/clips/blurred_photo.py",
        "licence": "Apache-2.0",
        "gain of the deconvolution along its field, dB": {
            name: round(mean(row["network"]), 2) for name, row in gains.items()
        },
    }
    write_card(BLUR_FIELD, card)


def all_cases() -> Iterator[tuple[str, list[Case]]]:
    pictures = load_pictures(PHOTOS)
    yield "GoPro patches", list(gopro_cases())
    yield "rotation", list(rotation_cases(pictures))
    movers = list(rendered(pictures, MOVERS))
    yield "inside movers", [masked(photo, inside=True) for photo in movers]
    yield "outside movers", [masked(photo, inside=False) for photo in movers]
    kinds: tuple[Kind, ...] = ("motion", "shake", "defocus", "noise", "jpeg", "clean")
    for kind in kinds:
        yield kind, list(degraded_cases(pictures, kind))


def even_field(estimator: PsfEstimator, encoded: Tensor) -> BlurField:
    """The most probable blur vector of the whole picture, for all its blocks."""
    with torch.no_grad():
        y, x = most_likely_vector(estimator(cepstrum(encoded[None]))[0][0]).tolist()
    height, width = (-(-length // BLOCK_SIZE) for length in encoded.shape[1:])
    vectors = torch.tensor([x, y])[:, None, None].expand(2, height, width).contiguous()
    blurred = torch.full((height, width), float(x != 0 or y != 0))
    return BlurField(vectors=vectors, radius=0 * blurred, blurred=blurred, confidence=blurred)


def gain(case: Case, restore: Method) -> float:
    """Gain in dB of the PSNR where errors count; of an untouched photograph 0."""
    restored = (restore(case.blurred) * 255).round() / 255
    return weighted_psnr(restored, case) - weighted_psnr(case.blurred, case)


def weighted_psnr(encoded: Tensor, case: Case) -> float:
    # As a picture: `capped_psnr` caps what is exact.
    scale = (case.weight / case.weight.mean()).sqrt()
    return capped_psnr(encoded * scale, case.sharp * scale)


def gopro_cases() -> Iterator[Case]:
    for blurred, sharp in zip(load_pictures(PATCHES / "blur"), load_pictures(PATCHES / "sharp"), strict=True):
        picture = bytes_to_float(blurred)
        yield Case(blurred=picture, sharp=bytes_to_float(sharp), weight=torch.ones(picture.shape[1:]))


def rendered(pictures: Sequence[SrgbImage], distribution: BlurDistribution) -> Iterator[BlurredPhoto]:
    for number in range(CASES):
        rng = np.random.default_rng((SEED, number, 13))
        yield blurred_photo(rng, pictures, side=SIDE, distribution=distribution)


def rotation_cases(pictures: Sequence[SrgbImage]) -> Iterator[Case]:
    """Photographs blurred by 5 to 20 px by a camera that pans, rolls and zooms."""
    for number in range(CASES):
        rng = np.random.default_rng((SEED, number, 13))
        photo = load_center(pictures[number % len(pictures)], SIDE)
        while True:
            heading, pan = rng.uniform(0, 2 * math.pi), rng.uniform(7, 15)
            bend = rng.normal(0, 0.25 * pan, 2)
            parameters = (pan * math.cos(heading), pan * math.sin(heading), *bend, 0.0, 0.0)
            lengths = camera_field(parameters, photo.shape[1:]).norm(dim=0)
            if LENGTHS_PX[0] <= float(lengths.min()) and float(lengths.max()) <= LENGTHS_PX[1]:
                break
        case = BlurCase.of(photo, camera_field(parameters, photo.shape[1:]))
        yield Case(blurred=case.encoded, sharp=photo, weight=torch.ones(SIDE, SIDE))


def masked(photo: BlurredPhoto, *, inside: bool) -> Case:
    movers = photo.scene.swept_movers(0.0, shutter=1.0)
    weight = movers if inside else (movers == 0).float()
    return Case(blurred=recorded(photo.linear), sharp=recorded(photo.sharp), weight=weight)


def recorded(linear: Tensor) -> Tensor:
    return (to_encoded(linear.clamp(0, 1), SRGB) * 255).round() / 255


def degraded_cases(pictures: Sequence[SrgbImage], kind: Kind) -> Iterator[Case]:
    for i, picture in enumerate(pictures):
        photo = load_center(picture, SIDE)
        blurred = degrade(photo, kind, seed=SEED + i, strength=EVAL_STRENGTH)
        yield Case(blurred=blurred, sharp=photo, weight=torch.ones(SIDE, SIDE))


if __name__ == "__main__":
    main()
