"""What is known of restorers, what is here, and what each costs on this machine."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.publish import claim
from freezeframe.models.registry.architectures import read_network
from freezeframe.models.restorer.image_restorer import prepare
from freezeframe.models.runtime.autotune import key_of
from freezeframe.models.runtime.device import Precision
from freezeframe.models.runtime.memory import bytes_per_pixel
from freezeframe.models.store import weights_cache as shelf
from freezeframe.models.store.catalog import CATALOGUE, Release, release_of

SIDE = 224  # pixels of the picture on which time is measured: a multiple of 7 and of 32
TURNS = 3  # timed runs after the first; the best counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a network costs on this machine."""

    parameters: int
    megabytes: float  # of memory per megapixel of a tile, in fp32, weights apart
    seconds: float | None  # per megapixel; None where nobody has measured it yet
    engine: str | None  # by which it was measured now
    where: str  # processor, versions and number format that this is true for


def listing() -> str:
    """One line per release of the catalogue, then what else is in the folder."""
    here = {weights.name: weights for weights in shelf.at_hand()}
    # What is here comes first.
    known = {**{name: weights.release for name, weights in here.items()}, **CATALOGUE}
    width = max(map(len, known))
    lines = [
        f"{name:<{width}}  {_state(here.get(name), release):<7}  {_what(release)}"
        for name, release in known.items()
    ]
    return "\n".join([*lines, f"folder: {shelf.folder()}"])


def told_of(name: str) -> dict[str, str]:
    """What the catalogue and the folder know of a model, in words."""
    weights = here(name)
    release = weights.release if weights else CATALOGUE.get(name)
    facts = _of_release(release) if release else {"restores": "what its maker says"}
    return {"name": name, **facts, **(_of_file(weights) if weights else {"here": "no"})}


def here(name: str) -> shelf.Weights | None:
    """The weights of that name or in that file, None where a release is only known."""
    if name in CATALOGUE and name not in shelf.present():
        return None
    return shelf.find(name)


def cost(weights: shelf.Weights, *, device: str, precision: Precision, measure: bool) -> Cost:
    """What restoring takes here; time only where it was measured before, or is asked for now."""
    network = read_network(weights.path)
    restorer = prepare(network, device=device, precision=precision, tile=SIDE)
    where = key_of(network.module, restorer.device, [precision])
    ledger = shelf.read_ledger().get(weights.path.name, {})
    speeds: Mapping[str, Any] = ledger.get("seconds per megapixel", {})
    seconds, engine = speeds.get(where), None
    if measure:
        engine = restorer.corrections[0].name()
        picture = torch.rand(1, 3, network.side or SIDE, network.side or SIDE)
        seconds = _best_of(lambda: restorer(picture)) / picture[0, 0].numel() * 1e6
        shelf.enter(weights.path.name, **{"seconds per megapixel": {**speeds, where: seconds}})
    return Cost(
        parameters=sum(value.numel() for value in network.module.parameters()),
        megabytes=bytes_per_pixel(network.module, channels=network.channels),
        seconds=seconds,
        engine=engine,
        where=where,
    )


def cost_in_words(found: Cost) -> dict[str, str]:
    """The same for a person."""
    seconds = "not measured here; add --measure" if found.seconds is None else f"{found.seconds:.2f} s"
    return {
        "parameters": f"{found.parameters / 1e6:.2f} million",
        "memory per megapixel": f"{found.megabytes / 1e3:.2f} GB",
        "time per megapixel": seconds,
        **({"engine": found.engine} if found.engine else {}),
    }


def add(file: Path, *, force: bool = False) -> tuple[shelf.Weights, str]:
    """Copy a checkpoint into the folder of weights, once it is sure that it is one.

    A file whose SHA-256 is that of a release takes the release's name.

    Returns:
        The weights in the folder, and the name of their architecture.

    Raises:
        UnreadableMedia: No file, damaged, unsafe to open, or of an unknown network.
        UnwritableOutput: Another file of that name is there already.
    """
    network = read_network(file)
    sha256 = shelf.sha256_of(file)
    release = next((known for known in CATALOGUE.values() if known.sha256 == sha256), None)
    namesake = release_of(file.name)
    if namesake and namesake.sha256 and namesake is not release:
        raise UnreadableMedia(
            f"{file}: is called as {namesake.name} is, but its SHA-256 is {sha256[:12]}... and not"
            f" {namesake.sha256[:12]}...; get it again from {namesake.page}, or rename it"
        )
    target = shelf.folder() / (release.file if release else file.name)
    if target.exists() and shelf.sha256_of(target) != sha256 and not force:
        raise UnwritableOutput(f"{target}: is another file; rename yours or add --force")
    _copy(file, target)
    facts = target.stat()
    shelf.enter(
        target.name, sha256=sha256, source=str(file.resolve()), architecture=network.title,
        size=facts.st_size, changed=facts.st_mtime_ns,
    )  # fmt: skip
    kept = next(weights for weights in shelf.present().values() if weights.path == target)
    return kept, network.title


def published(name: str) -> Release:
    """The release of that name."""
    if name not in CATALOGUE:
        near = get_close_matches(name, CATALOGUE, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UnreadableMedia(f"{name}: unknown model; see `freezeframe models list`{hint}")
    return CATALOGUE[name]


def _copy(file: Path, target: Path) -> None:
    """All or nothing; a file that lies there already stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(file):
        return
    place = claim(target, force=True)
    aside = target.parent / "partial" / target.name
    aside.parent.mkdir(exist_ok=True)
    try:
        shutil.copyfile(file, aside)
        place.publish(aside)
    finally:
        aside.unlink(missing_ok=True)


def _state(weights: shelf.Weights | None, release: Release | None) -> str:
    if weights is not None:
        return "here"
    return "fetch" if release and release.address else "manual"


def _what(release: Release | None) -> str:
    if release is None:
        return "added by you"
    size = f", {release.size / 1e6:.0f} MB" if release.size else ""
    return f"{release.task} ({release.architecture}{size}; {release.licence})"


def _of_release(release: Release) -> dict[str, str]:
    size = f"about {release.size / 1e6:.0f} MB" if release.size else "unknown until it is here"
    return {
        "restores": release.task,
        "architecture": release.architecture,
        "input": f"{'greyscale' if release.channels == 1 else 'RGB'}, output scale {release.scale}x",
        "size": size,
        "licence": release.licence,
        "published at": release.address or f"{release.page} (manual download)",
        "sha256": release.sha256 or "not pinned; recorded at first use",
    }


def _of_file(weights: shelf.Weights) -> dict[str, str]:
    return {
        "here": str(weights.path),
        "size": f"{weights.path.stat().st_size / 1e6:.1f} MB",
        "sha256": shelf.sha256_of(weights.path),
    }


def _best_of(run: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs; the first, which warms up, does not count."""
    run()
    best = math.inf
    for _ in range(TURNS):
        begun = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begun)
    return best
