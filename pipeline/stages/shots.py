"""Cut the stream at scene changes and into bounded windows that join without a seam.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from freezeframe.data.types import Clip, Frame, stack_linear
from freezeframe.pipeline.config import ShotConfig

PIXEL_BYTES = 48  # light 12, flow and trust both ways 24, velocity 8, movers 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Consecutive frames of one shot, not yet decoded to light; `owned` are those this window writes."""

    frames: tuple[Frame, ...]
    owned: range
    shot: int

    @property
    def written(self) -> tuple[Frame, ...]:
        """The frames that this window writes."""
        return self.frames[self.owned.start : self.owned.stop]

    def clip(self, *, shutter: float) -> Clip:
        """The window as light."""
        times = tuple(frame.time for frame in self.frames)
        return Clip(images=stack_linear(self.frames), times=times, shutter=shutter, owned=self.owned)

    def subwindow(self, which: Iterable[int], *, context: int) -> Window:
        """The smallest part of the window that holds frames `which` and their evidence.

        Frames that need no work, far from any that does, then cost no light and no flow.
        """
        positions = sorted(which)
        start = max(0, positions[0] - context)
        stop = min(len(self.frames), positions[-1] + context + 1)
        owned = range(max(self.owned.start, start) - start, min(self.owned.stop, stop) - start)
        return Window(frames=self.frames[start:stop], owned=owned, shot=self.shot)


def frames_per_window(size: tuple[int, int], config: ShotConfig) -> int:
    """How many frames a window keeps, so that its light and motion fit `config.memory_mb`."""
    height, width = size
    buffer = config.memory_mb * 10**6 // (PIXEL_BYTES * height * width)
    return int(min(config.max_frames, max(2, buffer - 2 * config.context)))


def windows(
    frames: Iterable[Frame],
    config: ShotConfig,
    *,
    cuts: Container[int],
    start: int = 0,
) -> Iterator[Window]:
    """Windows over the stream; each frame from number `start` on is kept by exactly one.

    Args:
        frames: The stream, in display order; frames before `start` serve as context only.
        config: Context on either side of a window, and memory.
        cuts: Numbers of frames before which the scene changes.
        start: Number of the first frame to write.

    Yields:
        Windows in order, each within one shot.
    """
    for number, shot in enumerate(_shots(frames, cuts)):
        yield from _windows_of_shot(shot, config, number=number, start=start)


def _shots(frames: Iterable[Frame], cuts: Container[int]) -> Iterator[Iterator[Frame]]:
    """One iterator per shot; each must be used up before the next is asked for."""
    stream = iter(frames)
    upcoming = next(stream, None)

    def one_shot() -> Iterator[Frame]:
        nonlocal upcoming
        current = upcoming
        while current is not None:
            upcoming = next(stream, None)
            yield current
            if upcoming is None or upcoming.index in cuts:
                return
            current = upcoming

    while upcoming is not None:
        yield one_shot()


def _windows_of_shot(
    shot: Iterator[Frame], config: ShotConfig, *, number: int, start: int
) -> Iterator[Window]:
    buffer: list[Frame] = []  # context before, frames to keep, context after
    done = 0  # how many of `buffer` need no more writing
    for frame in shot:
        buffer.append(frame)
        if frame.index < start:
            done = len(buffer)
        owned_count = frames_per_window(frame.picture.size, config)
        if len(buffer) - done == owned_count + config.context:
            yield _window(buffer, range(done, done + owned_count), number)
            done += owned_count
        surplus = max(0, done - config.context)
        del buffer[:surplus]
        done -= surplus
    if done < len(buffer):
        yield _window(buffer, range(done, len(buffer)), number)


def _window(buffer: list[Frame], owned: range, shot: int) -> Window:
    return Window(frames=tuple(buffer), owned=owned, shot=shot)
