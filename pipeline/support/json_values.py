"""Values of JSON files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SCHEMA = 1  # version of the JSON files (docs/reference/schemas)


def to_json_values(value: Any) -> Any:
    """Convert nested values to those of JSON.

    Infinity and NaN, which JSON has no literals for, become null; paths and fractions become strings.
    """
    if isinstance(value, Mapping):
        return {str(name): to_json_values(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_values(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)
