"""Downloads from a local HTTP server with broken connections, wrong sizes and changed files."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from freezeframe.data.errors import FreezeframeError, UnreadableMedia
from freezeframe.models.store import weights_cache
from freezeframe.models.store.catalog import CATALOGUE, Release
from freezeframe.models.store.download import DownloadConfig, fetch


def weights(seed: int = 0, *, numbers: int = 100_000) -> bytes:
    """A checkpoint of 400 kB."""
    file = io.BytesIO()
    values = torch.randn(numbers, generator=torch.Generator().manual_seed(seed))
    torch.save({"params": {"intro.weight": values}}, file)
    return file.getvalue()


@dataclass
class Server:
    """Serves one file with ranges (RFC 9110, 14) and injects failures."""

    content: bytes
    etag: str = '"one"'
    breaks_after: list[int] = field(default_factory=list)  # bytes, of the next answers
    tells_length: bool = True
    status: int = 200
    ranges: list[str | None] = field(default_factory=list)  # Range of each request
    sent: int = 0
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        requested_range = handler.headers.get("Range")
        self.ranges.append(requested_range)
        if self.status != 200:
            handler.send_error(self.status)
            return
        start = self._start(handler, requested_range)
        if start is None:
            return
        body = self.content[start:]
        if self.breaks_after:
            body = body[: self.breaks_after.pop(0)]
        handler.wfile.write(body)
        self.sent += len(body)

    def _start(self, handler: BaseHTTPRequestHandler, requested_range: str | None) -> int | None:
        start, whole = 0, len(self.content)
        if requested_range and handler.headers.get("If-Range") == self.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-", requested_range)[1])
            if start >= whole:
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{whole}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return None
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        else:
            handler.send_response(200)
        if self.tells_length:
            handler.send_header("Content-Length", str(whole - start))
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.end_headers()
        return start


@pytest.fixture
def server():
    served = Server(weights())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            served.answer(self)

        def log_message(self, *_words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served.url = f"http://127.0.0.1:{listening.server_port}/weights.pth"
        yield served
        listening.shutdown()
        thread.join()


@pytest.fixture
def release(server, tmp_path, monkeypatch) -> Release:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Release(
        name="some-net",
        target="noise",
        task="noise",
        architecture="SomeNet",
        file="some_net.pth",
        url=server.url,
        homepage="the shop around the corner",
        licence="MIT",
    )


def ours() -> list[str]:
    """Everything in the folder of weights but the manifest."""
    place = weights_cache.weights_folder()
    files = [file for file in place.rglob("*") if file.is_file() and file.name != weights_cache.MANIFEST]
    return sorted(str(file.relative_to(place)) for file in files)


def test_a_file_arrives_whole_under_its_authors_name_and_its_hash_is_kept(server, release):
    progress_calls = []
    path = fetch(release, progress=lambda done, total: progress_calls.append((done, total)))
    assert path == weights_cache.weights_folder() / "some_net.pth"
    assert path.read_bytes() == server.content
    assert ours() == ["some_net.pth"]
    assert progress_calls[0] == (0, len(server.content))
    assert sum(done for done, _ in progress_calls) == len(server.content)
    assert (
        weights_cache.read_manifest()["some_net.pth"]["sha256"] == hashlib.sha256(server.content).hexdigest()
    )
    assert weights_cache.read_manifest()["some_net.pth"]["source"] == server.url


def test_what_is_here_is_not_asked_for_again(server, release):
    fetch(release)
    fetch(release)
    assert server.ranges == [None]


def test_a_broken_connection_is_taken_up_at_the_byte_where_it_broke(server, release):
    server.breaks_after = [150_000, 100_000]
    path = fetch(release)
    assert path.read_bytes() == server.content
    assert server.ranges == [None, "bytes=150000-", "bytes=250000-"]
    assert server.sent == len(server.content), "no byte is sent twice"


def test_an_interrupted_run_goes_on_where_it_stopped(server, release):
    def stop(done: int, _total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    server.breaks_after = [150_000]
    with pytest.raises(KeyboardInterrupt):
        fetch(release, progress=stop)
    assert "some_net.pth" not in ours(), "nothing incomplete appears under the name"
    partial_bytes = (weights_cache.weights_folder() / "partial" / "some_net.pth").stat().st_size
    assert partial_bytes > 0
    progress_calls = []
    path = fetch(release, progress=lambda done, total: progress_calls.append((done, total)))
    assert path.read_bytes() == server.content
    assert server.ranges[1:] == [f"bytes={partial_bytes}-"]
    assert progress_calls[0] == (partial_bytes, len(server.content)), (
        "an estimate of the time left needs what was there before"
    )


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(server, release):
    server.breaks_after = [150_000, 0]
    with pytest.raises(FreezeframeError, match=r"broke after 0\.\d MB.*rerun the same command to resume"):
        fetch(release)
    server.content, server.etag = weights(seed=1), '"two"'
    assert fetch(release).read_bytes() == server.content


def test_a_server_that_names_no_version_is_not_trusted_with_a_part(server, release):
    server.etag = ""
    server.breaks_after = [150_000]
    fetch(release)
    assert server.ranges == [None, None]


def test_a_partial_file_that_was_whole_already_needs_no_more_bytes(server, release):
    part = weights_cache.weights_folder() / "partial" / "some_net.pth"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.content)
    part.with_name("some_net.pth.json").write_text(json.dumps({"validator": server.etag}))
    assert fetch(release).read_bytes() == server.content
    assert server.sent == 0


def test_a_partial_file_longer_than_the_whole_is_begun_anew(server, release):
    part = weights_cache.weights_folder() / "partial" / "some_net.pth"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.content + b"more")
    part.with_name("some_net.pth.json").write_text(json.dumps({"validator": server.etag}))
    assert fetch(release).read_bytes() == server.content


def test_the_pinned_hash_lets_its_file_in_and_throws_any_other_away(server, release, monkeypatch):
    pinned = replace(release, sha256=hashlib.sha256(server.content).hexdigest())
    monkeypatch.setitem(CATALOGUE, pinned.name, pinned)
    fetch(pinned)
    (weights_cache.weights_folder() / "some_net.pth").unlink()
    server.content = weights(seed=2)
    with pytest.raises(FreezeframeError, match=r"some-net: the download from http.*was deleted; try again"):
        fetch(pinned)
    assert ours() == []


def test_a_second_download_must_be_what_the_first_was(server, release):
    fetch(release).unlink()
    server.content = weights(seed=2)
    with pytest.raises(FreezeframeError, match="has SHA-256"):
        fetch(release)
    assert ours() == []


@pytest.mark.parametrize(
    "content",
    [b"<html>Not found</html>", weights()[:200_000]],
    ids=["a page of words", "cut short without a length to tell"],
)
def test_what_is_no_checkpoint_is_thrown_away(server, release, content):
    server.content, server.tells_length = content, False
    with pytest.raises(FreezeframeError, match=r"is no checkpoint.*put it at .*some_net\.pth"):
        fetch(release)
    assert ours() == []


@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_refusal_says_what_the_server_said_and_what_to_do_by_hand(server, release, status):
    server.status = status
    with pytest.raises(
        FreezeframeError, match=rf"answers {status} .*by other means and put it at .*some_net\.pth"
    ):
        fetch(release)


def test_without_a_network_one_sentence_says_where_the_file_goes(release):
    # A closed port exists on every machine, with or without a network.
    offline = replace(release, url="http://127.0.0.1:9/weights.pth")
    with pytest.raises(FreezeframeError) as progress_calls:
        fetch(offline)
    assert re.search(
        r"cannot be reached \(.+\); download some_net.pth by other means and", str(progress_calls.value)
    )
    assert str(weights_cache.weights_folder() / "some_net.pth") in str(progress_calls.value)
    assert "\n" not in str(progress_calls.value)


def test_a_silent_server_counts_as_broken(release):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/weights.pth"
        with pytest.raises(FreezeframeError, match=r"cannot be reached \(timed out\)"):
            fetch(replace(release, url=url), config=DownloadConfig(timeout=0.1))


def test_only_the_web_is_asked(release, tmp_path):
    with pytest.raises(ValueError, match="is not an http or https URL"):
        fetch(replace(release, url=f"file://{tmp_path}/weights.pth"))


def test_what_has_no_address_is_fetched_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(FreezeframeError, match=r"hair-3: .*download hair3d\.ckpt from .*models add"):
        fetch(CATALOGUE["hair-3"])


def test_a_file_laid_there_by_hand_is_found_under_the_releases_name(server, release, monkeypatch):
    monkeypatch.setitem(CATALOGUE, release.name, release)
    weights_cache.weights_folder().mkdir(parents=True)
    path = weights_cache.weights_folder() / release.file
    path.write_bytes(server.content)
    assert weights_cache.find("some-net").path == path
    assert fetch(release) == path
    assert server.ranges == []


def test_a_file_that_changes_after_its_first_use_is_refused(server, release, monkeypatch):
    monkeypatch.setitem(CATALOGUE, release.name, release)
    path = fetch(release)
    weights_cache.find("some-net")
    path.write_bytes(weights(seed=3, numbers=99_999))
    with pytest.raises(FreezeframeError, match=r"some_net\.pth: its SHA-256 is .*, expected"):
        weights_cache.find("some-net")


def test_what_is_not_here_says_how_to_get_it(release):
    with pytest.raises(UnreadableMedia, match="models fetch swinir-color-noise25"):
        weights_cache.find("swinir-color-noise25")
    with pytest.raises(UnreadableMedia, match=r"models add NAFNet-GoPro-width64\.pth"):
        weights_cache.find("nafnet-gopro-64")
    with pytest.raises(UnreadableMedia, match="models list"):
        weights_cache.find("no-such-net")


def test_every_release_has_a_name_and_a_file_of_its_own_and_a_way_to_get_it():
    releases = list(CATALOGUE.values())
    assert len({release.file for release in releases}) == len(releases) == len(CATALOGUE)
    for release in releases:
        assert release.url is None or release.url.endswith("/" + release.file)
        assert release.homepage.startswith("https://")
        assert release.licence
        assert (release.scale > 1) == (release.target == "size")


def test_the_catalogue_holds_the_whole_table_of_swinir():
    names = [release.file for release in CATALOGUE.values() if release.file[:3].isdecimal()]
    counts = {
        stem: sum(name.startswith(stem) for name in names) for stem in ("001", "002", "003", "004", "005")
    }
    assert counts == {"001": 8, "002": 3, "003": 2, "004": 3, "005": 3}
    assert sum(name.startswith("006_CAR") for name in names) == 4
    assert sum(name.startswith("006_colorCAR") for name in names) == 4
