"""freezeframe removes motion blur from video clips and photo bursts.

>>> import freezeframe
>>> report = freezeframe.deblur_video("game.mp4", "sharp.mp4")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezeframe.data.errors import FreezeframeError, MissingExtra, UnreadableMedia, UnwritableOutput
from freezeframe.data.version import VERSION

if TYPE_CHECKING:
    from freezeframe.pipeline.api import deblur_burst, deblur_video, probe

__version__ = VERSION
__all__ = [
    "FreezeframeError",
    "MissingExtra",
    "UnreadableMedia",
    "UnwritableOutput",
    "deblur_burst",
    "deblur_video",
    "probe",
]


def __getattr__(name: str) -> Any:
    # torch takes a second to import; `freezeframe --help` does without it.
    if name in {"deblur_burst", "deblur_video", "probe"}:
        from freezeframe.pipeline import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # Public names before their first use too, without what this file imports.
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
