"""JSON files beside a result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.files.publish import Claim


def save_json(target: Claim | None, body: Mapping[str, Any], *, main_output: Path | None = None) -> None:
    """Write `body` as JSON, atomically; None writes nothing. An error says that `main_output` is complete."""
    if target is None:
        return
    try:
        target.write((json.dumps(body, indent=2, default=str) + "\n").encode())
    except UnwritableOutput as error:
        note = f"; {main_output} itself is complete" if main_output else ""
        raise UnwritableOutput(f"{error}{note}") from error
