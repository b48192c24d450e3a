"""Weights from their published address: only when asked, resumed where it stopped, checked before use."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO

from freezeframe.data.errors import FreezeframeError, UnreadableMedia
from freezeframe.data.media.files.publish import write_atomic

from . import weights_cache as shelf
from .catalog import Release
from .state_dict import read_state

OnProgress = Callable[[int, int | None], None]
"""Told the bytes since the last call, the first time those that were there before; and all, None: unknown."""

CHUNK = 1 << 20  # bytes
READABLE = 1 << 30  # bytes; larger checkpoints are not read only to see whether they can be
TIMEOUT = 30.0  # seconds of silence
MAX_ATTEMPTS = 4  # connections that may break before the user is asked to try again

_BROKEN = (http.client.HTTPException, ConnectionError, TimeoutError)


class _Broken(Exception):
    """The connection ended before the file did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response:
    """What a server said it will send."""

    body: Any  # readable
    start: int  # bytes of the file before the first that is sent
    total: int | None  # bytes of the whole file
    validator: str  # names this version of the file; empty where the server names none


def fetch(
    release: Release, *, progress: OnProgress = lambda _done, _total: None, timeout: float = TIMEOUT
) -> Path:
    """Download a release into the folder of weights; what an interrupted run has got is not asked for again.

    Args:
        release: One that has an address.
        progress: Told how many bytes came.
        timeout: Seconds of silence after which a connection counts as broken.

    Returns:
        The file, complete and of the pinned SHA-256; where none is pinned, of the one at first use.

    Raises:
        FreezeframeError: No address, no network, a damaged file; says what can be done by hand.
    """
    target = shelf.weights_folder() / release.file
    if target.is_file():
        shelf.verify_sha256(target)
        return target
    if release.url is None:
        raise FreezeframeError(f"{release.name}: has no direct address; {shelf.download_hint(release)}")
    part = shelf.weights_folder() / "partial" / release.file
    part.parent.mkdir(parents=True, exist_ok=True)
    _complete(release, part, progress=progress, timeout=timeout)
    digest = shelf.sha256_of(part)
    _check_digest(release, part, digest)
    part.replace(target)
    _validator_file(part).unlink(missing_ok=True)
    stat = target.stat()
    shelf.record(target.name, sha256=digest, source=release.url, size=stat.st_size, changed=stat.st_mtime_ns)
    return target


def _complete(release: Release, part: Path, *, progress: OnProgress, timeout: float) -> None:
    """Fill `part`, over as many connections as it takes, as long as they bring something."""
    counter = _ProgressCounter(progress)
    for attempt in range(MAX_ATTEMPTS):
        before = _size(part)
        try:
            _append(release, part, counter, timeout=timeout)
            return
        except urllib.error.HTTPError as error:
            raise FreezeframeError(
                f"{release.name}: {release.url} answers {error.code} {error.reason};"
                f" {shelf.manual_hint(release)}"
            ) from error
        except (_Broken, *_BROKEN, urllib.error.URLError) as error:
            if attempt + 1 == MAX_ATTEMPTS or _size(part) <= before:
                raise _unreachable(release, part, error) from error


def _unreachable(release: Release, part: Path, error: Exception) -> FreezeframeError:
    reason = str(getattr(error, "reason", error)) or type(error).__name__
    received = _size(part)
    if received:
        return FreezeframeError(
            f"{release.name}: the connection broke after {received / 1e6:.1f} MB ({reason});"
            " rerun the same command to resume"
        )
    return FreezeframeError(
        f"{release.name}: {release.url} cannot be reached ({reason}); {shelf.manual_hint(release)}"
    )


def _append(release: Release, part: Path, counter: _ProgressCounter, *, timeout: float) -> None:
    """One connection: ask for what is missing and write what comes."""
    answer = _request(release, part, timeout=timeout)
    if answer is None:
        return
    with contextlib.closing(answer.body), part.open("r+b" if answer.start else "wb") as file:
        file.truncate(answer.start)
        file.seek(answer.start)
        write_atomic(json.dumps({"validator": answer.validator}).encode(), _validator_file(part))
        _check_disk_space(part, answer)
        counter.begin(answer.start, answer.total)
        received = answer.start + _copy_body(answer.body, file, counter)
    if answer.total is not None and received < answer.total:
        raise _Broken(f"{answer.total - received} bytes are missing")


