"""Known and installed restorers, and the memory and time of each on this machine."""

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
from freezeframe.models.restorer.image_restorer import build_image_restorer
from freezeframe.models.runtime.device import Precision
from freezeframe.models.runtime.memory import bytes_per_pixel
from freezeframe.models.runtime.timing_cache import cache_key
from freezeframe.models.store import weights_cache
from freezeframe.models.store.catalog import CATALOGUE, Release, find_release
from freezeframe.pipeline.support.text.table import align_columns

TIMING_SIZE_PX = 224  # side in pixels of the picture that is timed: a multiple of 7 and of 32
TIMED_RUNS = 3  # timed runs after a warm-up run; the minimum counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Memory and time of a network on this machine."""

    parameters: int
    megabytes: float  # memory per megapixel of a tile, in fp32, without the weights
    seconds: float | None  # per megapixel; None: not measured yet
    backend: str | None  # backend of the measurement of this call
    environment: str  # processor, versions and number format of the measurement


def format_listing() -> str:
    """One line per restorer, the installed ones first, and the folder of the weights."""
    installed = {weights.name: weights for weights in weights_cache.available()}
    known = {**{name: weights.release for name, weights in installed.items()}, **CATALOGUE}
    rows = [
        (name, _availability(installed.get(name), release), _describe_short(release))
        for name, release in known.items()
    ]
    return "\n".join([*align_columns(rows, "<<<"), f"folder: {weights_cache.weights_folder()}"])


def describe(name: str) -> dict[str, str]:
    """Entries of the catalogue and of the weights folder for a restorer, as text."""
    weights = find_installed(name)
    release = weights.release if weights else CATALOGUE.get(name)
    release_fields = (
        _describe_release(release) if release else {"restores": "unknown: a checkpoint of your own"}
    )
    return {"name": name, **release_fields, **(_describe_file(weights) if weights else {"installed": "no"})}


def find_installed(name: str) -> weights_cache.Weights | None:
    """The weights of that name or in that file; None for a release that is not installed."""
    if name in CATALOGUE and name not in weights_cache.installed():
        return None
    return weights_cache.find(name)


def cost(weights: weights_cache.Weights, *, device: str, precision: Precision, measure: bool) -> Cost:
    """Memory and time of a restorer on this machine.

    Args:
        weights: The installed weights.
        device: auto, cpu, cuda or cuda:N.
        precision: Number format of the network.
        measure: Measure the time now and record it; else return the recorded one.
    """
    network = read_network(weights.path)
    restorer = build_image_restorer(network, device=device, precision=precision, tile=TIMING_SIZE_PX)
    environment = cache_key(network.module, restorer.device, [precision])
    manifest = weights_cache.read_manifest().get(weights.path.name, {})
    timings: Mapping[str, Any] = manifest.get("seconds_per_megapixel", {})
    seconds, backend = timings.get(environment), None
    if measure:
        picture = torch.rand(1, 3, network.side or TIMING_SIZE_PX, network.side or TIMING_SIZE_PX)
        seconds = _best_time(lambda: restorer(picture)) / picture[0, 0].numel() * 1e6
        backend = restorer.log.report("restorer").get("restorer")
        weights_cache.record(weights.path.name, seconds_per_megapixel={**timings, environment: seconds})
    return Cost(
        parameters=sum(value.numel() for value in network.module.parameters()),
        megabytes=bytes_per_pixel(network.module, channels=network.channels),
        seconds=seconds,
        backend=backend,
        environment=environment,
    )


def format_cost(network_cost: Cost) -> dict[str, str]:
    """The cost as text."""
    seconds = (
        "not measured here; add --measure"
        if network_cost.seconds is None
        else f"{network_cost.seconds:.2f} s"
    )
    return {
        "parameters": f"{network_cost.parameters / 1e6:.2f} million",
        "memory per megapixel": f"{network_cost.megabytes / 1e3:.2f} GB",
        "time per megapixel": seconds,
        **({"backend": network_cost.backend} if network_cost.backend else {}),
    }


