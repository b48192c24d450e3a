"""The folder of weights on this machine, and a ledger of what each file was when it was first used."""

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
BUNDLED = Path(__file__).resolve().parents[1] / "weights"  # what comes with the package


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A file of weights on this machine."""

    name: str  # of the release, else of the file
    path: Path
    release: Release | None = None


REFINER = Weights(
    name="refiner",
    path=BUNDLED / "refiner.safetensors",
    release=Release(
        name="refiner",
        target="all_in_one",
        task="noise, JPEG and blur in one; comes with freezeframe",
        architecture="refiner",
        file="refiner.safetensors",
        url=None,
        homepage="https://pypi.org/project/freezeframe",
        licence="Apache-2.0",
    ),
)


def available() -> list[Weights]:
    """What comes with the package, where it does, and all that is in the folder."""
    return [*([REFINER] if REFINER.path.is_file() else []), *installed().values()]


def weights_folder() -> Path:
    """Where weights are kept: `models` in freezeframe's cache folder. It need not exist yet."""
    cache = cache_dir()
    if cache is None:
        raise FreezeframeError("there is no folder to keep weights in; set XDG_CACHE_HOME to one")
    return cache / "models"


def installed() -> dict[str, Weights]:
    """Everything in the folder, by name, whether it was fetched, added or put there by hand."""
    path = weights_folder()
    files = sorted(path.iterdir()) if path.is_dir() else []
    entries = [_weights(file) for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
    return {weights.name: weights for weights in entries}


def find(name: str) -> Weights:
    """The weights that a user means: a name of the catalogue or of the folder, else a file anywhere.

    Raises:
        UnreadableMedia: Nothing of that name is here; says how to get it.
        FreezeframeError: The file in the folder is not what it was when it was first used.
    """
    if name == REFINER.name and REFINER.path.is_file():
        return REFINER
    known = installed().get(name)
    if known is not None:
        verify_sha256(known.path)
        return known
    path = Path(name)
    if path.is_file():
        return Weights(name=path.stem, path=path, release=find_release(path.name))
    if name in CATALOGUE:
        raise UnreadableMedia(f"{name}: is not on this machine; {download_hint(CATALOGUE[name])}")
    matches = get_close_matches(name, [*CATALOGUE, *installed()], n=2)
    hint = f"; did you mean {' or '.join(matches)}?" if matches else ""
    raise UnreadableMedia(
        f"{name}: is neither a file nor a known model; `freezeframe models list` names those that are{hint}"
    )


def download_hint(release: Release) -> str:
    """What the user does to have these weights, as the end of a sentence."""
    if release.url:
        return f"run: freezeframe models fetch {release.name}"
    return f"take {release.file} from {release.homepage} and run: freezeframe models add {release.file}"


def manual_hint(release: Release) -> str:
    """Where to put the file without a network, as the end of a sentence."""
    return f"get {release.file} elsewhere and put it at {weights_folder() / release.file}"


def verify_sha256(path: Path) -> str:
    """The SHA-256 of a file in the folder: recorded at first use, compared whenever the file has changed.

    Raises:
        FreezeframeError: It is another file than at first, or not the one that its authors published.
    """
    manifest = read_manifest()
    known = manifest.get(path.name, {})
    stat = path.stat()
    stamp = {"size": stat.st_size, "changed": stat.st_mtime_ns}
    if known.get("sha256") and {key: known.get(key) for key in stamp} == stamp:
        return str(known["sha256"])
    digest = sha256_of(path)
    check_sha256(path, digest, expected=expected_sha256(path.name))
    write_manifest({**manifest, path.name: {**known, **stamp, "sha256": digest}})
    return digest


def expected_sha256(file: str) -> str | None:
    """What is pinned for a file of this name, else what it was at first use, else None."""
    release = find_release(file)
    if release is not None and release.sha256:
        return release.sha256
    recorded = read_manifest().get(file, {}).get("sha256")
    return str(recorded) if recorded else None


def check_sha256(path: Path, digest: str, *, expected: str | None) -> None:
    """Raise FreezeframeError where a file is not the expected one."""
    if expected is not None and digest != expected:
        raise FreezeframeError(
            f"{path}: its SHA-256 is {digest[:12]}..., not {expected[:12]}... as it should be;"
            " delete it and get it again, or run `freezeframe models add` if you mean to use another file"
        )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file of any size, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest() -> dict[str, Any]:
    """What is known of each file of the folder, by its name; empty where there is nothing readable."""
    with contextlib.suppress(OSError, ValueError):
        known = json.loads((weights_folder() / MANIFEST).read_text())
        if isinstance(known, dict):
            return {name: fields for name, fields in known.items() if isinstance(fields, dict)}
    return {}


def write_manifest(known: Mapping[str, Any]) -> None:
    """Replace the ledger, all or nothing."""
    path = weights_folder()
    path.mkdir(parents=True, exist_ok=True)
    write_atomic((json.dumps(known, indent=2) + "\n").encode(), path / MANIFEST)


def record(file: str, **fields: Any) -> None:
    """Write `fields` about one file into the ledger, beside what is known of it."""
    manifest = read_manifest()
    write_manifest({**manifest, file: {**manifest.get(file, {}), **fields}})


def _weights(file: Path) -> Weights:
    release = find_release(file.name)
    return Weights(name=release.name if release else file.stem, path=file, release=release)
