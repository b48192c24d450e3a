"""Four floats at once inside numba kernels: a pixel's red, green, blue and one spare lane.

LLVM does not find these vectors by itself when the address depends on the data, and without them the
deconvolution takes twice as long. Indices count floats and need no alignment.

Products are added by `fma`: with one rounding where the processor has an instruction for it, everywhere in
the same way. A compiler that is free to fuse, to reorder and to divide by estimates (`fastmath`) does so
differently in every copy of a function: kernels that were compiled just now and the same ones, read from
their cache, would differ in their last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Any, ParamSpec, TypeVar

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_LANES = ir.VectorType(ir.FloatType(), 4)
_FLOATS = types.Array(types.float32, 1, "C")
_SIGNATURE = types.void(_FLOATS, _FLOATS, types.intp, types.intp, types.float32, types.float32)

FAST_MATH = {
    "nnan",
    "ninf",
    "nsz",
}  # what LLVM may believe: no bits hang on it, and selects become one instruction

Params = ParamSpec("Params")
Result = TypeVar("Result")

_KERNEL_LOCK = RLock()


def with_kernel_lock(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """`function` on kernels, of which each uses all cores: a second thread that wants to waits for its turn.

    Where numba has no OpenMP, its own threads end the whole process when two callers meet.
    """

    @wraps(function)
    def run(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        with _KERNEL_LOCK:
            return function(*args, **kwargs)

    return run


@intrinsic
def read_pair(_typing: Any, _acc: Any, _x: Any, _p: Any, _q: Any, _a: Any, _b: Any) -> Any:
    """acc[0:4] += a * x[p : p + 4] + b * x[q : q + 4]."""

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        acc, x, p, q, a, b = args
        pointer = _at(context, builder, acc, ir.Constant(ir.IntType(64), 0))
        total = _load(builder, pointer)
        for index, weight in ((p, a), (q, b)):
            lanes = _load(builder, _at(context, builder, x, index))
            total = fma(builder, _splat(builder, weight), lanes, total)
        builder.store(total, pointer).align = 4
        return context.get_dummy_value()

    return _SIGNATURE, build


@intrinsic
def write_pair(_typing: Any, _acc: Any, _x: Any, _p: Any, _q: Any, _a: Any, _b: Any) -> Any:
    """x[p : p + 4] += a * acc[0:4]; x[q : q + 4] += b * acc[0:4]."""

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        acc, x, p, q, a, b = args
        lanes = _load(builder, _at(context, builder, acc, ir.Constant(ir.IntType(64), 0)))
        # One after the other: at a border both may be the same pixel.
        for index, weight in ((p, a), (q, b)):
            pointer = _at(context, builder, x, index)
            total = fma(builder, _splat(builder, weight), lanes, _load(builder, pointer))
            builder.store(total, pointer).align = 4
        return context.get_dummy_value()

    return _SIGNATURE, build


def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """The sum a * b + c, by `llvm.fmuladd`: one instruction where there is one."""
    vector_type = a.type
    name = f"llvm.fmuladd.v{vector_type.count}f32"
    return builder.call(
        cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector_type, [vector_type] * 3), name),
        [a, b, c],
    )


def _at(context: Any, builder: Any, array: Any, index: Any) -> Any:
    data = context.make_array(_FLOATS)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _LANES.as_pointer())


def _load(builder: Any, pointer: Any) -> Any:
    lanes = builder.load(pointer)
    lanes.align = 4
    return lanes


def _splat(builder: Any, value: Any) -> Any:
    empty = ir.Constant(_LANES, ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4))
