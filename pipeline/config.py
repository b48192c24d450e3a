"""Settings of the pipeline: one frozen dataclass per stage; every default is the recommended value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

Preset = Literal["auto", "sports"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
BackendName = Literal["auto", "torch", "compile", "openvino"]


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must lie between {low:g} and {high:g}, not {value:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotConfig:
    """Division of the stream into windows."""

    context: int = 3  # frames that a window only reads, on either side
    memory_mb: int = 1200  # megabytes of images and motion held at once; limits the frames of a window
    max_frames: int = 16  # largest number of frames that a window writes

    def __post_init__(self) -> None:
        _check_range("context", self.context, 0, 16)
        _check_range("max_frames", self.max_frames, 1, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureConfig:
    """Estimation of motion and shutter."""

    estimator: Literal["dis", "kornia"] = "dis"  # optical flow: OpenCV's DIS, or variational
    shutter: float | None = None  # exposure time over frame interval, [0.01, 1]; None: estimated
    survey_runs: int = 6  # short runs of frames, spread over the clip, for the shutter estimate
    survey_length: int = 5  # consecutive frames in each run

    def __post_init__(self) -> None:
        if self.shutter is not None:
            _check_range("shutter", self.shutter, 0.01, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseConfig:
    """Multi-frame Richardson-Lucy along the measured motion, then the fusion network."""

    radius: int = 2  # neighbours on either side: 1 reads three frames, 2 reads five
    iterations: int | None = None  # of Richardson-Lucy; None: from blur length and noise
    full_strength_px: float = 3.0  # pixels; shorter blur is corrected in part only
    tv_weight: float = 0.004  # weight of the total-variation prior
    network: Path | Literal["bundled", "none"] = "bundled"  # weights of the fusion network
    fine_tune_minutes: float = 0.0  # minutes of test-time fine-tuning of the network on the clip; 0: none

    def __post_init__(self) -> None:
        _check_range("radius", self.radius, 0, 3)
        _check_range("fine_tune_minutes", self.fine_tune_minutes, 0, 600)
        if self.iterations is not None:
            _check_range("iterations", self.iterations, 1, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplatConfig:
    """Reconstruction of a static scene from its blurred frames (DeblurGS): minutes per shot."""

    mode: Literal["off", "auto", "on"] = "off"  # on: where the scene is feasible; auto: only with a GPU
    steps: int | None = None  # of the optimiser; None: 800 for a rotating camera, 3000 for a scene with depth
    budget: float = math.inf  # minutes per shot or window; infinite: no limit
    prior_weight: float = 0.0  # weight of the deblurred frames in the fit
    readout: float = 0.0  # frame intervals between the exposures of the first and the last row
    gaussians: int = 30_000  # largest number of Gaussians of a scene with depth
    trajectory: Literal["spline", "bezier"] = "spline"  # one spline, or a Bézier curve per frame
    densify: Literal["mcmc", "gradient"] = "mcmc"  # strategy that adds Gaussians

    def __post_init__(self) -> None:
        if self.steps is not None:
            _check_range("steps", self.steps, 1, 10**6)
        _check_range("readout", self.readout, 0, 1)
        _check_range("gaussians", self.gaussians, 100, 10**7)
        if not self.budget > 0:
            raise ValueError(f"budget must be more than 0 minutes, not {self.budget:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineConfig:
    """Single-image restorer after the fusion; off without a checkpoint."""

    checkpoint: Path | None = None  # file, or name of an installed restorer
    tile: int = 512  # pixels; halved when memory runs out
    overlap: int = 32  # pixels over which neighbouring tiles are blended

    def __post_init__(self) -> None:
        _check_range("tile", self.tile, 64, 8192)
        _check_range("overlap", self.overlap, 0, self.tile // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """Thresholds of blur from which a frame is processed, and limits that its correction must keep."""

    # A frame is processed if a small part of it (a player) has long blur, or much of it short blur.
    local_blur: float = 1 / 110  # threshold in a small part of the frame, fraction of its height
    global_blur: float = 1 / 360  # threshold in much of the frame, fraction of its height
    min_blur_px: float = 1.0  # pixels; lower bound of both thresholds: shorter blur cannot be corrected
    ramp_start: float = 0.8  # fraction of a threshold from which a frame gets a part of its correction
    drift: float = 0.02  # largest shift of a frame's mean colour, gamma-coded
    residual: float = 2.0  # largest error of the re-blurred result, over the error of the re-blurred input
    checkerboard: float = 8.0  # largest energy at the Nyquist frequency, over that of the input

    def __post_init__(self) -> None:
        for name in ("local_blur", "global_blur"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name):g}")
        if not 0 < self.min_blur_px < math.inf:
            raise ValueError(f"min_blur_px must be more than 0 pixels, not {self.min_blur_px:g}")
        _check_range("ramp_start", self.ramp_start, 0, 0.99)

    def scale_thresholds(self, scale: float) -> GateConfig:
        """Multiply the three blur thresholds by `scale`."""
        return replace(
            self,
            local_blur=self.local_blur * scale,
            global_blur=self.global_blur * scale,
            min_blur_px=self.min_blur_px * scale,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputConfig:
    """Encoding of the result."""

    codec: Literal["h264", "hevc", "av1", "prores", "ffv1"] | None = None  # None: that of the source
    quality: float | None = None  # constant rate factor of the codec; None: visually lossless
    start: float | None = None  # seconds; first frame of the source to process
    end: float | None = None  # seconds; the first frame after the part to process
    rate: Fraction | None = None  # frames per second of a folder of images; None: 24
    force: bool = False  # replace an existing output
    skip_damaged: bool = False  # replace a damaged frame by its neighbour instead of stopping

    def __post_init__(self) -> None:
        for name in ("quality", "start", "end"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number from 0 up, not {value:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of a whole run."""

    shots: ShotConfig = field(default_factory=ShotConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    fuse: FuseConfig = field(default_factory=FuseConfig)
    splat: SplatConfig = field(default_factory=SplatConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    strength: float = 1.0  # fraction of the correction that is applied: 0 returns the input
    device: str = "auto"  # auto, cpu, cuda, cuda:1 ...
    precision: Precision = "auto"  # number format of the networks
    backend: BackendName = "auto"  # library that runs the networks; auto: the fastest, timed once per machine
    budget: float | None = None  # minutes for the whole run; None: no limit

    def __post_init__(self) -> None:
        _check_range("strength", self.strength, 0, 1)
        if self.budget is not None and not 0 < self.budget < math.inf:
            raise ValueError(f"budget must be more than 0 minutes, not {self.budget:g}")


def preset(name: Preset) -> Config:
    """Configuration by name: `auto` is the default of every field."""
    base = Config()
    variants: dict[Preset, Config] = {
        "auto": base,
        # Fast players against a panning camera: distant frames are poor observations.
        "sports": replace(base, fuse=replace(base.fuse, radius=1)),
    }
    return variants[name]


Arch = Literal["dual", "hair", "nafnet", "refiner", "restormer", "swinir"]  # of `train restorer`
