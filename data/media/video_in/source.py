"""A video file as a `Source`: every frame with its exact time, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, dropwhile, islice
from pathlib import Path

from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.files.background import prefetch
from freezeframe.data.media.files.fingerprint import fingerprint
from freezeframe.data.types import Frame

from .decoder import Decoder, TimedPicture, deinterlace
from .stream_info import VideoInfo, describe, open_container, video_stream

_SEEKABLE_CONTAINERS = ("mov", "matroska")  # with an index of key frames


@dataclass(frozen=True, slots=True, kw_only=True)
class SeekConfig:
    """Seeking and reading ahead."""

    min_start_s: float = 5  # seconds; for an earlier start the file is decoded from its beginning
    margin_s: int = (
        1  # seconds before the start: packets are stored in decoding order, ahead of display order
    )
    prefetch_frames: int = 6  # decoded frames held in the queue


DEFAULT_SEEK = SeekConfig()


def open_video(
    path: str | Path, *, start: float | None = None, end: float | None = None, skip_damaged: bool = False
) -> VideoSource:
    """Open a video file and decode its first frame.

    Args:
        path: Any container and codec supported by FFmpeg.
        start: Seconds on a player's clock: earlier frames are skipped.
        end: Seconds on a player's clock: frames from it on are skipped.
        skip_damaged: Repeat the previous frame in place of a damaged one, rather than raise.

    Raises:
        UnreadableMedia: The file is missing, not a video, or without a frame.
    """
    path = Path(path)
    with open_container(path) as container:
        stream = video_stream(container, path)
        first = next(Decoder(path, container, stream, skip_damaged=skip_damaged).pictures(), None)
        if first is None:
            raise UnreadableMedia(f"{path}: has a video stream without a single frame; check that it plays")
        try:
            info = describe(path, container, stream, first[1])
        except UnreadableMedia as error:
            raise UnreadableMedia(f"{path}: {error}") from error
    return VideoSource(
        info, start=_exact_fraction(start), end=_exact_fraction(end), skip_damaged=skip_damaged
    )


class VideoSource:
    """The frames of one video file between two times."""

    def __init__(
        self,
        info: VideoInfo,
        *,
        start: Fraction | None,
        end: Fraction | None,
        skip_damaged: bool,
        config: SeekConfig = DEFAULT_SEEK,
    ) -> None:
        if start is not None and end is not None and start >= end:
            raise UnreadableMedia(f"{info.path}: the end, {float(end):g} s, must come after the start")
        self.info = info
        self.start, self.end = start, end
        self.skip_damaged = skip_damaged
        self._config = config
        self.notes: list[str] = []  # messages to the user
        self.damage: list[str] = []  # concealed frames of the last full pass
        if info.transparent:
            self._note("has transparency, which is left out")
        if info.dolby_vision:
            self._note("has Dolby Vision data, which are left out of re-encoded frames")
        if info.interlaced:
            self._note_interlacing()

    @property
    def name(self) -> str:
        return str(self.info.path)

    @property
    def rate(self) -> Fraction:
        return self.info.rate

    @property
    def trimmed(self) -> bool:
        """Whether `start` or `end` is set."""
        return self.start is not None or self.end is not None

    @property
    def count(self) -> int | None:
        if not self.trimmed:
            return self.info.count
        if self.info.duration is None:
            return None
        start, end = self._span(self.info.duration)
        return max(0, round((end - start) * self.rate))

    def frames(self, *, first: int = 0) -> Iterator[Frame]:
        """All frames from index `first` on. Counts from the beginning: seeking is not frame-exact."""
        return prefetch(islice(self._read(), first, None), self._config.prefetch_frames)

    def sample_clips(self, runs: int, length: int) -> Iterator[Sequence[Frame]]:
        """`runs` clips of `length` consecutive frames; a single clip from the beginning if seeking fails."""
        try:
            yield from self._seek_clips(runs, length)
        except (FFmpegError, UnreadableMedia):
            first_frames = tuple(islice(self._read(), length))
            yield first_frames

    def fingerprint(self) -> str:
        """A hash of the file's size, modification time, first and last bytes."""
        return fingerprint(self.info.path)

    def _read(self) -> Iterator[Frame]:
        index = 0
        for after_seek in (True, False) if self._should_seek else (False,):
            with open_container(self.info.path) as container:
                stream = video_stream(container, self.info.path)
                decoder = self._decoder(
                    container, stream, skip_damaged=self.skip_damaged, after_seek=after_seek
                )
                pictures = self._seek_start(decoder) if after_seek else decoder.pictures()
                if pictures is None:
                    continue
                for frame in self._trim(self._to_frames(pictures)):
                    yield Frame(index=index, time=frame.time, picture=frame.picture)
                    index += 1
            self._report_damage(decoder)
            break
        if not index:
            raise UnreadableMedia(f"{self.name}: has no frame in the requested part; check --start and --end")

    def _trim(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            time = frame.time - self.info.origin
            if self.end is not None and time >= self.end:
                return
            if self.start is None or time >= self.start:
                yield frame

    @property
    def _should_seek(self) -> bool:
        """Whether the start is late enough to seek, in a container with an index of key frames."""
        is_seekable = self.info.container.startswith(_SEEKABLE_CONTAINERS)
        return is_seekable and self.start is not None and self.start > self._config.min_start_s

    def _seek_start(self, decoder: Decoder) -> Iterator[TimedPicture] | None:
        """Pictures from a key frame before the start on; None if the seek lands after it."""
        start = self.info.origin + (self.start or 0)
        try:
            seek_target = int((start - self._config.margin_s) / self.info.time_base)
            decoder.container.seek(seek_target, stream=decoder.stream)
            pictures = decoder.pictures()
            first = next(pictures, None)
        except (FFmpegError, UnreadableMedia):
            return None
        if first is None or first[0] * self.info.time_base > start:
            return None
        return chain([first], pictures)

    def _decoder(
        self, container: InputContainer, stream: VideoStream, *, skip_damaged: bool, after_seek: bool
    ) -> Decoder:
        return Decoder(
            self.info.path,
            container,
            stream,
            skip_damaged=skip_damaged,
            declared_packets=self.info.declared_packets,
            after_seek=after_seek,
        )

    def _to_frames(self, pictures: Iterator[TimedPicture]) -> Iterator[Frame]:
        """Deinterlaced frames with times in seconds, numbered from the first decoded one."""
        for index, (pts, picture) in enumerate(deinterlace(self._detect_interlacing(pictures))):
            yield Frame(index=index, time=pts * self.info.time_base, picture=picture)

    def _detect_interlacing(self, pictures: Iterator[TimedPicture]) -> Iterator[TimedPicture]:
        for pts, picture in pictures:
            if picture.frame.interlaced_frame:
                self._note_interlacing()
            yield pts, picture

    def _seek_clips(self, runs: int, length: int) -> Iterator[Sequence[Frame]]:
        if self.info.duration is None:
            raise UnreadableMedia(f"{self.name}: does not state its duration")
        start, end = self._span(self.info.duration)
        forward_frames: Iterator[Frame] | None = None  # set once a seek lands in an earlier clip
        last_time: Fraction | None = None
        with open_container(self.info.path) as container:
            stream = video_stream(container, self.info.path)
            for clip_index in range(runs):
                target = self.info.origin + start + (end - start) * (2 * clip_index + 1) / (2 * runs)
                frames = forward_frames or self._frames_from(container, stream, target)
                first_frame = next(frames, None)
                if last_time is not None and first_frame is not None and first_frame.time <= last_time:
                    forward_frames = frames
                if forward_frames is not None:
                    frames = dropwhile(lambda frame, target=target: frame.time < target, forward_frames)  # type: ignore[misc]
                else:
                    frames = chain([first_frame] if first_frame else [], frames)
                clip = tuple(islice(frames, length))
                if clip:
                    yield clip
                    last_time = clip[-1].time

    def _frames_from(
        self, container: InputContainer, stream: VideoStream, target: Fraction
    ) -> Iterator[Frame]:
        """Frames from the last key frame before `target` on."""
        container.seek(int(target / self.info.time_base), stream=stream)
        return self._to_frames(
            self._decoder(container, stream, skip_damaged=True, after_seek=True).pictures()
        )

    def _span(self, duration: Fraction) -> tuple[Fraction, Fraction]:
        return self.start or Fraction(0), duration if self.end is None else min(self.end, duration)

    def _report_damage(self, decoder: Decoder) -> None:
        stats = decoder.stats
        self.damage = [
            f"{position} is damaged and repeats its neighbour" for position in stats.concealed_frames
        ]
        if stats.is_truncated:
            self.damage.append(f"{decoder.position} is missing: the file was cut off there")
        if stats.leading_packets:
            self._note(f"starts with {stats.leading_packets} packets before the first key frame: left out")
        if stats.adjusted_timestamps:
            self._note(f"{stats.adjusted_timestamps} timestamps did not increase and were changed")

    def _note_interlacing(self) -> None:
        self._note("interlaced: deinterlaced with bwdif")

    def _note(self, message: str) -> None:
        if message not in self.notes:
            self.notes.append(message)


def _exact_fraction(seconds: float | None) -> Fraction | None:
    """The decimal number as typed, not its binary approximation."""
    return None if seconds is None else Fraction(str(seconds))
