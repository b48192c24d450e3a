"""The public functions of the library. Every command of the command line can be called from Python."""

from __future__ import annotations

from freezeframe.pipeline.tasks.burst import BurstResult, deblur_burst
from freezeframe.pipeline.tasks.probe.run import probe
from freezeframe.pipeline.tasks.video import deblur_video

__all__ = ["BurstResult", "deblur_burst", "deblur_video", "probe"]
