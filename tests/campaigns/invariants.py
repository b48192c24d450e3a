"""Invariants of every run of the command, checked on its output and on the disk."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from freezeframe.tests.campaigns.process import ProcessResult, fork

STATE = re.compile(r"\.(?P<name>.+)\.freezeframe(-.*|\..*)?")  # resume data beside an output
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".heic"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result of one case."""

    kind: str  # a few words, the same for similar cases, which are counted by it
    fault: str = ""  # the violated invariant; empty if all hold
    description: str = ""  # the case in words
    seconds: float = 0.0
    peak_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class Contents:
    """All files below a folder with hashes of their contents."""

    digests: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path) -> Contents:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return cls({path.relative_to(folder).as_posix(): _digest(path) for path in files})

    def modified_in(self, later: Contents) -> list[str]:
        """Files that were removed or changed."""
        return [name for name, digest in self.digests.items() if later.digests.get(name) != digest]

    def new_in(self, later: Contents) -> list[str]:
        return sorted(later.digests.keys() - self.digests.keys())


def message_fault(ended: ProcessResult, *, names: Iterable[str], allowed: Iterable[int] = (0, 2)) -> str:
    """The violation in the exit code and output of a run; empty if there is none."""
    lines = [line for line in ended.log.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if ended.stop_reason:
        return ended.stop_reason
    if "Traceback (most recent call last)" in ended.log:
        return f"traceback: {last} {_innermost(ended.log)}"
    if ended.code not in allowed:
        return f"exit code {ended.code}: {_failed(lines) or last}"
    if ended.code == 2:
        return _sentence_fault(lines, names)
    return ""


def file_fault(before: Contents, after: Contents, *, written: Iterable[str], done: bool, output: str) -> str:
    """The violation on the disk: a source changed, an output of a failed run, extra files."""
    if modified := before.modified_in(after):
        return f"changed: {', '.join(modified)}"
    new = set(before.new_in(after))
    results = new & set(written) | {name for name in new if name.startswith(f"{output}/")}
    if results and not done:
        return f"left although it failed: {', '.join(sorted(results))}"
    if done and not results:
        return "succeeded, and wrote nothing"
    state = {
        name for name in new if (match := STATE.fullmatch(name.split("/")[0])) and match["name"] == output
    }
    if extra_files := new - results - (set() if done else state):
        return f"left behind: {', '.join(sorted(extra_files)[:4])}"
    return ""


def decode_fault(folder: Path, names: Iterable[str]) -> str:
    """The error of a second reader, plain PyAV or Pillow in a process of its own, for the written files."""
    paths = [folder / name for name in names]
    ended = fork(lambda: _read_all(paths), folder=folder).wait()
    if ended.code:
        log = ended.log.strip().splitlines()
        return f"cannot be read back: {log[-1] if log else ended.code}"
    return ""


def verification_fault(log: str) -> str:
    """The failed checks of the verification."""
    failed = _failed(log.splitlines())
    return f"the verification fails: {failed}" if failed else ""


def rejection_kind(log: str) -> str:
    """The kind of an error message: its sentence without names and numbers."""
    lines = [line for line in log.splitlines() if line.startswith("freezeframe: ")]
    if not lines:
        return "usage" if "Usage:" in log else ""
    sentence = re.sub(r"\([^)]*\)", "(...)", lines[-1].split(": ", 2)[-1])
    return re.sub(r"\d+(\.\d+)?", "N", re.sub(r"\S*[./]\S+", "NAME", sentence))[:90]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _failed(lines: Iterable[str]) -> str:
    return "; ".join(re.sub(r" {2,}", " ", line) for line in lines if line.startswith("FAIL"))


def _sentence_fault(lines: list[str], names: Iterable[str]) -> str:
    messages = [line for line in lines if line.startswith("freezeframe: ")]
    if not messages:
        return "" if any(line.startswith("Usage:") for line in lines) else f"no sentence: {lines[-1:]}"
    if len(messages) > 1 or messages[0] != lines[-1]:
        return f"more than one sentence: {' / '.join(lines[lines.index(messages[0]) :])[:200]}"
    # Lack of memory concerns no single file.
    if not any(name in messages[0] for name in (*names, "not enough memory")):
        return f"names no file: {messages[0]}"
    if ";" not in messages[0]:
        return f"names no cure: {messages[0]}"
    return ""


def hint_fault(log: str, command: str) -> str:
    """Options in the message that this command does not have."""
    import typer

    from freezeframe.cli import app

    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    known = {option for parameter in parameters for option in parameter.opts}
    messages = " ".join(line for line in log.splitlines() if line.startswith("freezeframe: "))
    unknown = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", messages)) - known
    return f"names an option that {command} does not have: {', '.join(sorted(unknown))}" if unknown else ""


def _innermost(log: str) -> str:
    frames = re.findall(r'File "[^"]*?([\w.-]+/[\w.-]+\.py)", line (\d+)', log)
    ours = [f"{file}:{line}" for file, line in frames if "site-packages" not in file]
    return f"({ours[-1]})" if ours else ""


def _read_all(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.suffix in PHOTO_SUFFIXES:
            _read_photo(path)
        elif path.suffix == ".json":
            path.read_text().encode()
        else:
            _read_video(path)


def _read_photo(path: Path) -> None:
    from PIL import Image

    if path.suffix == ".heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
    with Image.open(path) as image:
        image.load()


def _read_video(path: Path) -> None:
    import av

    # Tags may have an unknown encoding.
    with av.open(str(path), metadata_errors="replace") as container:
        frames = sum(1 for _ in container.decode(video=0))
    if not frames:
        raise SystemExit(f"{path.name}: holds no frame")
