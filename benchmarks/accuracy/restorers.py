"""Restorers on degraded held-out photos: PSNR, SSIM, parameters, operations and time.

Run: python -m benchmarks.accuracy.restorers --runs runs/compare --out runs/restorers.json
Trained by: freezeframe train restorer PHOTOS runs/compare/ARCH --arch ARCH --steps 700 --batch-size 16
 --patch-size 64
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.tables import markdown_table
from benchmarks.timing import seconds_of
from freezeframe.data.metrics.image import psnr_srgb, ssim_srgb
from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.data.synthesis.degradations.compose import EVAL_STRENGTH, KINDS, Kind, degrade
from freezeframe.models.registry.bundled import REFINER, read_refiner
from freezeframe.models.store.state_dict import read_state
from freezeframe.pipeline.training.restorer_models import ARCHITECTURES
from freezeframe.pipeline.training.restorer_task import PSNR_CAP_DB, apply_network, load_center

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "test" / "photos"
SEED = 1000  # not the degradations of the validation during training
# Degradation and strength by name. The last two are those of clean camera files.
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
    parser.add_argument("--runs", type=Path, help="folder of trainings to compare with the bundled refiner")
    parser.add_argument("--side", type=int, default=256, help="side in pixels of the middle of each photo")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    photos = [load_center(picture, args.side) for picture in load_pictures(args.photos)]
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
    """Mean PSNR (dB) and SSIM over `photos` by case; None scores the degraded input.

    An identical picture has `PSNR_CAP_DB`.
    """
    results = {}
    for case, (kind, strength) in CASES.items():
        degraded = [degrade(photo, kind, seed=SEED + i, strength=strength) for i, photo in enumerate(photos)]
        restored_images = (
            degraded if network is None else [apply_network(network, picture) for picture in degraded]
        )
        pairs = [(_to_bytes(a), _to_bytes(b)) for a, b in zip(restored_images, photos, strict=True)]
        results[case] = (
            mean(min(PSNR_CAP_DB, psnr_srgb(*pair)) for pair in pairs),
            mean(ssim_srgb(*pair) for pair in pairs),
        )
    return results


def cost(network: nn.Module) -> dict[str, float]:
    """Million parameters, GMACs and seconds per megapixel (median of 3, bf16, on this machine)."""
    encoded = torch.rand(1, 3, 512, 512).to(memory_format=torch.channels_last)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(encoded)
    times = [seconds_of(lambda: apply_network(network, encoded[0])) for _ in range(4)]
    megapixels = encoded[0, 0].numel() / 1e6
    return {
        "parameters": sum(p.numel() for p in network.parameters()) / 1e6,
        "gmacs": counter.get_total_flops() / 2e9 / megapixels,
        "seconds": median(times[1:]) / megapixels,
    }


def quality_table(results: Mapping[str, Mapping[str, tuple[float, float]]]) -> str:
    rows = [[NAMES.get(case, case), *(_cell(*results[name][case]) for name in results)] for case in CASES]
    return markdown_table(["", *results], rows)


def _cell(psnr_db: float, ssim: float) -> str:
    return "identical" if psnr_db == PSNR_CAP_DB else f"{psnr_db:.2f} / {ssim:.3f}"


def cost_table(costs: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        [name, f"{each['parameters']:.2f}", f"{each['gmacs']:.0f}", f"{each['seconds']:.2f}"]
        for name, each in costs.items()
    ]
    header = ["", "parameters, million", "GMACs per megapixel", "seconds per megapixel"]
    return markdown_table(header, rows)


def _to_bytes(encoded: Tensor) -> SrgbImage:
    picture: SrgbImage = (encoded * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return picture


if __name__ == "__main__":
    main()