def add(file: Path, *, force: bool = False) -> tuple[weights_cache.Weights, str]:
    """Copy a checkpoint into the folder of weights, if its architecture is recognised.

    A file with the SHA-256 of a release gets the name of that release.

    Returns:
        The installed weights, and the name of their architecture.

    Raises:
        UnreadableMedia: The file is missing, damaged, unsafe to open, or of an unknown architecture.
        UnwritableOutput: Another file of that name exists.
    """
    network = read_network(file)
    sha256 = weights_cache.sha256_of(file)
    release = next((known for known in CATALOGUE.values() if known.sha256 == sha256), None)
    namesake = find_release(file.name)
    if namesake and namesake.sha256 and namesake is not release:
        raise UnreadableMedia(
            f"{file}: has the name of {namesake.name}, but its SHA-256 is {sha256[:12]}... and not"
            f" {namesake.sha256[:12]}...; download it again from {namesake.homepage}, or rename it"
        )
    target = weights_cache.weights_folder() / (release.file if release else file.name)
    if target.exists() and weights_cache.sha256_of(target) != sha256 and not force:
        raise UnwritableOutput(f"{target}: exists with other content; rename your file or add --force")
    _copy(file, target)
    status = target.stat()
    weights_cache.record(
        target.name, sha256=sha256, source=str(file.resolve()), architecture=network.title,
        size=status.st_size, changed=status.st_mtime_ns,
    )  # fmt: skip
    installed = next(weights for weights in weights_cache.installed().values() if weights.path == target)
    return installed, network.title


def find_published(name: str) -> Release:
    """The release of that name in the catalogue.

    Raises:
        UnreadableMedia: No release has that name.
    """
    if name not in CATALOGUE:
        suggestions = get_close_matches(name, CATALOGUE, n=3)
        hint = f"; did you mean {' or '.join(suggestions)}?" if suggestions else ""
        raise UnreadableMedia(f"{name}: unknown model; see `freezeframe models list`{hint}")
    return CATALOGUE[name]


def _copy(file: Path, target: Path) -> None:
    """Copy atomically; a file that is already at its target stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(file):
        return
    target_claim = claim(target, force=True)
    partial_path = target.parent / "partial" / target.name
    partial_path.parent.mkdir(exist_ok=True)
    try:
        shutil.copyfile(file, partial_path)
        target_claim.publish(partial_path)
    finally:
        partial_path.unlink(missing_ok=True)


def _availability(weights: weights_cache.Weights | None, release: Release | None) -> str:
    if weights is not None:
        return "installed"
    return "fetch" if release and release.url else "manual"


def _describe_short(release: Release | None) -> str:
    if release is None:
        return "added by you"
    size = f", {release.size / 1e6:.0f} MB" if release.size else ""
    return f"{release.task} ({release.architecture}{size}; {release.licence})"


def _describe_release(release: Release) -> dict[str, str]:
    size = f"about {release.size / 1e6:.0f} MB" if release.size else "unknown until installed"
    return {
        "restores": release.task,
        "architecture": release.architecture,
        "input": f"{'greyscale' if release.channels == 1 else 'RGB'}, output scale {release.scale}x",
        "size": size,
        "licence": release.licence,
        "published at": release.url or f"{release.homepage} (manual download)",
        "sha256": release.sha256 or "not pinned; recorded at first use",
    }


def _describe_file(weights: weights_cache.Weights) -> dict[str, str]:
    return {
        "installed": str(weights.path),
        "size": f"{weights.path.stat().st_size / 1e6:.1f} MB",
        "sha256": weights_cache.sha256_of(weights.path),
    }


def _best_time(run: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs, after a warm-up run."""
    run()
    best = math.inf
    for _ in range(TIMED_RUNS):
        start_time = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start_time)
    return best
