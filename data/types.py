"""The values that pass from stage to stage.

Conventions, stated here once for the whole package:

- Images are linear-light float32 RGB, `[C, H, W]`. 0 is black, 1 is the white level of the file's own
  encoding; HDR highlights may exceed 1.
- Pixel centres have integer coordinates; x points right, y points down.
- Optical flow is (dx, dy) in pixels of the source grid.
- Times are seconds, stored as exact `Fraction` in files. Angles are radians.
- Camera poses are world-to-camera matrices with OpenCV axes (x right, y down, z forward).
- The exposure of a frame is centred on its time. The shutter fraction is the exposure time divided by the
  frame interval, in (0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal, Protocol

import torch
from torch import Tensor

Action = Literal["deblurred", "passthrough", "fallback"]  # result of the quality gate for one frame
# What a region shows: the recorded pixels, those of a deconvolution along the flow, or a fitted layer.
Method = Literal["input", "deconvolution", "layer"]
Mover = Literal["camera", "object"]  # what moves in a region
Cause = Literal["none", "camera", "object", "defocus"]  # dominant cause of the blur in one frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Pixels of the full frame, half-open: columns [left, right), rows [top, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    def __post_init__(self) -> None:
        if self.left >= self.right or self.top >= self.bottom:
            raise ValueError(f"a box needs left < right and top < bottom, not {self}")

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def slices(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """The rows and columns of the box in an array of `size` (H, W), which must hold all of it."""
        if min(self.left, self.top) < 0 or self.bottom > size[0] or self.right > size[1]:
            raise ValueError(f"{self} exceeds a picture of {size[1]}x{size[0]} pixels")
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def union(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(
            left=min(self.left, other.left),
            top=min(self.top, other.top),
            right=max(self.right, other.right),
            bottom=max(self.bottom, other.bottom),
        )

    def widen(self, margin: int, size: tuple[int, int]) -> Box:
        """The box with `margin` pixels more on each side, inside a frame of `size` (H, W)."""
        return Box(
            left=max(0, self.left - margin),
            top=max(0, self.top - margin),
            right=min(size[1], self.right + margin),
            bottom=min(size[0], self.bottom + margin),
        )

    def shift(self, dx: float, dy: float) -> Box:
        """The box moved by whole pixels."""
        x, y = round(dx), round(dy)
        return Box(left=self.left + x, top=self.top + y, right=self.right + x, bottom=self.bottom + y)

    def intersects(self, other: Box) -> bool:
        """Whether the boxes share a pixel."""
        return self.gap(other) < 0

    def intersection(self, other: Box) -> Box:
        """The pixels that the boxes share, which must not be none."""
        return Box(
            left=max(self.left, other.left),
            top=max(self.top, other.top),
            right=min(self.right, other.right),
            bottom=min(self.bottom, other.bottom),
        )

    def gap(self, other: Box) -> int:
        """Pixels between the boxes, along the axis with the larger distance; negative where they overlap."""
        across = max(self.left, other.left) - min(self.right, other.right)
        down = max(self.top, other.top) - min(self.bottom, other.bottom)
        return max(across, down)


class Picture(Protocol):
    """A still image in the pixel format of its file: a decoded video frame or a photo."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, as coded (before any rotation requested by the file)."""
        ...

    def linear(self) -> Tensor:
        """[3, H, W] linear float32 RGB."""
        ...

    def luma(self) -> Tensor:
        """[H, W] uint8 gamma-encoded luma. Cheap; used for motion detection at thumbnail size."""
        ...

    def with_linear(self, image: Tensor) -> Picture:
        """The same format, bit depth and metadata with the pixels of `image`, [3, H, W] linear RGB."""
        ...

    def linear_in(self, box: Box) -> Tensor:
        """[3, h, w] the pixels of `linear` in a box, up to float32 rounding. The cost is that of the box."""
        ...

    def with_linear_in(self, box: Box, image: Tensor, mask: Tensor) -> Picture:
        """`with_linear` for the pixels of a box where `mask`, [h, w] bool, is true; `image` is [3, h, w].

        All other samples stay as they are, bit for bit. A chroma sample changes if any of its pixels does.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame of a source. `picture` stays as decoded, so that an unchanged frame is written bit-exact."""

    index: int  # position in the source, from 0
    time: Fraction  # seconds
    picture: Picture

    def with_image(self, image: Tensor) -> Frame:
        """The same frame with the pixels of `image`, [3, H, W] linear RGB."""
        return replace(self, picture=self.picture.with_linear(image))

    def with_box(self, box: Box, image: Tensor, mask: Tensor) -> Frame:
        """The same frame with the pixels of `image`, [3, h, w] linear RGB, where `mask`, [h, w], is true."""
        return replace(self, picture=self.picture.with_linear_in(box, image, mask))


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A window of consecutive frames of one shot, decoded to linear RGB.

    The frames of `owned` are written from this window. The frames before and after are context: they
    constrain the estimate and are written from the neighbouring windows.
    """

    images: Tensor  # [T, 3, H, W] linear RGB
    times: tuple[Fraction, ...]  # seconds
    shutter: float  # shutter fraction, (0, 1]
    owned: range  # indices into `images`
    box: Box | None = None  # part of the frames that `images` show, outside of which nothing moves; None: all
    frame_size: tuple[int, int] | None = None  # height and width of the frames; None: those of `images`

    @property
    def whole_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.frame_size or (self.images.shape[2], self.images.shape[3])

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(f"Clip.images must be [T, 3, H, W], not {tuple(self.images.shape)}")
        if len(self.times) != len(self.images):
            raise ValueError(f"Clip has {len(self.images)} images but {len(self.times)} times")
        if not 0 < self.shutter <= 1:
            raise ValueError(f"Clip.shutter must lie in (0, 1], not {self.shutter}")
        if not 0 <= self.owned.start <= self.owned.stop <= len(self.images):
            raise ValueError(f"Clip.owned {self.owned} exceeds the {len(self.images)} frames of the clip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Optical flow from a source image to a target image.

    source(x, y) and target(x + dx, y + dy) show the same scene point.
    """

    uv: Tensor  # [2, H, W] (dx, dy) in pixels
    confidence: Tensor  # [H, W] in [0, 1]; 0 where the point is occluded or outside the target

    def __post_init__(self) -> None:
        if self.uv.ndim != 3 or self.uv.shape[0] != 2 or self.uv.shape[1:] != self.confidence.shape:
            raise ValueError(
                f"Flow needs uv [2, H, W] and confidence [H, W], not {tuple(self.uv.shape)} and"
                f" {tuple(self.confidence.shape)}"
            )


