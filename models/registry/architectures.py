"""The known architectures: detection by the names of the weights, and the requirements on input images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from freezeframe.data.errors import FreezeframeError, UnreadableMedia
from freezeframe.models.deblur import refiner
from freezeframe.models.nets import nafnet
from freezeframe.models.nets.dreamclear import pipeline as dreamclear
from freezeframe.models.nets.dual import model as dual
from freezeframe.models.nets.hair import model as hair
from freezeframe.models.nets.restormer import model as restormer
from freezeframe.models.nets.swinir import model as swinir
from freezeframe.models.nets.varformer import model as varformer
from freezeframe.models.store.state_dict import misfit, read_state

from .spandrel_adapter import read_with_spandrel

TLC_WINDOW = 384  # pixels; NAFNet's pooling window in the results of its authors on GoPro


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network with its weights. Takes sRGB-encoded images in [0, 1], of any size unless `side` is set."""

    title: str  # of the architecture
    module: nn.Module  # [B, channels, H, W] to [B, channels, scale H, scale W]
    channels: int = 3  # 1: each colour is restored as a greyscale image
    scale: int = 1
    multiple: int = 1  # pixels of its grid: tiles start and stop at multiples of it
    side: int | None = None  # the only height and width that it takes. Pixels
    fp16: bool = False  # whether activations stay within fp16's 65,504
    has_global_context: bool = False  # whether tiles share statistics of the whole image, `degradation`


Reader = Callable[[Mapping[str, Tensor]], Network]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One architecture: `matches` detects its weights, `read` builds the network."""

    title: str
    matches: Callable[[Mapping[str, Tensor]], bool]
    read: Reader


def _nafnet(state: Mapping[str, Tensor], *, pool_window: int | None = TLC_WINDOW) -> Network:
    module = nafnet.load(state, window=pool_window)
    return Network(title="NAFNet", module=module, multiple=module.multiple, fp16=True)


def _restormer(state: Mapping[str, Tensor]) -> Network:
    module = restormer.load(state)
    channels = module.get_parameter("output.weight").shape[0]
    return Network(title="Restormer", module=module, multiple=module.multiple, channels=channels)


def _swinir(state: Mapping[str, Tensor]) -> Network:
    module = swinir.load(state)
    sizes = module.config
    return Network(
        title="SwinIR", module=module, multiple=sizes.multiple, channels=sizes.channels, scale=sizes.scale
    )


def _hair(state: Mapping[str, Tensor]) -> Network:
    module = hair.load(state)
    channels = module.get_parameter("output.weight").shape[0]
    return Network(
        title="HAIR", module=module, multiple=module.multiple, channels=channels, has_global_context=True
    )


def _refiner(state: Mapping[str, Tensor]) -> Network:
    module = refiner.load(state)
    return Network(title="refiner", module=module, multiple=module.multiple, has_global_context=True)


def _dual(state: Mapping[str, Tensor]) -> Network:
    module = dual.load(state)
    return Network(title="dual transformers", module=module, multiple=module.multiple)


def _varformer(state: Mapping[str, Tensor]) -> Network:
    module = varformer.load(state)
    return Network(title="VarFormer", module=module, side=module.config.side)


def _dreamclear(_state: Mapping[str, Tensor]) -> Network:
    raise FreezeframeError(
        "DreamClear: needs an autoencoder, a language model and a caption besides its own weights;"
        " from Python use freezeframe.models.nets.dreamclear.pipeline.restore; see"
        " docs/user/restore.md#dreamclear"
    )


KNOWN_ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(title="refiner", matches=refiner.matches, read=_refiner),
    Architecture(title="dual transformers", matches=dual.matches, read=_dual),
    Architecture(title="NAFNet", matches=nafnet.matches, read=_nafnet),
    Architecture(title="Restormer", matches=restormer.matches, read=_restormer),
    Architecture(title="SwinIR", matches=swinir.matches, read=_swinir),
    Architecture(title="HAIR", matches=hair.matches, read=_hair),
    Architecture(title="VarFormer", matches=varformer.matches, read=_varformer),
    Architecture(title="DreamClear", matches=dreamclear.matches, read=_dreamclear),
)


def read_network(path: Path, *, pool_window: int | None = TLC_WINDOW) -> Network:
    """Read a checkpoint and build its network, in fp32 on the CPU.

    Architectures that are not in `KNOWN_ARCHITECTURES` are read by spandrel, if it is installed.

    Args:
        path: A checkpoint as its authors published it.
        pool_window: Side in pixels of the pooling window of a NAFNet; None pools over the whole input.

    Raises:
        UnreadableMedia: Missing, damaged, unsafe to open, of an unknown network, or weights that do not fit.
        FreezeframeError: spandrel is needed and cannot be imported.
    """
    state = read_state(path)
    architecture = identify(state)
    if architecture is None:
        return load_foreign(state, path)
    if architecture.read is _nafnet:
        architecture = replace(architecture, read=partial(_nafnet, pool_window=pool_window))
    return build(architecture, state, path=path)


def build(architecture: Architecture, state: Mapping[str, Tensor], *, path: Path) -> Network:
    """The network of this architecture with these weights.

    Raises:
        UnreadableMedia: The weights do not fit.
    """
    try:
        return architecture.read(state)
    except (RuntimeError, ValueError, KeyError) as error:
        raise UnreadableMedia(
            f"{path}: is a {architecture.title} whose weights do not fit ({misfit(error)}); download it again"
        ) from error


def identify(state: Mapping[str, Tensor]) -> Architecture | None:
    """The known architecture with weights of these names, or None."""
    return next((architecture for architecture in KNOWN_ARCHITECTURES if architecture.matches(state)), None)


def load_foreign(state: Mapping[str, Tensor], path: Path) -> Network:
    """The network that spandrel detects.

    Raises:
        UnreadableMedia: spandrel knows no such network, or the network changes the number of channels.
        FreezeframeError: spandrel is needed and cannot be imported.
    """
    descriptor = read_with_spandrel(state, path=path)
    if descriptor.input_channels != descriptor.output_channels or descriptor.input_channels not in (1, 3):
        raise UnreadableMedia(
            f"{path}: this {descriptor.architecture.name} has {descriptor.input_channels} input channels and"
            f" {descriptor.output_channels} output channels; name a network from RGB to RGB or from greyscale"
            " to greyscale"
        )
    return Network(
        title=str(descriptor.architecture.name),
        module=_SpandrelModule(descriptor),
        channels=descriptor.input_channels,
        scale=descriptor.scale,
        multiple=max(1, descriptor.size_requirements.multiple_of),
    )


class _SpandrelModule(nn.Module):
    """A spandrel descriptor as a module. It pads, crops and clamps to [0, 1] itself."""

    def __init__(self, descriptor: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = descriptor.model  # type: ignore[attr-defined]
        self._descriptor = [descriptor]  # in a list: it is no module, and refers to the one above

    def forward(self, encoded: Tensor) -> Tensor:
        return self._descriptor[0](encoded)
