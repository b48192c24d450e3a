"""Divide the stream at scene cuts, and each shot into windows of bounded memory.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from freezeframe.data.types import Box, Clip, Frame, stack_linear
from freezeframe.pipeline.config import ShotConfig
from freezeframe.pipeline.support.limits.capacity import frames_per_window


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Consecutive frames of one shot, as decoded; the window writes the frames of `owned`."""

    frames: tuple[Frame, ...]
    owned: range
    shot: int

    @property
    def written(self) -> tuple[Frame, ...]:
        """Frames that this window writes."""
        return self.frames[self.owned.start : self.owned.stop]

    def clip(self, *, shutter: float, box: Box | None = None) -> Clip:
        """The window as linear RGB, or a box of it outside of which nothing moves."""
        return Clip(
            images=stack_linear(self.frames, box),
            times=tuple(frame.time for frame in self.frames),
            shutter=shutter,
            owned=self.owned,
            box=box,
            frame_size=self.frames[0].picture.size,
        )

    def subwindow(self, which: Iterable[int], *, context: int) -> Window:
        """The smallest part of the window with frames `which` and `context` frames around them.

        Frames far from any of `which` are neither converted to linear RGB nor part of a flow.
        """
        positions = sorted(which)
        start = max(0, positions[0] - context)
        stop = min(len(self.frames), positions[-1] + context + 1)
        owned = range(max(self.owned.start, start) - start, min(self.owned.stop, stop) - start)
        return Window(frames=self.frames[start:stop], owned=owned, shot=self.shot)


def windows(
    frames: Iterable[Frame],
    config: ShotConfig,
    *,
    cuts: Container[int],
    start: int = 0,
    context: int | None = None,
) -> Iterator[Window]:
    """Windows over the stream; exactly one owns each frame from number `start` on.

    Args:
        frames: The stream, in display order; frames before `start` are context.
        config: Context on either side of a window, and memory.
        cuts: Numbers of frames before which the scene changes.
        start: Number of the first frame to write.
        context: Frames on either side, as decoded; None: those of `config`.

    Yields:
        Windows in order, each within one shot.
    """
    for number, shot in enumerate(_shots(frames, cuts)):
        yield from _windows_of_shot(
            shot, config, number=number, start=start, context=config.context if context is None else context
        )


def _shots(frames: Iterable[Frame], cuts: Container[int]) -> Iterator[Iterator[Frame]]:
    """One iterator per shot; each must be exhausted before the next is taken."""
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
    shot: Iterator[Frame], config: ShotConfig, *, number: int, start: int, context: int
) -> Iterator[Window]:
    buffer: list[Frame] = []  # context before, owned frames, context after
    written = 0  # frames at the start of `buffer` that are written or need no writing
    for frame in shot:
        buffer.append(frame)
        if frame.index < start:
            written = len(buffer)
        owned_count = frames_per_window(frame.picture.size, config)
        if len(buffer) - written == owned_count + context:
            yield _window(buffer, range(written, written + owned_count), number)
            written += owned_count
        surplus = max(0, written - context)
        del buffer[:surplus]
        written -= surplus
    if written < len(buffer):
        yield _window(buffer, range(written, len(buffer)), number)


def _window(buffer: list[Frame], owned: range, shot: int) -> Window:
    return Window(frames=tuple(buffer), owned=owned, shot=shot)
