"""The whole pipeline against figures of an earlier run, with the inference backend pinned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from freezeframe.data.media.folder.source import open_folder
from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.metrics.image import psnr
from freezeframe.data.samples import sample_clip, sample_truth
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.tasks.video import deblur_video

# PSNR of frames 30 to 35 of the sample clip, dB. Processors differ in the last bits, which a
# hundredth of a dB covers; a change of the algorithm shows.
BEFORE = (24.376, 24.432, 24.415, 24.159, 24.240, 24.064)
AFTER = (26.636, 26.782, 26.752, 26.602, 26.503, 26.077)


@pytest.mark.slow
def test_the_sample_clip_comes_out_as_recorded(tmp_path):
    base = Config()
    config = replace(base, backend="torch", precision="fp32", output=replace(base.output, start=1.0, end=1.2))
    report = deblur_video(sample_clip(), tmp_path / "out", config=config)
    assert dict(report.backends) == {"fusion_network": "torch fp32"}
    truth = list(open_video(sample_truth(), start=1.0, end=1.2).frames())
    blurred = list(open_video(sample_clip(), start=1.0, end=1.2).frames())
    sharp = list(open_folder(tmp_path / "out").frames())
    scores = [
        [psnr(a.picture.linear(), b.picture.linear()) for a, b in zip(frames, truth, strict=True)]
        for frames in (blurred, sharp)
    ]
    torch.testing.assert_close(torch.tensor(scores), torch.tensor([BEFORE, AFTER]), atol=0.01, rtol=0)
