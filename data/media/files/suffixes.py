"""Known file name suffixes. Imports nothing heavy: `--help` and a finished batch need only this."""

from __future__ import annotations

PLAIN = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".avif", ".bmp"})
HEIF = frozenset({".heic", ".heif", ".hif"})
RAW = frozenset(
    {".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef"}
    | {".3fr", ".erf", ".iiq", ".kdc", ".mos", ".mrw", ".rwl", ".srw", ".x3f"}
)
PHOTO_SUFFIXES = PLAIN | HEIF | RAW
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg", ".3gp"}
    | {".wmv", ".flv", ".mxf", ".ogv"}
)
CONTAINERS = {  # suffixes of videos that can be written: FFmpeg's name of the container
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
