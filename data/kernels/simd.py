"""Vectors of float32 inside numba kernels: a short-hand for the LLVM instructions that intrinsics emit.

numba runs LLVM without its SLP vectoriser, and LLVM's loop vectoriser leaves loops scalar whose addresses
depend on data or that are full of selects. `docs/design/vector-kernels.md` compares the alternatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

FLOATS = types.Array(types.float32, 1, "C")  # the numba type of every buffer: flat, contiguous float32

_FLOAT = ir.FloatType()


def index(value: int) -> Any:
    """A constant array index."""
    return ir.Constant(ir.IntType(64), value)


class Vectors:
    """Instructions on vectors of `lanes` floats. Array indices count floats and need no alignment.

    Args:
        context: numba's code generation context.
        builder: The LLVM builder of the function.
        lanes: Floats of one vector.
        fast: Let LLVM reorder and fuse. Without it every operation rounds as written, and `fma` once where
            the processor has the instruction: all copies of a kernel then give the same bits.
    """

    def __init__(self, context: Any, builder: Any, lanes: int, *, fast: bool = False) -> None:
        self._context, self._builder = context, builder
        self.lanes, self.type = lanes, ir.VectorType(_FLOAT, lanes)
        self._flags = ("fast",) if fast else ()

    def constant(self, *values: float) -> Any:
        """A vector of constants: one for all lanes, or one for each."""
        per_lane = values if len(values) == self.lanes else values * self.lanes
        return ir.Constant(self.type, [ir.Constant(_FLOAT, float(np.float32(value))) for value in per_lane])

    def splat(self, value: Any) -> Any:
        """A scalar in every lane."""
        empty = ir.Constant(self.type, ir.Undefined)
        first = self._builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(first, empty, [0] * self.lanes)

    def shuffle(self, first: Any, second: Any, lanes: Sequence[int]) -> Any:
        """The lanes with these numbers of two vectors laid end to end."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
        return self._builder.shuffle_vector(first, second, mask)

    def pointer(self, array: Any, position: Any) -> Any:
        """Address of the vector that begins at `position` of an array of type `FLOATS`."""
        return self._builder.bitcast(self._address(array, position), self.type.as_pointer())

    def scalar(self, array: Any, position: Any) -> Any:
        return self._builder.load(self._address(array, position))

    def load(self, pointer: Any) -> Any:
        value = self._builder.load(pointer)
        value.align = 4
        return value

    def store(self, value: Any, pointer: Any) -> None:
        self._builder.store(value, pointer).align = 4

    def add(self, a: Any, b: Any) -> Any:
        return self._builder.fadd(a, b, flags=self._flags)

    def sub(self, a: Any, b: Any) -> Any:
        return self._builder.fsub(a, b, flags=self._flags)

    def mul(self, a: Any, b: Any) -> Any:
        return self._builder.fmul(a, b, flags=self._flags)

    def div(self, a: Any, b: Any) -> Any:
        return self._builder.fdiv(a, b, flags=self._flags)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """The sum a * b + c."""
        if self._flags:
            return self.add(self.mul(a, b), c)
        function_type = ir.FunctionType(self.type, [self.type] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f32"
        function = cgutils.get_or_insert_function(self._builder.module, function_type, name)
        return self._builder.call(function, [a, b, c])

    def compare(self, operator: str, a: Any, b: Any) -> Any:
        """Lane by lane; false where either is not a number."""
        return self._builder.fcmp_ordered(operator, a, b, flags=self._flags)

    def minimum(self, a: Any, b: Any) -> Any:
        return self._builder.select(self.compare("<", a, b), a, b)

    def maximum(self, a: Any, b: Any) -> Any:
        return self._builder.select(self.compare(">", a, b), a, b)

    def _address(self, array: Any, position: Any) -> Any:
        data = self._context.make_array(FLOATS)(self._context, self._builder, array).data
        return self._builder.gep(data, [position])
