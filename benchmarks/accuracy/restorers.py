"""Restorers side by side on held-out photos made worse: PSNR, SSIM, parameters, work and time.

Run: python -m benchmarks.accuracy.restorers --runs runs/compare --out docs/restorers.json
Trained as: freezeframe train restorer PHOTOS runs/compare/ARCH --arch ARCH --steps 300 --size 16 --patch 64
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from freezeframe.data.metrics.image import Codes, psnr_codes, ssim_codes
from freezeframe.data.synthesis.clips.clips import pictures_in
from freezeframe.data.synthesis.degradations.compose import HALF, KINDS, Kind, degrade
from freezeframe.models.registry.bundled import REFINER, read_refiner
from freezeframe.models.store.state_dict import read_state
from freezeframe.pipeline.training.restorer_models import ARCHITECTURES
from freezeframe.pipeline.training.restorer_task import CEILING, as_codes, middle, restored

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "test" / "photos"
SEED = 1000  # other noise, ways and weather than trials look at while they train
# What is judged, by name: a kind and its strength. The last two are as clean as a camera's files are.
CASES: dict[str, tuple[Kind, float]] = {
    **{kind: (kind, HALF) for kind in KINDS},
    "JPEG 95": ("jpeg", 0.016),
    "noise 1": ("noise", 0.02),
}
NAMES = {
    "noise": "noise, sigma 25",
    "jpeg": "JPEG, quality 20",
    "motion": "motion, 9 px",
    "dark": "low light",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=PHOTOS)
    parser.add_argument("--runs", type=Path, help="folder of trainings to judge beside the shipped one")
    parser.add_argument("--side", type=int, default=256, help="pixels of the middle of each photo")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    photos = [middle(as_codes(codes), given.side) for codes in pictures_in(given.photos)]
    networks = shipped() | trained(given.runs)
    found = {"input": scores(None, photos)} | {name: scores(net, photos) for name, net in networks.items()}
    costs = {name: cost(network) for name, network in networks.items()}
    print(quality_table(found), cost_table(costs), sep="\n\n")
    if given.out:
        given.out.write_text(json.dumps({"scores": found, "costs": costs}, indent=1) + "\n")


def shipped() -> dict[str, nn.Module]:
    return {"shipped": read_refiner()} if REFINER.is_file() else {}


def trained(folder: Path | None) -> dict[str, nn.Module]:
    """The networks of `folder`/ARCH/weights.safetensors, by architecture."""
    found: dict[str, nn.Module] = {}
    for arch, made in ARCHITECTURES.items():
        weights = folder / arch / "weights.safetensors" if folder else Path()
        if weights.is_file():
            network = made().eval().requires_grad_(False)
            network.load_state_dict({key: value.float() for key, value in read_state(weights).items()})
            found[arch] = network
    return found


def scores(network: nn.Module | None, photos: Sequence[Tensor]) -> dict[str, tuple[float, float]]:
    """Mean PSNR (dB) and SSIM over `photos` by case; None passes the degraded picture on.

    What is identical counts `CEILING` dB.
    """
    found = {}
    for case, (kind, strength) in CASES.items():
        worse = [degrade(photo, kind, seed=SEED + i, strength=strength) for i, photo in enumerate(photos)]
        better = worse if network is None else [restored(network, picture) for picture in worse]
        pairs = [(_bytes(a), _bytes(b)) for a, b in zip(better, photos, strict=True)]
        found[case] = (
            mean(min(CEILING, psnr_codes(*pair)) for pair in pairs),
            mean(ssim_codes(*pair) for pair in pairs),
        )
    return found


def cost(network: nn.Module) -> dict[str, float]:
    """Million parameters, GMACs and seconds per megapixel (median of 3, bf16, on this machine)."""
    codes = torch.rand(1, 3, 512, 512).to(memory_format=torch.channels_last)
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        network(codes)
    times = []
    for _ in range(4):
        begun = time.perf_counter()
        restored(network, codes[0])
        times.append(time.perf_counter() - begun)
    share = codes[0, 0].numel() / 1e6
    return {
        "parameters": sum(p.numel() for p in network.parameters()) / 1e6,
        "gmacs": counted.get_total_flops() / 2e9 / share,
        "seconds": median(times[1:]) / share,
    }


def quality_table(found: Mapping[str, Mapping[str, tuple[float, float]]]) -> str:
    names = list(found)
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for case in CASES:
        cells = [_cell(*found[name][case]) for name in names]
        lines.append(f"| {NAMES.get(case, case)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(decibels: float, likeness: float) -> str:
    return "identical" if decibels == CEILING else f"{decibels:.2f} / {likeness:.3f}"


def cost_table(costs: Mapping[str, Mapping[str, float]]) -> str:
    lines = ["| | parameters, million | GMACs per megapixel | seconds per megapixel |", "|---|---|---|---|"]
    for name, of in costs.items():
        lines.append(f"| {name} | {of['parameters']:.2f} | {of['gmacs']:.0f} | {of['seconds']:.2f} |")
    return "\n".join(lines)


def _bytes(codes: Tensor) -> Codes:
    picture: Codes = (codes * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return picture


if __name__ == "__main__":
    main()
