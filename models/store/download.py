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
from freezeframe.data.media.files.publish import save

from . import weights_cache as shelf
from .catalog import Release
from .state_dict import read_state

Advance = Callable[[int, int | None], None]
"""Told the bytes since the last call, the first time those that were there before; and all, None: unknown."""

CHUNK = 1 << 20  # bytes
READABLE = 1 << 30  # bytes; larger checkpoints are not read only to see whether they can be
TIMEOUT = 30.0  # seconds of silence
TURNS = 4  # connections that may break before the user is asked to try again

_BROKEN = (http.client.HTTPException, ConnectionError, TimeoutError)


class _Broken(Exception):
    """The connection ended before the file did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What a server said it will send."""

    body: Any  # readable
    start: int  # bytes of the file before the first that is sent
    total: int | None  # bytes of the whole file
    stamp: str  # names this version of the file; empty where the server names none


def fetch(
    release: Release, *, progress: Advance = lambda _done, _total: None, timeout: float = TIMEOUT
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
    target = shelf.folder() / release.file
    if target.is_file():
        shelf.vouch(target)
        return target
    if release.address is None:
        raise FreezeframeError(f"{release.name}: has no direct address; {shelf.how_to_get(release)}")
    part = shelf.folder() / "partial" / release.file
    part.parent.mkdir(parents=True, exist_ok=True)
    _complete(release, part, progress=progress, timeout=timeout)
    found = shelf.sha256_of(part)
    _refuse_wrong(release, part, found)
    part.replace(target)
    _stamp_file(part).unlink(missing_ok=True)
    facts = target.stat()
    shelf.enter(
        target.name, sha256=found, source=release.address, size=facts.st_size, changed=facts.st_mtime_ns
    )
    return target


def _complete(release: Release, part: Path, *, progress: Advance, timeout: float) -> None:
    """Fill `part`, over as many connections as it takes, as long as they bring something."""
    telling = _Telling(progress)
    for turn in range(TURNS):
        before = _size(part)
        try:
            _append(release, part, telling, timeout=timeout)
            return
        except urllib.error.HTTPError as error:
            raise FreezeframeError(
                f"{release.name}: {release.address} answers {error.code} {error.reason};"
                f" {shelf.by_hand(release)}"
            ) from error
        except (_Broken, *_BROKEN, urllib.error.URLError) as error:
            if turn + 1 == TURNS or _size(part) <= before:
                raise _unreachable(release, part, error) from error


def _unreachable(release: Release, part: Path, error: Exception) -> FreezeframeError:
    reason = str(getattr(error, "reason", error)) or type(error).__name__
    got = _size(part)
    if got:
        return FreezeframeError(
            f"{release.name}: the connection broke after {got / 1e6:.1f} MB ({reason});"
            " rerun the same command to resume"
        )
    return FreezeframeError(
        f"{release.name}: {release.address} cannot be reached ({reason}); {shelf.by_hand(release)}"
    )


def _append(release: Release, part: Path, telling: _Telling, *, timeout: float) -> None:
    """One connection: ask for what is missing and write what comes."""
    answer = _ask(release, part, timeout=timeout)
    if answer is None:
        return
    with contextlib.closing(answer.body), part.open("r+b" if answer.start else "wb") as file:
        file.truncate(answer.start)
        file.seek(answer.start)
        save(json.dumps({"stamp": answer.stamp}).encode(), _stamp_file(part))
        _refuse_full_disk(part, answer)
        telling.begin(answer.start, answer.total)
        got = answer.start + _pour(answer.body, file, telling)
    if answer.total is not None and got < answer.total:
        raise _Broken(f"{answer.total - got} bytes are missing")


def _pour(body: Any, file: BinaryIO, telling: _Telling) -> int:
    poured = 0
    while chunk := body.read1(CHUNK):
        file.write(chunk)
        poured += len(chunk)
        telling.more(len(chunk))
    return poured


def _ask(release: Release, part: Path, *, timeout: float) -> _Answer | None:
    """Ask for the bytes that are missing; None where none are."""
    got, stamp = _size(part), _read_stamp(part)
    headers = {"User-Agent": "freezeframe", "Accept-Encoding": "identity"}
    if got and stamp:
        # A file that has changed meanwhile is sent from its beginning.
        headers |= {"Range": f"bytes={got}-", "If-Range": stamp}
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(_web(release), headers=headers), timeout=timeout
        )
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if _total(error.headers) == got:
            return None
        part.unlink()
        return _ask(release, part, timeout=timeout)
    resumed = response.status == 206
    start = _first(response.headers) if resumed else 0
    if start not in (0, got):
        raise _Broken(f"asked for byte {got} on, sent {start} on")
    return _Answer(
        body=response,
        start=start,
        total=_total(response.headers),
        stamp=response.headers.get("ETag") or response.headers.get("Last-Modified") or "",
    )


def _web(release: Release) -> str:
    address = release.address or ""
    if not address.startswith(("https://", "http://")):
        raise ValueError(f"{address} is no address of the web")
    return address


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


def _refuse_full_disk(part: Path, answer: _Answer) -> None:
    free = shutil.disk_usage(part.parent).free
    needed = (answer.total or 0) - answer.start
    if needed > free:
        raise FreezeframeError(
            f"{part}: {needed / 1e9:.1f} GB are to come and {free / 1e9:.1f} GB are free;"
            " free some space, or set XDG_CACHE_HOME to a larger disk"
        )


def _refuse_wrong(release: Release, part: Path, found: str) -> None:
    expected = shelf.expected_sha256(release.file)
    if expected == found:
        return
    if expected is None:
        _refuse_no_weights(release, part)
        return
    _throw_away(part)
    raise FreezeframeError(
        f"{release.name}: what came from {release.address} has SHA-256 {found[:12]}..., not"
        f" {expected[:12]}..., and was thrown away; try again, and ask its authors if that goes on"
    )


def _refuse_no_weights(release: Release, part: Path) -> None:
    """A page that says "not found" is no checkpoint, and what was cut short without a word is none either."""
    if _size(part) > READABLE:
        return
    try:
        read_state(part)
    except UnreadableMedia as error:
        _throw_away(part)
        raise FreezeframeError(
            f"{release.name}: what came from {release.address} is no checkpoint and was thrown away;"
            f" {shelf.by_hand(release)}"
        ) from error


def _throw_away(part: Path) -> None:
    part.unlink()
    _stamp_file(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _stamp_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_stamp(part: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        # Weak validators do not promise the same bytes (RFC 9110, 13.1.5).
        stamp = str(json.loads(_stamp_file(part).read_text())["stamp"])
        return "" if stamp.startswith("W/") else stamp
    return ""


class _Telling:
    """Progress over several connections: what was there is told once, then only what comes."""

    def __init__(self, progress: Advance) -> None:
        self._progress = progress
        self._total: int | None = None
        self._begun = False

    def begin(self, start: int, total: int | None) -> None:
        self._total = total
        if not self._begun:
            self._begun = True
            self._progress(start, total)

    def more(self, count: int) -> None:
        self._progress(count, self._total)
