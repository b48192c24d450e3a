"""What flows from stage to stage.

Conventions, said here once: light is linear float32 RGB, `[C, H, W]`, 0 is black and 1 is the white of the
file's own coding (HDR highlights may exceed it). Pixel centres are integers, x right, y down. Flow is
(dx, dy) in pixels of the source grid. Time is seconds, an exact `Fraction` in files. Angles are radians.
Poses are world-to-camera with OpenCV axes. The exposure of a frame is centred on its time; the shutter
fraction is exposure time over frame interval, in (0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal, Protocol

import torch
from torch import Tensor

Action = Literal["deblurred", "passthrough", "fallback"]
Cause = Literal["none", "camera", "object", "defocus"]


class Picture(Protocol):
    """A still image in its file's own pixel format: planes of a video frame, pixels of a photo."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, as coded (before any rotation that the file asks for)."""
        ...

    def linear(self) -> Tensor:
        """[3, H, W] linear float32 RGB."""
        ...

    def luma(self) -> Tensor:
        """[H, W] uint8 gamma-coded brightness, cheap: for the first look that decides if work is needed."""
        ...

    def with_linear(self, image: Tensor) -> Picture:
        """The same kind of picture (format, depth, tags) showing `image`, [3, H, W] linear RGB."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame of a source. `picture` is kept as decoded, so that what needs no work passes bit-exact."""

    index: int
    time: Fraction  # seconds
    picture: Picture

    def with_image(self, image: Tensor) -> Frame:
        """The same frame with other light in it."""
        return replace(self, picture=self.picture.with_linear(image))


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Consecutive frames of one shot, decoded to light; `owned` are those that this window must write.

    The frames before and after `owned` are context: they give evidence, and the next window writes them.
    """

    images: Tensor  # [T, 3, H, W] linear RGB
    times: tuple[Fraction, ...]  # seconds
    shutter: float  # exposure time over frame interval, (0, 1]
    owned: range

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(f"Clip.images must be [T, 3, H, W], not {tuple(self.images.shape)}")
        if len(self.times) != len(self.images):
            raise ValueError(f"Clip has {len(self.images)} images but {len(self.times)} times")
        if not 0 < self.shutter <= 1:
            raise ValueError(f"Clip.shutter must lie in (0, 1], not {self.shutter}")
        if not 0 <= self.owned.start <= self.owned.stop <= len(self.images):
            raise ValueError(f"Clip.kept {self.owned} reaches outside its {len(self.images)} frames")

    def with_images(self, images: Tensor) -> Clip:
        """The same clip with other light in it."""
        return replace(self, images=images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Where each pixel of a source image is found in a target image.

    source(x, y) shows the same point as target(x + dx, y + dy).
    """

    uv: Tensor  # [2, H, W] (dx, dy) in pixels
    confidence: Tensor  # [H, W] in [0, 1]; 0 where the point is hidden or outside the target

    def __post_init__(self) -> None:
        if self.uv.ndim != 3 or self.uv.shape[0] != 2 or self.uv.shape[1:] != self.confidence.shape:
            raise ValueError(
                f"Flow needs shift [2, H, W] and trust [H, W], not {tuple(self.uv.shape)} and"
                f" {tuple(self.confidence.shape)}"
            )


class FlowEstimator(Protocol):
    """Finds each pixel of `source` in `target`, both [3, H, W] linear RGB. Holds no state between calls."""

    def __call__(self, source: Tensor, target: Tensor, /) -> Flow: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraPath:
    """How the camera moved: world-to-camera poses at known times, and the lens."""

    times: Tensor  # [N] seconds, increasing
    rotations: Tensor  # [N, 3, 3] world to camera
    translations: Tensor  # [N, 3]; zero for a camera that only turns
    intrinsics: Tensor  # [3, 3] pixels
    kind: Literal["still", "rotation", "parallax"]

    def __post_init__(self) -> None:
        n = len(self.times)
        shapes = (self.rotations.shape, self.translations.shape, self.intrinsics.shape)
        if shapes != ((n, 3, 3), (n, 3), (3, 3)):
            raise ValueError(f"CameraPath with {n} times got poses and intrinsics of shapes {shapes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """What `measure` found out about one clip."""

    flows: Mapping[tuple[int, int], Flow]  # (i, j): frame i found in frame j
    velocity: Tensor  # [T, 2, H, W] pixels per frame interval at each frame's own time
    independent_motion: Tensor  # [T, H, W] in [0, 1]: what moves otherwise than the camera
    shutter: float  # exposure time over frame interval, (0, 1]
    camera: CameraPath | None = None

    @property
    def blur(self) -> Tensor:
        """[T, 2, H, W] the path of each point while the shutter was open, in pixels."""
        return self.velocity * self.shutter


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate decided about one frame, and why."""

    index: int
    time: float  # seconds
    action: Action
    reason: str
    blur: float  # length in pixels of the strongest sustained blur, before
    strength: float = 0.0  # share of the proposed change that was taken, [0, 1]
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotReport:
    """One shot's way through the stages."""

    first: int
    last: int
    seconds: Mapping[str, float]  # wall time per stage
    verdicts: tuple[Verdict, ...]


class Source(Protocol):
    """Frames with exact times, streamed: a video file or a folder of numbered images."""

    @property
    def name(self) -> str: ...

    @property
    def count(self) -> int | None:
        """How many frames there should be, for progress; None where only decoding tells."""
        ...

    @property
    def rate(self) -> Fraction:
        """Average frames per second."""
        ...

    def frames(self, *, first: int = 0) -> Iterator[Frame]:
        """All frames from number `first` on, in display order."""
        ...

    def sample_clips(self, runs: int, length: int) -> Iterator[Sequence[Frame]]:
        """`runs` short runs of `length` consecutive frames, spread over the whole source."""
        ...


class Sink(Protocol):
    """Takes finished frames in order. Nothing appears under the output's name before `finish`."""

    @property
    def finished_frames(self) -> int:
        """How many frames an interrupted earlier run has already finished: start with this one."""
        ...

    def write(self, frames: Sequence[Frame], /) -> None: ...


def stack_linear(frames: Sequence[Frame]) -> Tensor:
    """[T, 3, H, W] linear RGB of consecutive frames."""
    return torch.stack([frame.picture.linear() for frame in frames])
