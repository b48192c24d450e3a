"""A running player in eleven rigid parts, joined at shoulders, elbows, hips and knees.

Drawn facing right, about 150 units tall; lengths are in units, the origin is the middle of the hips.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from freezeframe.data.synthesis.scene2d.layered_scene import Layer, Matrix, Motion
from freezeframe.data.synthesis.scene2d.motion import Course, shift, turn
from freezeframe.data.synthesis.scene2d.vector_canvas import Colour, Sheet, grained

THIGH, SHIN, ARM, FOREARM, TORSO = 34.0, 34.0, 24.0, 22.0, 46.0
HIP_TO_SOLE = THIGH + SHIN + 5
_MARGIN = 14.0  # units of paper around a limb

Paint = Callable[[Sheet], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What a player wears."""

    number: str
    name: str
    shirt: Colour
    trim: Colour
    shorts: Colour
    skin: Colour
    hair: Colour


def runner(kit: Kit, hips: Motion, *, scale: float, pace: float, phase: float) -> tuple[Layer, ...]:
    """Layers of a runner from back to front.

    Args:
        kit: What the player wears.
        hips: From the runner's own units to frame pixels.
        scale: Frame pixels per unit.
        pace: Strides (left and right) per frame interval.
        phase: Where in the stride time 0 is, in radians.
    """

    def beat(t: float) -> float:
        return 2 * math.pi * pace * t + phase

    far, near = _swing(beat, math.pi), _swing(beat, 0.0)
    body = _joined(hips, lambda t: _torso_pose(beat(t)))
    return (
        *_arm(kit, body, near, scale=scale, shade=0.75),  # arms swing against the legs of their side
        *_leg(kit, hips, far, scale=scale, shade=0.75),
        _part(_torso(kit), body, scale=scale, reach=TORSO),
        *_leg(kit, hips, near, scale=scale, shade=1.0),
        *_arm(kit, body, far, scale=scale, shade=1.0),
    )


@dataclass(frozen=True, slots=True)
class _Swing:
    """Angles of one side's limbs; positive swings them forward."""

    thigh: Course
    knee: Course
    shoulder: Course
    elbow: Course


def _swing(beat: Course, side: float) -> _Swing:
    return _Swing(
        thigh=lambda t: 0.25 + 0.62 * math.sin(beat(t) + side),
        knee=lambda t: -(0.75 + 0.6 * math.sin(beat(t) + side - 1.9)),
        shoulder=lambda t: 0.62 * math.sin(beat(t) + side),
        elbow=lambda t: 1.25 + 0.25 * math.sin(beat(t) + side),
    )


def _leg(kit: Kit, hips: Motion, swing: _Swing, *, scale: float, shade: float) -> tuple[Layer, Layer]:
    thigh = _joined(hips, lambda t: turn(-swing.thigh(t)))
    shin = _joined(thigh, lambda t: shift(0, THIGH) @ turn(-swing.knee(t)))

    def upper(sheet: Sheet) -> None:
        m = _MARGIN
        sheet.line((m, m), (m, m + THIGH), 12, _dim(kit.skin, shade))
        sheet.line((m, m), (m, m + THIGH * 0.55), 17, _dim(kit.shorts, shade))
        sheet.line((m - 4, m + 2), (m - 4, m + THIGH * 0.55), 2.5, _dim(kit.trim, shade))

    def lower(sheet: Sheet) -> None:
        m = _MARGIN
        sheet.line((m, m), (m, m + SHIN), 10, _dim(kit.skin, shade))
        sheet.line((m, m + 8), (m, m + SHIN - 2), 10.5, _dim(kit.shirt, shade))
        for k in range(3):
            sheet.line((m - 4.4, m + 12 + 5 * k), (m + 4.4, m + 12 + 5 * k), 2, _dim(kit.trim, shade))
        sheet.line((m - 1, m + SHIN + 2), (m + 11, m + SHIN + 4), 7.5, _dim((28, 28, 34), shade))
        sheet.line((m, m + SHIN + 3), (m + 8, m + SHIN + 3), 1.6, _dim((250, 250, 90), shade))

    return (
        _part(lower, shin, scale=scale, reach=SHIN),
        _part(upper, thigh, scale=scale, reach=THIGH),
    )


