"""The library: what the command line can do, Python can do in six lines."""

from __future__ import annotations

from .tasks.burst import BurstResult, deblur_burst
from .tasks.probe.run import probe
from .tasks.video import deblur_video

__all__ = ["BurstResult", "deblur_burst", "deblur_video", "probe"]
