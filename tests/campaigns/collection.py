"""Test files of other projects through the complete command: a verified result, or one sentence."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av

import freezeframe
from freezeframe.data.media.files.suffixes import CONTAINERS
from freezeframe.data.media.video_in.stream_info import ffmpeg_url

COMMAND = Path(freezeframe.__file__).with_name("cli.py")
FORCED = ("--network", "none", "--min-blur", "0.01", "--iterations", "2")  # work on every frame, but little
SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".ps", ".mpg", ".mpeg", ".3gp"}
    | {".wmv", ".flv", ".mxf", ".ogv", ".gif", ".webp"}
)

Outcome = Literal["whole", "verification failed", "refused", "crashed", "timed out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Result for one file."""

    file: Path
    outcome: Outcome
    words: str  # notes, failed checks, the error message or the end of the traceback


def check(folder: Path, results: Path, *, timeout_s: float = 300.0) -> list[Row]:
    """Half a second of every video below `folder`, through `freezeframe video`.

    Args:
        folder: A checkout with test files, such as androidx/media or pytorch/torchcodec.
        results: Folder of the outputs; each is removed after its check.
        timeout_s: Seconds for one file.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    return [check_file(file, results, options=("--end", "0.5"), timeout_s=timeout_s) for file in files]


def check_file(
    file: Path, results: Path, *, options: Iterable[str] = (), timeout_s: float = 300.0, keep: bool = False
) -> Row:
    """One file through `freezeframe video`, every frame processed, into the same container or Matroska."""
    target = results / f"{file.stem}{file.suffix.lower() if file.suffix.lower() in CONTAINERS else '.mkv'}"
    command = [sys.executable, str(COMMAND), "video", str(file), str(target), "--force", *FORCED, *options]
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Row(file=file, outcome="timed out", words=f"over {timeout_s:.0f} s")
    log, code = f"{process.stdout}\n{process.stderr}", process.returncode
    if code == 0:
        foreign = [f"stream {index} differs" for index in foreign_streams(file, target)]
        outcome: Outcome = "verification failed" if foreign else "whole"
        row = Row(file=file, outcome=outcome, words="; ".join([*foreign, *_notes(log)]))
    elif code == 1 and "FAIL" in log:
        row = Row(file=file, outcome="verification failed", words="; ".join(_lines(log, "FAIL")))
    elif code == 2 and "Traceback" not in log:
        row = Row(file=file, outcome="refused", words=_last(process.stderr))
    else:
        row = Row(file=file, outcome="crashed", words=f"exit code {code}: {_last(log)}")
    if not keep:
        target.unlink(missing_ok=True)
    return row


def foreign_streams(source: Path, result: Path) -> list[int]:
    """Streams of `result` with packets that no stream of `source` has, read by plain PyAV.

    The video is new, a timecode is rewritten, and containers split text and PCM differently.
    """
    source_packets = _packets(source)
    foreign = []
    for index, (kind, codec, packets) in _packets(result).items():
        rewritten = kind == "video" or codec.startswith("pcm_") or codec in ("", "mov_text", "aac_latm")
        if not rewritten and not any(set(packets) <= set(other) for _, _, other in source_packets.values()):
            foreign.append(index)
    return foreign


def _packets(path: Path) -> dict[int, tuple[str, str, list[bytes]]]:
    """Kind, codec and hashed packets of each stream; AAC without the ADTS header that files omit."""
    with av.open(ffmpeg_url(path), metadata_errors="surrogateescape") as container:
        streams: dict[int, tuple[str, str, list[bytes]]] = {
            stream.index: (stream.type, str(getattr(stream, "name", None) or ""), [])
            for stream in container.streams
        }
        for packet in container.demux():
            content = bytes(packet)
            if content[:2] in (b"\xff\xf1", b"\xff\xf9"):
                content = content[7:]
            if content:
                streams[packet.stream_index][2].append(hashlib.sha256(content).digest())
    return streams


def _notes(log: str) -> Iterator[str]:
    return (line.partition("note:")[2].strip() for line in log.splitlines() if "note:" in line)


def _lines(log: str, word: str) -> list[str]:
    return [" ".join(line.split()) for line in log.splitlines() if line.strip().startswith(word)]


def _last(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else ""
