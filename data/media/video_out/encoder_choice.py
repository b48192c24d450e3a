"""Which encoder writes a picture, in which pixel format, and how well."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

import av
import torch

from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.video_in.frame_picture import Layout, planar_layout

Codec = Literal["h264", "hevc", "av1", "prores", "ffv1"]

LIBRARIES: dict[Codec, str] = {
    "h264": "libx264",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "prores": "prores_ks",
    "ffv1": "ffv1",
}
# Whose successor writes on where the codec itself has no encoder here; all others become H.264.
_REPLACEMENTS: dict[str, Codec] = {
    **dict.fromkeys(("hevc", "vvc"), "hevc"),
    **dict.fromkeys(("av1", "vp9", "vp8"), "av1"),
    **dict.fromkeys(("prores", "dnxhd", "cfhd"), "prores"),
    **dict.fromkeys(("ffv1", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "lagarith", "rawvideo"), "ffv1"),
    **dict.fromkeys(("v210", "png", "qtrle", "apng", "v308", "v410", "r210", "r10k"), "ffv1"),
}
# Where a codec cannot hold a picture without loss, the next that can is taken.
_FALLBACK_CODECS: tuple[Codec, ...] = ("h264", "hevc", "ffv1")
# Constant rate factors that cost less than 0.1 dB beside what the source already lost, for a source of
# _TYPICAL bits per pixel, and the worst factor that a codec takes.
_CRF: dict[Codec, tuple[float, float]] = {"h264": (10, 51), "hevc": (12, 51), "av1": (12, 63)}
_REFERENCE_BITS_PER_PIXEL = 0.35
_CRF_PER_DOUBLING, _MIN_CRF_OFFSET, _MAX_CRF_OFFSET = (
    2.0,
    -6.0,
    4.0,
)  # factors per doubling of those bits, and the limits of that
_EVEN_SIZE_CODECS = ("h264", "hevc")
_PRESETS: dict[Codec, str] = {"h264": "medium", "hevc": "fast", "av1": "8"}

os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder prints its banner to stderr otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """A codec, the pixel format it is fed, and what that loses."""

    codec: Codec
    pix_fmt: str
    losses: tuple[str, ...] = ()

    @property
    def library(self) -> str:
        return LIBRARIES[self.codec]


def choose_encoder(
    pix_fmt: str,
    source_codec: str,
    requested_codec: Codec | None,
    *,
    size: tuple[int, int],
    supported_codecs: Iterable[Codec],
) -> tuple[Encoder, list[str]]:
    """The encoder for a picture of `pix_fmt`, and words to the user about what changes by it.

    Args:
        pix_fmt: Of the decoded source.
        source_codec: Its codec, which is kept where that loses nothing.
        requested_codec: The codec asked for, taken even if it must lose something.
        size: Height and width.
        supported_codecs: The codecs that the output's container can hold.
    """
    layout, is_odd = planar_layout(pix_fmt), (bool(size[0] % 2), bool(size[1] % 2))
    supported_codecs = set(supported_codecs)
    if requested_codec is not None:
        encoder = _best_format(requested_codec, layout, is_odd)
        return encoder, [f"{requested_codec} cannot hold {loss}" for loss in encoder.losses]
    default_codec = _REPLACEMENTS.get(source_codec, "h264")
    order = [
        codec
        for codec in dict.fromkeys((default_codec, *_FALLBACK_CODECS, "av1"))
        if codec in supported_codecs
    ]
    encoders = [_best_format(codec, layout, is_odd) for codec in order]
    best = min(encoders, key=lambda encoder: len(encoder.losses))
    notes = [f"{best.codec} cannot hold {loss}" for loss in best.losses]
    if best.codec != default_codec:
        reason = ", ".join(_best_format(default_codec, layout, is_odd).losses) or "in this kind of file"
        notes.append(f"written as {best.codec}: {default_codec} cannot be used ({reason})")
    return best, notes


def _crf_offset(bits_per_pixel: float | None) -> float:
    """A source that spends more has more to lose."""
    if not bits_per_pixel:
        return 0.0
    return min(
        _MAX_CRF_OFFSET,
        max(_MIN_CRF_OFFSET, -_CRF_PER_DOUBLING * math.log2(bits_per_pixel / _REFERENCE_BITS_PER_PIXEL)),
    )


def encoder_options(
    codec: Codec, quality: float | None = None, *, bits_per_pixel: float | None = None
) -> dict[str, str]:
    """What the encoder is told besides size, pixel format and colour; for comparisons with a bare transcode.

    Args:
        codec: Which.
        quality: Constant rate factor: small is better, 0 the best there is. None fits the source, so that
            encoding it again costs next to nothing.
        bits_per_pixel: Bits per pixel of the source.
    """
    if codec not in _CRF:
        return {"vendor": "apl0"} if codec == "prores" else {"level": "3"}
    default_crf, max_crf = _CRF[codec]
    crf = default_crf + _crf_offset(bits_per_pixel) if quality is None else quality
    if not 0 <= crf <= max_crf:
        raise UnwritableOutput(f"quality {crf:g} is not known to {codec}; choose 0 (best) to {max_crf:g}")
    if codec == "av1":
        crf = max(1, round(crf))  # it takes 0 for "not set"
    return {"crf": f"{crf:g}", "preset": _PRESETS[codec]} | _private_options(codec)


def _private_options(codec: Codec) -> dict[str, str]:
    """What keeps an encoder quiet, and the same pictures the same file."""
    if codec == "hevc":
        return {"x265-params": "log-level=error"}
    # With AVX-512 x264's rate control reads memory that nobody wrote (mbtree, seen up to its core 165): files
    # of the same pictures then differ with whatever lay there. AVX2 costs it no time.
    if codec == "h264" and torch.backends.cpu.get_cpu_capability() in {"AVX2", "AVX512"}:
        return {"x264-params": "asm=AVX2"}
    return {}


def hdr_options(codec: Codec, mastering: bytes | None, light_level: bytes | None) -> dict[str, str]:
    """Encoder options that write mastering display and content light level into the stream."""
    metadata = {}
    if mastering is not None and (display := _mastering(mastering, codec)):
        metadata["master-display" if codec == "hevc" else "mastering-display"] = display
    if light_level is not None:
        peak, average = struct.unpack_from("<2I", light_level)
        key = {"hevc": "max-cll", "h264": "cll", "av1": "content-light"}.get(codec, "")
        metadata[key] = f"{peak},{average}"
    parameters = ":".join(f"{key}={value}" for key, value in metadata.items())
    name = {"hevc": "x265-params", "h264": "x264-params", "av1": "svtav1-params"}.get(codec)
    return {name: parameters} if name and parameters else {}


def mastering_values(data: bytes) -> list[Fraction]:
    """Places (x, y) of red, green, blue and white, then darkest and brightest light in cd/m2."""
    pairs = struct.unpack_from("<20i", data)
    return [Fraction(pairs[k], pairs[k + 1] or 1) for k in range(0, 20, 2)]


def _mastering(data: bytes, codec: Codec) -> str | None:
    """SMPTE ST 2086 as the encoders spell it, from FFmpeg's AVMasteringDisplayMetadata."""
    values = mastering_values(data)
    red, green, blue, white = (values[k : k + 2] for k in range(0, 8, 2))
    darkest, brightest = values[8:]
    if not brightest:
        return None

    def format_point(point: list[Fraction], unit: int) -> str:
        return "({},{})".format(*(f"{float(v):g}" if codec == "av1" else round(v * unit) for v in point))

    primaries = f"G{format_point(green, 50_000)}B{format_point(blue, 50_000)}R{format_point(red, 50_000)}WP{format_point(white, 50_000)}"
    return f"{primaries}L{format_point([brightest, darkest], 10_000)}"


