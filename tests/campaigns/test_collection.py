"""Awkward files of every known kind through the complete command, each with its expected outcome."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns.collection import check, check_file

NAMED = "is of a format that FFmpeg cannot write and is left out"
CLEAR = "has transparency, which is left out"

# The outcome of each file, and words of its notes: none if nothing changes.
AWKWARD = {
    "01_vfr.mp4": ("whole", ""),
    "02_rotated.mp4": ("whole", ""),
    "03_hlg10.mov": ("whole", ""),
    "04_editlist.mp4": ("whole", ""),
    "05_bframes.mp4": ("whole", ""),
    "06_start10s.ts": ("whole", ""),
    "07_odd.mkv": ("whole", ""),
    "07_odd444.mp4": ("whole", ""),
    "08_interlaced.mpg": ("whole", "interlaced"),
    "09_dv411.avi": ("whole", "interlaced"),
    "10_noindex.avi": ("whole", ""),
    "11_timecode.mov": ("whole", ""),
    "12_pcm_two_audio.mov": ("whole", ""),
    "13_subs.mkv": ("whole", ""),
    "14_cover.mkv": ("whole", ""),
    "15_fullrange.mp4": ("whole", ""),
    "16_prores422.mov": ("whole", ""),
    "16_prores4444a.mov": ("whole", CLEAR),
    "17_gray.mkv": ("whole", ""),
    "17_rgb.avi": ("whole", ""),
    "17_bgr0.mkv": ("whole", ""),
    "17_bgra.avi": ("whole", CLEAR),
    "18_anim.gif": ("whole", CLEAR),
    "18_anim.webp": ("refused", "save it as GIF or APNG"),
    "19_hugets.mkv": ("whole", ""),
    "20_zerodur.mkv": ("whole", "4 timestamps did not increase"),
    "21_one.mp4": ("whole", ""),
    "21_two.mp4": ("whole", ""),
    "22_240fps.mov": ("whole", ""),
    "23_av1.mp4": ("whole", ""),
    "23_vp9.webm": ("whole", ""),
    "23_vp9alpha.webm": ("whole", CLEAR),
    "24_frag.mp4": ("whole", ""),
    "26_resolution_change.ts": ("refused", "--skip-damaged"),
    "27_truncated.mkv": ("refused", "rerun with --skip-damaged to keep what is left"),
    "28_anamorphic.mp4": ("whole", ""),
}
REAL = {
    "ax__dolbyVision-hdr.MOV": ("whole", "Core Media Metadata) " + NAMED),
    "ax__edit_list_positive_shift.mp4": ("refused", "no frame in the requested part"),
    "ax__iibbibb_editlist_videoonly.mp4": ("whole", ""),
    "ax__sample_edit_list_only_preroll_sync_sample.mp4": ("whole", ""),
    "ax__sample_rotate_and_reflect.mp4": ("whole", ""),
    "ax__sample_sef_slow_motion.mp4": ("whole", ""),
    "gp__karma.mp4": ("whole", "GoPro SOS) " + NAMED),
    "gp__max-heromode.mp4": ("whole", "GoPro SOS) " + NAMED),
    "tc__discard_first_keyframe.mp4": ("whole", ""),
    "tc__nasa_13013_rotated.mp4": ("whole", ""),
    "tc__test_non_zero_start.mp4": ("whole", ""),
}


@pytest.fixture(scope="module")
def awkward(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """28 kinds of awkward files, generated."""
    tool = shared_data.parent / "tools" / "awkward_files.py"
    folder = tmp_path_factory.mktemp("awkward")
    subprocess.run([sys.executable, str(tool), str(folder)], check=True, capture_output=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", AWKWARD)
def test_an_awkward_file(awkward: Path, tmp_path: Path, name: str) -> None:
    expected, words = AWKWARD[name]
    row = check_file(awkward / name, tmp_path)
    assert row.outcome == expected, row
    assert words in row.words
    assert words or not row.words, "no notes if nothing is left out"


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_a_real_file(shared_data: Path, tmp_path: Path, name: str) -> None:
    expected, words = REAL[name]
    row = check_file(shared_data / "files" / name, tmp_path, options=("--end", "0.5"), timeout_s=900.0)
    assert row.outcome == expected, row
    assert words in row.words


def test_a_collection_is_looked_through(tmp_path: Path) -> None:
    """Every file below the folder is checked, and no file ends the check."""
    deep = tmp_path / "in" / "deep"
    deep.mkdir(parents=True)
    (deep / "no.mp4").write_text("no video")
    (deep / "notes.txt").write_text("no video either")
    (row,) = check(tmp_path / "in", tmp_path)
    assert (row.file, row.outcome) == (deep / "no.mp4", "refused")
    assert "is not a video" in row.words
