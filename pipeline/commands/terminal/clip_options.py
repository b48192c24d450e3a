"""The options of `freezeframe video`; `batch` takes the same ones for each of its clips."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from freezeframe.pipeline.config import Config

from . import build_config as options
from .options import (
    Adapt,
    BackendOption,
    Budget,
    Codec,
    Device,
    End,
    Estimator,
    FrameRate,
    Iterations,
    MinBlur,
    NetworkOption,
    PrecisionOption,
    PresetOption,
    Quality,
    Radius,
    Restorer,
    Shutter,
    SkipDamaged,
    Splat,
    Start,
    Strength,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipOptions:
    """Options for sharpening one clip; None keeps the value of the preset."""

    strength: Strength = 1.0
    min_blur: MinBlur = None
    start: Start = None
    end: End = None
    fps: FrameRate = None
    budget: Budget = None
    codec: Codec = None
    quality: Quality = None
    preset: PresetOption = "auto"
    shutter: Shutter = None
    estimator: Estimator = "dis"
    radius: Radius = None
    iterations: Iterations = None
    network: NetworkOption = "bundled"
    adapt: Adapt = 0.0
    restorer: Restorer = None
    splat: Splat = "off"
    device: Device = "auto"
    precision: PrecisionOption = "auto"
    backend: BackendOption = "auto"
    skip_damaged: SkipDamaged = False

    def config(self, *, force: bool) -> Config:
        """These options as a Config."""
        return options.configure(
            self.preset,
            output={
                "codec": self.codec, "quality": self.quality, "start": self.start, "end": self.end,
                "rate": self.fps, "skip_damaged": self.skip_damaged, "force": force,
            },
            measure={"shutter": self.shutter, "estimator": self.estimator},
            fuse={"radius": self.radius, "iterations": self.iterations, "fine_tune_minutes": self.adapt,
                  "network": options.network(self.network)},
            splat={"mode": self.splat, "budget": self.budget},
            refine={"checkpoint": self.restorer},
            gate=options.blur_limit_fields(self.min_blur),
            strength=self.strength, device=self.device, precision=self.precision, backend=self.backend,
            budget=self.budget,
        )  # fmt: skip

    def to_arguments(self) -> list[str]:
        """These options as words of a command line."""
        values = asdict(self)
        if self.budget is not None:
            values["budget"] = f"{60 * self.budget:.3f}s"
        return options.to_command_line(**values)
