"""Every network that is known here: how its weights are recognised, and what it asks of pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from freezeframe.models.store.state_dict import read_state

from .spandrel_adapter import read_foreign

WINDOW = 384  # pixels over which NAFNet pools, as in the figures that its authors quote for GoPro


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network with its weights. Takes sRGB codes in [0, 1], any size unless `side` is set."""

    title: str  # of the architecture
    module: nn.Module  # [B, channels, H, W] to [B, channels, scale H, scale W]
    channels: int = 3  # 1: each colour is restored as a grey picture of its own
    scale: int = 1
    multiple: int = 1  # pixels of its own grid: tiles start and stop at multiples of it
    side: int | None = None  # the only size that it takes. Pixels
    fp16: bool = False  # whether its inner numbers stay within fp16's 65,504
    shares: bool = False  # whether it has statistics of the whole picture, `degradation`, that tiles share


Reader = Callable[[Mapping[str, Tensor]], Network]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One architecture: `detect` says whether weights are of it, `read` makes the network."""

    title: str
    detect: Callable[[Mapping[str, Tensor]], bool]
    read: Reader


def _nafnet(state: Mapping[str, Tensor]) -> Network:
    module = nafnet.load(state, window=WINDOW)
    return Network(title="NAFNet", module=module, multiple=module.multiple, fp16=True)


def _restormer(state: Mapping[str, Tensor]) -> Network:
    module = restormer.load(state)
    channels = module.get_parameter("output.weight").shape[0]
    return Network(title="Restormer", module=module, multiple=module.multiple, channels=channels)


def _swinir(state: Mapping[str, Tensor]) -> Network:
    module = swinir.load(state)
    sizes = module.layout
    return Network(
        title="SwinIR", module=module, multiple=sizes.multiple, channels=sizes.channels, scale=sizes.scale
    )


def _hair(state: Mapping[str, Tensor]) -> Network:
    module = hair.load(state)
    channels = module.get_parameter("output.weight").shape[0]
    return Network(title="HAIR", module=module, multiple=module.multiple, channels=channels, shares=True)


def _refiner(state: Mapping[str, Tensor]) -> Network:
    module = refiner.load(state)
    return Network(title="refiner", module=module, multiple=module.multiple, shares=True)


def _dual(state: Mapping[str, Tensor]) -> Network:
    module = dual.load(state)
    return Network(title="dual transformers", module=module, multiple=module.multiple)


def _varformer(state: Mapping[str, Tensor]) -> Network:
    module = varformer.load(state)
    return Network(title="VarFormer", module=module, side=module.layout.side)


def _dreamclear(_state: Mapping[str, Tensor]) -> Network:
    raise FreezeframeError(
        "DreamClear: needs an autoencoder, a language model and a caption besides its own weights;"
        " use freezeframe.models.nets.dreamclear.pipeline.restore from Python (see docs/restore.md)"
    )


KINDS: tuple[Kind, ...] = (
    Kind(title="refiner", detect=refiner.detect, read=_refiner),
    Kind(title="dual transformers", detect=dual.detect, read=_dual),
    Kind(title="NAFNet", detect=nafnet.detect, read=_nafnet),
    Kind(title="Restormer", detect=restormer.detect, read=_restormer),
    Kind(title="SwinIR", detect=swinir.detect, read=_swinir),
    Kind(title="HAIR", detect=hair.detect, read=_hair),
    Kind(title="VarFormer", detect=varformer.detect, read=_varformer),
    Kind(title="DreamClear", detect=dreamclear.detect, read=_dreamclear),
)


def read_network(path: Path) -> Network:
    """The network whose weights a file holds, in fp32 on the CPU.

    Ours are asked first, then spandrel, where it is installed.

    Raises:
        UnreadableMedia: Missing, damaged, unsafe to open, of an unknown network, or weights that do not fit.
        FreezeframeError: spandrel is needed and cannot be imported.
    """
    state = read_state(path)
    kind = recognise(state)
    return foreign(state, path) if kind is None else fitted(kind, state, path=path)


def fitted(kind: Kind, state: Mapping[str, Tensor], *, path: Path) -> Network:
    """The network of this kind with these weights.

    Raises:
        UnreadableMedia: They do not fit.
    """
    try:
        return kind.read(state)
    except (RuntimeError, ValueError, KeyError) as error:
        # torch says first that something is wrong and then, a line each, what.
        reason = str(error).splitlines()[:2][-1].strip()
        raise UnreadableMedia(
            f"{path}: is a {kind.title} whose weights do not fit ({reason}); download it again"
        ) from error


def recognise(state: Mapping[str, Tensor]) -> Kind | None:
    """The architecture of ours that has weights of these names."""
    return next((kind for kind in KINDS if kind.detect(state)), None)


def foreign(state: Mapping[str, Tensor], path: Path) -> Network:
    """The network that spandrel recognises.

    Raises:
        UnreadableMedia: It knows none, or one that does not turn pictures into pictures of the same channels.
        FreezeframeError: spandrel is needed and cannot be imported.
    """
    found = read_foreign(state, path=path)
    if found.input_channels != found.output_channels or found.input_channels not in (1, 3):
        raise UnreadableMedia(
            f"{path}: {found.architecture.name} here turns {found.input_channels} channels into"
            f" {found.output_channels}; name a network from RGB to RGB or from grey to grey"
        )
    return Network(
        title=str(found.architecture.name),
        module=_Described(found),
        channels=found.input_channels,
        scale=found.scale,
        multiple=max(1, found.size_requirements.multiple_of),
    )


class _Described(nn.Module):
    """What spandrel describes, as a module: it pads, crops and cuts to [0, 1] by itself."""

    def __init__(self, descriptor: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = descriptor.model  # type: ignore[attr-defined]
        self._descriptor = [descriptor]  # in a list: it is no module and holds the one above

    def forward(self, codes: Tensor) -> Tensor:
        return self._descriptor[0](codes)
