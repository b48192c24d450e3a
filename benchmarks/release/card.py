"""Model cards of the bundled weights: JSON beside the weights, with the SHA-256 of their file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path


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
