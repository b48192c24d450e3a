"""Decorators of the numba kernels, their disk cache, and the lock under which they run."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from importlib.util import resolve_name
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from numba import njit
from numba.core.caching import FunctionCache

FAST_MATH = {"nnan", "ninf", "nsz"}  # assumptions that change no bits, and turn selects into one instruction

Params = ParamSpec("Params")
Result = TypeVar("Result")

_KERNEL_LOCK = RLock()


def with_kernel_lock(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """Run a function that calls parallel kernels in one thread at a time.

    Each kernel uses all cores. Where numba has no OpenMP, its own thread pool ends the process when two
    threads enter it.
    """

    @wraps(function)
    def run(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        with _KERNEL_LOCK:
            return function(*args, **kwargs)

    return run


def cached_jit(*, fastmath: bool | set[str], parallel: bool = False) -> Callable[[Any], Any]:
    """`numba.njit` with a disk cache that a change of any imported module of the package invalidates."""

    def decorate(function: Any) -> Any:
        dispatcher = njit(fastmath=fastmath, parallel=parallel, error_model="numpy")(function)
        dispatcher._cache = _SourceKeyedCache(function)
        return dispatcher

    return decorate


def inline_jit(*, fastmath: bool | set[str]) -> Callable[[Any], Any]:
    """`numba.njit` for functions that numba copies into their callers."""
    decorate: Callable[[Any], Any] = njit(inline="always", fastmath=fastmath, error_model="numpy")
    return decorate


class _SourceKeyedCache(FunctionCache):  # type: ignore[misc]  # numba has no types
    """numba's own cache compares the file of the function only.

    Intrinsics and constants from other files are compiled into a kernel. Without their digest in the key,
    numba would go on running the old machine code after a change of them.
    """

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._digest = source_digest(function.__module__)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return *super()._index_key(sig, codegen), self._digest


@lru_cache
def source_digest(name: str) -> str:
    """SHA-256 of a module's source and of the sources of all modules of its package that it imports."""
    digest = hashlib.sha256()
    for path in sorted(_source_files(sys.modules[name], set())):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _source_files(module: ModuleType, known: set[Path]) -> set[Path]:
    path = Path(module.__file__ or "")
    if path.suffix == ".py" and path not in known:
        known.add(path)
        for imported in _imported_modules(module, path):
            _source_files(imported, known)
    return known


def _imported_modules(module: ModuleType, path: Path) -> Iterator[ModuleType]:
    """Modules of the same top-level package that the file imports at once."""
    top = module.__name__.partition(".")[0]
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), module.__package__)
            for candidate in (source, *(f"{source}.{alias.name}" for alias in node.names)):
                if candidate.partition(".")[0] == top and candidate in sys.modules:
                    yield sys.modules[candidate]
