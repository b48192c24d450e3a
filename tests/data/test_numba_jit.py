from __future__ import annotations

import importlib
import os
import sys
from threading import Thread

import pytest

pytest.importorskip("numba")

from freezeframe.data.kernels.numba_jit import source_digest, with_kernel_lock

KERNEL = """
from freezeframe.data.kernels.numba_jit import cached_jit
from kernel_package.constants import FACTOR

@cached_jit(fastmath=False)
def scaled(x):
    return FACTOR * x
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a kernel in one file and a constant of it in another."""
    folder = tmp_path / "kernel_package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "kernel.py").write_text(KERNEL)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.startswith("kernel_package")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    source_digest.cache_clear()


def run_kernel(folder, *, factor: float) -> tuple[float, int]:
    """Result for 2, and how many times the kernel was loaded from its cache."""
    forget()
    (folder / "constants.py").write_text(f"FACTOR = {factor!r}\n")
    kernel = importlib.import_module("kernel_package.kernel").scaled
    return kernel(2.0), sum(kernel.stats.cache_hits.values())


def test_a_change_in_an_imported_file_compiles_the_kernel_again(package, monkeypatch):
    """numba alone compares the kernel's own file, and would go on with the factor of before."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # one second is all that its time stamps tell
    assert run_kernel(package, factor=3.0) == (6.0, 0)
    assert run_kernel(package, factor=3.0) == (6.0, 1)
    assert run_kernel(package, factor=5.0) == (10.0, 0)
    assert run_kernel(package, factor=3.0) == (6.0, 1)


def test_kernels_run_one_at_a_time():
    running, highest = [], []

    @with_kernel_lock
    def run() -> None:
        running.append(1)
        highest.append(len(running))
        running.pop()

    threads = [Thread(target=lambda: [run() for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(highest) == 1


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="a lone process of tests uses all cores")
def test_workers_of_the_tests_do_not_wait_for_each_others_threads():
    """What `tests/conftest.py` sets holds only if it comes before the imports."""
    import numba
    import torch

    threads = torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS
    assert threads == (int(os.environ["OMP_NUM_THREADS"]), int(os.environ["NUMBA_NUM_THREADS"]))
