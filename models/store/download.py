"""Download of published checkpoints: resumable, and verified before use."""

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

from . import weights_cache
from .catalog import Release
from .state_dict import read_state

OnProgress = Callable[[int, int | None], None]
"""Called with bytes since the last call (first: of an earlier run) and all bytes (None: unknown)."""

CHUNK = 1 << 20  # bytes per read
_CONNECTION_ERRORS = (http.client.HTTPException, ConnectionError, TimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadConfig:
    """Limits of a download."""

    timeout: float = 30.0  # seconds without data after which a connection counts as broken
    max_attempts: int = 4  # connections
    max_check_bytes: int = 1 << 30  # larger checkpoints without a known SHA-256 are not test-read


RECOMMENDED = DownloadConfig()


class _IncompleteResponse(Exception):
    """The connection ended before the file did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response:
    """The response of a server to a request for a file or its rest."""

    body: Any  # file-like
    start: int  # offset in the file of the first byte sent
    total: int | None  # bytes of the whole file
    validator: str  # ETag or date of this version of the file; empty if the server has none


def fetch(
    release: Release,
    *,
    progress: OnProgress = lambda _done, _total: None,
    config: DownloadConfig = RECOMMENDED,
) -> Path:
    """Download a release into the folder of weights, resuming an interrupted download.

    Args:
        release: A release with a direct link.
        progress: Called with the number of bytes.
        config: Limits of the download.

    Returns:
        The complete file, with the published SHA-256 or, if none is published, the one at first use.

    Raises:
        FreezeframeError: No direct link, no network, or a damaged file; the message names the manual way.
    """
    target = weights_cache.weights_folder() / release.file
    if target.is_file():
        weights_cache.verify_sha256(target)
        return target
    if release.url is None:
        raise FreezeframeError(
            f"{release.name}: has no direct address; {weights_cache.download_hint(release)}"
        )
    part = weights_cache.weights_folder() / "partial" / release.file
    part.parent.mkdir(parents=True, exist_ok=True)
    _complete(release, part, progress, config)
    digest = weights_cache.sha256_of(part)
    _check_digest(release, part, digest, config)
    part.replace(target)
    _validator_file(part).unlink(missing_ok=True)
    stat = target.stat()
    weights_cache.record(
        target.name, sha256=digest, source=release.url, size=stat.st_size, changed=stat.st_mtime_ns
    )
    return target


def _complete(release: Release, part: Path, progress: OnProgress, config: DownloadConfig) -> None:
    """Complete `part`, over several connections as long as each adds bytes."""
    counter = _ProgressCounter(progress)
    for attempt in range(config.max_attempts):
        before = _size(part)
        try:
            _append(release, part, counter, timeout=config.timeout)
            return
        except urllib.error.HTTPError as error:
            raise FreezeframeError(
                f"{release.name}: {release.url} answers {error.code} {error.reason};"
                f" {weights_cache.manual_hint(release)}"
            ) from error
        except (_IncompleteResponse, *_CONNECTION_ERRORS, urllib.error.URLError) as error:
            if attempt + 1 == config.max_attempts or _size(part) <= before:
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
        f"{release.name}: {release.url} cannot be reached ({reason}); {weights_cache.manual_hint(release)}"
    )


def _append(release: Release, part: Path, counter: _ProgressCounter, *, timeout: float) -> None:
    """Request the missing bytes over one connection and append them."""
    response = _request(release, part, timeout=timeout)
    if response is None:
        return
    with contextlib.closing(response.body), part.open("r+b" if response.start else "wb") as file:
        file.truncate(response.start)
        file.seek(response.start)
        write_atomic(json.dumps({"validator": response.validator}).encode(), _validator_file(part))
        _check_disk_space(part, response)
        counter.begin(response.start, response.total)
        received = response.start + _copy_body(response.body, file, counter)
    if response.total is not None and received < response.total:
        raise _IncompleteResponse(f"{response.total - received} bytes are missing")


def _copy_body(body: Any, file: BinaryIO, counter: _ProgressCounter) -> int:
    copied = 0
    while chunk := body.read1(CHUNK):
        file.write(chunk)
        copied += len(chunk)
        counter.advance(len(chunk))
    return copied


def _request(release: Release, part: Path, *, timeout: float) -> _Response | None:
    """Request the missing bytes; None if there are none."""
    received, validator = _size(part), _read_validator(part)
    headers = {"User-Agent": "freezeframe", "Accept-Encoding": "identity"}
    if received and validator:
        # The server sends a file that has changed from its beginning (RFC 9110, 13.1.5).
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
        raise _IncompleteResponse(f"requested from byte {received}, sent from byte {start}")
    return _Response(
        body=response,
        start=start,
        total=_total(response.headers),
        validator=response.headers.get("ETag") or response.headers.get("Last-Modified") or "",
    )


def _checked_url(release: Release) -> str:
    url = release.url or ""
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url} is not an http or https URL")
    return url


def _total(headers: Message) -> int | None:
    """Size of the whole file in bytes (RFC 9110, 14.4)."""
    whole = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+)", headers.get("Content-Range", ""))
    if whole:
        return int(whole[1])
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _first(headers: Message) -> int:
    part = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(part[1]) if part else -1


def _check_disk_space(part: Path, response: _Response) -> None:
    free = shutil.disk_usage(part.parent).free
    needed = (response.total or 0) - response.start
    if needed > free:
        raise FreezeframeError(
            f"{part}: needs {needed / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free;"
            " free some space, or set XDG_CACHE_HOME to a larger disk"
        )


def _check_digest(release: Release, part: Path, digest: str, config: DownloadConfig) -> None:
    expected = weights_cache.expected_sha256(release.file)
    if expected == digest:
        return
    if expected is None:
        _check_readable(release, part, config)
        return
    _discard(part)
    raise FreezeframeError(
        f"{release.name}: the download from {release.url} has SHA-256 {digest[:12]}..., expected"
        f" {expected[:12]}..., and was deleted; try again, and ask its authors if this repeats"
    )


def _check_readable(release: Release, part: Path, config: DownloadConfig) -> None:
    """Refuse error pages and truncated files where no SHA-256 is known."""
    if _size(part) > config.max_check_bytes:
        return
    try:
        read_state(part)
    except UnreadableMedia as error:
        _discard(part)
        raise FreezeframeError(
            f"{release.name}: the download from {release.url} is no checkpoint and was deleted;"
            f" {weights_cache.manual_hint(release)}"
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
        # Weak validators do not guarantee the same bytes (RFC 9110, 13.1.5).
        validator = str(json.loads(_validator_file(part).read_text())["validator"])
        return "" if validator.startswith("W/") else validator
    return ""


class _ProgressCounter:
    """Progress over several connections: bytes of an earlier run are reported once."""

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
