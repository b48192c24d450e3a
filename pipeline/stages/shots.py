"""Cut the stream at scene changes and into bounded windows that join without a seam.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from freezeframe.data.types import Clip, Frame, stack_light
from freezeframe.pipeline.config import ShotConfig

PIXEL_BYTES = 48  # light 12, flow and trust both ways 24, velocity 8, movers 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Consecutive frames of one shot, not yet decoded to light; `kept` are those this window writes."""

    frames: tuple[Frame, ...]
    kept: range
    shot: int

    @property
    def written(self) -> tuple[Frame, ...]:
        """The frames that this window writes."""
        return self.frames[self.kept.start : self.kept.stop]

    def clip(self, *, shutter: float) -> Clip:
        """The window as light."""
        times = tuple(frame.time for frame in self.frames)
        return Clip(images=stack_light(self.frames), times=times, shutter=shutter, kept=self.kept)

    def around(self, which: Iterable[int], *, context: int) -> Window:
        """The smallest part of the window that holds frames `which` and their evidence.

        Frames that need no work, far from any that does, then cost no light and no flow.
        """
        wanted = sorted(which)
        start = max(0, wanted[0] - context)
        stop = min(len(self.frames), wanted[-1] + context + 1)
        kept = range(max(self.kept.start, start) - start, min(self.kept.stop, stop) - start)
        return Window(frames=self.frames[start:stop], kept=kept, shot=self.shot)


def frames_per_window(size: tuple[int, int], config: ShotConfig) -> int:
    """How many frames a window keeps, so that its light and motion fit `config.megabytes`."""
    height, width = size
    held = config.megabytes * 10**6 // (PIXEL_BYTES * height * width)
    return int(min(config.longest, max(2, held - 2 * config.context)))


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
    held: list[Frame] = []  # context before, frames to keep, context after
    done = 0  # how many of `held` need no more writing
    for frame in shot:
        held.append(frame)
        if frame.index < start:
            done = len(held)
        keep = frames_per_window(frame.picture.size, config)
        if len(held) - done == keep + config.context:
            yield _window(held, range(done, done + keep), number)
            done += keep
        surplus = max(0, done - config.context)
        del held[:surplus]
        done -= surplus
    if done < len(held):
        yield _window(held, range(done, len(held)), number)


def _window(held: list[Frame], kept: range, shot: int) -> Window:
    return Window(frames=tuple(held), kept=kept, shot=shot)