@lru_cache(maxsize=8)
def _formats(codec: Codec) -> tuple[str, ...]:
    """The pixel formats that an encoder takes, but for those with transparency and of floating point."""
    formats = av.Codec(LIBRARIES[codec], "w").video_formats or ()
    opaque = [f for f in formats if not any(part.is_alpha for part in f.components)]
    return tuple(f.name for f in opaque if "f16" not in f.name and "f32" not in f.name)


@lru_cache(maxsize=64)
def _best_format(codec: Codec, layout: Layout, is_odd: tuple[bool, bool]) -> Encoder:
    """The pixel format of `codec` that holds most of `layout`, with the least to spare."""

    def cost(pix_fmt: str) -> tuple[int, ...]:
        candidate = planar_layout(pix_fmt)
        return (
            len(_losses(candidate, layout)),
            candidate.rgb != layout.rgb,
            abs(candidate.depth - layout.depth),
            candidate.gray != layout.gray,
            sum(a != b for a, b in zip(candidate.subsampled, layout.subsampled, strict=True)),
            candidate.pix_fmt != layout.pix_fmt,
            pix_fmt != candidate.pix_fmt,
        )

    def encodable(pix_fmt: str) -> bool:
        # x264 and x265 halve colour only along an even size; with whole colour any size goes.
        subsampled = planar_layout(pix_fmt).subsampled
        return codec not in _EVEN_SIZE_CODECS or not any(
            a and b for a, b in zip(subsampled, is_odd, strict=True)
        )

    best = min(filter(encodable, _formats(codec)), key=cost)
    return Encoder(codec=codec, pix_fmt=best, losses=_losses(planar_layout(best), layout))


def _losses(candidate: Layout, target: Layout) -> tuple[str, ...]:
    """What `target` has and `candidate` has not, in words."""
    losses = []
    if candidate.depth < target.depth:
        losses.append(f"{target.depth} bits per sample, only {candidate.depth}")
    if not target.gray and (
        candidate.gray or any(a > b for a, b in zip(candidate.subsampled, target.subsampled, strict=True))
    ):
        losses.append("the full resolution of colour")
    return tuple(losses)
