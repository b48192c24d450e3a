"""Every public function on tensors carries gradients, or says that it takes none.

A function belongs here if one of its arguments is a tensor and what it returns may hold one. Those of `CASES`
are held against finite differences in float64; the others say "takes no gradient" in their own docstring or
in their module's, or run under `no_grad`. Whoever adds a function is asked the question by this file.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import freezeframe
from freezeframe.data.color import HLG, PQ, SRGB
from freezeframe.models.nets.restormer import model as restormer
from freezeframe.models.nets.swinir import model as swinir
from freezeframe.splatting.decision.compositing import SceneRendering
from freezeframe.splatting.rasterizer.projected import RasterSettings

ROOT = Path(freezeframe.__file__).parent
ROOMS = ("data", "motion", "models", "splatting", "pipeline")
ELSEWHERE = {  # gradients of float32 kernels, of whole networks, and one that is not the slope on purpose
    "models.deblur.refiner.gate_activation": "models/deblur/test_refiner.py",
    "splatting.rasterizer.numba_autograd.project": "splatting/rasterizer/test_rasterization.py",
    "splatting.rasterizer.numba_autograd.composite": "splatting/rasterizer/test_rasterization.py",
    "splatting.rasterizer.torch_reference.project": "splatting/rasterizer/test_rasterization.py",
    "splatting.rasterizer.torch_reference.composite": "splatting/rasterizer/test_rasterization.py",
    "splatting.rasterizer.rasterization.rasterization": "splatting/rasterizer/test_rasterization.py",
    "splatting.layers.exposure.expose_layer": "splatting/layers/test_exposure.py",
    "splatting.layers.exposure.expose_reference": "splatting/layers/test_exposure.py",
    "splatting.layers.loss.layer_loss": "splatting/layers/test_loss.py",
    "splatting.scene.gaussians.render_gaussians": "splatting/rasterizer/test_rasterization.py",
    "motion.flow.estimators.kornia_flow": "motion/flow/test_estimators.py",
    "motion.flow.estimators.kornia_pair": "motion/flow/test_estimators.py",
    "motion.flow.variational.variational_uv": "motion/flow/test_estimators.py",
    "models.nets.restormer.unet.encode": "test_gradients.py",
    "models.nets.restormer.unet.decode": "test_gradients.py",
    "models.nets.restormer.layers.apply_block": "test_gradients.py",
    "models.nets.restormer.layers.attend": "test_gradients.py",
    "models.nets.restormer.layers.gated_feed_forward": "test_gradients.py",
    "models.nets.swinir.upsamplers.reconstruct": "test_gradients.py",
}
SAID = ("takes no gradient", "nothing here takes a gradient", "torch.no_grad()")
PLAIN = {  # what a gradient cannot leave by
    *(
        "None",
        "bool",
        "float",
        "int",
        "str",
        "Path",
        "Array",
        "SrgbImage",
        "IntegralImage | None",
        "Any",
        "Kind | None",
    ),
    *(
        "np.ndarray",
        "list[SrgbImage]",
        "list[float]",
        "dict[str, float]",
        "tuple[float, float]",
        "VideoFrame",
    ),
    *("tuple[slice, slice]",),
}


def public() -> Iterator[tuple[str, str]]:
    """Names of the functions that belong here, and all that is said of each."""
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            tree = ast.parse(file.read_text())
            told = ast.get_docstring(tree) or ""
            for node in tree.body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and _on_tensors(node):
                    marks = " ".join(map(ast.unparse, node.decorator_list))
                    said = " ".join(f"{told} {ast.get_docstring(node) or ''} {marks}".split())
                    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
                    yield f"{module}.{node.name}", said.lower()


def _on_tensors(node: ast.FunctionDef) -> bool:
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    kinds = [ast.unparse(each.annotation) for each in given if each.annotation]
    # A network's weights are no picture, and a function that is passed on is not called with one here.
    tensors = [
        kind for kind in kinds if "Tensor" in kind and not kind.startswith(("Mapping[str", "Callable"))
    ]
    returned = ast.unparse(node.returns) if node.returns else "None"
    return bool(tensors) and returned not in PLAIN and not returned.startswith(("Callable", "Network"))


RANDOM = torch.Generator().manual_seed(0)


def rand(*size: int, low: float = 0.1, high: float = 0.9) -> Tensor:
    return low + (high - low) * torch.rand(*size, generator=RANDOM, dtype=torch.float64)


def randn(*size: int) -> Tensor:
    return torch.randn(*size, generator=RANDOM, dtype=torch.float64)


def lens(size: tuple[int, int] = (9, 12)) -> Tensor:
    height, width = size
    return torch.tensor([[14.0, 0, (width - 1) / 2], [0, 14, (height - 1) / 2], [0, 0, 1]]).double()


def turns() -> Tensor:
    return torch.linalg.qr(torch.eye(3, dtype=torch.float64) + 0.05 * randn(4, 3, 3)).Q


def rendering() -> SceneRendering:
    return SceneRendering(sharp=rand(3, 24, 26), reblurred=rand(3, 24, 26), blur_length=3.0)


LENS = RasterSettings(size=(12, 9), near=0.01, far=100.0, blur=0.3, antialiased=False)
VIEW = torch.eye(4, dtype=torch.float64)[None]

FIXED = {
    "splatting.rasterizer.spherical_harmonics.colours": {2}
}  # arguments that no gradient reaches, on purpose
SINGLE = {
    "pipeline.training.restorer_task.log_mse_loss",
    "pipeline.training.restorer_task.harm_penalty",
}  # float32 within
CASES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}


def case(name: str, *arguments: Any, **options: Any) -> None:
    CASES[name] = (arguments, options)


case("data.color.to_linear", rand(40), SRGB)
case("data.color.to_linear_", rand(40), PQ)
case("data.color.to_encoded", rand(40), HLG)
case("data.blur.operator.blur", rand(3, 8, 9), 3 * rand(2, 8, 9))
case("data.blur.operator.blur_adjoint", rand(3, 8, 9), 3 * rand(2, 8, 9))
case("data.blur.blocks.block_mean", rand(2, 8, 8))
case("data.blur.blocks.block_upsample", rand(2, 2, 2), (8, 8))
case("data.blur.operator.row_subset", rand(2, 8, 9), slice(0, None, 2))
case("data.blur.operator.integrate", rand(4, 3, 5, 6))
case("motion.camera.homography.homography_to_flow", torch.eye(3).double() + 1e-3 * randn(3, 3), (8, 9))
case("motion.flow.estimators.gamma_luma", rand(3, 8, 9))
case("motion.flow.interpolation.sample", rand(3, 9, 10), 2 + 5 * rand(4, 5), 2 + 4 * rand(4, 5))
case("motion.flow.interpolation.cubic_weights", rand(6))
case("motion.flow.warp.warp", rand(3, 8, 9), 0.4 * randn(2, 8, 9))
case("models.nets.dreamclear.color_fix.wavelet", rand(1, 3, 40, 40), rand(1, 3, 40, 40))
case("models.nets.dreamclear.color_fix.coarse", rand(1, 3, 40, 40))
case("models.nets.dreamclear.color_fix.adain", rand(1, 3, 8, 8), rand(1, 3, 8, 8))
case("models.restorer.image_restorer.linear_gain", 0.2 + 0.3 * rand(3, 4, 5), 0.1 * rand(3, 4, 5))
case("models.nets.dreamclear.controlnet.scale_shift", randn(1, 4, 6), randn(1, 1, 6), randn(1, 1, 6))
case("models.nets.blocks.transformer.modulate", randn(1, 4, 6), randn(1, 1, 6), randn(1, 1, 6))
case("models.nets.blocks.transformer.merge_heads", randn(1, 3, 4, 5))
case("models.nets.blocks.transformer.split_heads", randn(1, 4, 6), 2)
case("models.nets.dreamclear.schedulers.add_noise", randn(1, 4, 3, 3), randn(1, 4, 3, 3), alpha_bar=0.6)
case("models.nets.dreamclear.schedulers.predict_clean", randn(1, 4, 3, 3), randn(1, 4, 3, 3), alpha_bar=0.6)
case(
    "models.nets.dreamclear.schedulers.ddim_step", randn(1, 4, 3, 3), randn(1, 4, 3, 3), alpha_bar=(0.5, 0.7)
)
case("models.nets.dreamclear.schedulers.guided", randn(1, 8, 3, 3), randn(1, 8, 3, 3), scale=4.5, channels=4)
case("models.imageops.upscale.upsample", rand(1, 3, 6, 7), 2)
case("models.imageops.upscale.upsample_encoded", rand(1, 3, 6, 7), 2)
case("models.imageops.padding.reflect_pad", rand(1, 3, 6, 7), height=8, width=9)
case("models.imageops.padding.pad_to_multiple", rand(1, 3, 6, 7), 4)
case(
    "models.deblur.fusion_net.build_network_input",
    [rand(3, 8, 8)] * 4,
    blur_vector=randn(2, 8, 8),
    confidence=rand(8, 8),
)
case("models.deblur.fusion_net.local_mean", rand(1, 3, 70, 70))
case("models.nets.nafnet.simple_gate", randn(1, 4, 3, 3))
case("models.nets.nafnet.local_mean", randn(1, 4, 8, 8), 4)
case("models.nets.blocks.window_attention.attend", *(randn(2, 2, 4, 3) for _ in range(3)), randn(2, 4, 4))
case("models.nets.blocks.window_attention.window_partition", randn(1, 8, 8, 3), 4)
case("models.nets.blocks.window_attention.window_reverse", randn(1, 4, 16, 3), (8, 8))
case("models.nets.varformer.swin_blocks.attend", *(randn(2, 2, 4, 3) for _ in range(3)), randn(2, 4, 4))
case("models.nets.varformer.var_transformer.apply_guidance", randn(1, 4, 6), randn(1, 4, 6), 1.5)
case("models.nets.blocks.autoencoder.pixels_to_tokens", randn(1, 4, 3, 3))
case("models.nets.blocks.autoencoder.attend_pixels", *(randn(1, 6, 4) for _ in range(3)), size=(2, 3))
case("models.nets.varformer.feature_enhancer.curve", rand(1, 3, 5, 5), rand(1, 3, 5, 5))
case("splatting.optim.initialization.sharpness", rand(2, 3, 8, 9), rand(2, 8, 9))
case("splatting.scene.panorama_model.ray_grid", lens()[None], (9, 12))
case("splatting.scene.panorama_model.upsample_rays", randn(1, 2, 3, 3), (9, 12))
case("splatting.scene.panorama_model.sample_panorama", rand(3, 8, 9), 0.6 * (rand(1, 5, 6, 2) - 0.5))
case("splatting.decision.compositing.blend_weight", rand(3, 24, 26), rendering(), rand(24, 26, low=0.6))
case(
    "splatting.decision.compositing.composite",
    rand(3, 24, 26),
    rand(3, 24, 26),
    rendering(),
    rand(24, 26, low=0.6),
)
case("splatting.decision.compositing.transfer_low_frequencies", rand(3, 24, 26), rendering())
case("splatting.decision.compositing.local_rmse", rand(3, 20, 20), rand(3, 20, 20))
case("splatting.decision.compositing.local_contrast", rand(3, 20, 20))
case("splatting.decision.compositing.gaussian_smooth", rand(20, 20), 1.5)
case("splatting.rasterizer.spherical_harmonics.colours", 0.1 * randn(3, 4, 3), randn(3, 3), VIEW, degree=1)
case(
    "splatting.rasterizer.spherical_harmonics.harmonics",
    torch.nn.functional.normalize(randn(5, 3), dim=-1),
    degree=2,
)
case("splatting.optim.losses.sqrt_encode", rand(3, 8, 9))
case("splatting.optim.losses.photometric", rand(2, 3, 16, 18), rand(2, 3, 16, 18), rand(2, 16, 18))
case("splatting.optim.losses.total_variation", rand(3, 8, 9))
case("splatting.scene.gaussians.flat_colours", rand(4, 3))
case("splatting.rasterizer.projected.covariances", randn(4, 4), rand(4, 3))
case("splatting.rasterizer.projected.covariance_roots", randn(4, 4), rand(4, 3))
case("splatting.camera.curves.hermite", 3 * rand(5), torch.arange(4).double(), randn(4, 2), randn(4, 2))
case("splatting.camera.curves.bezier", randn(4, 2), rand(5))
case("splatting.camera.lie.so3_exp", randn(4, 3))
case("splatting.camera.lie.se3_exp", randn(4, 6))
case("splatting.camera.lie.compose_se3", turns(), randn(4, 3))
case(
    "data.blur.operator.rolling_shutter_weights",
    torch.linspace(-0.42, 0.41, 5).double(),
    6,
    shutter=0.5,
    readout=0.3,
)
case("motion.flow.consistency.confidence", 0.3 * randn(2, 8, 9), 0.3 * randn(2, 8, 9))
case("motion.flow.warp.invert", 0.1 * randn(2, 8, 9))
case("models.nets.dual.haar.dwt2", rand(1, 3, 16, 16))
case("models.nets.dual.model.window_partition", rand(1, 6, 8, 8))
case("models.nets.dual.model.window_reverse", rand(4, 3, 16, 2), rows=2, columns=2)
case("models.deblur.fusion_net.center_on_frame", rand(1, 16, 8, 8))
case("models.nets.restormer.layers.convolve", randn(1, 4, 5, 6), randn(4, 1, 3, 3))
case("models.imageops.tiling.pad_replicate", rand(1, 3, 6, 7), 4)
case("models.nets.varformer.vector_quantizer.as_tokens", rand(1, 3, 8, 8), 2)
case("models.nets.varformer.tokenizer.keep", 0, rand(1, 3, 4, 4))
case("motion.flow.estimators.make_flow_pair", 0.3 * randn(2, 8, 9), 0.3 * randn(2, 8, 9))
case("models.nets.dreamclear.color_fix.fix_color", rand(1, 3, 8, 8), rand(1, 3, 8, 8), method="adain")
case("splatting.decision.compositing.feather", rand(24, 26))
case("pipeline.training.objective.charbonnier_spectral_loss", rand(2, 3, 16, 16), rand(2, 3, 16, 16))
case("pipeline.training.restorer_task.log_mse_loss", rand(1, 3, 32, 32), rand(1, 3, 32, 32))
case("pipeline.training.restorer_task.harm_penalty", *(rand(1, 3, 16, 16) for _ in range(3)))
case(
    "splatting.layers.layer.over_background",
    torch.rand(2, 4, 3, 3, dtype=torch.float64),
    torch.rand(2, 3, 3, 3, dtype=torch.float64),
)
case("pipeline.support.crops.center_crop", rand(3, 16, 16), 8)
case("pipeline.training.objective.mover_weights", rand(2, 1, 6, 6), ratio=3.0)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_finite_differences(name):
    module, function = name.rsplit(".", 1)
    call = getattr(importlib.import_module(f"freezeframe.{module}"), function)
    arguments, options = CASES[name]
    # What comes by name is named by its name, what comes by place by its place.
    every = {**dict(enumerate(arguments)), **options}
    free = [k for k, v in every.items() if isinstance(v, Tensor) and k not in FIXED.get(name, ())]
    given = [every[k].clone().requires_grad_() for k in free]

    def answer(*values: Tensor) -> tuple[Tensor, ...]:
        # An argument that is worked on in place must be no leaf.
        filled = {**every, **{k: value * 1 for k, value in zip(free, values, strict=True)}}
        named = {k: v for k, v in filled.items() if isinstance(k, str)}
        return tuple(_tensors(call(*(v for k, v in filled.items() if not isinstance(k, str)), **named)))

    coarse = {"eps": 1e-2, "atol": 1e-2, "rtol": 1e-2} if name in SINGLE else {"atol": 1e-4}
    assert gradcheck(answer, given, fast_mode=True, **coarse)


def _tensors(found: Any) -> list[Tensor]:
    """Those of an answer that a gradient flows back from."""
    if isinstance(found, Tensor):
        return [found] if found.requires_grad else []
    parts = found if isinstance(found, tuple | list) else [getattr(found, each) for each in found.__slots__]
    return [tensor for part in parts for tensor in _tensors(part)]


NETWORKS = {
    "Restormer": lambda: restormer.Restormer(
        restormer.NetConfig(dim=4, blocks=(1, 1, 1, 1), refinement=1, heads=(1, 2, 2, 4), expansion=2)
    ),
    "SwinIR": lambda: swinir.SwinIR(swinir.NetConfig(dim=8, depths=(2,), heads=(2,), window=4)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_pass_through_whole_networks(name):
    """Layers that are functions are checked as parts of one."""
    torch.manual_seed(0)
    network = NETWORKS[name]().double().requires_grad_(False)
    assert gradcheck(network, rand(1, 3, 8, 8).requires_grad_(), fast_mode=True, atol=1e-4)


def test_every_public_function_carries_gradients_or_says_that_it_takes_none():
    checked = {*CASES, *ELSEWHERE}
    silent = [name for name, said in public() if name not in checked and not any(w in said for w in SAID)]
    assert not silent, f"neither checked here nor said to take no gradient: {', '.join(silent)}"


def test_no_case_is_left_of_a_function_that_is_gone():
    names = {name for name, _ in public()}
    assert {*CASES, *ELSEWHERE} <= names, {*CASES, *ELSEWHERE} - names
    for file in ELSEWHERE.values():
        assert "grad" in (Path(__file__).parent / file).read_text()