def _arm(kit: Kit, body: Motion, swing: _Swing, *, scale: float, shade: float) -> tuple[Layer, Layer]:
    side = -11 if shade == 1.0 else 5  # the chest turns a little towards us, and shows its number
    upper_arm = _joined(body, lambda t: shift(side, -TORSO + 7) @ turn(-swing.shoulder(t)))
    forearm = _joined(upper_arm, lambda t: shift(0, ARM) @ turn(-swing.elbow(t)))

    def upper(sheet: Sheet) -> None:
        m = _MARGIN
        sheet.line((m, m), (m, m + ARM), 9, _dim(kit.skin, shade))
        sheet.line((m, m), (m, m + ARM * 0.55), 12, _dim(kit.shirt, shade))
        sheet.line((m - 5, m + ARM * 0.55), (m + 5, m + ARM * 0.55), 2.5, _dim(kit.trim, shade))

    def lower(sheet: Sheet) -> None:
        m = _MARGIN
        sheet.line((m, m), (m, m + FOREARM), 7.5, _dim(kit.skin, shade))
        sheet.line((m, m + FOREARM - 5), (m, m + FOREARM - 4), 8, _dim(kit.trim, shade))
        sheet.disc((m, m + FOREARM + 2), 5, _dim(kit.skin, shade))

    return (
        _part(lower, forearm, scale=scale, reach=FOREARM),
        _part(upper, upper_arm, scale=scale, reach=ARM),
    )


def _torso(kit: Kit) -> Paint:
    def paint(sheet: Sheet) -> None:
        # The sheet's own hips are at the same height as its lower end: see `_part`.
        x, hip = _MARGIN + 10, _MARGIN + 26 + TORSO
        neck = hip - TORSO
        sheet.line((x + 1, neck - 2), (x + 1, neck + 6), 8, _dim(kit.skin, 0.85))
        sheet.ellipse((x + 3, neck - 13), (10.5, 12.5), kit.skin)
        sheet.ellipse((x, neck - 17), (11.5, 10), kit.hair)
        sheet.ellipse((x + 1, neck - 10), (2.4, 3.2), _dim(kit.skin, 0.8))
        sheet.disc((x + 10, neck - 13), 1.4, (30, 25, 25))
        sheet.line((x, neck + 9), (x, hip - 4), 26, kit.shirt)
        sheet.line((x - 11, neck + 30), (x + 11, neck + 30), 2.2, _dim(kit.shirt, 0.8))
        sheet.line((x - 9, hip + 4), (x + 9, hip + 4), 9, kit.shorts)
        sheet.text(kit.name, (x + 2, neck + 2.5), 6.5, kit.trim)
        sheet.text(kit.number, (x + 2, neck + 18), 24, kit.trim)

    return paint


def _torso_pose(beat: float) -> Matrix:
    # Leaning forward, and upright again with every step.
    return turn(0.22 + 0.04 * math.sin(2 * beat))


def _part(paint: Paint, place: Motion, *, scale: float, reach: float) -> Layer:
    """A limb on its own paper, the joint at (margin, margin); a torso stands on its joint instead."""
    tall = reach == TORSO
    joint = (_MARGIN + 10, _MARGIN + 26 + TORSO) if tall else (_MARGIN, _MARGIN)
    sheet = Sheet(2 * joint[0], (joint[1] if tall else reach + _MARGIN) + _MARGIN, scale)
    paint(sheet)
    to_joint = shift(-joint[0], -joint[1]) @ sheet.in_units()
    cloth = grained(sheet.texture(), np.random.default_rng(int(reach)), strength=0.05, size=1.0)
    return Layer(texture=cloth, place=lambda t: place(t) @ to_joint, mover=True)


def _joined(parent: Motion, joint: Motion) -> Motion:
    return lambda t: parent(t) @ joint(t)


def _dim(colour: Colour, shade: float) -> Colour:
    return tuple(round(part * shade) for part in colour[:3])
