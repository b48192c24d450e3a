"""Load the fusion network of a job: bundled, from a file, or fine-tuned on the clip."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from freezeframe.data.media.files.publish import claim
from freezeframe.data.types import Source
from freezeframe.models.deblur.fusion_net import FusionNet
from freezeframe.models.registry.bundled import WEIGHTS, FusionInference, read_network
from freezeframe.models.runtime.fusion import build_inference
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .fine_tuning import fine_tune


def load_network(  # noqa: PLR0913  # the clip, the settings, and the callback
    config: Config,
    source: Source,
    *,
    shutter: float,
    output: Path,
    key: str,
    progress: ProgressCallback = null_progress,
) -> tuple[FusionInference | None, tuple[str, ...]]:
    """Load the fusion network, fine-tune it if `config` says so, and return it with remarks for the user.

    Args:
        config: Weights, and minutes of fine-tuning.
        source: The clip.
        shutter: Exposure time over frame interval of the clip.
        output: Path of the output; fine-tuned weights are saved beside it.
        key: Hash of clip and settings; an interrupted job continues with its saved weights.
        progress: Receives the seconds of fine-tuning.
    """
    network = load_weights(config)
    if network is None:
        return None, ()
    message: tuple[str, ...] = ()
    weights_path = fine_tuned_weights_path(output)
    if config.fuse.fine_tune_minutes > 0 and weights_path.exists() and _read_key(weights_path) == key:
        network = read_network(weights_path)
        message = (f"{weights_path}: fine-tuned on this clip by an earlier run",)
    elif config.fuse.fine_tune_minutes > 0:
        # Weights of another clip or of other settings belong to the user: replace them only with --force.
        destination = claim(weights_path, force=config.output.force)
        result = fine_tune(
            network, source, shutter=shutter, minutes=config.fuse.fine_tune_minutes, progress=progress
        )
        network, message = result.network, (result.message,)
        if result.accepted:
            with destination.draft() as path:
                save_file(network.state_dict(), path, metadata={"key": key})
    return _build(network, config), message


def load_plain_network(config: Config) -> FusionInference | None:
    """Load the fusion network of `config` without fine-tuning."""
    network = load_weights(config)
    return network and _build(network, config)


def _build(network: FusionNet, config: Config) -> FusionInference:
    return build_inference(network, device=config.device, precision=config.precision, backend=config.backend)


def fine_tuned_weights_path(output: Path) -> Path:
    """Path of the fine-tuned weights beside an output; `--network` loads them for another clip."""
    return output.with_name(output.name + ".network.safetensors")


def load_weights(config: Config) -> FusionNet | None:
    """Read the weights of `config.fuse.network`; None for "none"."""
    which = config.fuse.network
    return None if which == "none" else read_network(WEIGHTS if which == "bundled" else Path(which))


def _read_key(path: Path) -> str | None:
    with safe_open(str(path), "pt") as file:
        return (file.metadata() or {}).get("key")
