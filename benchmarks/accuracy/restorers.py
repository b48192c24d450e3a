"""Restorers side by side on held-out photos made worse: PSNR, SSIM, parameters, work and time.

Run: python -m benchmarks.accuracy.restorers --runs runs/compare --out runs/restorers.json
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

from freezeframe.data.metrics.image import psnr_srgb, ssim_srgb
from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.data.synthesis.degradations.compose import EVAL_STRENGTH, KINDS, Kind, degrade
from freezeframe.models.registry.bundled import REFINER, read_refiner
from freezeframe.models.store.state_dict import read_state
from freezeframe.pipeline.training.restorer_models import ARCHITECTURES
from freezeframe.pipeline.training.restorer_task import (
    PSNR_CAP_DB,
    apply_network,
    bytes_to_float,
    center_crop,
)

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "test" / "photos"
SEED = 1000  # other noise, ways and weather than trials look at while they train
# What is judged, by name: a kind and its strength. The last two are as clean as a camera's files are.
CASES: dict[str, tuple[Kind, float]] = {
    **{kind: (kind, EVAL_STRENGTH) for kind in KINDS},
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
    args = parser.parse_args()
    photos = [center_crop(bytes_to_float(codes), args.side) for codes in load_pictures(args.photos)]
    networks = bundled() | load_trained(args.runs)
    results = {"input": scores(None, photos)} | {name: scores(net, photos) for name, net in networks.items()}
    costs = {name: cost(network) for name, network in networks.items()}
    print(quality_table(results), cost_table(costs), sep="\n\n")
    if args.out:
        args.out.write_text(json.dumps({"scores": results, "costs": costs}, indent=1) + "\n")


def bundled() -> dict[str, nn.Module]:
    return {"bundled": read_refiner()} if REFINER.is_file() else {}


def load_trained(folder: Path | None) -> dict[str, nn.Module]:
    """The networks of `folder`/ARCH/weights.safetensors, by architecture."""
    networks: dict[str, nn.Module] = {}
    for arch, build_network in ARCHITECTURES.items():
        weights = folder / arch / "weights.safetensors" if folder else Path()
        if weights.is_file():
            network = build_network().eval().requires_grad_(False)
            network.load_state_dict({key: value.float() for key, value in read_state(weights).items()})
            networks[arch] = network
    return networks


def scores(network: nn.Module | None, photos: Sequence[Tensor]) -> dict[str, tuple[float, float]]:
    """Mean PSNR (dB) and SSIM over `photos` by case; None passes the degraded picture on.

    What is identical counts `PSNR_CAP_DB` dB.
    """
    results = {}
    for case, (kind, strength) in CASES.items():
        degraded = [degrade(photo, kind, seed=SEED + i, strength=strength) for i, photo in enumerate(photos)]
        restored_images = (
            degraded if network is None else [apply_network(network, picture) for picture in degraded]
        )
        pairs = [(_bytes(a), _bytes(b)) for a, b in zip(restored_images, photos, strict=True)]
        results[case] = (
            mean(min(PSNR_CAP_DB, psnr_srgb(*pair)) for pair in pairs),
            mean(ssim_srgb(*pair) for pair in pairs),
        )
    return results


def cost(network: nn.Module) -> dict[str, float]:
    """Million parameters, GMACs and seconds per megapixel (median of 3, bf16, on this machine)."""
    codes = torch.rand(1, 3, 512, 512).to(memory_format=torch.channels_last)
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        network(codes)
    times = []
    for _ in range(4):
        start_time = time.perf_counter()
        apply_network(network, codes[0])
        times.append(time.perf_counter() - start_time)
    megapixels = codes[0, 0].numel() / 1e6
    return {
        "parameters": sum(p.numel() for p in network.parameters()) / 1e6,
        "gmacs": counted.get_total_flops() / 2e9 / megapixels,
        "seconds": median(times[1:]) / megapixels,
    }


def quality_table(results: Mapping[str, Mapping[str, tuple[float, float]]]) -> str:
    names = list(results)
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for case in CASES:
        cells = [_cell(*results[name][case]) for name in names]
        lines.append(f"| {NAMES.get(case, case)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(decibels: float, ssim: float) -> str:
    return "identical" if decibels == PSNR_CAP_DB else f"{decibels:.2f} / {ssim:.3f}"


def cost_table(costs: Mapping[str, Mapping[str, float]]) -> str:
    lines = ["| | parameters, million | GMACs per megapixel | seconds per megapixel |", "|---|---|---|---|"]
    for name, of in costs.items():
        lines.append(f"| {name} | {of['parameters']:.2f} | {of['gmacs']:.0f} | {of['seconds']:.2f} |")
    return "\n".join(lines)


def _bytes(codes: Tensor) -> SrgbImage:
    picture: SrgbImage = (codes * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return picture


if __name__ == "__main__":
    main()
