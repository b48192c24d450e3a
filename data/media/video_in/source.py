"""Video files as a `Source`: every frame at its exact time, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, dropwhile, islice
from pathlib import Path

from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.files.background import prefetch
from freezeframe.data.types import Frame

from .decoder import Decoding, TimedPicture, deinterlace
from .stream_info import VideoInfo, describe, open_container, video_stream

_SEEKABLE_CONTAINERS = ("mov", "matroska")  # containers
_MIN_SEEK_S = 5  # seconds
_SEEK_MARGIN_S = 1  # seconds before the start: decoding order runs ahead of what is shown
PREFETCH_FRAMES = 6  # decoded frames that wait for their turn

__all__ = ["VideoInfo", "VideoSource", "open_video"]


def open_video(
    path: str | Path, *, start: float | None = None, end: float | None = None, skip_damaged: bool = False
) -> VideoSource:
    """Open a video file for reading; its first frame is decoded to make sure that it can be.

    Args:
        path: Any container and codec that FFmpeg reads.
        start: Seconds, as a player counts them: frames before it are left out.
        end: Seconds: frames from it on are left out.
        skip_damaged: Put the neighbour in a damaged frame's place instead of stopping there.
    """
    path = Path(path)
    with open_container(path) as container:
        stream = video_stream(container, path)
        decoding = Decoding.of(path, container, stream, skip_damaged=skip_damaged)
        first = next(decoding.pictures(), None)
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
        self, info: VideoInfo, *, start: Fraction | None, end: Fraction | None, skip_damaged: bool
    ) -> None:
        if start is not None and end is not None and start >= end:
            raise UnreadableMedia(f"{info.path}: the end, {float(end):g} s, must come after the start")
        self.info = info
        self.start, self.end = start, end
        self.skip_damaged = skip_damaged
        self.notes: list[str] = []  # words to the user
        self.damage: list[str] = []  # places where the last full pass had to mend something
        if info.transparent:
            self._note("has transparency, which is left out")
        if info.dolby_vision:
            self._note("has Dolby Vision data, which are left out where frames are encoded anew")
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
        """Whether frames before `start` or from `end` on are left out."""
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
        """All frames from number `first` on, counted from the file's start: seeking is less exact."""
        return prefetch(islice(self._read(), first, None), PREFETCH_FRAMES)

    def sample_clips(self, runs: int, length: int) -> Iterator[Sequence[Frame]]:
        """`runs` short runs of `length` consecutive frames; the first ones where seeking fails."""
        try:
            yield from self._seek_clips(runs, length)
        except (FFmpegError, UnreadableMedia):
            first_frames = tuple(islice(self._read(), length))
            yield first_frames

    def _read(self) -> Iterator[Frame]:
        index = 0
        for after_seek in (True, False) if self._should_seek else (False,):
            with open_container(self.info.path) as container:
                stream = video_stream(container, self.info.path)
                decoding = self._decoding(
                    container, stream, skip_damaged=self.skip_damaged, after_seek=after_seek
                )
                pictures = self._pictures_before_start(decoding) if after_seek else decoding.pictures()
                if pictures is None:
                    continue
                for frame in self._to_frames(pictures):
                    if self.end is not None and self._since_origin(frame.time) >= self.end:
                        break
                    if self.start is None or self._since_origin(frame.time) >= self.start:
                        yield Frame(index=index, time=frame.time, picture=frame.picture)
                        index += 1
            self._report_damage(decoding)
            break
        if not index:
            raise UnreadableMedia(
                f"{self.name}: has no frame in the part asked for; look at --start and --end"
            )

    @property
    def _should_seek(self) -> bool:
        """Whether the start is worth seeking, in a file that knows where its key frames are."""
        is_seekable = self.info.container.startswith(_SEEKABLE_CONTAINERS)
        return is_seekable and self.start is not None and self.start > _MIN_SEEK_S

    def _pictures_before_start(self, decoding: Decoding) -> Iterator[TimedPicture] | None:
        """Pictures from a key frame before the start on; None where seeking leads elsewhere."""
        start = self.info.origin + (self.start or 0)
        try:
            seek_target = int((start - _SEEK_MARGIN_S) / self.info.time_base)
            decoding.container.seek(seek_target, stream=decoding.stream)
            pictures = decoding.pictures()
            first = next(pictures, None)
        except (FFmpegError, UnreadableMedia):
            return None
        if first is None or first[0] * self.info.time_base > start:
            return None
        return chain([first], pictures)

    def _decoding(
        self, container: InputContainer, stream: VideoStream, *, skip_damaged: bool, after_seek: bool
    ) -> Decoding:
        declared_packets = self.info.declared_packets
        decoding = Decoding.of(
            self.info.path, container, stream, skip_damaged=skip_damaged, declared_packets=declared_packets
        )
        decoding.after_seek = after_seek
        return decoding

    def _to_frames(self, pictures: Iterator[TimedPicture]) -> Iterator[Frame]:
        """Whole frames with times in seconds, numbered as in the file."""
        for index, (ticks, picture) in enumerate(deinterlace(self._detect_interlacing(pictures))):
            yield Frame(index=index, time=ticks * self.info.time_base, picture=picture)

    def _detect_interlacing(self, pictures: Iterator[TimedPicture]) -> Iterator[TimedPicture]:
        for ticks, picture in pictures:
            if picture.frame.interlaced_frame:
                self._note_interlacing()
            yield ticks, picture

    def _seek_clips(self, runs: int, length: int) -> Iterator[Sequence[Frame]]:
        if self.info.duration is None:
            raise UnreadableMedia(f"{self.name}: does not say how long it is")
        start, end = self._span(self.info.duration)
        forward_frames: Iterator[Frame] | None = None  # set once seeking leads back to what was seen already
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
            self._decoding(container, stream, skip_damaged=True, after_seek=True).pictures()
        )

    def _since_origin(self, time: Fraction) -> Fraction:
        return time - self.info.origin

    def _span(self, duration: Fraction) -> tuple[Fraction, Fraction]:
        return self.start or Fraction(0), duration if self.end is None else min(self.end, duration)

    def _report_damage(self, decoding: Decoding) -> None:
        self.damage = [
            f"{position} is damaged and shows its neighbour" for position in decoding.concealed_frames
        ]
        if decoding.is_truncated:
            self.damage.append(f"{decoding.position} is missing: the file was cut off there")
        if decoding.leading_packets:
            self._note(
                f"begins with {decoding.leading_packets} packets that need a key frame before them: left out"
            )
        if decoding.adjusted_timestamps:
            self._note(f"{decoding.adjusted_timestamps} timestamps did not increase and were moved")

    def _note_interlacing(self) -> None:
        self._note("interlaced: its fields are woven into whole frames (bwdif)")

    def _note(self, words: str) -> None:
        if words not in self.notes:
            self.notes.append(words)


def _exact_fraction(seconds: float | None) -> Fraction | None:
    """The decimal number that was typed, not its binary neighbour."""
    return None if seconds is None else Fraction(str(seconds))
