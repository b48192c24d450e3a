"""`reference` in compiled kernels: the same two functions, for float32 on the CPU, many times as fast."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from . import numba_compositing as layers
from . import numba_projection as kernels
from .numba_covariance import build_covariance, build_covariance_gradients
from .numba_projection import RECORD_FLOATS, SORTED_FLOATS
from .projected import ProjectedGaussians, RasterSettings
from .simd16 import PROJECTED_GRADS

F = np.float32
GRADIENT_BLOCKS = (
    32  # of Gaussians whose pull on the cameras is summed separately, so that the sum has a fixed order
)


def project(  # noqa: PLR0913, PLR0917  # the call's own order
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    settings: RasterSettings,
) -> ProjectedGaussians:
    """See `reference.project`."""
    middle, conics, strengths, depths, radii, records = _Project.apply(
        means, quats, scales, opacities, viewmats, Ks, settings
    )  # type: ignore[no-untyped-call]
    return ProjectedGaussians(
        means=middle, conics=conics, opacities=strengths, depths=depths, radii=radii, records=records
    )


def composite(
    projected: ProjectedGaussians, colours: Tensor, backgrounds: Tensor, settings: RasterSettings
) -> tuple[Tensor, Tensor]:
    """See `reference.composite`."""
    pictures: tuple[Tensor, Tensor] = _Composite.apply(
        projected.means, projected.conics, projected.opacities, colours, projected, backgrounds, settings
    )  # type: ignore[no-untyped-call]
    return pictures


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any, means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, viewmats: Tensor,
        Ks: Tensor, settings: RasterSettings,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        quats_array, scales_array = _array(quats), _array(scales)
        cov = np.empty((len(means), 6), F)
        build_covariance(quats_array, scales_array, cov)
        inputs = [_array(means), cov, *(_array(each) for each in (opacities, viewmats, Ks))]
        count, cameras = len(means), len(viewmats)
        # Zeros: what is not seen keeps a finite record.
        records, radii = np.zeros((cameras, count, RECORD_FLOATS), F), np.empty((cameras, count), np.int32)
        width, height = settings.size
        kernels.project(
            *inputs,
            F(width),
            F(height),
            F(settings.blur),
            F(settings.near),
            F(settings.far),
            settings.antialiased,
            records,
            radii,
        )
        ctx.saved = inputs, quats_array, scales_array, records, radii, settings
        outputs = torch.from_numpy(records)
        visible_radii = torch.from_numpy(radii)
        parts = [
            outputs[..., 0:2].clone(),
            outputs[..., 2:5].clone(),
            outputs[..., 5].clone(),
            outputs[..., 6].clone(),
        ]
        ctx.mark_non_differentiable(visible_radii, outputs)
        return (*parts, visible_radii, outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inputs, quats_array, scales_array, records, radii, settings = ctx.saved
        by_middle, by_conic, by_opacity, by_depth = grads[:4]
        grad_projected = np.concatenate(
            [_array(by_middle), _array(by_conic), _array(by_opacity)[..., None]], axis=-1, dtype=F
        )
        means, cov, opacities, views, Ks = inputs
        by_mean, by_cov, by_strength = (np.zeros_like(each) for each in (means, cov, opacities))
        by_view = np.zeros((max(1, min(GRADIENT_BLOCKS, len(means) // 64)), len(views), 12), np.float64)
        width, height = settings.size
        kernels.project_gradients(
            means, cov, opacities, views, Ks, F(width), F(height), F(settings.blur), settings.antialiased, records,
            radii, grad_projected, _array(by_depth), by_mean, by_cov, by_strength, by_view,
        )  # fmt: skip
        by_quat, by_scale = np.empty_like(quats_array), np.empty_like(scales_array)
        build_covariance_gradients(quats_array, scales_array, by_cov, by_quat, by_scale)
        grad_viewmats = np.zeros_like(views)
        grad_viewmats[:, :3] = by_view.sum(0).reshape(-1, 3, 4)
        outputs = (by_mean, by_quat, by_scale, by_strength, grad_viewmats)
        return *(torch.from_numpy(each) for each in outputs), None, None


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any, means: Tensor, conics: Tensor, opacities: Tensor, colours: Tensor, projected: ProjectedGaussians,
        backgrounds: Tensor, settings: RasterSettings,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        del means, conics, opacities  # gradients flow to them; their values lie in the records
        assert projected.records is not None
        records, radii = projected.records.numpy(), projected.radii.numpy()
        features = _array(colours)
        cameras, count, depth = features.shape
        width, height = settings.size
        order, counts = np.empty((cameras, count), np.int32), np.empty(cameras, np.int64)
        layers.sort_by_depth(records, radii, order, counts)
        sorted_records = np.empty((cameras, count, SORTED_FLOATS + depth), F)
        layers.gather_sorted(records, features, order, counts, sorted_records)
        out, alphas = np.empty((cameras, depth, height, width), F), np.empty((cameras, height, width), F)
        bands, channels = _bands(cameras), (0,) * depth
        layers.composite(sorted_records, counts, channels, bands, _array(backgrounds), out, alphas)
        ctx.saved = sorted_records, order, counts, channels, bands, out, alphas
        return torch.from_numpy(out), torch.from_numpy(alphas)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        sorted_records, order, counts, channels, bands, out, alphas = ctx.saved
        by_out, by_alpha = _array(grads[0]), _array(grads[1])
        gradients = np.zeros((bands, *order.shape, PROJECTED_GRADS + len(channels)), F)
        layers.composite_gradients(
            sorted_records, order, counts, channels, bands, out, alphas, by_out, by_alpha, gradients
        )
        outputs = torch.from_numpy(gradients[0] if bands == 1 else gradients.sum(0))
        return (
            outputs[..., 0:2],
            outputs[..., 2:5],
            outputs[..., 5],
            outputs[..., PROJECTED_GRADS:],
            None,
            None,
            None,
        )


def _bands(cameras: int) -> int:
    """Parts of a picture, so that every thread has work until the end."""
    threads = numba.get_num_threads()
    return 1 if cameras % threads == 0 else -(-2 * threads // cameras)


def _array(tensor: Tensor) -> Any:
    return np.ascontiguousarray(tensor.detach().numpy(), F)
