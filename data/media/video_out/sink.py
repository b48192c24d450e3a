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
from freezeframe.data.media.files.publish import Claim, claim, made_for, remove_empty
from freezeframe.data.media.files.suffixes import CONTAINERS
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.types import Frame, Source

from .encoder_choice import Codec, encoder_options
from .fingerprint import refuse_changed, state_of
from .muxer import mux
from .plan import Plan, plan_for
from .segment_encoder import SegmentWriter, is_original, rehearse, saying_why, shown
from .segment_parts import PartWriter, frames_of
from .segment_store import Job, Segment
from .verify import PlumbingSheet, check

__all__ = ["CONTAINERS", "VideoSink", "encoder_options"]

SHORTEST = 240  # frames of a segment that is worth a key frame
SAVED = 5.0  # seconds of work after which finished frames of the running segment are kept
BEHIND = 8  # frames that wait for the encoder


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
        self._claim = refuse(self.path, source, force=force)
        self._before = state_of(source)
        self.plan: Plan = plan_for(source, self.path, codec=codec, quality=quality)
        rehearse(self.plan, self.path)
        self.notes = list(self.plan.notes)  # words to the user
        identity = _identity(self._before, self.plan, key)
        with saying_why(self.path), made_for(self.path) as self._folders:
            self._job = Job(job_folder(self.path), identity, output=self.path)
            self._claim = self._still(source, force=force)
        self._source = source
        self._resumed = self._job.finished
        self._left = list(self._job.parts)  # of an earlier run, not yet handed to the encoder
        self._writer: SegmentWriter | None = None
        self._part: PartWriter | None = None
        self._saved = time.monotonic()
        # As long as no frame was changed, none is encoded: the source's own packets may do.
        self._waiting = len(self._job.put_off) == len(self._job.segments) and self.plan.copyable
        self._put_off: list[tuple[int, int]] = []  # when frames of the running segment are shown, how long
        self._worker: Worker[Frame | None] = Worker(self._take, BEHIND)

    def _still(self, source: Source, *, force: bool) -> Claim:
        """The claim once more: another run that was waited for may have finished its output meanwhile."""
        try:
            return refuse(self.path, source, force=force)
        except UnwritableOutput:
            self._job.leave()
            raise

    @property
    def finished(self) -> int:
        return self._resumed

    def write(self, frames: Sequence[Frame], /) -> None:
        """Hand over frames that belong together: a segment never ends among them."""
        for frame in frames:
            self._worker.put(frame)
        self._worker.put(None)

    def finish(self) -> PlumbingSheet:
        """Join all segments and everything else of the source into the file, and check what it holds."""
        try:
            self._worker.join()
            with saying_why(self.path):
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
            self._job.leave()
        remove_empty(self._folders)

    def _take(self, frame: Frame | None) -> None:
        """One frame into the running segment; None says that a segment may end here."""
        with saying_why(self.path):
            self._replay()
            if frame is None:
                self._pause()
                return
            self._encode(frame)
            if self._part is None:
                self._part = PartWriter(self._job.next_part, self.plan)
            self._part.add(frame)

    def _pause(self) -> None:
        """Between two windows: the only place where a segment or a part may end."""
        if self._part is not None:
            self._part.mark()
        if max(len(self._put_off), self._writer.frames if self._writer else 0) >= SHORTEST:
            self._close_segment()
        elif time.monotonic() - self._saved >= SAVED:
            self._close_part()

    def _replay(self) -> None:
        """Hand the finished frames of an earlier run to the encoder, which begins the segment anew."""
        left, self._left = self._left, []
        if left:
            again = self._source.frames(first=self._job.frames)
            for part in left:
                for frame in frames_of(part, again, self.plan):
                    self._encode(frame)

    def _encode(self, frame: Frame) -> None:
        if self._waiting and is_original(frame):
            self._put_off.append(shown(frame, self.plan))
            return
        self._catch_up()
        self._write(frame)

    def _write(self, frame: Frame) -> None:
        if self._writer is None:
            self._writer = SegmentWriter(self._job.next_file, self.plan)
        self._writer.encode(frame)

    def _close_part(self) -> None:
        part, self._part = self._part, None
        if part is not None and part.marked:
            self._job.add_part(part.close())
        elif part is not None:
            part.abandon()
        self._saved = time.monotonic()

    def _close_segment(self) -> None:
        if self._part is not None:
            self._part.abandon()
            self._part = None
        if self._writer is not None:
            self._job.add(self._writer.close())
            self._writer = None
        elif self._put_off:
            times, lasting = zip(*self._put_off, strict=True)
            self._job.add(Segment(file=None, times=times, tail=lasting[-1], delay=0, original=True))
            self._put_off = []
        self._saved = time.monotonic()

    def _catch_up(self) -> None:
        """Encode what was put off: read it again, for so many frames could not be kept."""
        late, running = self._job.put_off, len(self._put_off)
        self._waiting, self._put_off = False, []
        if not late and not running:
            return
        again = self._source.frames(first=0)
        for number in late:
            writer = SegmentWriter(self._job.file(number), self.plan)
            for frame in islice(again, self._job.segments[number].frames):
                writer.encode(frame)
            self._job.replace(number, writer.close())
        for frame in islice(again, running):
            self._write(frame)

    def _publish(self) -> PlumbingSheet:
        if not self._job.segments:
            raise UnwritableOutput(f"{self.path}: not a single frame was written")
        draft = self._job.folder / f"draft{self.path.suffix}"
        sheet = self._draft_copy(draft)
        if sheet is None:
            self._catch_up()
            sheet = self._draft(draft, remux=False)
        self._refuse_changed()
        try:
            self._claim.publish(draft)
        finally:
            if not draft.exists():  # it has a name, be it another one
                self._job.discard()
        return sheet

    def _refuse_changed(self) -> None:
        try:
            refuse_changed(self._source, self._before)
        except UnreadableMedia:
            self._job.discard()
            raise

    def _draft_copy(self, draft: Path) -> PlumbingSheet | None:
        """The source's own video where no frame was changed; None where the container cannot take it."""
        if not self.plan.copyable or not all(segment.original for segment in self._job.segments):
            return None
        try:
            sheet = self._draft(draft, remux=True)
        except (FFmpegError, UnwritableOutput, ValueError):
            return None
        return sheet if sheet.passed else None

    def _draft(self, draft: Path, *, remux: bool) -> PlumbingSheet:
        segments = self._job.segments
        track = self.plan.track_from(segments)
        own, copied = mux(
            draft, self.plan.container, info=self.plan.info, segments=[] if remux else segments, track=track
        )
        promise = self.plan.promise(segments, own, copied, track)
        try:
            return check(draft, promise)
        except UnreadableMedia as error:
            self._job.discard()
            raise UnwritableOutput(
                f"{self.path}: the finished file cannot be read back; nothing was kept"
            ) from error


def refuse(path: Path, source: Source, *, force: bool) -> Claim:
    """Stop before any work where the output cannot or must not be written."""
    inputs = [Path(source.info.path if isinstance(source, VideoSource) else source.name)]
    found = claim(path, inputs=inputs, force=force)
    if path.suffix.lower() not in CONTAINERS:
        raise UnwritableOutput(
            f"{path}: write one of {', '.join(CONTAINERS)}; other files cannot keep every time"
        )
    return found


def job_folder(path: Path) -> Path:
    """Where the unfinished work for an output lies: beside it, so that the last step is a rename."""
    return path.with_name(f".{path.name}.freezeframe")


def _identity(state: str, plan: Plan, key: str) -> str:
    """Changes with everything that changes a segment."""
    what = f"{key} {state} {plan.encoding} {av.__version__} {av.ffmpeg_version_info}"
    return hashlib.sha256(what.encode()).hexdigest()
