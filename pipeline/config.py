"""Every knob: one frozen dataclass per stage, the default is what we recommend."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

Preset = Literal["auto", "sports", "handheld", "burst"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
BackendName = Literal["auto", "torch", "compile", "openvino"]


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must lie between {low:g} and {high:g}, not {value:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotConfig:
    """How the stream is cut."""

    context: int = 3  # frames of evidence on either side of a window
    memory_mb: int = 1200  # of light and motion held at once; sets how many frames a window keeps
    max_frames: int = 16  # frames that a window keeps at most

    def __post_init__(self) -> None:
        _check_range("context", self.context, 0, 16)
        _check_range("max_frames", self.max_frames, 1, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureConfig:
    """How motion is measured."""

    estimator: Literal["dis", "kornia"] = "dis"
    shutter: float | None = None  # exposure time over frame interval; None measures it
    survey_runs: int = 6  # places of the clip looked at to measure its shutter
    survey_length: int = 5  # consecutive frames looked at in each

    def __post_init__(self) -> None:
        if self.shutter is not None:
            _check_range("shutter", self.shutter, 0.01, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseConfig:
    """Multi-frame Richardson-Lucy along the measured motion."""

    radius: int = 2  # neighbours on either side: 1 looks at three frames, 2 at five
    iterations: int | None = None  # None: by noise level
    full_strength_px: float = 3.0  # pixels; blur shorter than this is undone in part only
    tv_weight: float = 0.004  # weight of the total-variation prior
    network: Path | Literal["bundled", "none"] = "bundled"  # weights that finish the deconvolved frame
    adapt: float = 0.0  # minutes for which the network learns from the clip itself

    def __post_init__(self) -> None:
        _check_range("radius", self.radius, 0, 3)
        _check_range("adapt", self.adapt, 0, 600)
        if self.iterations is not None:
            _check_range("iterations", self.iterations, 1, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplatConfig:
    """The static scene, rebuilt from its own blur (DeblurGS). Takes minutes where the rest takes seconds."""

    mode: Literal["off", "auto", "on"] = "off"  # where the gate says yes; auto: and a GPU is there
    steps: int | None = None  # of the optimiser; None: 800 for a turning camera, 3000 for a scene with depth
    budget: float = math.inf  # minutes per shot or window
    prior_weight: float = 0.0  # weight of the other path's picture in the fit
    readout: float = 0.0  # frame intervals by which the last row is exposed later than the first
    gaussians: int = 30_000  # of a scene with depth, at most
    trajectory: Literal["spline", "bezier"] = "spline"  # one for all frames, or DeblurGS's, free in each
    densify: Literal["mcmc", "gradient"] = "mcmc"  # how they come where they are needed

    def __post_init__(self) -> None:
        if self.steps is not None:
            _check_range("steps", self.steps, 1, 10**6)
        _check_range("readout", self.readout, 0, 1)
        _check_range("gaussians", self.gaussians, 100, 10**7)
        if not self.budget > 0:
            raise ValueError(f"budget must be more than 0 minutes, not {self.budget:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineConfig:
    """The single-image restorer, off unless a checkpoint is named."""

    checkpoint: Path | None = None
    tile: int = 512  # pixels, halved when memory runs out
    overlap: int = 32  # pixels over which neighbouring tiles are blended

    def __post_init__(self) -> None:
        _check_range("tile", self.tile, 64, 8192)
        _check_range("overlap", self.overlap, 0, self.tile // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """What may leave the pipeline."""

    # A frame passes untouched unless a small part of it, a player, is blurred far, or much of it a little.
    local_blur: float = 1 / 110  # of the frame's height
    area_fraction: float = 0.02  # of the frame's area that must be blurred so
    global_blur: float = 1 / 360  # of the frame's height
    global_area_fraction: float = 0.3  # of the frame's area that must be blurred so
    min_blur_px: float = 1.0  # pixels; shorter blur cannot be undone
    ramp_start: float = 0.8  # share of these thresholds from which a frame is sharpened in part
    drift: float = 0.02  # largest allowed shift of a frame's mean colour (gamma-coded)
    residual: float = 2.0  # re-blurred output against the input, over the re-blurred input's own error
    checkerboard: float = 8.0  # energy at the pixel grid's own frequency, over that of the input

    def __post_init__(self) -> None:
        for name in ("local_blur", "global_blur"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name):g}")
        if not 0 < self.min_blur_px < math.inf:
            raise ValueError(f"least must be more than 0 pixels, not {self.min_blur_px:g}")
        _check_range("area_fraction", self.area_fraction, 0, 1)
        _check_range("ramp_start", self.ramp_start, 0, 0.99)

    def scale_thresholds(self, scale: float) -> GateConfig:
        """The same with thresholds of blur `scale` times as high."""
        return replace(
            self,
            local_blur=self.local_blur * scale,
            global_blur=self.global_blur * scale,
            min_blur_px=self.min_blur_px * scale,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputConfig:
    """How the result is written."""

    codec: Literal["h264", "hevc", "av1", "prores", "ffv1"] | None = None  # None: as the source
    quality: float | None = None  # constant rate factor of the codec; None: visually lossless for it
    start: float | None = None  # seconds of the source
    end: float | None = None  # seconds of the source
    rate: Fraction | None = None  # frames per second of a folder of images; None: 24
    force: bool = False  # overwrite an existing output
    skip_damaged: bool = False  # repeat the neighbour of a damaged frame instead of stopping

    def __post_init__(self) -> None:
        for name in ("quality", "start", "end"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number from 0 up, not {value:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole pipeline."""

    shots: ShotConfig = field(default_factory=ShotConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    fuse: FuseConfig = field(default_factory=FuseConfig)
    splat: SplatConfig = field(default_factory=SplatConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    strength: float = 1.0  # 0 returns the input, 1 the full result
    device: str = "auto"  # auto, cpu, cuda, cuda:1 ...
    precision: Precision = "auto"
    backend: BackendName = "auto"  # library that runs the networks; auto: the fastest, timed once per machine
    budget: float | None = None  # minutes for the whole run; None: as long as it takes

    def __post_init__(self) -> None:
        _check_range("strength", self.strength, 0, 1)
        if self.budget is not None and not 0 < self.budget < math.inf:
            raise ValueError(f"budget must be more than 0 minutes, not {self.budget:g}")


def preset(name: Preset) -> Config:
    """A named starting point; `auto` is the default of every field."""
    base = Config()
    variants: dict[Preset, Config] = {
        "auto": base,
        # Fast players against a panning camera: close evidence is worth more than far.
        "sports": replace(base, fuse=replace(base.fuse, radius=1)),
        "handheld": replace(base, fuse=replace(base.fuse, radius=2)),
        "burst": base,
    }
    return variants[name]


Arch = Literal["dual", "hair", "nafnet", "refiner", "restormer", "swinir"]  # of a restorer to train
