"""Compiled kernels: exposures of a layer that moves while the shutter is open, and their gradients.

A mesh warps the texture, see `exposure`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np

from freezeframe.data.kernels.numba_jit import cached_jit, inline_jit, with_kernel_lock

from .numba_intrinsics import CHANNELS, add_sample_gradients, add_samples

F = np.float32

jit: Any = cached_jit(fastmath=True)
jit_parallel: Any = cached_jit(fastmath=True, parallel=True)
inline: Any = inline_jit(fastmath=True)


class Mesh(NamedTuple):
    """Motion of a layer at N instants; `instants` consecutive ones are one exposure."""

    position: Any  # [N, 2] frame coordinates (x, y) of the centre of the mesh
    nodes: Any  # [N, gh, gw, 2] texture coordinates (x, y) of the nodes
    half: Any  # [2] half the width and height of the mesh, pixels
    instants: int


class Gradients(NamedTuple):
    """Gradients of a loss."""

    texture: Any  # [M, h, w, 4], one part per exposure; their sum is the gradient
    position: Any  # as in `Mesh`
    nodes: Any


class Cell(NamedTuple):
    """The pixels of one row in one cell of the mesh that lie on the texture."""

    first: int
    samples: int
    stop: int  # first pixel of the next cell
    line: Any  # texture coordinates (u, v) at pixel `first`, and their steps per pixel
    fraction: Any  # of the cell at pixel `first`
    step: Any  # of the fraction per pixel


@inline
def cell_row(distance: Any, half: Any, nodes: int) -> Any:
    """Row of cells that holds a distance from the centre, and the fraction within it."""
    scaled = (distance + half) * F(nodes - 1) / (F(2) * half)
    cell = min(max(int(scaled), 0), nodes - 2)
    return cell, scaled - F(cell)


@inline
def cell_of(mesh: Any, number: Any, fy: Any, start: int, size: Any) -> Any:
    """Cell `number` (n, j, i) of the mesh at instant n, from pixel `start` on.

    It lies along the row at the fraction `fy` of the cell; `size` is (width of the frame, of the texture, its
    height).
    """
    n, j, i = number
    gw = mesh.nodes.shape[2]
    side = F(2) * mesh.half[0] / F(gw - 1)
    left = mesh.position[n, 0] - mesh.half[0] + F(i) * side
    stop = max(start, min(size[0], math.ceil(left + side)))
    nodes = mesh.nodes[n]
    u = nodes[j, i, 0] + fy * (nodes[j + 1, i, 0] - nodes[j, i, 0])
    v = nodes[j, i, 1] + fy * (nodes[j + 1, i, 1] - nodes[j, i, 1])
    du = (nodes[j, i + 1, 0] + fy * (nodes[j + 1, i + 1, 0] - nodes[j, i + 1, 0]) - u) / side
    dv = (nodes[j, i + 1, 1] + fy * (nodes[j + 1, i + 1, 1] - nodes[j, i + 1, 1]) - v) / side
    first, last = start, stop
    while first < last and not _is_on(u + (F(first) - left) * du, v + (F(first) - left) * dv, size):
        first += 1
    while first < last and not _is_on(u + (F(last - 1) - left) * du, v + (F(last - 1) - left) * dv, size):
        last -= 1
    offset = F(first) - left
    line = (u + offset * du, v + offset * dv, du, dv)
    return Cell(first, last - first, stop, line, offset / side, F(1) / side)


@inline
def _is_on(u: Any, v: Any, size: Any) -> Any:
    """Whether texture coordinates lie between four texels."""
    return u > F(0) and v > F(0) and u < F(size[1] - 1) and v < F(size[2] - 1)


def expose(texture: Any, position: Any, nodes: Any, half: tuple[float, float], size: tuple[int, int]) -> Any:
    """[M, H, W, 4] exposures; arguments as in `exposure.expose_layer`, the texture with channels last."""
    flat = [np.ascontiguousarray(each.reshape(-1, *each.shape[2:]), F) for each in (position, nodes)]
    mesh = Mesh(flat[0], flat[1], np.array(half, F), position.shape[1])
    out = np.zeros((len(position), *size, CHANNELS), F)
    with_kernel_lock(expose_rows)(np.ascontiguousarray(texture, F), mesh, out)
    return out


@jit_parallel
def expose_rows(texture: Any, mesh: Any, out: Any) -> None:
    """Mean of the warped texture, [h, w, 4], over each exposure: `out`, [M, H, W, 4], is zero before."""
    height = out.shape[1]
    for task in numba.prange(out.shape[0] * height):
        frame, y = task // height, task % height
        for n in range(frame * mesh.instants, (frame + 1) * mesh.instants):
            expose_row(texture, mesh, (n, y), out[frame, y])
        out[frame, y] *= F(1) / F(mesh.instants)


@jit
def expose_row(texture: Any, mesh: Any, number: Any, row: Any) -> None:
    """Add instant n to row y; `number` is (n, y)."""
    n, y = number
    th, tw = texture.shape[0], texture.shape[1]
    gh, gw = mesh.nodes.shape[1], mesh.nodes.shape[2]
    distance = F(y) - mesh.position[n, 1]
    if abs(distance) >= mesh.half[1]:
        return
    j, fy = cell_row(distance, mesh.half[1], gh)
    x, out, size = texture.reshape(-1), row.reshape(-1), (row.shape[0], tw, th)
    start = max(0, math.ceil(mesh.position[n, 0] - mesh.half[0]))
    for i in range(gw - 1):
        cell = cell_of(mesh, (n, j, i), fy, start, size)
        start = cell.stop
        add_samples(out, cell.first * CHANNELS, cell.samples, x, (tw, th), cell.line)


@jit
def row_gradients(texture: Any, mesh: Any, number: Any, upstream: Any, gradients: Any) -> None:
    """Gradients by one row of an exposure; `number` is (instant, row, exposure)."""
    n, y, exposure = number
    th, tw = texture.shape[0], texture.shape[1]
    distance = F(y) - mesh.position[n, 1]
    if abs(distance) >= mesh.half[1]:
        return
    j, fy = cell_row(distance, mesh.half[1], mesh.nodes.shape[1])
    x, g, by_x = texture.reshape(-1), upstream.reshape(-1), gradients.texture[exposure].reshape(-1)
    share, size = F(1) / F(mesh.instants), (upstream.shape[0], tw, th)
    start = max(0, math.ceil(mesh.position[n, 0] - mesh.half[0]))
    for i in range(mesh.nodes.shape[2] - 1):
        cell = cell_of(mesh, (n, j, i), fy, start, size)
        start = cell.stop
        su, sv, mu, mv = add_sample_gradients(
            by_x, g, cell.first * CHANNELS, cell.samples, x, (tw, th), cell.line, share
        )
        # Sums of the gradients by u and v over the cell, and their first moments.
        mu, mv = cell.fraction * su + cell.step * mu, cell.fraction * sv + cell.step * mv
        _add_cell(mesh, (n, j, i), fy, (su, sv, mu, mv), gradients)


@inline
def _add_cell(mesh: Any, number: Any, fy: Any, sums: Any, gradients: Any) -> None:
    """Distribute the gradients of one row of cell `number` to its four nodes and to the position."""
    n, j, i = number
    su, sv, mu, mv = sums
    by_nodes, by_position, nodes = gradients.nodes[n], gradients.position[n], mesh.nodes[n]
    up, down = F(1) - fy, fy
    by_nodes[j, i, 0] += up * (su - mu)
    by_nodes[j, i, 1] += up * (sv - mv)
    by_nodes[j, i + 1, 0] += up * mu
    by_nodes[j, i + 1, 1] += up * mv
    by_nodes[j + 1, i, 0] += down * (su - mu)
    by_nodes[j + 1, i, 1] += down * (sv - mv)
    by_nodes[j + 1, i + 1, 0] += down * mu
    by_nodes[j + 1, i + 1, 1] += down * mv
    per_x = F(mesh.nodes.shape[2] - 1) / (F(2) * mesh.half[0])  # cells per pixel
    per_y = F(mesh.nodes.shape[1] - 1) / (F(2) * mesh.half[1])
    # The mesh moves with its position: the distance of a pixel from it shrinks.
    for axis in range(2):
        s, m = (su, mu) if axis == 0 else (sv, mv)
        above = nodes[j, i + 1, axis] - nodes[j, i, axis]
        below = nodes[j + 1, i + 1, axis] - nodes[j + 1, i, axis]
        left = nodes[j + 1, i, axis] - nodes[j, i, axis]
        right = nodes[j + 1, i + 1, axis] - nodes[j, i + 1, axis]
        by_position[0] -= per_x * s * (up * above + down * below)
        by_position[1] -= per_y * ((s - m) * left + m * right)
