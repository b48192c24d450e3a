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
from .stream_info import frame_rate
from .truncation import is_encrypted, is_truncated

# In these one packet is one shown frame: a packet without its frame is a loss, even if nothing complains.
_FRAME_PER_PACKET = {"h264", "hevc", "av1", "libdav1d"}
_BROADCAST_CONTAINERS = {"mpegts", "mpeg"}  # recorded from wherever it was switched on
_HINT = "rerun with --skip-damaged to repeat its neighbour"
_MAX_READ_ERRORS = 100  # failed reads in a row before a file counts as ended

TimedPicture = tuple[int, VideoPicture]  # ticks of the stream's time base


@dataclass(slots=True, kw_only=True)
class Decoding:
    """One pass over one video stream."""

    path: Path
    container: InputContainer
    stream: VideoStream
    time_base: Fraction  # seconds
    frame_ticks: int  # ticks between frames, on average
    skip_damaged: bool
    declared_packets: int | None = None  # packets that there should be
    after_seek: bool = False  # begins at a key frame within the file, not with its first packet
    number: int = 0  # the frame that comes next
    last: int | None = None  # ticks of the frame before
    concealed_frames: list[str] = field(
        default_factory=list
    )  # places of the frames that a neighbour stands in for
    is_truncated: bool = False  # the file ends before its time
    leading_packets: int = 0  # packets before the first key frame, of which no decoder makes a picture
    adjusted_timestamps: int = 0  # timestamps that did not increase
    _pending: list[int] = field(default_factory=list)  # ticks of packets whose frames have not come out
    _has_key_frame: bool = True  # a key frame has come
    _has_error: bool = False  # something failed since the last good frame
    _last_picture: VideoPicture | None = None
    _packets: int = 0
    _min_pts: int | None = None  # ticks of the first packet; what is shown before it needs what was not read

    @classmethod
    def of(
        cls,
        path: Path,
        container: InputContainer,
        stream: VideoStream,
        *,
        skip_damaged: bool,
        declared_packets: int | None = None,
    ) -> Decoding:
        rate = frame_rate(stream)
        time_base = stream.time_base or 1 / rate
        frame_ticks = max(1, round(1 / rate / time_base))
        return cls(
            path=path,
            container=container,
            stream=stream,
            time_base=time_base,
            frame_ticks=frame_ticks,
            skip_damaged=skip_damaged,
            declared_packets=declared_packets,
            _has_key_frame=container.format.name not in _BROADCAST_CONTAINERS,
        )

    def pictures(self) -> Iterator[TimedPicture]:
        """All frames in display order, each at its own, strictly increasing time."""
        for packet in self._demux():
            for frame in self._decode(packet):
                yield from self._emit(frame)
        yield from self._conceal(None)
        if (self.declared_packets and self._packets < self.declared_packets) or is_truncated(self.path):
            self._handle_truncation()

    def _demux(self) -> Iterator[av.Packet[VideoStream]]:
        """Packets, then the empty one that flushes the decoder. A failed read is tried again further on."""
        for _ in range(_MAX_READ_ERRORS):
            try:
                yield from self.container.demux(self.stream)
            except (FFmpegError, OSError):
                self._handle_damage()
                continue
            return

    def _decode(self, packet: av.Packet[VideoStream]) -> list[av.VideoFrame]:
        if packet.size:
            self._register_packet(packet)
        if packet.is_corrupt:
            self._handle_damage()
        try:
            return packet.decode()
        except EOFError:
            return []
        except MemoryError:
            raise  # FFmpeg's too: no fault of the file's
        except (FFmpegError, ValueError):
            if self._has_key_frame:
                self._handle_damage()
            self.leading_packets += not self._has_key_frame
            return []

    def _register_packet(self, packet: av.Packet[VideoStream]) -> None:
        """Count a packet, and expect its frame."""
        if self.after_seek and not self._packets:
            self._min_pts = packet.pts
            self.declared_packets = self.declared_packets and _packets_from(self.stream, packet.dts)
        self._packets += 1
        self._has_key_frame = self._has_key_frame or packet.is_keyframe
        if packet.pts is None or packet.is_discard or not self._has_key_frame:
            return
        if self._min_pts is None or packet.pts >= self._min_pts:
            heapq.heappush(self._pending, packet.pts)

    def _emit(self, frame: av.VideoFrame) -> Iterator[TimedPicture]:
        if frame.is_corrupt:
            self._handle_damage()
            return
        self._check_format(frame)
        ticks = self._ticks(frame)
        picture = VideoPicture(frame)
        yield from self._conceal(ticks, default=picture)
        if self._pending and self._pending[0] == ticks:
            heapq.heappop(self._pending)
        self._has_error, self._last_picture = False, picture
        yield self._count(ticks), picture

    def _conceal(self, until: int | None, default: VideoPicture | None = None) -> Iterator[TimedPicture]:
        """The last good picture, at the time of each frame before `until` that was lost."""
        lost_pts = []
        while self._pending and (until is None or self._pending[0] < until):
            lost_pts.append(heapq.heappop(self._pending))
        is_lost = self._has_error or (
            self.stream.codec_context.name in _FRAME_PER_PACKET and self._last_picture is not None
        )
        picture = self._last_picture or default
        if not lost_pts or not is_lost or picture is None:
            return
        self._handle_damage()
        for ticks in lost_pts:
            self.concealed_frames.append(self.position)
            yield self._count(ticks), VideoPicture(picture.frame, unmodified=False)

    def _ticks(self, frame: av.VideoFrame) -> int:
        ticks = frame.pts if frame.pts is not None else frame.dts
        if ticks is None:
            ticks = 0 if self.last is None else self.last + self.frame_ticks
        return ticks

    def _count(self, ticks: int) -> int:
        if self.last is not None and ticks <= self.last:
            ticks, self.adjusted_timestamps = self.last + 1, self.adjusted_timestamps + 1
        self.number, self.last = self.number + 1, ticks
        return ticks

    def _check_format(self, frame: av.VideoFrame) -> None:
        if self._last_picture is None:
            return
        previous, current = self._last_picture.frame, frame
        if (previous.width, previous.height, previous.format.name) != (
            current.width,
            current.height,
            current.format.name,
        ):
            raise UnreadableMedia(
                f"{self.path}: {self.position} changes from {previous.width}x{previous.height} {previous.format.name} to"
                f" {current.width}x{current.height} {current.format.name}; split the file there"
            )

    def _handle_damage(self) -> None:
        self._has_error = True
        if not self.number and is_encrypted(self.path):
            raise UnreadableMedia(f"{self.path}: is encrypted; decrypt it first")
        if not self.skip_damaged:
            raise UnreadableMedia(f"{self.path}: {self.position} is damaged; {_HINT}")

    def _handle_truncation(self) -> None:
        self.is_truncated = True
        if not self.skip_damaged:
            raise UnreadableMedia(
                f"{self.path}: {self.position} is missing: the file was cut off there; rerun with --skip-damaged"
                " to keep what is left"
            )

    @property
    def position(self) -> str:
        """Where the pass has come to, for people."""
        seconds = 0 if self.last is None else float((self.last + self.frame_ticks) * self.time_base)
        return (
            f"the frame at {seconds:.2f} s" if self.after_seek else f"frame {self.number} ({seconds:.2f} s)"
        )


