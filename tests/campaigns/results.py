"""Contents of a result, decoded by plain PyAV in a process of its own, and comparison of two results."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from freezeframe.tests.campaigns.process import fork

OutputFacts = dict[str, Any]


def probe_output(path: Path) -> OutputFacts:
    """Pictures, timestamps, sound and bytes of a file, or of every file of a folder, as hashes."""
    process = fork(lambda: print(json.dumps(_probe_output(path))), folder=path.parent).wait()  # noqa: T201
    try:
        return dict(json.loads(process.log.splitlines()[-1]))
    except (ValueError, IndexError):
        return {"unreadable": process.log.strip()[-200:] or process.code}


def difference(expected: OutputFacts, actual: OutputFacts) -> str:
    """The first difference of pictures, timestamps or sound; empty if they are equal."""
    for name in ("unreadable", "files", "times", "sound", "pictures"):
        reference, value = expected.get(name), actual.get(name)
        if reference == value:
            continue
        if isinstance(reference, list) and isinstance(value, list) and len(reference) == len(value):
            mismatch = [k for k, (a, b) in enumerate(zip(reference, value, strict=True)) if a != b]
            return f"other {name}: {len(mismatch)} of {len(reference)}, the first is number {mismatch[0]}"
        return f"other {name}: {_short(value)}, not {_short(reference)}"
    return ""


def _probe_output(path: Path) -> OutputFacts:
    if path.is_dir():
        return {"files": [f"{file.name} {_digest(file.read_bytes())}" for file in sorted(path.iterdir())]}
    import av

    frames: list[tuple[str, str]] = []
    with av.open(str(path), metadata_errors="replace") as container:
        for frame in container.decode(video=0):
            frames.append((_digest(b"".join(map(bytes, frame.planes))), str(frame.time)))
    with av.open(str(path), metadata_errors="replace") as container:
        sound = [_digest(bytes(packet)) for packet in container.demux() if packet.stream.type == "audio"]
    return {
        "pictures": [picture for picture, _ in frames],
        "times": [time for _, time in frames],
        "sound": sound,
        # Every Matroska file has a random identifier.
        "bytes": "" if path.suffix == ".mkv" else _digest(path.read_bytes()),
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _short(value: Any) -> str:
    return f"{len(value)} of them" if isinstance(value, list) else str(value)
