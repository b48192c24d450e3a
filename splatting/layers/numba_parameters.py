"""Compiled functions from the parameters of a layer to its texture and its mesh, and their gradients."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from freezeframe.data.kernels.numba_jit import cached_jit

F = np.float32
POSE = 4  # parameters before the deformation: position x, y, rotation, logarithm of the scale

jit: Any = cached_jit(fastmath=True)


class Placement(NamedTuple):
    """Geometry of a mesh in its crops."""

    half: Any  # [2] half the width and height of the mesh, pixels
    centre: Any  # [2] texture coordinates (x, y) of its centre
    origin: Any  # [N, 2] frame coordinates of the first pixel of the crop of each instant
    downscale: Any


class Priors(NamedTuple):
    """Weights of the terms of the loss that know the texture alone, each over its number of terms."""

    colour_across: Any  # total variation of the colour along rows
    colour_down: Any
    chroma_across: Any  # of the differences of red and blue from green
    chroma_down: Any
    alpha_across: Any
    alpha_down: Any
    binary: Any


@jit
def spline_basis(times: Any, knots: Any, slopes: Any, basis: Any, rates: Any) -> None:
    """Weights of the values at the knots in a spline at `times`, and their derivatives; see `curves.hermite`.

    `basis` and `rates`, [N, T], are written; `slopes` is `curves.spline_slopes(knots)`.
    """
    count = len(knots)
    basis[:] = F(0)
    rates[:] = F(0)
    for n in range(len(times)):
        if count == 1:
            basis[n, 0] = F(1)
            continue
        inside = min(max(times[n], knots[0]), knots[count - 1])
        k = min(max(np.searchsorted(knots, inside, side="right") - 1, 0), count - 2)
        gap = knots[k + 1] - knots[k]
        u = (inside - knots[k]) / gap
        bump, change = u * (F(1) - u), F(1) - F(2) * u
        bend = -bump * change  # of the end value over the start value
        bend_rate = F(2) * bump - change * change
        first, second = bump * (F(1) - u) * gap, -bump * u * gap
        first_rate, second_rate = change * (F(1) - u) - bump, -change * u - bump
        beyond = times[n] - inside
        last = count - 1 if beyond > F(0) else 0
        for t in range(count):
            basis[n, t] = first * slopes[k, t] + second * slopes[k + 1, t] + beyond * slopes[last, t]
            rates[n, t] = first_rate * slopes[k, t] + second_rate * slopes[k + 1, t]
            if beyond != F(0):
                rates[n, t] = slopes[last, t]
        basis[n, k] += F(1) - u - bend
        basis[n, k + 1] += u + bend
        if beyond == F(0):
            rates[n, k] -= (F(1) + bend_rate) / gap
            rates[n, k + 1] += (F(1) + bend_rate) / gap


@jit
def place_mesh(states: Any, placement: Placement, position: Any, nodes: Any) -> None:
    """Position and nodes, see `numba_exposure.Mesh`, of the motion `states`, [N, 4 + 2 gh gw]."""
    rows, columns = nodes.shape[1], nodes.shape[2]
    per_pixel = F(1) / placement.downscale
    for n in range(len(states)):
        state = states[n]
        cos, sin, shrink = math.cos(state[2]), math.sin(state[2]), math.exp(-state[3])
        for axis in range(2):
            position[n, axis] = (state[axis] - placement.origin[n, axis] + F(0.5)) * per_pixel - F(0.5)
        for j in range(rows):
            y = placement.half[1] * (F(2 * j) / F(rows - 1) - F(1))
            for i in range(columns):
                x = placement.half[0] * (F(2 * i) / F(columns - 1) - F(1))
                at = POSE + 2 * (j * columns + i)
                nodes[n, j, i, 0] = (cos * x + sin * y) * shrink + placement.centre[0] + state[at] * per_pixel
                nodes[n, j, i, 1] = (
                    (cos * y - sin * x) * shrink + placement.centre[1] + state[at + 1] * per_pixel
                )


@jit
def mesh_gradients(
    states: Any, placement: Placement, by_position: Any, by_nodes: Any, by_states: Any
) -> None:
    """Transpose of the derivative of `place_mesh`: `by_states` is written."""
    rows, columns = by_nodes.shape[1], by_nodes.shape[2]
    per_pixel = F(1) / placement.downscale
    for n in range(len(states)):
        cos, sin, shrink = math.cos(states[n, 2]), math.sin(states[n, 2]), math.exp(-states[n, 3])
        by_angle, by_scale = F(0), F(0)
        for j in range(rows):
            y = placement.half[1] * (F(2 * j) / F(rows - 1) - F(1))
            for i in range(columns):
                x = placement.half[0] * (F(2 * i) / F(columns - 1) - F(1))
                u, v = by_nodes[n, j, i, 0], by_nodes[n, j, i, 1]
                across, down = (cos * x + sin * y) * shrink, (cos * y - sin * x) * shrink
                # A turn by a small angle moves (across, down) by (down, -across).
                by_angle += down * u - across * v
                by_scale -= across * u + down * v
                at = POSE + 2 * (j * columns + i)
                by_states[n, at], by_states[n, at + 1] = u * per_pixel, v * per_pixel
        by_states[n, 0], by_states[n, 1] = by_position[n, 0] * per_pixel, by_position[n, 1] * per_pixel
        by_states[n, 2], by_states[n, 3] = by_angle, by_scale


@jit
def draw_texture(logits: Any, roots: Any, texture: Any) -> None:
    """Texture [h, w, 4] of `logits` [4, h, w]; `roots` [4, h, w] are square roots of light, and alpha."""
    height, width = logits.shape[1], logits.shape[2]
    for c in range(4):
        for y in range(height):
            for x in range(width):
                roots[c, y, x] = F(1) / (F(1) + math.exp(-logits[c, y, x]))
    roots[3, 0], roots[3, height - 1] = F(0), F(0)
    roots[3, :, 0], roots[3, :, width - 1] = F(0), F(0)
    for y in range(height):
        for x in range(width):
            alpha = roots[3, y, x]
            for c in range(3):
                texture[y, x, c] = roots[c, y, x] * roots[c, y, x] * alpha
            texture[y, x, 3] = alpha


@jit
def texture_gradients(roots: Any, by_texture: Any, priors: Priors, by_logits: Any) -> None:
    """Gradients by the logits: those by the texture, the sum of [M, h, w, 4], and those of the priors."""
    height, width = roots.shape[1], roots.shape[2]
    for y in range(height):
        for x in range(width):
            alpha = roots[3, y, x]
            by_alpha = priors.binary * (F(1) - F(2) * alpha)
            for m in range(len(by_texture)):
                by_alpha += by_texture[m, y, x, 3]
            for c in range(3):
                root = roots[c, y, x]
                by_light = F(0)
                for m in range(len(by_texture)):
                    by_light += by_texture[m, y, x, c]
                by_alpha += by_light * root * root
                by_logits[c, y, x] = F(2) * root * alpha * by_light
            by_logits[3, y, x] = by_alpha
    for c in range(4):
        across, down = priors.colour_across, priors.colour_down
        if c == 3:
            across, down = priors.alpha_across, priors.alpha_down
        _add_variation(roots[c], across, down, by_logits[c])
    for c in (0, 2):
        by_chroma = np.zeros_like(roots[c])
        _add_variation(roots[c] - roots[1], priors.chroma_across, priors.chroma_down, by_chroma)
        by_logits[c] += by_chroma
        by_logits[1] -= by_chroma
    for c in range(4):
        for y in range(height):
            for x in range(width):
                by_logits[c, y, x] *= roots[c, y, x] * (F(1) - roots[c, y, x])


@jit
def _add_variation(image: Any, across: Any, down: Any, gradient: Any) -> None:
    """Add the gradient of the sums of absolute differences, with their weights."""
    height, width = image.shape
    for y in range(height):
        for x in range(width):
            if x + 1 < width:
                step = across * np.sign(image[y, x + 1] - image[y, x])
                gradient[y, x] -= step
                gradient[y, x + 1] += step
            if y + 1 < height:
                step = down * np.sign(image[y + 1, x] - image[y, x])
                gradient[y, x] -= step
                gradient[y + 1, x] += step
