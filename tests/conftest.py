"""Where the real media lie, and what needs a GPU."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch and numba are imported. With more threads than cores, threads that wait for one another
    # take most of the time: on two cores under load, small networks took ten times as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is remembered of this machine while tests run is not what its user wants remembered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real clips, photos and blurry/sharp pairs; never committed, so absent from a plain checkout.

    Without `../shared` the tests that need them are skipped. With it they fail where something is missing.
    """
    if not SHARED.parent.is_dir():
        pytest.skip("the real clips and photos (../shared) are not here")
    assert SHARED.is_dir(), f"{SHARED.parent} holds no data"
    return SHARED


@pytest.fixture(scope="session")
def write_clip() -> Callable[..., Path]:
    """`write_clip(path, images, rate=25)`: a lossless clip (FFV1) of [T, 3, H, W] linear RGB."""
    from fractions import Fraction

    import av

    from freezeframe.data.srgb import linear_to_srgb

    def write(path: Path, images: Iterable[Any], *, rate: int = 25) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=Fraction(rate))
            stream.pix_fmt = "bgr0"
            for number, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(linear_to_srgb(image), format="rgb24")
                if not number:
                    stream.width, stream.height = frame.width, frame.height
                container.mux(stream.encode(frame.reformat(format="bgr0")))
            container.mux(stream.encode(None))
        return path

    return write


# No unit tests: those with media files, and folders with whole commands, trainings, rendered scenes, timings.
MEDIA = {"make_video", "write_clip", "shared_data", "whole_files", "wheel"}
NOT_UNIT = (
    *("campaigns", "contracts", "data/media/video_", "data/synthesis", "models/runtime", "models/nets/"),
    *("motion/shutter", "motion/diagnosis", "pipeline/adaptation", "pipeline/bench", "pipeline/solvers"),
    *("pipeline/stages", "pipeline/tasks", "pipeline/training", "splatting/layers/test_fit"),
    "splatting/layers/test_composite",
)
ROOT = Path(__file__).parent


def is_unit(item: pytest.Item) -> bool:
    """Whether a test takes milliseconds: no media, no command, no training, no fit."""
    if item.get_closest_marker("slow") or item.get_closest_marker("gpu"):
        return False
    place = item.path.relative_to(ROOT).as_posix()
    return (
        "/" in place and not place.startswith(NOT_UNIT) and not MEDIA & set(getattr(item, "fixturenames", ()))
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_unit(item):
            item.add_marker(pytest.mark.unit)
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True, scope="session")
def _heard_signals() -> Iterator[None]:
    """Children of a session in the background, or behind `nohup`, would ignore what tests send them."""
    deaf = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_IGN
    ]
    for number in deaf:
        signal.signal(number, lambda *_: None)  # this session goes on as it was, its children do not
    yield
    for number in deaf:
        signal.signal(number, signal.SIG_IGN)
