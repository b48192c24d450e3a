"""Optional packages that make freezeframe faster."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import NamedTuple


class Extra(NamedTuple):
    """An optional package."""

    package: str
    module: str
    component: str  # that uses it
    slowdown: str  # without it


EXTRAS = (
    Extra("numba", "numba", "the deconvolution", "four times slower"),
    Extra("openvino", "openvino", "the network", "twice as slow"),
)


def missing_extras() -> tuple[Extra, ...]:
    """Optional packages that are not installed."""
    return tuple(extra for extra in EXTRAS if find_spec(extra.module) is None)


def slow_notes() -> Iterator[str]:
    """One sentence per missing package: its effect on the speed, and how to install it."""
    for extra in missing_extras():
        yield (
            f"without {extra.package} {extra.component} is {extra.slowdown}; run: pip install {extra.package}"
        )
