"""Detection and tracks of small fast movers in a stream of lumas."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor

from .background import BackgroundConfig, background_range
from .detection import DetectionConfig, Unexplained, detect
from .linking import LinkConfig, Linker
from .parallax import drop_parallax
from .region_map import Array, Detection, RegionMap
from .registration import CornerConfig, register


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionConfig:
    """Tunables of the detector."""

    max_side: int = 960  # pixels of the longer side that frames are reduced to
    samples: int = 9  # frames that a background is made of
    reach: int = 12  # frames before and after the anchor of a background
    block: int = 4  # consecutive frames that are compared with one background
    min_frames: int = 3  # of a shot; shorter ones have no movers
    min_side: int = 32  # pixels of the shorter side; smaller frames have none, and count as still
    corners: CornerConfig = field(default_factory=CornerConfig)
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    links: LinkConfig = field(default_factory=LinkConfig)


_DEFAULT = RegionConfig()


class RegionDetector:
    """Finds small fast movers, a window of frames behind the frames that are added.

    Holds a window of reduced frames, and the detections.
    """

    def __init__(self, *, config: RegionConfig = _DEFAULT) -> None:
        self._config = config
        self._frames: dict[int, Array] = {}  # reduced frames of the current shot that are still needed
        self._steps: list[Array | None] = []  # [k] from frame k to k + 1, reduced pixels
        self._scale = 1.0
        self._shot = 0  # first frame of the current shot
        self._next = 0  # first frame that was not searched yet
        self._count = 0
        self._linker: Linker | None = None

    def add(self, luma: Tensor, *, cut: bool) -> None:
        """Add the next frame, [H, W] uint8 gamma-coded luma; `cut` where it starts a shot."""
        frame = self._reduce(luma.numpy())
        index = self._count
        if index:
            step = None if cut else self._register(self._frames[index - 1], frame)
            if step is None:
                self._finish_shot()
            self._steps.append(step)
        self._frames[index] = frame
        self._count += 1
        while self._next + self._config.block // 2 + self._config.reach < self._count:
            self._search_block(self._next + self._config.block)

    def _register(self, before: Array, after: Array) -> Array | None:
        if min(after.shape) < self._config.min_side:
            return np.eye(3)
        return register(before, after, config=self._config.corners)

    def finish(self) -> RegionMap:
        """The movers of all frames that were added."""
        self._finish_shot()
        camera = tuple(None if step is None else self._full(step) for step in self._steps)
        tracks = self._linker.finish() if self._linker else ()
        steps = [None if step is None else step.numpy() for step in camera]
        return RegionMap(camera=camera, tracks=drop_parallax(tracks, steps))

    def _reduce(self, luma: Array) -> Array:
        if self._linker is None:
            self._scale = max(1.0, max(luma.shape) / self._config.max_side)
            self._linker = Linker(luma.shape, config=self._config.links)
        size = tuple(max(1, round(side / self._scale)) for side in luma.shape[::-1])
        small = luma if self._scale == 1 else cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.GaussianBlur(small, (3, 3), 0))

    def _full(self, step: Array) -> Tensor:
        """A homography in pixels of the full frame."""
        s = self._scale
        up = np.array([[s, 0, (s - 1) / 2], [0, s, (s - 1) / 2], [0, 0, 1]])
        full = up @ step @ np.linalg.inv(up)
        return torch.from_numpy(full / full[2, 2])

    def _finish_shot(self) -> None:
        while self._next < self._count:
            self._search_block(min(self._next + self._config.block, self._count))
        self._frames, self._shot = {}, self._count

    def _search_block(self, stop: int) -> None:
        """Search the frames from the next one to `stop`."""
        block = range(self._next, stop)
        large = min(self._frames[block.start].shape) >= self._config.min_side
        enough = self._count - self._shot >= self._config.min_frames
        found = self._detections(block) if large and enough else {}
        for index in block:
            step = self._steps[index - 1] if index else None
            matrix = None if step is None else self._full(step).numpy()
            if self._linker is not None:
                self._linker.add(found.get(index, []), matrix)
        self._next = stop
        oldest = stop - 2 * self._config.reach - self._config.block
        for index in [index for index in self._frames if index < oldest]:
            del self._frames[index]

    def _detections(self, block: range) -> dict[int, list[Detection]]:
        config = self._config
        anchor = (block.start + block.stop) // 2
        window = self._window(anchor)
        chain = {k: self._chain(anchor, k) for k in {*window, *block}}
        background = background_range(
            [self._frames[k] for k in window],
            [chain[k] for k in window],
            window.index(anchor),
            [chain[k] for k in block],
            config=config.background,
        )
        found = {}
        for k in block:
            frame = self._frames[k]
            seen = Unexplained.of(frame, *background.seen_from(chain[k], frame.shape))
            found[k] = detect(seen, index=k, scale=self._scale, config=config.detection)
        return found

    def _window(self, anchor: int) -> list[int]:
        """Frames for the background of `anchor`, evenly spread, inside the shot."""
        reach = self._config.reach
        first = max(self._shot, min(anchor - reach, self._count - 1 - 2 * reach), min(self._frames))
        last = min(first + 2 * reach, self._count - 1)
        spread = np.linspace(first, last, min(self._config.samples, last - first + 1)).round().astype(int)
        return sorted({*spread.tolist(), anchor})

    def _chain(self, anchor: int, index: int) -> Array:
        """Homography from frame `anchor` to frame `index`."""
        steps = [self._steps[k] for k in range(min(anchor, index), max(anchor, index))]
        matrix = np.eye(3)
        for step in steps:
            assert step is not None
            matrix = step @ matrix
        return matrix if index >= anchor else np.linalg.inv(matrix)
