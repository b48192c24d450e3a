"""`reference` in compiled kernels: the same two functions, for float32 on the CPU, many times as fast."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from . import numba_compositing as layers
from . import numba_projection as kernels
from .numba_covariance import spread, spread_gradients
from .numba_projection import RECORD, SEEN
from .projected import Lens, Screen
from .simd16 import SCREEN

F = np.float32
BLOCKS = 32  # of Gaussians whose pull on the cameras is summed separately, so that the sum has a fixed order


def project(  # noqa: PLR0913, PLR0917  # the call's own order
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, viewmats: Tensor, ks: Tensor, lens: Lens
) -> Screen:
    """See `reference.project`."""
    middle, conics, strengths, depths, radii, records = _Project.apply(
        means, quats, scales, opacities, viewmats, ks, lens
    )  # type: ignore[no-untyped-call]
    return Screen(
        means=middle, conics=conics, opacities=strengths, depths=depths, radii=radii, records=records
    )


def composite(screen: Screen, colours: Tensor, backgrounds: Tensor, lens: Lens) -> tuple[Tensor, Tensor]:
    """See `reference.composite`."""
    pictures: tuple[Tensor, Tensor] = _Composite.apply(
        screen.means, screen.conics, screen.opacities, colours, screen, backgrounds, lens
    )  # type: ignore[no-untyped-call]
    return pictures


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any, means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, viewmats: Tensor,
        ks: Tensor, lens: Lens,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        turned, sized = _array(quats), _array(scales)
        cov = np.empty((len(means), 6), F)
        spread(turned, sized, cov)
        given = [_array(means), cov, *(_array(each) for each in (opacities, viewmats, ks))]
        count, cameras = len(means), len(viewmats)
        # Zeros: what is not seen keeps a finite record.
        records, radii = np.zeros((cameras, count, RECORD), F), np.empty((cameras, count), np.int32)
        width, height = lens.size
        kernels.project(
            *given,
            F(width),
            F(height),
            F(lens.blur),
            F(lens.near),
            F(lens.far),
            lens.antialiased,
            records,
            radii,
        )
        ctx.kept = given, turned, sized, records, radii, lens
        found = torch.from_numpy(records)
        seen = torch.from_numpy(radii)
        parts = [
            found[..., 0:2].clone(),
            found[..., 2:5].clone(),
            found[..., 5].clone(),
            found[..., 6].clone(),
        ]
        ctx.mark_non_differentiable(seen, found)
        return (*parts, seen, found)

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor | None, ...]:
        given, turned, sized, records, radii, lens = ctx.kept
        by_middle, by_conic, by_opacity, by_depth = by[:4]
        screen = np.concatenate(
            [_array(by_middle), _array(by_conic), _array(by_opacity)[..., None]], axis=-1, dtype=F
        )
        means, cov, opacities, views, ks = given
        by_mean, by_cov, by_strength = (np.zeros_like(each) for each in (means, cov, opacities))
        by_view = np.zeros((max(1, min(BLOCKS, len(means) // 64)), len(views), 12), np.float64)
        width, height = lens.size
        kernels.project_gradients(
            means, cov, opacities, views, ks, F(width), F(height), F(lens.blur), lens.antialiased, records,
            radii, screen, _array(by_depth), by_mean, by_cov, by_strength, by_view,
        )  # fmt: skip
        by_quat, by_scale = np.empty_like(turned), np.empty_like(sized)
        spread_gradients(turned, sized, by_cov, by_quat, by_scale)
        pull = np.zeros_like(views)
        pull[:, :3] = by_view.sum(0).reshape(-1, 3, 4)
        found = (by_mean, by_quat, by_scale, by_strength, pull)
        return *(torch.from_numpy(each) for each in found), None, None


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any, means: Tensor, conics: Tensor, opacities: Tensor, colours: Tensor, screen: Screen,
        backgrounds: Tensor, lens: Lens,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        del means, conics, opacities  # gradients flow to them; their values lie in the records
        assert screen.records is not None
        records, radii = screen.records.numpy(), screen.radii.numpy()
        painted = _array(colours)
        cameras, count, depth = painted.shape
        width, height = lens.size
        order, counts = np.empty((cameras, count), np.int32), np.empty(cameras, np.int64)
        layers.sort_by_depth(records, radii, order, counts)
        near = np.empty((cameras, count, SEEN + depth), F)
        layers.line_up(records, painted, order, counts, near)
        out, alphas = np.empty((cameras, depth, height, width), F), np.empty((cameras, height, width), F)
        bands, channels = _bands(cameras), (0,) * depth
        layers.composite(near, counts, channels, bands, _array(backgrounds), out, alphas)
        ctx.kept = near, order, counts, channels, bands, out, alphas
        return torch.from_numpy(out), torch.from_numpy(alphas)

    @staticmethod
    def backward(ctx: Any, *by: Tensor) -> tuple[Tensor | None, ...]:
        near, order, counts, channels, bands, out, alphas = ctx.kept
        by_out, by_alpha = _array(by[0]), _array(by[1])
        gradients = np.zeros((bands, *order.shape, SCREEN + len(channels)), F)
        layers.composite_gradients(
            near, order, counts, channels, bands, out, alphas, by_out, by_alpha, gradients
        )
        found = torch.from_numpy(gradients[0] if bands == 1 else gradients.sum(0))
        return found[..., 0:2], found[..., 2:5], found[..., 5], found[..., SCREEN:], None, None, None


def _bands(cameras: int) -> int:
    """Parts of a picture, so that every thread has work until the end."""
    threads = numba.get_num_threads()
    return 1 if cameras % threads == 0 else -(-2 * threads // cameras)


def _array(tensor: Tensor) -> Any:
    return np.ascontiguousarray(tensor.detach().numpy(), F)
