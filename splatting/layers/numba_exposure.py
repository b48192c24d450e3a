"""Compiled kernels: exposures of a layer that moves while the shutter is open, and their gradients.

A mesh warps the texture, see `exposure`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np

from freezeframe.data.kernels.numba_jit import cached_jit, inline_jit

from .numba_intrinsics import CHANNELS, add_sample, add_sample_gradients

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

    texture: Any  # [blocks, h, w, 4], one part per block of instants; their sum is the gradient
    position: Any  # as in `Mesh`
    nodes: Any


class Cell(NamedTuple):
    """The pixels of one row in one cell of the mesh, and their texture coordinates (u, v)."""

    first: int
    last: int
    fraction: Any  # of the cell at pixel `first`
    step: Any  # of the fraction per pixel
    u: Any  # coordinates at the left side, and their change across the cell
    v: Any
    du: Any
    dv: Any


@inline
def cell_row(distance: Any, half: Any, nodes: int) -> Any:
    """Row of cells that holds a distance from the centre, and the fraction within it."""
    scaled = (distance + half) * F(nodes - 1) / (F(2) * half)
    cell = min(max(int(scaled), 0), nodes - 2)
    return cell, scaled - F(cell)


@inline
def cell_of(mesh: Any, number: Any, fy: Any, first: int, width: int) -> Any:
    """Cell `number` (n, j, i) of the mesh at instant n, along the row at the fraction `fy` of the cell."""
    n, j, i = number
    gw = mesh.nodes.shape[2]
    size = F(2) * mesh.half[0] / F(gw - 1)
    left = mesh.position[n, 0] - mesh.half[0] + F(i) * size
    last = max(first, min(width, math.ceil(left + size)))
    nodes = mesh.nodes[n]
    u = nodes[j, i, 0] + fy * (nodes[j + 1, i, 0] - nodes[j, i, 0])
    v = nodes[j, i, 1] + fy * (nodes[j + 1, i, 1] - nodes[j, i, 1])
    du = nodes[j, i + 1, 0] + fy * (nodes[j + 1, i + 1, 0] - nodes[j, i + 1, 0]) - u
    dv = nodes[j, i + 1, 1] + fy * (nodes[j + 1, i + 1, 1] - nodes[j, i + 1, 1]) - v
    return Cell(first, last, (F(first) - left) / size, F(1) / size, u, v, du, dv)


@jit_parallel
def expose(texture: Any, mesh: Any, out: Any) -> None:
    """Mean of the warped texture, [h, w, 4], over each exposure: `out`, [M, H, W, 4], is zero before."""
    height = out.shape[1]
    for task in numba.prange(out.shape[0] * height):
        frame, y = task // height, task % height
        for n in range(frame * mesh.instants, (frame + 1) * mesh.instants):
            _expose_row(texture, mesh, (n, y), out[frame, y])
        out[frame, y] *= F(1) / F(mesh.instants)


@jit
def _expose_row(texture: Any, mesh: Any, number: Any, row: Any) -> None:
    """Add instant n to row y; `number` is (n, y)."""
    n, y = number
    th, tw = texture.shape[0], texture.shape[1]
    gh, gw = mesh.nodes.shape[1], mesh.nodes.shape[2]
    distance = F(y) - mesh.position[n, 1]
    if abs(distance) >= mesh.half[1]:
        return
    j, fy = cell_row(distance, mesh.half[1], gh)
    x, out = texture.reshape(-1), row.reshape(-1)
    first = max(0, math.ceil(mesh.position[n, 0] - mesh.half[0]))
    for i in range(gw - 1):
        cell = cell_of(mesh, (n, j, i), fy, first, row.shape[0])
        first = cell.last
        for column in range(cell.first, cell.last):
            fx = cell.fraction + F(column - cell.first) * cell.step
            u, v = cell.u + fx * cell.du, cell.v + fx * cell.dv
            if u > F(0) and v > F(0) and u < F(tw - 1) and v < F(th - 1):
                a, b = int(u), int(v)
                add_sample(
                    out, column * CHANNELS, x, (b * tw + a) * CHANNELS, tw * CHANNELS, u - F(a), v - F(b)
                )


@jit_parallel
def expose_gradients(texture: Any, mesh: Any, upstream: Any, gradients: Any) -> None:
    """Gradients from `upstream`, the gradient by `expose`'s output; `gradients` are zero before."""
    blocks, count = gradients.texture.shape[0], mesh.position.shape[0]
    for block in numba.prange(blocks):
        for n in range(block * count // blocks, (block + 1) * count // blocks):
            for y in range(upstream.shape[1]):
                row = upstream[n // mesh.instants, y]
                _row_gradients(texture, mesh, (n, y, np.intp(block)), row, gradients)


@jit
def _row_gradients(texture: Any, mesh: Any, number: Any, upstream: Any, gradients: Any) -> None:
    """Gradients by one row; `number` is that of the instant, of the row and of the block."""
    n, y, block = number
    th, tw = texture.shape[0], texture.shape[1]
    distance = F(y) - mesh.position[n, 1]
    if abs(distance) >= mesh.half[1]:
        return
    j, fy = cell_row(distance, mesh.half[1], mesh.nodes.shape[1])
    x, g, by_x = texture.reshape(-1), upstream.reshape(-1), gradients.texture[block].reshape(-1)
    share = F(1) / F(mesh.instants)
    first = max(0, math.ceil(mesh.position[n, 0] - mesh.half[0]))
    for i in range(mesh.nodes.shape[2] - 1):
        cell = cell_of(mesh, (n, j, i), fy, first, upstream.shape[0])
        first = cell.last
        # Sums of the gradients by u and v over the cell, and their first moments.
        su, sv, mu, mv = F(0), F(0), F(0), F(0)
        for column in range(cell.first, cell.last):
            fx = cell.fraction + F(column - cell.first) * cell.step
            u, v = cell.u + fx * cell.du, cell.v + fx * cell.dv
            if u > F(0) and v > F(0) and u < F(tw - 1) and v < F(th - 1):
                a, b = int(u), int(v)
                by_u, by_v = add_sample_gradients(
                    by_x, g, column * CHANNELS, x, (b * tw + a) * CHANNELS, tw * CHANNELS, u - F(a), v - F(b),
                    share,
                )  # fmt: skip
                su += by_u
                sv += by_v
                mu += fx * by_u
                mv += fx * by_v
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
