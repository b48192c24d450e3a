"""From packets to pictures with times: damage found and mended, fields woven into frames."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.filter import Graph
from av.video.stream import VideoStream

from freezeframe.data.errors import UnreadableMedia

from .frame_picture import VideoPicture
from .stream_info import rate_of
from .truncation import cut_off, encrypted

# In these one packet is one shown frame: a packet without its frame is a loss, even if nothing complains.
_ONE_TO_ONE = {"h264", "hevc", "av1", "libdav1d"}
_BROADCAST = {"mpegts", "mpeg"}  # recorded from wherever it was switched on
_CURE = "rerun with --skip-damaged to repeat its neighbour"
_RETRIES = 100  # failed reads in a row before a file counts as ended

Stamped = tuple[int, VideoPicture]  # ticks of the stream's time base


@dataclass(slots=True, kw_only=True)
class Decoding:
    """One pass over one video stream."""

    path: Path
    container: InputContainer
    stream: VideoStream
    tick: Fraction  # seconds
    step: int  # ticks between frames, on average
    skip_damaged: bool
    declared: int | None = None  # packets that there should be
    sought: bool = False  # begins at a key frame within the file, not with its first packet
    number: int = 0  # the frame that comes next
    last: int | None = None  # ticks of the frame before
    losses: list[str] = field(default_factory=list)  # places of the frames that a neighbour stands in for
    cut_off: bool = False  # the file ends before its time
    headless: int = 0  # packets before the first key frame, of which no decoder makes a picture
    moved: int = 0  # timestamps that did not increase
    _pending: list[int] = field(default_factory=list)  # ticks of packets whose frames have not come out
    _begun: bool = True  # a key frame has come
    _trouble: bool = False  # something failed since the last good frame
    _good: VideoPicture | None = None
    _packets: int = 0
    _floor: int | None = None  # ticks of the first packet; what is shown before it needs what was not read

    @classmethod
    def of(
        cls,
        path: Path,
        container: InputContainer,
        stream: VideoStream,
        *,
        skip_damaged: bool,
        declared: int | None = None,
    ) -> Decoding:
        rate = rate_of(stream)
        tick = stream.time_base or 1 / rate
        step = max(1, round(1 / rate / tick))
        return cls(
            path=path,
            container=container,
            stream=stream,
            tick=tick,
            step=step,
            skip_damaged=skip_damaged,
            declared=declared,
            _begun=container.format.name not in _BROADCAST,
        )

    def pictures(self) -> Iterator[Stamped]:
        """All frames in display order, each at its own, strictly increasing time."""
        for packet in self._demux():
            for frame in self._decode(packet):
                yield from self._place(frame)
        yield from self._stand_ins(None)
        if (self.declared and self._packets < self.declared) or cut_off(self.path):
            self._ends_early()

    def _demux(self) -> Iterator[av.Packet[VideoStream]]:
        """Packets, then the empty one that flushes the decoder. A failed read is tried again further on."""
        for _ in range(_RETRIES):
            try:
                yield from self.container.demux(self.stream)
            except (FFmpegError, OSError):
                self._damaged()
                continue
            return

    def _decode(self, packet: av.Packet[VideoStream]) -> list[av.VideoFrame]:
        if packet.size:
            self._enter(packet)
        if packet.is_corrupt:
            self._damaged()
        try:
            return packet.decode()
        except EOFError:
            return []
        except MemoryError:
            raise  # FFmpeg's too: no fault of the file's
        except (FFmpegError, ValueError):
            if self._begun:
                self._damaged()
            self.headless += not self._begun
            return []

    def _enter(self, packet: av.Packet[VideoStream]) -> None:
        """Count a packet, and expect its frame."""
        if self.sought and not self._packets:
            self._floor = packet.pts
            self.declared = self.declared and _packets_from(self.stream, packet.dts)
        self._packets += 1
        self._begun = self._begun or packet.is_keyframe
        if packet.pts is None or packet.is_discard or not self._begun:
            return
        if self._floor is None or packet.pts >= self._floor:
            heapq.heappush(self._pending, packet.pts)

    def _place(self, frame: av.VideoFrame) -> Iterator[Stamped]:
        if frame.is_corrupt:
            self._damaged()
            return
        self._same_kind(frame)
        ticks = self._ticks(frame)
        picture = VideoPicture(frame)
        yield from self._stand_ins(ticks, or_else=picture)
        if self._pending and self._pending[0] == ticks:
            heapq.heappop(self._pending)
        self._trouble, self._good = False, picture
        yield self._count(ticks), picture

    def _stand_ins(self, until: int | None, or_else: VideoPicture | None = None) -> Iterator[Stamped]:
        """The last good picture, at the time of each frame before `until` that was lost."""
        lost = []
        while self._pending and (until is None or self._pending[0] < until):
            lost.append(heapq.heappop(self._pending))
        counted = self._trouble or (self.stream.codec_context.name in _ONE_TO_ONE and self._good is not None)
        picture = self._good or or_else
        if not lost or not counted or picture is None:
            return
        self._damaged()
        for ticks in lost:
            self.losses.append(self.place)
            yield self._count(ticks), VideoPicture(picture.frame, original=False)

    def _ticks(self, frame: av.VideoFrame) -> int:
        ticks = frame.pts if frame.pts is not None else frame.dts
        if ticks is None:
            ticks = 0 if self.last is None else self.last + self.step
        return ticks

    def _count(self, ticks: int) -> int:
        if self.last is not None and ticks <= self.last:
            ticks, self.moved = self.last + 1, self.moved + 1
        self.number, self.last = self.number + 1, ticks
        return ticks

    def _same_kind(self, frame: av.VideoFrame) -> None:
        if self._good is None:
            return
        first, now = self._good.frame, frame
        if (first.width, first.height, first.format.name) != (now.width, now.height, now.format.name):
            raise UnreadableMedia(
                f"{self.path}: {self.place} changes from {first.width}x{first.height} {first.format.name} to"
                f" {now.width}x{now.height} {now.format.name}; split the file there"
            )

    def _damaged(self) -> None:
        self._trouble = True
        if not self.number and encrypted(self.path):
            raise UnreadableMedia(f"{self.path}: is encrypted; decrypt it first")
        if not self.skip_damaged:
            raise UnreadableMedia(f"{self.path}: {self.place} is damaged; {_CURE}")

    def _ends_early(self) -> None:
        self.cut_off = True
        if not self.skip_damaged:
            raise UnreadableMedia(
                f"{self.path}: {self.place} is missing: the file was cut off there; rerun with --skip-damaged"
                " to keep what is left"
            )

    @property
    def place(self) -> str:
        """Where the pass has come to, for people."""
        seconds = 0 if self.last is None else float((self.last + self.step) * self.tick)
        return f"the frame at {seconds:.2f} s" if self.sought else f"frame {self.number} ({seconds:.2f} s)"


def _packets_from(stream: VideoStream, due: int | None) -> int:
    """How many packets an MP4 promises from one on."""
    return sum(entry.timestamp >= (due or 0) for entry in stream.index_entries)


def deinterlaced(pictures: Iterable[Stamped]) -> Iterator[Stamped]:
    """Weave fields into whole frames (bwdif) from the first interlaced frame on; one out for each one in."""
    weave: Graph | None = None
    stamps: deque[int] = deque()
    for ticks, picture in pictures:
        if weave is None and not picture.frame.interlaced_frame:
            yield ticks, picture
            continue
        weave = weave or _weaver(picture.frame)
        stamps.append(ticks)
        weave.vpush(picture.frame)
        yield from _woven(weave, stamps)
    if weave is not None:
        weave.vpush(None)
        yield from _woven(weave, stamps)


def _weaver(frame: av.VideoFrame) -> Graph:
    graph = Graph()
    entry = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(entry, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _woven(graph: Graph, stamps: deque[int]) -> Iterator[Stamped]:
    while stamps:
        try:
            frame = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        yield stamps.popleft(), VideoPicture(frame, original=False)
