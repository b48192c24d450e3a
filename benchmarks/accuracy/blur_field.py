"""Gain of a deconvolution along the blur field that is seen in one photograph.

Three fields: one vector for the whole picture, by the PSF estimator; that of a turning camera, fitted to the
PSF estimator on small windows; and that of the blur field network, if its weights are given. The
deconvolution is the same.

Run: python -m benchmarks.accuracy.blur_field [--weights FILE]   (needs ../shared/data; three minutes)
"""

from __future__ import annotations

import argparse
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
from benchmarks.tables import markdown_table
from freezeframe.data.blur.blocks import BLOCK_SIZE
from freezeframe.data.color import SRGB, to_encoded
from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.clips.blurred_photo import BlurDistribution, BlurredPhoto, blurred_photo
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.data.synthesis.degradations.compose import EVAL_STRENGTH, Kind, degrade
from freezeframe.models.deblur.blur_field import BlurField, estimate_blur_field
from freezeframe.models.deblur.blur_field_net import BlurFieldNet
from freezeframe.models.deblur.psf_estimator import PsfEstimator, cepstrum
from freezeframe.models.registry.bundled import read_psf_estimator
from freezeframe.models.store.state_dict import read_state
from freezeframe.pipeline.solvers.field_deconvolution import deconvolve_along_field
from freezeframe.pipeline.solvers.photo_blur import estimate_photo_blur
from freezeframe.pipeline.training.blur_field_validation import BlurCase, camera_field
from freezeframe.pipeline.training.psf_task import most_likely_vector
from freezeframe.pipeline.training.restorer_task import bytes_to_float, capped_psnr, load_center

SIDE = 256  # pixels of a rendered or cropped photograph
CASES = 8  # rendered photographs of each kind
FLOORS_DB = {"GoPro patches": 1.8, "rotation": 4.0, "motion": 4.94, "shake": 1.13, "inside movers": 3.0}
MOVERS = BlurDistribution(
    kinds={"mover": 1.0}, length=(5.0, 20.0), density=(1.2, 1.5), pattern_probability=0.0,
    highlight_probability=0.0, defocus_probability=0.0, mover_radius=(0.12, 0.3),
)  # fmt: skip

LENGTHS_PX = (5.0, 20.0)  # of the blur of a turning camera, everywhere

Method = Callable[[Tensor], BlurField]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A blurred photograph and the sharp one, encoded, and where errors count."""

    blurred: Tensor  # [3, H, W]
    sharp: Tensor  # [3, H, W]
    weight: Tensor  # [H, W]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="weights of the blur field network")
    args = parser.parse_args()
    estimator = read_psf_estimator()
    methods: dict[str, Method] = {
        "one vector": lambda encoded: even_field(estimator, encoded),
        "camera": lambda encoded: estimate_photo_blur(estimator, encoded),
    }
    if args.weights:
        network = read_blur_field_net(args.weights)
        methods["network"] = lambda encoded: estimate_blur_field(network, encoded)
    rows = []
    for name, cases in all_cases():
        gains = {method: [gain(case, field_of) for case in cases] for method, field_of in methods.items()}
        cells = [f"{mean(each):+.2f} ({min(each):+.2f})" for each in gains.values()]
        rows.append([name, str(len(cases)), *cells, f"{FLOORS_DB.get(name, 0.0):+.2f}"])
    print(markdown_table(["gain in dB, mean (worst)", "photos", *methods, "floor"], rows))


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


def read_blur_field_net(path: Path) -> BlurFieldNet:
    network = BlurFieldNet()
    network.load_state_dict({name: value.float() for name, value in read_state(path).items()})
    return network.eval()


def gain(case: Case, field_of: Method) -> float:
    """Gain in dB of the PSNR where errors count; of an untouched photograph 0."""
    restored = (deconvolve_along_field(case.blurred, field_of(case.blurred)) * 255).round() / 255
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