def _copy_body(body: Any, file: BinaryIO, counter: _ProgressCounter) -> int:
    copied = 0
    while chunk := body.read1(CHUNK):
        file.write(chunk)
        copied += len(chunk)
        counter.advance(len(chunk))
    return copied


def _request(release: Release, part: Path, *, timeout: float) -> _Response | None:
    """Ask for the bytes that are missing; None where none are."""
    received, validator = _size(part), _read_validator(part)
    headers = {"User-Agent": "freezeframe", "Accept-Encoding": "identity"}
    if received and validator:
        # A file that has changed meanwhile is sent from its beginning.
        headers |= {"Range": f"bytes={received}-", "If-Range": validator}
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(_checked_url(release), headers=headers), timeout=timeout
        )
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if _total(error.headers) == received:
            return None
        part.unlink()
        return _request(release, part, timeout=timeout)
    resumed = response.status == 206
    start = _first(response.headers) if resumed else 0
    if start not in (0, received):
        raise _Broken(f"asked for byte {received} on, sent {start} on")
    return _Response(
        body=response,
        start=start,
        total=_total(response.headers),
        validator=response.headers.get("ETag") or response.headers.get("Last-Modified") or "",
    )


def _checked_url(release: Release) -> str:
    url = release.url or ""
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url} is no address of the web")
    return url


def _total(headers: Message) -> int | None:
    """Bytes of the whole file (RFC 9110, 14.4)."""
    whole = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+)", headers.get("Content-Range", ""))
    if whole:
        return int(whole[1])
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _first(headers: Message) -> int:
    part = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(part[1]) if part else -1


def _check_disk_space(part: Path, answer: _Response) -> None:
    free = shutil.disk_usage(part.parent).free
    needed = (answer.total or 0) - answer.start
    if needed > free:
        raise FreezeframeError(
            f"{part}: {needed / 1e9:.1f} GB are to come and {free / 1e9:.1f} GB are free;"
            " free some space, or set XDG_CACHE_HOME to a larger disk"
        )


def _check_digest(release: Release, part: Path, digest: str) -> None:
    expected = shelf.expected_sha256(release.file)
    if expected == digest:
        return
    if expected is None:
        _check_readable(release, part)
        return
    _discard(part)
    raise FreezeframeError(
        f"{release.name}: what came from {release.url} has SHA-256 {digest[:12]}..., not"
        f" {expected[:12]}..., and was thrown away; try again, and ask its authors if that goes on"
    )


def _check_readable(release: Release, part: Path) -> None:
    """A page that says "not found" is no checkpoint, and what was cut short without a word is none either."""
    if _size(part) > READABLE:
        return
    try:
        read_state(part)
    except UnreadableMedia as error:
        _discard(part)
        raise FreezeframeError(
            f"{release.name}: what came from {release.url} is no checkpoint and was thrown away;"
            f" {shelf.manual_hint(release)}"
        ) from error


def _discard(part: Path) -> None:
    part.unlink()
    _validator_file(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _validator_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_validator(part: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        # Weak validators do not promise the same bytes (RFC 9110, 13.1.5).
        validator = str(json.loads(_validator_file(part).read_text())["validator"])
        return "" if validator.startswith("W/") else validator
    return ""


class _ProgressCounter:
    """Progress over several connections: what was there is told once, then only what comes."""

    def __init__(self, progress: OnProgress) -> None:
        self._progress = progress
        self._total: int | None = None
        self._started = False

    def begin(self, start: int, total: int | None) -> None:
        self._total = total
        if not self._started:
            self._started = True
            self._progress(start, total)

    def advance(self, count: int) -> None:
        self._progress(count, self._total)
