"""Release a trained refiner: copy its weights into the package and write their card.

Run: python -m benchmarks.release.ship_refiner runs/refiner.safetensors \\
         --hours 4.5 --steps 25923 --steeper 3.5
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import save_file

from benchmarks.accuracy.restorers import NAMES, PHOTOS, scores
from benchmarks.release.card import write_card
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.models.registry.bundled import REFINER, read_refiner
from freezeframe.models.store.state_dict import read_state
from freezeframe.pipeline.training.restorer_task import PSNR_CAP_DB, bytes_to_float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--hours", type=float, required=True, help="of training on one CPU core")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--steeper", type=float, default=1.0, help="factor of the gate's slope, below 1")
    args = parser.parse_args()
    state = {name: value.float() for name, value in read_state(args.weights).items()}
    # The gate is lower for clean pictures than for others, but not always below 0.
    state["gate.weight"] *= args.steeper
    state["gate.bias"] = 1 + args.steeper * (state["gate.bias"] - 1)
    save_file({name: value.bfloat16() for name, value in state.items()}, REFINER)
    network = read_refiner()
    photos = [bytes_to_float(picture) for picture in load_pictures(PHOTOS)]
    before, after = scores(None, photos), scores(network, photos)
    card_values = {
        "name": "freezeframe refiner",
        "parameters": sum(p.numel() for p in network.parameters()),
        "format": "bf16 safetensors",
        "trained": f"{args.steps} steps, {args.hours:g} hours on one CPU core,"
        " see docs/model-cards/refiner.md",
        "data": "patches of photographs under CC0, Unsplash, Apache-2.0 and CC BY 4.0, of Kodak's test "
        "photographs, and of synthetic patterns, degraded by data/synthesis/degradations/compose.py",
        "licence": "Apache-2.0",
        "PSNR before and after in dB, four held-out Kodak photographs": {
            NAMES.get(case, case): [_card_value(before[case][0]), _card_value(after[case][0])]
            for case in before
        },
    }
    print(write_card(REFINER, card_values).read_text())


def _card_value(psnr_db: float) -> float | str:
    return "identical" if psnr_db == PSNR_CAP_DB else round(psnr_db, 2)


if __name__ == "__main__":
    main()