class FlowEstimator(Protocol):
    """Estimates the optical flow from `source` to `target`, both [3, H, W] linear RGB. Stateless."""

    def __call__(self, source: Tensor, target: Tensor, /) -> Flow: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraPath:
    """Camera trajectory: world-to-camera poses at known times, and the intrinsics."""

    times: Tensor  # [N] seconds, increasing
    rotations: Tensor  # [N, 3, 3] world to camera
    translations: Tensor  # [N, 3] in units of the scene; zero for a pure rotation
    intrinsics: Tensor  # [3, 3] pixels
    kind: Literal["still", "rotation", "parallax"]

    def __post_init__(self) -> None:
        n = len(self.times)
        shapes = (self.rotations.shape, self.translations.shape, self.intrinsics.shape)
        if shapes != ((n, 3, 3), (n, 3), (3, 3)):
            raise ValueError(f"CameraPath with {n} times got poses and intrinsics of shapes {shapes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """The motion of one clip, as estimated by the stage `measure`."""

    flows: Mapping[tuple[int, int], Flow]  # (i, j): flow from frame i to frame j
    velocity: Tensor  # [T, 2, H, W] pixels per frame interval, at the time of each frame
    independent_motion: Tensor  # [T, H, W] in [0, 1]; 1 where the motion is not that of the camera
    shutter: float  # shutter fraction, (0, 1]

    @property
    def blur(self) -> Tensor:
        """[T, 2, H, W] blur vectors in pixels: the displacement of each point during the exposure."""
        return self.velocity * self.shutter


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionVerdict:
    """Decision about one region of a frame: what was changed, where, how strongly, and how well it explains.

    Behind a moving camera the region is the whole frame. Where a still camera sees motion, it is a connected
    part of what moves. A small fast mover is a region of its own, over those.
    """

    track: int | None  # number of the mover within the clip; null in a region that is no tracked mover
    box: Box  # pixels of the coded frame that may have changed
    mover: Mover  # what moves
    blur: float  # pixels; path during the exposure: of a tracked mover's centre, else exceeded in 2 %
    direction: float  # radians; 0 to the right, positive downwards; modulo half a turn without a track
    shutter: float  # exposure time over frame interval; of a layer as fitted
    method: Method  # explanation that is shown
    residual: float  # error of the re-blurred result; over the error of the background (layer), of the input
    strength: float  # applied fraction of the correction, [0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Decision of the quality gate about one frame, with its reason."""

    index: int
    time: float  # seconds
    action: Action
    reason: str
    blur: float  # pixels; length of the strongest sustained blur in the input
    strength: float = 0.0  # applied fraction of the proposed change, [0, 1]
    metrics: Mapping[str, float] = field(default_factory=dict)
    regions: tuple[RegionVerdict, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotReport:
    """Timing and decisions of one shot."""

    first: int  # frame index
    last: int  # frame index, inclusive
    seconds: Mapping[str, float]  # wall time per stage
    verdicts: tuple[Verdict, ...]


class Source(Protocol):
    """A stream of frames with exact times: a video file or a folder of numbered images."""

    @property
    def name(self) -> str:
        """Path of the file or folder."""
        ...

    @property
    def count(self) -> int | None:
        """Expected number of frames, for progress; None if unknown before decoding."""
        ...

    @property
    def rate(self) -> Fraction:
        """Average frames per second."""
        ...

    def frames(self, *, first: int = 0) -> Iterator[Frame]:
        """All frames from index `first` on, in display order."""
        ...

    def sample_clips(self, runs: int, length: int) -> Iterator[Sequence[Frame]]:
        """`runs` short clips of `length` consecutive frames, evenly distributed over the source."""
        ...

    def fingerprint(self) -> str:
        """A hash that changes when the files of the source change."""
        ...


class Sink(Protocol):
    """Writes frames in order. The output appears under its name when the sink is finished, not before."""

    @property
    def finished_frames(self) -> int:
        """Number of frames completed by an interrupted earlier run: continue with this index."""
        ...

    def write(self, frames: Sequence[Frame], /) -> None:
        """Write consecutive frames."""
        ...


def stack_linear(frames: Sequence[Frame], box: Box | None = None) -> Tensor:
    """[T, 3, H, W] linear RGB of consecutive frames, or of a box of them."""
    pictures = [frame.picture for frame in frames]
    return torch.stack([each.linear() if box is None else each.linear_in(box) for each in pictures])
