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
from freezeframe.data.media.files.publish import save

from .catalog import CATALOGUE, Release, release_of

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
LEDGER = "ledger.json"
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
        cures="several",
        task="noise, JPEG and blur in one; comes with freezeframe",
        architecture="refiner",
        file="refiner.safetensors",
        address=None,
        page="https://pypi.org/project/freezeframe",
        licence="Apache-2.0",
    ),
)


def at_hand() -> list[Weights]:
    """What comes with the package, where it does, and all that is in the folder."""
    return [*([REFINER] if REFINER.path.is_file() else []), *present().values()]


def folder() -> Path:
    """Where weights are kept: `models` in freezeframe's cache folder. It need not exist yet."""
    cache = cache_dir()
    if cache is None:
        raise FreezeframeError("there is no folder to keep weights in; set XDG_CACHE_HOME to one")
    return cache / "models"


def present() -> dict[str, Weights]:
    """Everything in the folder, by name, whether it was fetched, added or put there by hand."""
    place = folder()
    files = sorted(place.iterdir()) if place.is_dir() else []
    found = [_weights(file) for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
    return {weights.name: weights for weights in found}


def find(name: str) -> Weights:
    """The weights that a user means: a name of the catalogue or of the folder, else a file anywhere.

    Raises:
        UnreadableMedia: Nothing of that name is here; says how to get it.
        FreezeframeError: The file in the folder is not what it was when it was first used.
    """
    if name == REFINER.name and REFINER.path.is_file():
        return REFINER
    known = present().get(name)
    if known is not None:
        vouch(known.path)
        return known
    path = Path(name)
    if path.is_file():
        return Weights(name=path.stem, path=path, release=release_of(path.name))
    if name in CATALOGUE:
        raise UnreadableMedia(f"{name}: is not on this machine; {how_to_get(CATALOGUE[name])}")
    near = get_close_matches(name, [*CATALOGUE, *present()], n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UnreadableMedia(
        f"{name}: is neither a file nor a known model; `freezeframe models list` names those that are{hint}"
    )


def how_to_get(release: Release) -> str:
    """What the user does to have these weights, as the end of a sentence."""
    if release.address:
        return f"run: freezeframe models fetch {release.name}"
    return f"take {release.file} from {release.page} and run: freezeframe models add {release.file}"


def by_hand(release: Release) -> str:
    """Where to put the file without a network, as the end of a sentence."""
    return f"get {release.file} elsewhere and put it at {folder() / release.file}"


def vouch(path: Path) -> str:
    """The SHA-256 of a file in the folder: recorded at first use, compared whenever the file has changed.

    Raises:
        FreezeframeError: It is another file than at first, or not the one that its authors published.
    """
    ledger = read_ledger()
    known = ledger.get(path.name, {})
    facts = path.stat()
    seen = {"size": facts.st_size, "changed": facts.st_mtime_ns}
    if known.get("sha256") and {key: known.get(key) for key in seen} == seen:
        return str(known["sha256"])
    found = sha256_of(path)
    check(path, found, expected=expected_sha256(path.name))
    write_ledger({**ledger, path.name: {**known, **seen, "sha256": found}})
    return found


def expected_sha256(file: str) -> str | None:
    """What is pinned for a file of this name, else what it was at first use, else None."""
    release = release_of(file)
    if release is not None and release.sha256:
        return release.sha256
    recorded = read_ledger().get(file, {}).get("sha256")
    return str(recorded) if recorded else None


def check(path: Path, found: str, *, expected: str | None) -> None:
    """Raise FreezeframeError where a file is not the expected one."""
    if expected is not None and found != expected:
        raise FreezeframeError(
            f"{path}: its SHA-256 is {found[:12]}..., not {expected[:12]}... as it should be;"
            " delete it and get it again, or run `freezeframe models add` if you mean to use another file"
        )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file of any size, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_ledger() -> dict[str, Any]:
    """What is known of each file of the folder, by its name; empty where there is nothing readable."""
    with contextlib.suppress(OSError, ValueError):
        known = json.loads((folder() / LEDGER).read_text())
        if isinstance(known, dict):
            return {name: facts for name, facts in known.items() if isinstance(facts, dict)}
    return {}


def write_ledger(known: Mapping[str, Any]) -> None:
    """Replace the ledger, all or nothing."""
    place = folder()
    place.mkdir(parents=True, exist_ok=True)
    save((json.dumps(known, indent=2) + "\n").encode(), place / LEDGER)


def enter(file: str, **facts: Any) -> None:
    """Write `facts` about one file into the ledger, beside what is known of it."""
    ledger = read_ledger()
    write_ledger({**ledger, file: {**ledger.get(file, {}), **facts}})


def _weights(file: Path) -> Weights:
    release = release_of(file.name)
    return Weights(name=release.name if release else file.stem, path=file, release=release)
