"""Published checkpoints: name, degradation, address and licence.

Nothing is downloaded without a request. A release without a direct link has a homepage from which the file is
downloaded by hand. Sizes are reported by users and approximate; only the SHA-256 is verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal

Degradation = Literal["noise", "jpeg", "blur", "defocus", "rain", "haze", "all_in_one", "size"]
"""What a network restores: `all_in_one` is several of the others, `size` is a low resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One published checkpoint."""

    name: str  # on the command line
    target: Degradation
    task: str  # the target in words
    architecture: str
    file: str  # file name of its authors
    url: str | None  # None: no direct link
    homepage: str  # page of the release
    licence: str
    level: float | None = None  # of the training data: noise standard deviation of 255, or JPEG quality
    channels: int = 3
    scale: int = 1
    size: int | None = None  # bytes, approximately
    sha256: str | None = None


SWINIR = "https://github.com/JingyunLiang/SwinIR/releases"
RESTORMER = "https://github.com/swz30/Restormer/releases"
NAFNET = "https://github.com/megvii-research/NAFNet#results-and-pre-trained-models"
_ACADEMIC = "Academic Public License at release, MIT since 2025: see its page"
_NO_LICENCE = "none stated: all rights reserved by the authors"


def _swinir(name: str, file: str, task: str, target: Degradation, **fields: float | int | None) -> Release:
    return Release(
        name=f"swinir-{name}",
        target=target,
        task=task,
        architecture="SwinIR",
        file=file,
        url=f"{SWINIR}/download/v0.0/{file}",
        homepage=SWINIR,
        licence="Apache-2.0",
        **fields,  # type: ignore[arg-type]
    )


def _swinir_denoisers() -> list[Release]:
    kinds = (("gray", "004_grayDN", "grey noise", 1), ("color", "005_colorDN", "colour noise", 3))
    return [
        _swinir(
            f"{kind}-noise{sigma}",
            f"{stem}_DFWB_s128w8_SwinIR-M_noise{sigma}.pth",
            f"{what}, sigma {sigma} of 255",
            "noise",
            level=sigma,
            channels=channels,
        )
        for (kind, stem, what, channels), sigma in product(kinds, (15, 25, 50))
    ]


def _swinir_deblockers() -> list[Release]:
    kinds = (("gray", "006_CAR", "grey", 1), ("color", "006_colorCAR", "colour", 3))
    return [
        _swinir(
            f"{kind}-jpeg{quality}",
            f"{stem}_DFWB_s126w7_SwinIR-M_jpeg{quality}.pth",
            f"{what} JPEG of quality {quality}",
            "jpeg",
            level=quality,
            channels=channels,
        )
        for (kind, stem, what, channels), quality in product(kinds, (10, 20, 30, 40))
    ]


def _swinir_upscalers() -> list[Release]:
    classical = [
        _swinir(
            f"x{scale}-{data.lower()}",
            f"001_classicalSR_{data}_{size}w8_SwinIR-M_x{scale}.pth",
            f"{scale}x upscaling",
            "size",
            scale=scale,
        )
        for (data, size), scale in product((("DIV2K", "s48"), ("DF2K", "s64")), (2, 3, 4, 8))
    ]
    light = [
        _swinir(
            f"light-x{scale}",
            f"002_lightweightSR_DIV2K_s64w8_SwinIR-S_x{scale}.pth",
            f"{scale}x upscaling, fast",
            "size",
            scale=scale,
        )
        for scale in (2, 3, 4)
    ]
    real = [
        _swinir(
            f"real-{name}-x4",
            f"003_realSR_BSRGAN_{data}_s64w8_SwinIR-{size}_x4_GAN.pth",
            "4x upscaling of real photos; invents detail",
            "size",
            scale=4,
        )
        for name, data, size in (("medium", "DFO", "M"), ("large", "DFOWMFC", "L"))
    ]
    return [*classical, *light, *real]


def _restormer(name: str, file: str, task: str, target: Degradation, *, level: int | None = None) -> Release:
    return Release(
        name=f"restormer-{name}",
        target=target,
        task=task,
        architecture="Restormer",
        file=f"{file}.pth",
        url=f"{RESTORMER}/download/v1.0/{file}.pth",
        homepage=RESTORMER,
        licence=_ACADEMIC,
        level=level,
        channels=1 if "gray" in file else 3,
        size=104_700_000,
    )


def _restormers() -> list[Release]:
    gaussian = [
        _restormer(
            f"{name}-noise{sigma}",
            f"gaussian_{name}_denoising_sigma{sigma}",
            f"{what} noise, sigma {sigma} of 255",
            "noise",
            level=sigma,
        )
        for (name, what), sigma in product((("gray", "grey"), ("color", "colour")), (15, 25, 50))
    ]
    blind = [
        _restormer(f"{name}-noise", f"gaussian_{name}_denoising_blind", f"{what} noise of any level", "noise")
        for name, what in (("gray", "grey"), ("color", "colour"))
    ]
    return [
        _restormer("motion", "motion_deblurring", "motion blur", "blur"),
        _restormer("defocus", "single_image_defocus_deblurring", "defocus", "defocus"),
        _restormer("rain", "deraining", "rain streaks", "rain"),
        _restormer("real-noise", "real_denoising", "smartphone noise", "noise"),
        *blind,
        *gaussian,
    ]


# SHA-256 of the files on NAFNet's page, as published by another project that uses them.
_NAFNETS: tuple[tuple[str, Degradation, str, str], ...] = (
    (
        "GoPro-width32",
        "blur",
        "motion blur",
        "19394e6155d12ef6371d1d57496f87f0ec88f92bdffa27c0792690722d5d1a5c",
    ),
    (
        "GoPro-width64",
        "blur",
        "motion blur",
        "329d3ab4077b8d6b7ff61de376e483714667960bf85be027bf4335cda701196f",
    ),
    (
        "REDS-width64",
        "blur",
        "motion blur under JPEG",
        "175fe8b3cdf3abedfbc87769779c3d9f491e05bb2e73ea9d627883f90a4b2df3",
    ),
    (
        "SIDD-width32",
        "noise",
        "smartphone noise",
        "89c70e808d1783b6c07911306e106aaf0d4f7f3da8c61078b99ff7f8929a26f4",
    ),
    (
        "SIDD-width64",
        "noise",
        "smartphone noise",
        "cd685efaae01f7c4e9951f2deab05780079c8eb1e49ed664b72f6db04dabb445",
    ),
)


def _nafnets() -> list[Release]:
    return [
        Release(
            name=f"nafnet-{title.lower().replace('-width', '-')}",
            target=target,
            task=task,
            architecture="NAFNet",
            file=f"NAFNet-{title}.pth",
            url=None,
            homepage=NAFNET,
            licence="MIT",
            sha256=sha256,
        )
        for title, target, task, sha256 in _NAFNETS
    ]


def _others() -> list[Release]:
    hub = "https://huggingface.co"
    return [
        Release(
            name="hair-3",
            target="all_in_one",
            task="noise, rain and haze in one",
            architecture="HAIR",
            file="hair3d.ckpt",
            url=None,
            homepage="https://drive.google.com/file/d/1Zr0gy8MPFI6q0rytGXuqyqLKrk8bBeQg",
            licence=_NO_LICENCE,
        ),
        Release(
            name="varformer",
            target="all_in_one",
            task="noise, rain, haze, dark and blur, in 256 x 256 pixels",
            architecture="VarFormer",
            file="net_g_last.pth",
            url=f"{hub}/wsy541/VarFormer/resolve/main/net_g_last.pth",
            homepage=f"{hub}/wsy541/VarFormer",
            licence=_NO_LICENCE,
            size=3_600_000_000,
        ),
        Release(
            name="dreamclear",
            target="all_in_one",
            task="badly damaged stills; invents detail; needs a large GPU",
            architecture="DreamClear",
            file="DreamClear-1024.pth",
            url=f"{hub}/shallowdream204/DreamClear/resolve/main/DreamClear-1024.pth",
            homepage=f"{hub}/shallowdream204/DreamClear",
            licence="Apache-2.0; PixArt's weights within it CreativeML Open RAIL++-M",
            size=8_870_000_000,
        ),
        Release(
            name="dreamclear-coarse",
            target="all_in_one",
            task="the first stage of DreamClear: noise, JPEG and blur, mildly",
            architecture="SwinIR",
            file="general_swinir_v1.ckpt",
            url=f"{hub}/lxq007/DiffBIR/resolve/main/general_swinir_v1.ckpt",
            homepage=f"{hub}/lxq007/DiffBIR",
            licence="Apache-2.0",
            size=90_200_000,
        ),
    ]


def _indexed(releases: list[Release]) -> dict[str, Release]:
    return {release.name: release for release in releases}


CATALOGUE: Mapping[str, Release] = _indexed(
    [
        *_swinir_denoisers(),
        *_swinir_deblockers(),
        *_swinir_upscalers(),
        *_restormers(),
        *_nafnets(),
        *_others(),
    ]
)


def find_release(file: str) -> Release | None:
    """The release with this file name, or None."""
    return next((release for release in CATALOGUE.values() if release.file == file), None)
