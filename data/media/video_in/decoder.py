"""Packets to pictures with timestamps: detection and concealment of damage, deinterlacing."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.filter import Graph
from av.video.stream import VideoStream

from freezeframe.data.errors import UnreadableMedia

from .frame_picture import VideoPicture
from .stream_info import display_pts, frame_rate
from .truncation import is_encrypted, is_truncated

# Codecs with one displayed frame per packet: a packet without a frame is a loss, even if no error is
# reported.
_FRAME_PER_PACKET = {"h264", "hevc", "av1", "libdav1d"}
_BROADCAST_CONTAINERS = {"mpegts", "mpeg"}  # a recording may start between two key frames
_HINT = "rerun with --skip-damaged to repeat its neighbour"

TimedPicture = tuple[int, VideoPicture]  # ticks of the stream's time base


@dataclass(slots=True)
class DecodeStats:
    """Irregularities of one pass."""

    concealed_frames: list[str] = field(default_factory=list)  # positions of lost frames
    is_truncated: bool = False  # the file ends before its declared end
    leading_packets: int = 0  # packets before the first key frame, which cannot be decoded
    adjusted_timestamps: int = 0  # timestamps that did not increase


class Decoder:
    """One pass over one video stream: every frame in display order, with strictly increasing timestamps.

    Lost frames are detected by the timestamps of their packets. With `skip_damaged` the previous frame is
    repeated in their place; without it the first loss raises.
    """

    def __init__(  # noqa: PLR0913  # the file, its stream, and how this pass reads them
        self,
        path: Path,
        container: InputContainer,
        stream: VideoStream,
        *,
        skip_damaged: bool,
        declared_packets: int | None = None,
        after_seek: bool = False,
        max_read_errors: int = 100,
    ) -> None:
        """Prepare a pass; nothing is read yet.

        Args:
            path: The file, for messages.
            container: The open file.
            stream: Its video stream.
            skip_damaged: Repeat the previous frame in place of a damaged one, rather than raise.
            declared_packets: Number of packets declared by the header, if known.
            after_seek: The pass starts at a key frame inside the file.
            max_read_errors: Number of consecutive failed reads that end the file.
        """
        rate = frame_rate(stream)
        self.container = container
        self.stream = stream
        self.stats = DecodeStats()
        self._path = path
        self._time_base = stream.time_base or 1 / rate
        self._frame_ticks = max(1, round(1 / rate / self._time_base))  # average frame interval
        self._skip_damaged = skip_damaged
        self._declared_packets = declared_packets
        self._after_seek = after_seek
        self._max_read_errors = max_read_errors
        self._next_index = 0
        self._last_pts: int | None = None  # ticks of the previous frame
        self._pending_pts: list[int] = []  # heap: packets whose frame has not been decoded
        self._has_key_frame = container.format.name not in _BROADCAST_CONTAINERS
        self._has_error = False  # since the last good frame
        self._last_picture: VideoPicture | None = None
        self._packets = 0
        self._min_pts: int | None = None  # after a seek: earlier frames reference packets that were not read

    @property
    def position(self) -> str:
        """The next frame, as shown to the user."""
        seconds = (
            0 if self._last_pts is None else float((self._last_pts + self._frame_ticks) * self._time_base)
        )
        if self._after_seek:
            return f"the frame at {seconds:.2f} s"
        return f"frame {self._next_index} ({seconds:.2f} s)"

    def pictures(self) -> Iterator[TimedPicture]:
        """All frames in display order, each with its timestamp.

        Raises:
            UnreadableMedia: A frame is damaged and `skip_damaged` is not set, or the frame size changes.
        """
        for packet in self._demux():
            for frame in self._decode(packet):
                yield from self._emit(frame)
        yield from self._conceal(None)
        if (self._declared_packets and self._packets < self._declared_packets) or is_truncated(self._path):
            self._handle_truncation()

    def _demux(self) -> Iterator[av.Packet[VideoStream]]:
        """Packets, then the empty one that flushes the decoder. Reading continues after an error."""
        for _ in range(self._max_read_errors):
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
            raise  # FFmpeg's error of this kind too: the file is not at fault
        except (FFmpegError, ValueError):
            if self._has_key_frame:
                self._handle_damage()
            self.stats.leading_packets += not self._has_key_frame
            return []

    def _register_packet(self, packet: av.Packet[VideoStream]) -> None:
        """Count a packet, and add its frame to the pending ones."""
        if self._after_seek and not self._packets:
            self._min_pts = packet.pts
            self._declared_packets = self._declared_packets and _packets_from(self.stream, packet.dts)
        self._packets += 1
        self._has_key_frame = self._has_key_frame or packet.is_keyframe
        if packet.pts is None or packet.is_discard or not self._has_key_frame:
            return
        if self._min_pts is None or packet.pts >= self._min_pts:
            heapq.heappush(self._pending_pts, packet.pts)

    def _emit(self, frame: av.VideoFrame) -> Iterator[TimedPicture]:
        if frame.is_corrupt:
            self._handle_damage()
            return
        self._check_format(frame)
        pts = self._pts(frame)
        picture = VideoPicture(frame)
        yield from self._conceal(pts, default=picture)
        if self._pending_pts and self._pending_pts[0] == pts:
            heapq.heappop(self._pending_pts)
        self._has_error, self._last_picture = False, picture
        yield self._advance(pts), picture

    def _conceal(self, until: int | None, default: VideoPicture | None = None) -> Iterator[TimedPicture]:
        """The previous picture at the timestamp of each lost frame before `until`."""
        lost_pts = []
        while self._pending_pts and (until is None or self._pending_pts[0] < until):
            lost_pts.append(heapq.heappop(self._pending_pts))
        is_lost = self._has_error or (
            self.stream.codec_context.name in _FRAME_PER_PACKET and self._last_picture is not None
        )
        picture = self._last_picture or default
        if not lost_pts or not is_lost or picture is None:
            return
        self._handle_damage()
        for pts in lost_pts:
            self.stats.concealed_frames.append(self.position)
            yield self._advance(pts), VideoPicture(picture.frame, unmodified=False)

    def _pts(self, frame: av.VideoFrame) -> int:
        pts = display_pts(frame)
        if pts is None:
            return 0 if self._last_pts is None else self._last_pts + self._frame_ticks
        return pts

    def _advance(self, pts: int) -> int:
        """Move to the next frame; its timestamp, increased if it does not exceed the previous one."""
        if self._last_pts is not None and pts <= self._last_pts:
            pts = self._last_pts + 1
            self.stats.adjusted_timestamps += 1
        self._next_index, self._last_pts = self._next_index + 1, pts
        return pts

    def _check_format(self, frame: av.VideoFrame) -> None:
        if self._last_picture is None:
            return
        previous, current = _format(self._last_picture.frame), _format(frame)
        if previous != current:
            raise UnreadableMedia(
                f"{self._path}: {self.position} changes from {previous} to {current}; split the file there"
            )

    def _handle_damage(self) -> None:
        self._has_error = True
        if not self._next_index and is_encrypted(self._path):
            raise UnreadableMedia(f"{self._path}: is encrypted; decrypt it first")
        if not self._skip_damaged:
            raise UnreadableMedia(f"{self._path}: {self.position} is damaged; {_HINT}")

    def _handle_truncation(self) -> None:
        self.stats.is_truncated = True
        if not self._skip_damaged:
            raise UnreadableMedia(
                f"{self._path}: {self.position} is missing: the file was cut off there; rerun with"
                " --skip-damaged to keep what is left"
            )


def deinterlace(pictures: Iterable[TimedPicture]) -> Iterator[TimedPicture]:
    """Deinterlace (bwdif) from the first interlaced frame on; one output frame per input frame."""
    deinterlacer: Graph | None = None
    timestamps: deque[int] = deque()
    for pts, picture in pictures:
        if deinterlacer is None and not picture.frame.interlaced_frame:
            yield pts, picture
            continue
        deinterlacer = deinterlacer or _make_deinterlacer(picture.frame)
        timestamps.append(pts)
        deinterlacer.vpush(picture.frame)
        yield from _pull_frames(deinterlacer, timestamps)
    if deinterlacer is not None:
        deinterlacer.vpush(None)
        yield from _pull_frames(deinterlacer, timestamps)


def _format(frame: av.VideoFrame) -> str:
    return f"{frame.width}x{frame.height} {frame.format.name}"


def _packets_from(stream: VideoStream, dts: int | None) -> int:
    """Number of packets from `dts` on in the index of an MP4 file."""
    return sum(entry.timestamp >= (dts or 0) for entry in stream.index_entries)


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
