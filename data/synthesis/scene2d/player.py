"""A running player of rigid parts, joined at shoulders, elbows, hips and knees.

Facing right, about 150 units tall; lengths are in units, the origin is the middle of the hips.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .layered_scene import HomographyFunction, Layer, Matrix
from .motion import ScalarFunction, rotation, translation
from .vector_canvas import Colour, VectorCanvas, add_grain

THIGH, SHIN, ARM, FOREARM, TORSO = 34.0, 34.0, 24.0, 22.0, 46.0
HIP_TO_SOLE = THIGH + SHIN + 5
_MARGIN = 14.0  # units of transparent canvas around a limb

Paint = Callable[[VectorCanvas], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """Clothes and colours of a player."""

    number: str
    name: str
    shirt: Colour
    trim: Colour
    shorts: Colour
    skin: Colour
    hair: Colour


def runner(
    kit: Kit, hips: HomographyFunction, *, scale: float, stride_rate: float, phase: float
) -> tuple[Layer, ...]:
    """Layers of a runner from back to front.

    Args:
        kit: Clothes and colours.
        hips: Units of the runner to frame pixels.
        scale: Frame pixels per unit.
        stride_rate: Strides (left and right) per frame interval.
        phase: Phase of the stride at time 0, radians.
    """

    def stride_phase(t: float) -> float:
        return 2 * math.pi * stride_rate * t + phase

    far, near = _swing(stride_phase, math.pi), _swing(stride_phase, 0.0)
    body = _compose(hips, lambda t: _torso_pose(stride_phase(t)))
    return (
        *_arm(kit, body, near, scale=scale, shade=0.75),  # arms swing in antiphase to the legs of their side
        *_leg(kit, hips, far, scale=scale, shade=0.75),
        _part(_torso(kit), body, scale=scale, length=TORSO),
        *_leg(kit, hips, near, scale=scale, shade=1.0),
        *_arm(kit, body, far, scale=scale, shade=1.0),
    )


@dataclass(frozen=True, slots=True)
class _Swing:
    """Angles of the limbs of one side over time, radians; positive is forward."""

    thigh: ScalarFunction
    knee: ScalarFunction
    shoulder: ScalarFunction
    elbow: ScalarFunction


def _swing(stride_phase: ScalarFunction, side: float) -> _Swing:
    return _Swing(
        thigh=lambda t: 0.25 + 0.62 * math.sin(stride_phase(t) + side),
        knee=lambda t: -(0.75 + 0.6 * math.sin(stride_phase(t) + side - 1.9)),
        shoulder=lambda t: 0.62 * math.sin(stride_phase(t) + side),
        elbow=lambda t: 1.25 + 0.25 * math.sin(stride_phase(t) + side),
    )


def _leg(
    kit: Kit, hips: HomographyFunction, swing: _Swing, *, scale: float, shade: float
) -> tuple[Layer, Layer]:
    thigh = _compose(hips, lambda t: rotation(-swing.thigh(t)))
    shin = _compose(thigh, lambda t: translation(0, THIGH) @ rotation(-swing.knee(t)))

    def upper(canvas: VectorCanvas) -> None:
        m = _MARGIN
        canvas.line((m, m), (m, m + THIGH), 12, _darken(kit.skin, shade))
        canvas.line((m, m), (m, m + THIGH * 0.55), 17, _darken(kit.shorts, shade))
        canvas.line((m - 4, m + 2), (m - 4, m + THIGH * 0.55), 2.5, _darken(kit.trim, shade))

    def lower(canvas: VectorCanvas) -> None:
        m = _MARGIN
        canvas.line((m, m), (m, m + SHIN), 10, _darken(kit.skin, shade))
        canvas.line((m, m + 8), (m, m + SHIN - 2), 10.5, _darken(kit.shirt, shade))
        for k in range(3):
            canvas.line((m - 4.4, m + 12 + 5 * k), (m + 4.4, m + 12 + 5 * k), 2, _darken(kit.trim, shade))
        canvas.line((m - 1, m + SHIN + 2), (m + 11, m + SHIN + 4), 7.5, _darken((28, 28, 34), shade))
        canvas.line((m, m + SHIN + 3), (m + 8, m + SHIN + 3), 1.6, _darken((250, 250, 90), shade))

    return (
        _part(lower, shin, scale=scale, length=SHIN),
        _part(upper, thigh, scale=scale, length=THIGH),
    )


def _arm(
    kit: Kit, body: HomographyFunction, swing: _Swing, *, scale: float, shade: float
) -> tuple[Layer, Layer]:
    side = -11 if shade == 1.0 else 5  # the chest is rotated towards the camera
    upper_arm = _compose(body, lambda t: translation(side, -TORSO + 7) @ rotation(-swing.shoulder(t)))
    forearm = _compose(upper_arm, lambda t: translation(0, ARM) @ rotation(-swing.elbow(t)))

    def upper(canvas: VectorCanvas) -> None:
        m = _MARGIN
        canvas.line((m, m), (m, m + ARM), 9, _darken(kit.skin, shade))
        canvas.line((m, m), (m, m + ARM * 0.55), 12, _darken(kit.shirt, shade))
        canvas.line((m - 5, m + ARM * 0.55), (m + 5, m + ARM * 0.55), 2.5, _darken(kit.trim, shade))

    def lower(canvas: VectorCanvas) -> None:
        m = _MARGIN
        canvas.line((m, m), (m, m + FOREARM), 7.5, _darken(kit.skin, shade))
        canvas.line((m, m + FOREARM - 5), (m, m + FOREARM - 4), 8, _darken(kit.trim, shade))
        canvas.disc((m, m + FOREARM + 2), 5, _darken(kit.skin, shade))

    return (
        _part(lower, forearm, scale=scale, length=FOREARM),
        _part(upper, upper_arm, scale=scale, length=ARM),
    )


def _torso(kit: Kit) -> Paint:
    def paint(canvas: VectorCanvas) -> None:
        # The hips are the joint of the torso, see `_part`.
        x, hip = _MARGIN + 10, _MARGIN + 26 + TORSO
        neck = hip - TORSO
        canvas.line((x + 1, neck - 2), (x + 1, neck + 6), 8, _darken(kit.skin, 0.85))
        canvas.ellipse((x + 3, neck - 13), (10.5, 12.5), kit.skin)
        canvas.ellipse((x, neck - 17), (11.5, 10), kit.hair)
        canvas.ellipse((x + 1, neck - 10), (2.4, 3.2), _darken(kit.skin, 0.8))
        canvas.disc((x + 10, neck - 13), 1.4, (30, 25, 25))
        canvas.line((x, neck + 9), (x, hip - 4), 26, kit.shirt)
        canvas.line((x - 11, neck + 30), (x + 11, neck + 30), 2.2, _darken(kit.shirt, 0.8))
        canvas.line((x - 9, hip + 4), (x + 9, hip + 4), 9, kit.shorts)
        canvas.text(kit.name, (x + 2, neck + 2.5), 6.5, kit.trim)
        canvas.text(kit.number, (x + 2, neck + 18), 24, kit.trim)

    return paint


def _torso_pose(stride_phase: float) -> Matrix:
    # A forward lean that oscillates with every step.
    return rotation(0.22 + 0.04 * math.sin(2 * stride_phase))


def _part(paint: Paint, homography: HomographyFunction, *, scale: float, length: float) -> Layer:
    """A limb, with its joint at (margin, margin) of its canvas; the joint of the torso is its lower end."""
    is_torso = length == TORSO
    joint = (_MARGIN + 10, _MARGIN + 26 + TORSO) if is_torso else (_MARGIN, _MARGIN)
    canvas = VectorCanvas(2 * joint[0], (joint[1] if is_torso else length + _MARGIN) + _MARGIN, scale)
    paint(canvas)
    to_joint = translation(-joint[0], -joint[1]) @ canvas.pixel_to_unit()
    texture = add_grain(canvas.texture(), np.random.default_rng(int(length)), strength=0.05, size=1.0)
    return Layer(texture=texture, homography=lambda t: homography(t) @ to_joint, mover=True)


def _compose(parent: HomographyFunction, joint: HomographyFunction) -> HomographyFunction:
    return lambda t: parent(t) @ joint(t)


def _darken(colour: Colour, shade: float) -> Colour:
    return tuple(round(part * shade) for part in colour[:3])