def _packets_from(stream: VideoStream, dts: int | None) -> int:
    """How many packets an MP4 promises from one on."""
    return sum(entry.timestamp >= (dts or 0) for entry in stream.index_entries)


def deinterlace(pictures: Iterable[TimedPicture]) -> Iterator[TimedPicture]:
    """Weave fields into whole frames (bwdif) from the first interlaced frame on; one out for each one in."""
    deinterlacer: Graph | None = None
    timestamps: deque[int] = deque()
    for ticks, picture in pictures:
        if deinterlacer is None and not picture.frame.interlaced_frame:
            yield ticks, picture
            continue
        deinterlacer = deinterlacer or _make_deinterlacer(picture.frame)
        timestamps.append(ticks)
        deinterlacer.vpush(picture.frame)
        yield from _pull_frames(deinterlacer, timestamps)
    if deinterlacer is not None:
        deinterlacer.vpush(None)
        yield from _pull_frames(deinterlacer, timestamps)


def _make_deinterlacer(frame: av.VideoFrame) -> Graph:
    graph = Graph()
    entry = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(entry, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _pull_frames(graph: Graph, timestamps: deque[int]) -> Iterator[TimedPicture]:
    while timestamps:
        try:
            frame = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        yield timestamps.popleft(), VideoPicture(frame, unmodified=False)
