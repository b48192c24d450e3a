"""The network of a job: the shipped one, the user's own, or one that has learned from the clip itself."""

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

from .fine_tuning import adapt


def load_network(  # noqa: PLR0913  # the clip, the settings, and who is told
    config: Config,
    source: Source,
    *,
    shutter: float,
    output: Path,
    key: str,
    progress: ProgressCallback = null_progress,
) -> tuple[FusionInference | None, tuple[str, ...]]:
    """What finishes the deconvolved frames of a job, ready to run, and what to tell about it.

    Args:
        config: Which weights, and for how many minutes they learn from the clip.
        source: The clip.
        shutter: Its exposure time over frame interval.
        output: Where the job writes; weights that learned from the clip are kept beside it.
        progress: Told of the learning.
        key: Fingerprint of clip and settings: an interrupted job goes on with the weights it began with.
    """
    network = load_weights(config)
    if network is None:
        return None, ()
    message: tuple[str, ...] = ()
    accepted = adapted_weights_path(output)
    if config.fuse.adapt > 0 and accepted.exists() and _key_of(accepted) == key:
        network, message = read_network(accepted), (f"{accepted}: learned from this clip in an earlier run",)
    elif config.fuse.adapt > 0:
        # Weights that learned from another clip, or in another way, are the user's by now.
        destination = claim(accepted, force=config.output.force)
        result = adapt(network, source, shutter=shutter, minutes=config.fuse.adapt, progress=progress)
        network, message = result.network, (result.message,)
        if result.accepted:
            with destination.draft() as path:
                save_file(network.state_dict(), path, metadata={"key": key})
    return _build(network, config), message


def load_plain_network(config: Config) -> FusionInference | None:
    """The network that `config` names, ready to run, without a clip to learn from."""
    network = load_weights(config)
    return network and _build(network, config)


def _build(network: FusionNet, config: Config) -> FusionInference:
    return build_inference(network, device=config.device, precision=config.precision, backend=config.backend)


def adapted_weights_path(output: Path) -> Path:
    """Where the weights that learned from a clip are kept; `--network` takes them for another clip."""
    return output.with_name(output.name + ".network.safetensors")


def load_weights(config: Config) -> FusionNet | None:
    """Those that `config` names, or None."""
    which = config.fuse.network
    return None if which == "none" else read_network(WEIGHTS if which == "bundled" else Path(which))


def _key_of(path: Path) -> str | None:
    with safe_open(str(path), "pt") as file:
        return (file.metadata() or {}).get("key")
