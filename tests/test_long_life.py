"""A process that does clip after clip stays as large as it is, and leaves no thread behind."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

# The first clips fill caches: kernels, graphs, pools. Then the size alternates between levels 4.5 MB apart,
# as arenas of threads are returned or not (measured on 60 clips): the smallest size of several counts.
WARM, CLIPS, GROUP = 4, 16, 6
GROWTH = 0.3  # MB per clip; traces of the network, which torch never forgets, were 4 MB each

CLIP_AFTER_CLIP = """
import ctypes, gc, sys, threading
from pathlib import Path
from freezeframe import deblur_video

def resident():
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free is not held
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024

source, clips, warm, group = Path(sys.argv[1]), *map(int, sys.argv[2:])
sizes = []
for number in range(clips + warm):
    output = source.with_name(f"{number}.mkv")
    report = deblur_video(source, output)
    assert any(v.action == "deblurred" for shot in report.shots for v in shot.verdicts), "nothing was done"
    output.unlink()
    if number == warm - 1:
        threads = threading.active_count()
    if number >= warm:
        sizes.append(resident())
assert threading.active_count() <= threads, threading.enumerate()
print(min(sizes[-group:]) - min(sizes[:group]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the system tells a process's size in another way")
def test_memory_does_not_grow_with_the_clips_that_were_done(tmp_path, write_clip):
    world = torch.rand(1, 3, 20, 40, generator=torch.Generator().manual_seed(0))
    world = torch.nn.functional.interpolate(world, scale_factor=8, mode="bicubic").clamp(0, 1)[0]
    views = [[world[:, 20:140, 8 * t + k :][..., :160] for k in range(8)] for t in range(6)]
    source = write_clip(tmp_path / "pan.mkv", [torch.stack(view).mean(0) for view in views])
    words = [sys.executable, "-c", CLIP_AFTER_CLIP, str(source), str(CLIPS), str(WARM), str(GROUP)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) / (CLIPS - GROUP) < GROWTH
