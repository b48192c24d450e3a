"""Choice of the encoder, its pixel format and its quality."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

import av
import torch

from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.video_in.planes import Layout, planar_layout

Codec = Literal["h264", "hevc", "av1", "prores", "ffv1"]

LIBRARIES: dict[Codec, str] = {
    "h264": "libx264",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "prores": "prores_ks",
    "ffv1": "ffv1",
}
# The codec to write for a source codec without an encoder here; H.264 for all others.
_REPLACEMENTS: dict[str, Codec] = {
    **dict.fromkeys(("hevc", "vvc"), "hevc"),
    **dict.fromkeys(("av1", "vp9", "vp8"), "av1"),
    **dict.fromkeys(("prores", "dnxhd", "cfhd"), "prores"),
    **dict.fromkeys(("ffv1", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "lagarith", "rawvideo"), "ffv1"),
    **dict.fromkeys(("v210", "png", "qtrle", "apng", "v308", "v410", "r210", "r10k"), "ffv1"),
}
# Codecs to try, in this order, if the default one cannot hold the pixel format without loss.
_FALLBACK_CODECS: tuple[Codec, ...] = ("h264", "hevc", "ffv1")
_MAX_CRF: dict[Codec, float] = {"h264": 51, "hevc": 51, "av1": 63}  # limits of the encoders
_EVEN_SIZE_CODECS = ("h264", "hevc")
_PRESETS: dict[Codec, str] = {"h264": "medium", "hevc": "fast", "av1": "8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RateControl:
    """Constant rate factor (CRF) as a function of the bit rate of the source.

    The default factors cost less than 0.1 dB in addition to the loss of the source itself.
    """

    h264_crf: float = 10  # at the reference bit rate
    hevc_crf: float = 12
    av1_crf: float = 12
    reference_bits_per_pixel: float = 0.35
    crf_per_doubling: float = 2.0  # decrease of the CRF per doubling of the source's bit rate
    min_offset: float = -6.0  # limits of the change of the CRF
    max_offset: float = 4.0

    def crf(self, codec: Codec, bits_per_pixel: float | None) -> float:
        """The CRF for a source of `bits_per_pixel`; the default CRF if that is unknown."""
        default = {"h264": self.h264_crf, "hevc": self.hevc_crf, "av1": self.av1_crf}[codec]
        if not bits_per_pixel:
            return default + 0.0
        offset = -self.crf_per_doubling * math.log2(bits_per_pixel / self.reference_bits_per_pixel)
        return default + min(self.max_offset, max(self.min_offset, offset))


DEFAULT_RATE_CONTROL = RateControl()


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """A codec, its input pixel format, and the losses of the conversion to it."""

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
    """The encoder for frames of `pix_fmt`, and notes to the user about the changes.

    Args:
        pix_fmt: Pixel format of the decoded source.
        source_codec: Codec of the source; used if it can hold the pixel format without loss.
        requested_codec: Codec set by the user, used even if it loses depth or chroma resolution.
        size: Height and width.
        supported_codecs: Codecs that the output container can hold.
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


def encoder_options(
    codec: Codec,
    quality: float | None = None,
    *,
    bits_per_pixel: float | None = None,
    rate_control: RateControl = DEFAULT_RATE_CONTROL,
) -> dict[str, str]:
    """FFmpeg options of the encoder, besides size, pixel format and colour.

    Args:
        codec: The codec to write.
        quality: Constant rate factor; lower is better, 0 is the best. None: by the bit rate of the source.
        bits_per_pixel: Bits per pixel of the source, if known.
        rate_control: The CRF by bit rate.

    Raises:
        UnwritableOutput: `quality` is out of the range of the codec.
    """
    if codec not in _MAX_CRF:
        return {"vendor": "apl0"} if codec == "prores" else {"level": "3"}
    max_crf = _MAX_CRF[codec]
    crf = rate_control.crf(codec, bits_per_pixel) if quality is None else quality
    if not 0 <= crf <= max_crf:
        raise UnwritableOutput(f"quality {crf:g} is out of range for {codec}; choose 0 (best) to {max_crf:g}")
    if codec == "av1":
        crf = max(1, round(crf))  # SVT-AV1 reads 0 as "not set"
    return {"crf": f"{crf:g}", "preset": _PRESETS[codec]} | _private_options(codec)


def _private_options(codec: Codec) -> dict[str, str]:
    """Options for less logging, and for bit-exact output from equal input."""
    if codec == "hevc":
        return {"x265-params": "log-level=error"}
    # With AVX-512, x264's rate control (mbtree, seen up to core 165) reads uninitialised memory: files of
    # equal frames then differ. AVX2 is as fast.
    if codec == "h264" and torch.backends.cpu.get_cpu_capability() in {"AVX2", "AVX512"}:
        return {"x264-params": "asm=AVX2"}
    return {}


def hdr_options(codec: Codec, mastering: bytes | None, light_level: bytes | None) -> dict[str, str]:
    """Encoder options for the mastering display and the content light level of the stream."""
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
    """Chromaticities (x, y) of red, green, blue and white, then minimum and maximum luminance in cd/m2."""
    pairs = struct.unpack_from("<20i", data)
    return [Fraction(pairs[k], pairs[k + 1] or 1) for k in range(0, 20, 2)]


def _mastering(data: bytes, codec: Codec) -> str | None:
    """SMPTE ST 2086 in the syntax of the encoders, from FFmpeg's AVMasteringDisplayMetadata."""
    values = mastering_values(data)
    red, green, blue, white = (values[k : k + 2] for k in range(0, 8, 2))
    darkest, brightest = values[8:]
    if not brightest:
        return None

    def format_point(point: list[Fraction], unit: int) -> str:
        return "({},{})".format(*(f"{float(v):g}" if codec == "av1" else round(v * unit) for v in point))

    points = {"G": green, "B": blue, "R": red, "WP": white}
    primaries = "".join(name + format_point(point, 50_000) for name, point in points.items())
    return f"{primaries}L{format_point([brightest, darkest], 10_000)}"


@lru_cache(maxsize=8)
def _formats(codec: Codec) -> tuple[str, ...]:
    """The input pixel formats of an encoder, without those with alpha or floating point samples."""
    formats = av.Codec(LIBRARIES[codec], "w").video_formats or ()
    opaque = [f for f in formats if not any(part.is_alpha for part in f.components)]
    return tuple(f.name for f in opaque if "f16" not in f.name and "f32" not in f.name)


@lru_cache(maxsize=64)
def _best_format(codec: Codec, layout: Layout, is_odd: tuple[bool, bool]) -> Encoder:
    """The pixel format of `codec` with the fewest losses against `layout`, then the closest to it."""

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
        # x264 and x265 subsample chroma only along an even size; 4:4:4 allows any size.
        subsampled = planar_layout(pix_fmt).subsampled
        return codec not in _EVEN_SIZE_CODECS or not any(
            a and b for a, b in zip(subsampled, is_odd, strict=True)
        )

    best = min(filter(encodable, _formats(codec)), key=cost)
    return Encoder(codec=codec, pix_fmt=best, losses=_losses(planar_layout(best), layout))


def _losses(candidate: Layout, target: Layout) -> tuple[str, ...]:
    """Losses of `candidate` against `target`, as text for the user."""
    losses = []
    if candidate.depth < target.depth:
        losses.append(f"{target.depth} bits per sample, only {candidate.depth}")
    if not target.gray and (
        candidate.gray or any(a > b for a, b in zip(candidate.subsampled, target.subsampled, strict=True))
    ):
        losses.append("the full chroma resolution")
    return tuple(losses)
