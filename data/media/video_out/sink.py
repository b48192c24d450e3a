"""Video files as a `Sink`: encoded behind the caller's back, in segments, joined when all is there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import av
from av.error import FFmpegError

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.background import Worker
from freezeframe.data.media.files.publish import Claim, claim, create_parents, remove_empty
from freezeframe.data.media.files.suffixes import CONTAINERS
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.types import Frame, Source

from .encoder_choice import Codec, encoder_options
from .fingerprint import check_unchanged, source_state
from .muxer import mux
from .plan import Plan, make_plan
from .segment_encoder import SegmentWriter, display_time, dry_run_mux, is_unmodified, translate_write_errors
from .segment_parts import PartWriter, read_part
from .segment_store import Segment, SegmentStore
from .verify import VerificationReport, verify

__all__ = ["CONTAINERS", "VideoSink", "encoder_options"]

MIN_SEGMENT_FRAMES = 240  # frames of a segment that is worth a key frame
SAVE_INTERVAL_S = 5.0  # seconds of work after which finished frames of the running segment are kept
QUEUE_DEPTH = 8  # frames that wait for the encoder


class VideoSink:
    """Writes one video file. An interrupted run of the same job goes on after its last finished frames."""

    def __init__(  # noqa: PLR0913  # each is one wish of the user
        self,
        source: Source,
        path: str | Path,
        *,
        codec: Codec | None = None,
        quality: float | None = None,
        force: bool = False,
        key: str = "",
    ) -> None:
        self.path = Path(path)
        self._claim = check_output(self.path, source, force=force)
        self._source_state = source_state(source)
        self.plan: Plan = make_plan(source, self.path, codec=codec, quality=quality)
        dry_run_mux(self.plan, self.path)
        self.notes = list(self.plan.notes)  # words to the user
        identity = _identity(self._source_state, self.plan, key)
        with translate_write_errors(self.path), create_parents(self.path) as self._folders:
            self._store = SegmentStore(work_dir(self.path), identity, output=self.path)
            self._claim = self._recheck_claim(source, force=force)
        self._source = source
        self._resume_frame = self._store.finished_frames
        self._pending_parts = list(self._store.parts)  # of an earlier run, not yet handed to the encoder
        self._writer: SegmentWriter | None = None
        self._part: PartWriter | None = None
        self._last_save = time.monotonic()
        # As long as no frame was changed, none is encoded: the source's own packets may do.
        self._is_deferring = (
            len(self._store.deferred_segments) == len(self._store.segments) and self.plan.stream_copy
        )
        self._deferred_frames: list[
            tuple[int, int]
        ] = []  # when frames of the running segment are shown, how long
        self._worker: Worker[Frame | None] = Worker(self._process, QUEUE_DEPTH)

    def _recheck_claim(self, source: Source, *, force: bool) -> Claim:
        """The claim once more: another run that was waited for may have finished its output meanwhile."""
        try:
            return check_output(self.path, source, force=force)
        except UnwritableOutput:
            self._store.close()
            raise

    @property
    def finished_frames(self) -> int:
        return self._resume_frame

    def write(self, frames: Sequence[Frame], /) -> None:
        """Hand over frames that belong together: a segment never ends among them."""
        for frame in frames:
            self._worker.put(frame)
        self._worker.put(None)

    def finish(self) -> VerificationReport:
        """Join all segments and everything else of the source into the file, and check what it holds."""
        try:
            self._worker.join()
            with translate_write_errors(self.path):
                self._replay()
                self._close_segment()
                return self._publish()
        finally:
            self.abort()

    def abort(self) -> None:
        """Stop. What is finished stays for the next run, everything half done goes."""
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
        """One frame into the running segment; None says that a segment may end here."""
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
        """Between two windows: the only place where a segment or a part may end."""
        if self._part is not None:
            self._part.commit()
        if max(len(self._deferred_frames), self._writer.frames if self._writer else 0) >= MIN_SEGMENT_FRAMES:
            self._close_segment()
        elif time.monotonic() - self._last_save >= SAVE_INTERVAL_S:
            self._close_part()

    def _replay(self) -> None:
        """Hand the finished frames of an earlier run to the encoder, which begins the segment anew."""
        parts_left, self._pending_parts = self._pending_parts, []
        if parts_left:
            source_frames = self._source.frames(first=self._store.frames)
            for part in parts_left:
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
        """Encode what was put off: read it again, for so many frames could not be kept."""
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
            raise UnwritableOutput(f"{self.path}: not a single frame was written")
        draft = self._store.folder / f"draft{self.path.suffix}"
        report = self._mux_stream_copy(draft)
        if report is None:
            self._encode_deferred()
            report = self._mux_draft(draft, remux=False)
        self._check_source_unchanged()
        try:
            self._claim.publish(draft)
        finally:
            if not draft.exists():  # it has a name, be it another one
                self._store.discard()
        return report

    def _check_source_unchanged(self) -> None:
        try:
            check_unchanged(self._source, self._source_state)
        except UnreadableMedia:
            self._store.discard()
            raise

    def _mux_stream_copy(self, draft: Path) -> VerificationReport | None:
        """The source's own video where no frame was changed; None where the container cannot take it."""
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
        expected_output = self.plan.expected_output(segments, video_record, copied_records, track)
        try:
            return verify(draft, expected_output)
        except UnreadableMedia as error:
            self._store.discard()
            raise UnwritableOutput(
                f"{self.path}: the finished file cannot be read back; nothing was kept"
            ) from error


def check_output(path: Path, source: Source, *, force: bool) -> Claim:
    """Stop before any work where the output cannot or must not be written."""
    inputs = [Path(source.info.path if isinstance(source, VideoSource) else source.name)]
    output_claim = claim(path, inputs=inputs, force=force)
    if path.suffix.lower() not in CONTAINERS:
        raise UnwritableOutput(
            f"{path}: write one of {', '.join(CONTAINERS)}; other files cannot keep every time"
        )
    return output_claim


def work_dir(path: Path) -> Path:
    """Where the unfinished work for an output lies: beside it, so that the last step is a rename."""
    return path.with_name(f".{path.name}.freezeframe")


def _identity(state: str, plan: Plan, key: str) -> str:
    """Changes with everything that changes a segment."""
    description = f"{key} {state} {plan.encoding} {av.__version__} {av.ffmpeg_version_info}"
    return hashlib.sha256(description.encode()).hexdigest()
