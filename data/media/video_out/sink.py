"""A video file as a `Sink`: encoded on another thread, in segments, muxed when all frames are written."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
from av.error import FFmpegError

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.background import Worker
from freezeframe.data.media.files.directories import create_parents, remove_empty
from freezeframe.data.media.files.error_translation import translate_write_errors
from freezeframe.data.media.files.fingerprint import check_unchanged
from freezeframe.data.media.files.publish import Claim, claim
from freezeframe.data.media.files.suffixes import CONTAINERS
from freezeframe.data.media.verification import VerificationReport
from freezeframe.data.types import Frame, Source

from .encoder_choice import Codec
from .muxer import mux
from .plan import Plan, make_plan
from .segment_encoder import SegmentWriter, display_time, dry_run_mux, is_unmodified
from .segment_parts import PartWriter, read_part
from .segment_store import Segment, SegmentStore
from .verify import verify


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkConfig:
    """Segments and saved progress of an encode."""

    min_segment_frames: int = 240  # every segment costs a key frame
    save_interval_s: float = 5.0  # seconds between saves of the finished frames of the current segment
    queue_depth: int = 8  # frames waiting for the encoder


DEFAULT_SINK = SinkConfig()


class VideoSink:
    """Writes one video file. A rerun of an interrupted job continues after its last finished frames."""

    def __init__(  # noqa: PLR0913  # each is an option of the user
        self,
        source: Source,
        path: str | Path,
        *,
        codec: Codec | None = None,
        quality: float | None = None,
        force: bool = False,
        key: str = "",
        config: SinkConfig = DEFAULT_SINK,
    ) -> None:
        """Check the output, plan it, and lock its work folder.

        Args:
            source: The source of the frames; its other streams are copied.
            path: The file to write; its suffix selects the container.
            codec: The codec to write; None: that of the source.
            quality: Constant rate factor; None: by the bit rate of the source.
            force: Replace an existing file.
            key: A hash of all settings that change a frame; an interrupted job with another key is discarded.
            config: Segments and saved progress.

        Raises:
            UnwritableOutput: The output exists, or cannot hold the video with the source's other streams.
        """
        self.path = Path(path)
        self._config = config
        self._claim = _claim_output(self.path, source, force=force)
        self._fingerprint = source.fingerprint()
        self.plan: Plan = make_plan(source, self.path, codec=codec, quality=quality)
        dry_run_mux(self.plan, self.path)
        self.notes = list(self.plan.notes)  # messages to the user
        identity = _identity(self._fingerprint, self.plan, key)
        with translate_write_errors(self.path), create_parents(self.path) as self._folders:
            self._store = SegmentStore(self.path, identity)
            self._claim = self._recheck_claim(source, force=force)
        self._source = source
        self._resume_frame = self._store.finished_frames
        self._pending_parts = list(self._store.parts)  # of an earlier run, to be encoded again
        self._writer: SegmentWriter | None = None
        self._part: PartWriter | None = None
        self._last_save = time.monotonic()
        # Until a frame is changed none is encoded: the packets of the source may be copied.
        self._is_deferring = (
            len(self._store.deferred_segments) == len(self._store.segments) and self.plan.stream_copy
        )
        # Timestamps and durations of the deferred frames of the current segment, in ticks.
        self._deferred_frames: list[tuple[int, int]] = []
        self._worker: Worker[Frame | None] = Worker(self._process, config.queue_depth)

    def _recheck_claim(self, source: Source, *, force: bool) -> Claim:
        """Claim again: while this run waited for the lock, another may have written the output."""
        try:
            return _claim_output(self.path, source, force=force)
        except UnwritableOutput:
            self._store.close()
            raise

    @property
    def finished_frames(self) -> int:
        return self._resume_frame

    def write(self, frames: Sequence[Frame], /) -> None:
        """Queue the frames of one window: segments end only between windows."""
        for frame in frames:
            self._worker.put(frame)
        self._worker.put(None)

    def finish(self) -> VerificationReport:
        """Mux all segments with the other streams of the source, verify the file and publish it."""
        try:
            self._worker.join()
            with translate_write_errors(self.path):
                self._replay()
                self._close_segment()
                return self._publish()
        finally:
            self.abort()

    def abort(self) -> None:
        """Stop. Finished frames are saved for the next run, incomplete files are removed."""
        self._worker.abandon()
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
        with suppress(OSError, FFmpegError):
            self._close_part()
        with suppress(OSError):
            self._store.close()
        remove_empty(self._folders)

    def _process(self, frame: Frame | None) -> None:
        """Add a frame to the current segment; None marks the end of a window."""
        with translate_write_errors(self.path):
            self._replay()
            if frame is None:
                self._end_window()
                return
            self._encode(frame)
            if self._part is None:
                self._part = PartWriter(self._store.next_part, self.plan)
            self._part.add(frame)

    def _end_window(self) -> None:
        """End the segment or the part if it is due; both end only between windows."""
        if self._part is not None:
            self._part.commit()
        frames = max(len(self._deferred_frames), self._writer.frames if self._writer else 0)
        if frames >= self._config.min_segment_frames:
            self._close_segment()
        elif time.monotonic() - self._last_save >= self._config.save_interval_s:
            self._close_part()

    def _replay(self) -> None:
        """Encode the saved frames of an earlier run again: the encoder restarts the segment."""
        parts, self._pending_parts = self._pending_parts, []
        if parts:
            source_frames = self._source.frames(first=self._store.frames)
            for part in parts:
                for frame in read_part(part, source_frames, self.plan):
                    self._encode(frame)

    def _encode(self, frame: Frame) -> None:
        if self._is_deferring and is_unmodified(frame):
            self._deferred_frames.append(display_time(frame, self.plan))
            return
        self._encode_deferred()
        self._write(frame)

    def _write(self, frame: Frame) -> None:
        if self._writer is None:
            self._writer = SegmentWriter(self._store.next_file, self.plan)
        self._writer.encode(frame)

    def _close_part(self) -> None:
        part, self._part = self._part, None
        if part is not None and part.committed_frames:
            self._store.add_part(part.close())
        elif part is not None:
            part.abandon()
        self._last_save = time.monotonic()

    def _close_segment(self) -> None:
        if self._part is not None:
            self._part.abandon()
            self._part = None
        if self._writer is not None:
            self._store.add(self._writer.close())
            self._writer = None
        elif self._deferred_frames:
            times, durations = zip(*self._deferred_frames, strict=True)
            self._store.add(
                Segment(file=None, times=times, last_duration=durations[-1], reorder_delay=0, unmodified=True)
            )
            self._deferred_frames = []
        self._last_save = time.monotonic()

    def _encode_deferred(self) -> None:
        """Encode the deferred frames, decoded again: too many to hold in memory."""
        segment_numbers, frame_count = self._store.deferred_segments, len(self._deferred_frames)
        self._is_deferring, self._deferred_frames = False, []
        if not segment_numbers and not frame_count:
            return
        source_frames = self._source.frames(first=0)
        for number in segment_numbers:
            writer = SegmentWriter(self._store.file(number), self.plan)
            for frame in islice(source_frames, self._store.segments[number].frames):
                writer.encode(frame)
            self._store.replace(number, writer.close())
        for frame in islice(source_frames, frame_count):
            self._write(frame)

    def _publish(self) -> VerificationReport:
        if not self._store.segments:
            raise UnwritableOutput(f"{self.path}: no frame was written")
        draft = self._store.folder / f"draft{self.path.suffix}"
        report = self._mux_stream_copy(draft)
        if report is None:
            self._encode_deferred()
            report = self._mux_draft(draft, remux=False)
        self._check_source_unchanged()
        try:
            self._claim.publish(draft)
        finally:
            if not draft.exists():  # published, possibly under another name
                self._store.discard()
        return report

    def _check_source_unchanged(self) -> None:
        try:
            check_unchanged(self._source, self._fingerprint)
        except UnreadableMedia:
            self._store.discard()
            raise

    def _mux_stream_copy(self, draft: Path) -> VerificationReport | None:
        """Copy the video of the source if no frame was changed; None if the container cannot hold it."""
        if not self.plan.stream_copy or not all(segment.unmodified for segment in self._store.segments):
            return None
        try:
            report = self._mux_draft(draft, remux=True)
        except (FFmpegError, UnwritableOutput, ValueError):
            return None
        return report if report.passed else None

    def _mux_draft(self, draft: Path, *, remux: bool) -> VerificationReport:
        segments = self._store.segments
        track = self.plan.trimmed_track(segments)
        video_record, copied_records = mux(
            draft, self.plan.container, info=self.plan.info, segments=[] if remux else segments, track=track
        )
        expected = self.plan.expected_output(segments, video_record, copied_records, track)
        try:
            return verify(draft, expected)
        except UnreadableMedia as error:
            self._store.discard()
            raise UnwritableOutput(
                f"{self.path}: the finished file cannot be read back and was removed"
            ) from error


def _claim_output(path: Path, source: Source, *, force: bool) -> Claim:
    output_claim = claim(path, inputs=[Path(source.name)], force=force)
    if path.suffix.lower() not in CONTAINERS:
        raise UnwritableOutput(
            f"{path}: write one of {', '.join(CONTAINERS)}; other formats cannot hold every timestamp"
        )
    return output_claim


def _identity(fingerprint: str, plan: Plan, key: str) -> str:
    """A hash of everything that changes a segment."""
    description = f"{key} {fingerprint} {plan.encoding} {av.__version__} {av.ffmpeg_version_info}"
    return hashlib.sha256(description.encode()).hexdigest()
