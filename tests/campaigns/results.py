"""What a result holds, read by plain PyAV in a process of its own, and whether two results are the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from freezeframe.tests.campaigns.process import fork

OutputFacts = dict[str, Any]


def probe_output(path: Path) -> OutputFacts:
    """Pictures, times, sound and bytes of a file, or of every file of a folder."""
    ended = fork(lambda: print(json.dumps(_probe_output(path))), folder=path.parent).wait()  # noqa: T201
    try:
        return dict(json.loads(ended.log.splitlines()[-1]))
    except (ValueError, IndexError):
        return {"unreadable": ended.log.strip()[-200:] or ended.code}


def difference(expected: OutputFacts, actual: OutputFacts) -> str:
    """How the pictures, times or sound of `actual` differ; nothing where they are the same."""
    for name in ("unreadable", "files", "times", "sound", "pictures"):
        ours, theirs = expected.get(name), actual.get(name)
        if ours == theirs:
            continue
        if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
            mismatch = [k for k, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
            return f"other {name}: {len(mismatch)} of {len(ours)}, the first is number {mismatch[0]}"
        return f"other {name}: {_short(theirs)}, not {_short(ours)}"
    return ""


def _probe_output(path: Path) -> OutputFacts:
    if path.is_dir():
        return {"files": [f"{file.name} {_digest(file.read_bytes())}" for file in sorted(path.iterdir())]}
    import av

    shown: list[tuple[str, str]] = []
    with av.open(str(path), metadata_errors="replace") as container:
        for frame in container.decode(video=0):
            shown.append((_digest(b"".join(map(bytes, frame.planes))), str(frame.time)))
    with av.open(str(path), metadata_errors="replace") as container:
        sound = [_digest(bytes(packet)) for packet in container.demux() if packet.stream.type == "audio"]
    return {
        "pictures": [picture for picture, _ in shown],
        "times": [time for _, time in shown],
        "sound": sound,
        # Every Matroska file has a number of its own.
        "bytes": "" if path.suffix == ".mkv" else _digest(path.read_bytes()),
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _short(value: Any) -> str:
    return f"{len(value)} of them" if isinstance(value, list) else str(value)
