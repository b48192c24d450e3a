"""Other people's test files through the whole command: a result that keeps its promises, or one sentence."""

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

Outcome = Literal["whole", "not as promised", "refused", "fell", "out of time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one file."""

    file: Path
    outcome: Outcome
    words: str  # notes, failed promises, the refusal or the end of the traceback


def check(folder: Path, results: Path, *, timeout_s: float = 300.0) -> list[Row]:
    """Half a second of every video below `folder`, through `freezeframe video`.

    Args:
        folder: A checkout with test files of others, such as androidx/media or pytorch/torchcodec.
        results: Where the outputs go; each is removed once it was looked at.
        timeout_s: Seconds for one file.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    return [check_file(file, results, options=("--end", "0.5"), timeout_s=timeout_s) for file in files]


def check_file(
    file: Path, results: Path, *, options: Iterable[str] = (), timeout_s: float = 300.0, keep: bool = False
) -> Row:
    """One file through `freezeframe video`, every frame worked on, into its own kind of file or Matroska."""
    target = results / f"{file.stem}{file.suffix.lower() if file.suffix.lower() in CONTAINERS else '.mkv'}"
    command = [sys.executable, str(COMMAND), "video", str(file), str(target), "--force", *FORCED, *options]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Row(file=file, outcome="out of time", words=f"over {timeout_s:.0f} s")
    log = f"{done.stdout}\n{done.stderr}"
    if done.returncode == 0:
        strange = [f"stream {index} differs" for index in foreign_streams(file, target)]
        row = Row(
            file=file, outcome="fell" if strange else "whole", words="; ".join([*strange, *_notes(log)])
        )
    elif done.returncode == 1 and "FAIL" in log:
        row = Row(file=file, outcome="not as promised", words="; ".join(_lines(log, "FAIL")))
    elif done.returncode == 2 and "Traceback" not in log:
        row = Row(file=file, outcome="refused", words=_last(done.stderr))
    else:
        row = Row(file=file, outcome="fell", words=f"exit code {done.returncode}: {_last(log)}")
    if not keep:
        target.unlink(missing_ok=True)
    return row


def foreign_streams(source: Path, result: Path) -> list[int]:
    """Streams of `result` with packets that no stream of `source` has, read by FFmpeg alone.

    The film is new, a timecode is written anew, and containers cut text and PCM as they like.
    """
    source_packets = _packets(source)
    strange = []
    for index, (kind, codec, packets) in _packets(result).items():
        own = kind == "video" or codec.startswith("pcm_") or codec in ("", "mov_text", "aac_latm")
        if not own and not any(set(packets) <= set(other) for _, _, other in source_packets.values()):
            strange.append(index)
    return strange


def _packets(path: Path) -> dict[int, tuple[str, str, list[bytes]]]:
    """Kind, codec and hashed packets of each stream; AAC without the ADTS header that files leave out."""
    with av.open(ffmpeg_url(path), metadata_errors="surrogateescape") as container:
        found: dict[int, tuple[str, str, list[bytes]]] = {
            stream.index: (stream.type, str(getattr(stream, "name", None) or ""), [])
            for stream in container.streams
        }
        for packet in container.demux():
            content = bytes(packet)
            if content[:2] in (b"\xff\xf1", b"\xff\xf9"):
                content = content[7:]
            if content:
                found[packet.stream_index][2].append(hashlib.sha256(content).digest())
    return found


def _notes(log: str) -> Iterator[str]:
    return (line.partition("note:")[2].strip() for line in log.splitlines() if "note:" in line)


def _lines(log: str, word: str) -> list[str]:
    return [" ".join(line.split()) for line in log.splitlines() if line.strip().startswith(word)]


def _last(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else ""
