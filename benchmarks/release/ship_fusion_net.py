"""Release trained weights of the fusion network: copy them into the package and write their card.

Run: python -m benchmarks.release.ship_fusion_net runs/a/weights.safetensors --hours 1.6 --clips 3000
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.release.card import install_weights, write_card
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.models.registry.bundled import WEIGHTS, read_network
from freezeframe.pipeline.training.fusion_data import ShardPool
from freezeframe.pipeline.training.fusion_validation import validators

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--hours", type=float, required=True, help="of training on one CPU core")
    parser.add_argument("--clips", type=int, required=True, help="rendered training clips")
    parser.add_argument("--shards", type=Path, default=Path("runs/pool"))
    args = parser.parse_args()
    network = read_network(args.weights)
    pool = ShardPool(folder=args.shards, pictures=load_pictures(DATA / "train"))
    gains = {
        name: round(gain, 2)
        for validator in validators(pool, DATA / "test" / "reds")
        for name, gain in validator(network).items()
    }
    card_values = {
        "name": "freezeframe fusion",
        "parameters": sum(p.numel() for p in network.parameters()),
        "format": "bf16 safetensors",
        "trained": f"{args.hours:g} hours on one CPU core, see docs/model-cards/fusion.md",
        "data": f"{args.clips} clips rendered by data/synthesis/clips from photographs under CC0, Unsplash, "
        "Apache-2.0 and CC BY 4.0, from Kodak's test photographs, and from synthetic patterns",
        "licence": "Apache-2.0",
        "PSNR gain over the blurred frame, dB": {
            "held-out rendered clips": gains["clips"],
            "held-out rendered photos": gains["photos"],
            "REDS, 20 frames, shutter 0.8": gains["real"],
        },
    }
    install_weights(args.weights, WEIGHTS)
    print(write_card(WEIGHTS, card_values).read_text())


if __name__ == "__main__":
    main()
