"""The folder of checkpoints on this machine, and a manifest of their SHA-256 at first use."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from freezeframe.data.errors import FreezeframeError, UnreadableMedia
from freezeframe.data.media.files.cache_dir import cache_dir
from freezeframe.data.media.files.publish import write_atomic

from .catalog import CATALOGUE, Release, find_release

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
MANIFEST = "ledger.json"
BUNDLED = Path(__file__).resolve().parents[1] / "weights"  # weights of the package


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A checkpoint file on this machine."""

    name: str  # of the release, else stem of the file
    path: Path
    release: Release | None = None


REFINER = Weights(
    name="refiner",
    path=BUNDLED / "refiner.safetensors",
    release=Release(
        name="refiner",
        target="all_in_one",
        task="noise, JPEG and blur in one; bundled with freezeframe",
        architecture="refiner",
        file="refiner.safetensors",
        url=None,
        homepage="https://pypi.org/project/freezeframe",
        licence="Apache-2.0",
    ),
)


def available() -> list[Weights]:
    """The bundled refiner and every checkpoint in the folder."""
    return [*([REFINER] if REFINER.path.is_file() else []), *installed().values()]


def weights_folder() -> Path:
    """The folder `models` in freezeframe's cache folder; it may not exist yet."""
    cache = cache_dir()
    if cache is None:
        raise FreezeframeError("there is no cache folder for weights; set XDG_CACHE_HOME to a folder")
    return cache / "models"


def installed() -> dict[str, Weights]:
    """Every checkpoint in the folder by name, whether downloaded, added or copied there by hand."""
    path = weights_folder()
    files = sorted(path.iterdir()) if path.is_dir() else []
    entries = [_weights(file) for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
    return {weights.name: weights for weights in entries}


def find(name: str) -> Weights:
    """Resolve a name of the catalogue or of the folder, else a path, to a checkpoint.

    Raises:
        UnreadableMedia: No such checkpoint on this machine; the message names the command that downloads it.
        FreezeframeError: The SHA-256 of the file in the folder has changed since first use.
    """
    if name == REFINER.name and REFINER.path.is_file():
        return REFINER
    weights = installed().get(name)
    if weights is not None:
        verify_sha256(weights.path)
        return weights
    path = Path(name)
    if path.is_file():
        return Weights(name=path.stem, path=path, release=find_release(path.name))
    if name in CATALOGUE:
        raise UnreadableMedia(f"{name}: is not on this machine; {download_hint(CATALOGUE[name])}")
    matches = get_close_matches(name, [*CATALOGUE, *installed()], n=2)
    hint = f"; did you mean {' or '.join(matches)}?" if matches else ""
    raise UnreadableMedia(f"{name}: is neither a file nor a known model; see `freezeframe models list`{hint}")


def download_hint(release: Release) -> str:
    """How to install these weights, as the end of an error message."""
    if release.url:
        return f"run: freezeframe models fetch {release.name}"
    return f"download {release.file} from {release.homepage} and run: freezeframe models add {release.file}"


def manual_hint(release: Release) -> str:
    """Where to copy the file by hand, as the end of an error message."""
    return f"download {release.file} by other means and put it at {weights_folder() / release.file}"


def verify_sha256(path: Path) -> str:
    """The SHA-256 of a file in the folder: recorded at first use, compared when size or time have changed.

    Raises:
        FreezeframeError: The file differs from first use, or from the published SHA-256.
    """
    manifest = read_manifest()
    entry = manifest.get(path.name, {})
    stat = path.stat()
    stamp = {"size": stat.st_size, "changed": stat.st_mtime_ns}
    if entry.get("sha256") and {key: entry.get(key) for key in stamp} == stamp:
        return str(entry["sha256"])
    digest = sha256_of(path)
    check_sha256(path, digest, expected=expected_sha256(path.name))
    write_manifest({**manifest, path.name: {**entry, **stamp, "sha256": digest}})
    return digest


def expected_sha256(file: str) -> str | None:
    """The published SHA-256 of a file of this name, else that at first use, else None."""
    release = find_release(file)
    if release is not None and release.sha256:
        return release.sha256
    recorded = read_manifest().get(file, {}).get("sha256")
    return str(recorded) if recorded else None


def check_sha256(path: Path, digest: str, *, expected: str | None) -> None:
    """Raise FreezeframeError if `digest` differs from `expected`; None expects nothing."""
    if expected is not None and digest != expected:
        raise FreezeframeError(
            f"{path}: its SHA-256 is {digest[:12]}..., expected {expected[:12]}...;"
            " delete it and download it again, or run `freezeframe models add` to use another file"
        )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file of any size, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest() -> dict[str, Any]:
    """The recorded fields of each file in the folder by name; empty if there is no readable manifest."""
    with contextlib.suppress(OSError, ValueError):
        entries = json.loads((weights_folder() / MANIFEST).read_text())
        if isinstance(entries, dict):
            return {name: fields for name, fields in entries.items() if isinstance(fields, dict)}
    return {}


def write_manifest(entries: Mapping[str, Any]) -> None:
    """Replace the manifest atomically."""
    path = weights_folder()
    path.mkdir(parents=True, exist_ok=True)
    write_atomic((json.dumps(entries, indent=2) + "\n").encode(), path / MANIFEST)


def record(file: str, **fields: Any) -> None:
    """Add `fields` to the manifest entry of one file."""
    manifest = read_manifest()
    write_manifest({**manifest, file: {**manifest.get(file, {}), **fields}})


def _weights(file: Path) -> Weights:
    release = find_release(file.name)
    return Weights(name=release.name if release else file.stem, path=file, release=release)
