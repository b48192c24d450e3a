"""Where the real media lie, and what needs a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real clips, photos and blurry/sharp pairs; never committed, so absent from a plain checkout."""
    if not SHARED.is_dir():
        pytest.skip("the real clips and photos (../shared/data) are not here")
    return SHARED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
