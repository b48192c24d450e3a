"""Model cards of the bundled weights: JSON beside the weights, with the SHA-256 of their file."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path


def parse_ship_arguments(description: str | None) -> argparse.Namespace:
    """Options of a benchmark that can copy the weights which it measures into the package."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--ship", type=Path, help="weights to copy into the package")
    parser.add_argument("--steps", type=int, default=0, help="steps of their training, for the model card")
    parser.add_argument("--hours", type=float, default=0.0, help="hours of their training")
    return parser.parse_args()


def install_weights(source: Path, target: Path) -> None:
    """Copy weights into the package."""
    target.parent.mkdir(exist_ok=True)
    if source.resolve() != target.resolve():
        shutil.copyfile(source, target)


def write_card(weights: Path, fields: Mapping[str, object]) -> Path:
    """Write the card of `weights`; its path."""
    card = weights.with_suffix(".json")
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    card.write_text(json.dumps({**fields, "sha256": sha256}, indent=2) + "\n")
    return card
