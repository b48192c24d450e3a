"""The two functions of `torch_reference` by compiled kernels: autograd functions for float32 on the CPU."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from . import numba_compositing as compositing
from . import numba_projection as projection
from .numba_compositing import Images, Sorted
from .numba_covariance import build_covariance, build_covariance_gradients
from .numba_intrinsics import PROJECTED_GRADS
from .numba_projection import Cameras, Gaussians, Gradients, Projection, Upstream
from .projected import ProjectedGaussians, RasterSettings
from .record_fields import CONIC_A, DEPTH, MEAN_X, OPACITY, RECORD_FLOATS, SORTED_FLOATS

F = np.float32
GRADIENT_BLOCKS = 32  # blocks of Gaussians whose gradients by the cameras are summed in order


def project(  # noqa: PLR0913, PLR0917  # the call's own order
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    settings: RasterSettings,
) -> ProjectedGaussians:
    """See `torch_reference.project`."""
    means2d, conics, compensated_opacities, depths, radii, records = _Project.apply(
        means, quats, scales, opacities, viewmats, Ks, settings
    )  # type: ignore[no-untyped-call]
    return ProjectedGaussians(
        means=means2d,
        conics=conics,
        opacities=compensated_opacities,
        depths=depths,
        radii=radii,
        records=records,
    )


def composite(
    projected: ProjectedGaussians, colours: Tensor, backgrounds: Tensor, settings: RasterSettings
) -> tuple[Tensor, Tensor]:
    """See `torch_reference.composite`."""
    images: tuple[Tensor, Tensor] = _Composite.apply(
        projected.means, projected.conics, projected.opacities, colours, projected, backgrounds, settings
    )  # type: ignore[no-untyped-call]
    return images


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any, means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, viewmats: Tensor,
        Ks: Tensor, settings: RasterSettings,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        quats_array, scales_array = _array(quats), _array(scales)
        cov = np.empty((len(means), 6), F)
        build_covariance(quats_array, scales_array, cov)
        gaussians = Gaussians(_array(means), cov, _array(opacities))
        cameras = _cameras(viewmats, Ks, settings)
        # Zeros: invisible Gaussians keep a finite record.
        records = np.zeros((len(viewmats), len(means), RECORD_FLOATS), F)
        radii = np.empty((len(viewmats), len(means)), np.int32)
        projection.project(gaussians, cameras, Projection(records, radii))
        ctx.saved = gaussians, cameras, quats_array, scales_array, Projection(records, radii)
        outputs, visible_radii = torch.from_numpy(records), torch.from_numpy(radii)
        parts = [
            outputs[..., MEAN_X : MEAN_X + 2].clone(),
            outputs[..., CONIC_A : CONIC_A + 3].clone(),
            outputs[..., OPACITY].clone(),
            outputs[..., DEPTH].clone(),
        ]
        ctx.mark_non_differentiable(visible_radii, outputs)
        return (*parts, visible_radii, outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gaussians, cameras, quats_array, scales_array, projected = ctx.saved
        by_means2d, by_conics, by_compensated, by_depths = (_array(each) for each in grads[:4])
        by_projected = np.concatenate([by_means2d, by_conics, by_compensated[..., None]], axis=-1, dtype=F)
        count, views = len(gaussians.means), cameras.viewmats
        by_view = np.zeros((max(1, min(GRADIENT_BLOCKS, count // 64)), len(views), 12), np.float64)
        by_means, by_cov, by_opacities = (np.zeros_like(each) for each in gaussians)
        gradients = Gradients(by_means, by_cov, by_opacities, by_view)
        upstream = Upstream(by_projected, by_depths)
        projection.project_gradients(gaussians, cameras, projected, upstream, gradients)
        by_quat, by_scale = np.empty_like(quats_array), np.empty_like(scales_array)
        build_covariance_gradients(quats_array, scales_array, gradients.cov, by_quat, by_scale)
        grad_viewmats = np.zeros_like(views)
        grad_viewmats[:, :3] = by_view.sum(0).reshape(-1, 3, 4)
        outputs = (gradients.means, by_quat, by_scale, gradients.opacities, grad_viewmats)
        return *(torch.from_numpy(each) for each in outputs), None, None


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any, means: Tensor, conics: Tensor, opacities: Tensor, colours: Tensor,
        projected: ProjectedGaussians, backgrounds: Tensor, settings: RasterSettings,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        del means, conics, opacities  # they receive gradients; their values are in the records
        assert projected.records is not None
        records, radii = projected.records.numpy(), projected.radii.numpy()
        features = _array(colours)
        cameras, count, depth = features.shape
        width, height = settings.size
        order, counts = np.empty((cameras, count), np.int32), np.empty(cameras, np.int64)
        compositing.sort_by_depth(records, radii, order, counts)
        sorted_records = np.empty((cameras, count, SORTED_FLOATS + depth), F)
        compositing.gather_sorted(records, features, order, counts, sorted_records)
        out, alphas = np.empty((cameras, depth, height, width), F), np.empty((cameras, height, width), F)
        bands = _bands(cameras)
        gaussians, images = Sorted(sorted_records, counts, (0,) * depth), Images(out, alphas)
        compositing.composite(gaussians, bands, _array(backgrounds), images)
        ctx.saved = gaussians, order, bands, images
        return torch.from_numpy(out), torch.from_numpy(alphas)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gaussians, order, bands, images = ctx.saved
        upstream = Images(_array(grads[0]), _array(grads[1]))
        gradients = np.zeros((bands, *order.shape, PROJECTED_GRADS + len(gaussians.channels)), F)
        compositing.composite_gradients(gaussians, order, images, upstream, gradients)
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
    """Bands of rows of an image, so many that all threads finish at about the same time."""
    threads = numba.get_num_threads()
    return 1 if cameras % threads == 0 else -(-2 * threads // cameras)


def _cameras(viewmats: Tensor, Ks: Tensor, settings: RasterSettings) -> Cameras:
    width, height = settings.size
    return Cameras(
        viewmats=_array(viewmats),
        Ks=_array(Ks),
        width=F(width),
        height=F(height),
        near=F(settings.near),
        far=F(settings.far),
        blur=F(settings.blur),
        antialiased=settings.antialiased,
    )


def _array(tensor: Tensor) -> Any:
    return np.ascontiguousarray(tensor.detach().numpy(), F)
