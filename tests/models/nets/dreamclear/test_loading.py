from __future__ import annotations

import importlib.util
import math
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from freezeframe.data.errors import FreezeframeError, MissingExtra, UnreadableMedia
from freezeframe.models.nets.dreamclear.controlnet import ControlConfig, DreamClearNet
from freezeframe.models.nets.dreamclear.loading import (
    AUTOENCODER,
    COARSE,
    NETWORK,
    TEXT_ENCODER,
    assemble,
    find_captioner,
    load_autoencoder,
    load_cleaner,
    load_text_encoder,
)
from freezeframe.models.nets.dreamclear.pipeline import Settings, restore
from freezeframe.models.nets.dreamclear.pixart_dit import Caption, PixArt, PixArtConfig
from freezeframe.models.nets.dreamclear.schedulers import ddpm_step, sample, schedule
from freezeframe.models.nets.swinir.config import DIFFBIR
from freezeframe.models.nets.swinir.model import SwinIR, to_published_state

HAS_EXTRA = all(importlib.util.find_spec(name) for name in ("diffusers", "transformers"))
extra = pytest.mark.skipif(not HAS_EXTRA, reason="needs diffusers and transformers (extra `diffusion`)")
# diffusers and transformers warn of each other.
quiet = pytest.mark.filterwarnings("ignore")

CPU = torch.device("cpu")
SIZES = PixArtConfig(width=144, depth=2, patch=2, latent=4, caption=(120, 16), grid=4)


def noise(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def randomised(network: torch.nn.Module, scale: float = 0.1) -> torch.nn.Module:
    for i, value in enumerate((*network.parameters(), *network.buffers())):
        value.requires_grad_(False).copy_(scale * noise(*value.shape, seed=i))
    return network.eval()


def save_autoencoder(folder: Path) -> None:
    from diffusers import AutoencoderKL

    model = AutoencoderKL(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
    )
    randomised(model).save_pretrained(folder)


def save_text_encoder(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    words = {word: i for i, word in enumerate(("<pad>", "</s>", "<unk>", "a", "dog", "cat"))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    config = T5Config(vocab_size=8, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    randomised(T5EncoderModel(config), scale=0.5).save_pretrained(folder)


@pytest.fixture(scope="module")
def authors_folder(tmp_path_factory) -> Path:
    """What the authors publish, tiny and random."""
    folder = tmp_path_factory.mktemp("dreamclear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_autoencoder(folder / AUTOENCODER)
        save_text_encoder(folder / TEXT_ENCODER)
    network = randomised(DreamClearNet(SIZES, ControlConfig(blocks=2, modulator=12, experts=3, gate=8)))
    for value in network.base_model.final_layer.parameters():
        value.mul_(0.1)
    stored = network.state_dict() | {"base_model.pos_embed": torch.zeros(1, 16, 144)}
    torch.save({"state_dict": stored, "epoch": 3}, folder / NETWORK)
    return folder


# The autoencoder and the text encoder


@extra
@quiet
def test_latents_are_scaled_modes_of_the_signal_from_minus_one_to_one(authors_folder):
    from diffusers import AutoencoderKL

    coder = load_autoencoder(authors_folder / AUTOENCODER, device=CPU)
    model = AutoencoderKL.from_pretrained(authors_folder / AUTOENCODER).eval()
    encoded = torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean = model.encode(encoded * 2 - 1).latent_dist.mean
        latent = coder.encode(encoded)
        assert latent.shape == (1, 4, 8, 6)
        torch.testing.assert_close(latent, mean * 0.18215)
        torch.testing.assert_close(coder.decode(latent) * 2 - 1, model.decode(mean).sample)


@extra
@quiet
def test_captions_are_120_tokens_of_which_the_words_are_present(authors_folder):
    encode = load_text_encoder(authors_folder / TEXT_ENCODER, dtype=torch.float32)
    dog, shouted, cat, nothing = map(encode, ("a dog", "  A   DOG ", "a cat", ""))
    assert dog.features.shape == (1, 120, 16)
    assert dog.present.tolist() == [[True] * 2 + [False] * 118]
    assert torch.equal(dog.features, shouted.features)
    assert not torch.allclose(dog.features[:, :2], cat.features[:, :2], atol=1e-3)
    assert nothing.present.shape == (1, 120)
    assert encode("a " * 500).present.all()


def save_cleaner(path: Path) -> SwinIR:
    """DiffBIR's kind of SwinIR, small, in the container and under the prefix that its authors use."""
    config = replace(DIFFBIR, dim=12, depths=(2,), heads=(2,), features=8)
    network = randomised(SwinIR(config), scale=0.02)
    state = {f"module.{key}": value for key, value in to_published_state(network, side=64).items()}
    torch.save({"state_dict": state}, path)
    return network


def test_the_coarse_stage_is_the_authors_swinir(tmp_path):
    network = save_cleaner(tmp_path / COARSE)
    encoded = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
    cleaned = load_cleaner(tmp_path / COARSE, device=CPU)(encoded)
    assert torch.equal(cleaned, network(encoded).clamp(0, 1))
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.ckpt")
    with pytest.raises(UnreadableMedia, match="is not a SwinIR checkpoint"):
        load_cleaner(tmp_path / "other.ckpt", device=CPU)


@extra
@quiet
def test_the_coarse_stage_is_used_where_its_file_lies(authors_folder, tmp_path):
    for name in (NETWORK, AUTOENCODER):
        (tmp_path / name).symlink_to(authors_folder / name)
    encoded, quick = torch.rand(1, 3, 64, 64), Settings(steps=1, shortest=64, color="adain")
    plain = restore(assemble(tmp_path, device=CPU), encoded, settings=quick)
    save_cleaner(tmp_path / COARSE)
    system = assemble(tmp_path, device=CPU)
    cleaned = restore(system, encoded, settings=quick)
    assert not torch.allclose(plain, cleaned, atol=1e-3)
    own = assemble(tmp_path, device=CPU, clean=lambda image: image)
    assert torch.equal(restore(own, encoded, settings=quick), plain)


@extra
@quiet
@pytest.mark.parametrize("caption", ["a dog", "", None])
def test_the_authors_files_restore_a_picture(authors_folder, caption):
    system = assemble(authors_folder, device=CPU, caption=lambda image: "a cat")
    encoded = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    quick = Settings(steps=2, shortest=64, tile=6, overlap=2)
    actual = restore(system, encoded, caption=caption, settings=quick)
    assert actual.shape == encoded.shape
    assert bool(actual.isfinite().all())
    assert torch.equal(actual, restore(system, encoded, caption=caption, settings=quick))


@extra
@quiet
def test_without_the_text_encoders_folder_it_does_without(authors_folder, tmp_path):
    for name in (NETWORK, AUTOENCODER):
        (tmp_path / name).symlink_to(authors_folder / name)
    system = assemble(tmp_path, device=CPU)
    assert system.encode_caption is None
    encoded = torch.rand(1, 3, 32, 32)
    assert restore(system, encoded, settings=Settings(steps=1, shortest=32)).shape == encoded.shape
    with pytest.raises(FreezeframeError, match="text encoder"):
        restore(system, encoded, caption="a dog", settings=Settings(steps=1, shortest=32))


@extra
@quiet
def test_what_is_missing_or_damaged_is_said_in_a_sentence(authors_folder, tmp_path):
    with pytest.raises(UnreadableMedia, match=r"sd-vae-ft-ema: no such folder"):
        assemble(tmp_path, device=CPU)
    (tmp_path / AUTOENCODER).mkdir()
    with pytest.raises(UnreadableMedia, match=r"sd-vae-ft-ema: cannot be read"):
        assemble(tmp_path, device=CPU)
    (tmp_path / AUTOENCODER).rmdir()
    (tmp_path / AUTOENCODER).symlink_to(authors_folder / AUTOENCODER)
    with pytest.raises(UnreadableMedia, match=r"DreamClear-1024\.pth: there is no such checkpoint"):
        assemble(tmp_path, device=CPU)
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, tmp_path / NETWORK)
    with pytest.raises(UnreadableMedia, match="is not a DreamClear checkpoint"):
        assemble(tmp_path, device=CPU)
    state = torch.load(authors_folder / NETWORK, weights_only=True)["state_dict"]
    state["am_lq.1.gate.0.bias"] = torch.zeros(3)
    torch.save({"state_dict": state}, tmp_path / NETWORK)
    with pytest.raises(UnreadableMedia, match=r"do not fit .*am_lq\.1\.gate\.0\.bias"):
        assemble(tmp_path, device=CPU)


@pytest.mark.parametrize(
    ("package", "read"), [("diffusers", load_autoencoder), ("transformers", load_text_encoder)]
)
def test_a_missing_extra_is_named_with_its_cure(monkeypatch, tmp_path, package, read):
    monkeypatch.setitem(sys.modules, package, None)  # Python's own mark of what cannot be imported
    with pytest.raises(MissingExtra, match=rf"needs {package} .*run: pip install {package}"):
        read(tmp_path, **({"device": CPU} if package == "diffusers" else {}))


def test_importing_freezeframe_does_not_import_the_extra():
    import subprocess

    code = (
        "import sys, freezeframe.models.nets.dreamclear.loading;"
        "sys.exit('diffusers' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Captioners


def test_a_captioner_is_found_by_name(tmp_path, monkeypatch):
    (tmp_path / "my_captions.py").write_text(
        "def brightness(codes):\n    return f'an image of brightness {codes.mean().item():.1f}'\n"
        "def number(codes):\n    return 7\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert (
        find_captioner("my_captions:brightness")(torch.full((1, 3, 2, 2), 0.5))
        == "an image of brightness 0.5"
    )
    with pytest.raises(FreezeframeError, match="returned int; a captioner must return a str"):
        find_captioner("my_captions:number")(torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_module:f", "no_such_module:f: cannot be imported"),
        ("math:no_such", "math:no_such: is not a function"),
        ("math:pi", "math:pi: is not a function"),
        ("math", "write module:function"),
        (":f", "write module:function"),
    ],
)
def test_a_captioner_that_is_none_is_refused_with_a_sentence(name, says):
    with pytest.raises(FreezeframeError, match=says):
        find_captioner(name)


# Second implementations, by diffusers


def diffusers_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """PixArt's published names to those that diffusers gives the same weights."""
    renamed = {
        "x_embedder.proj": "pos_embed.proj",
        "t_embedder.mlp.0": "adaln_single.emb.timestep_embedder.linear_1",
        "t_embedder.mlp.2": "adaln_single.emb.timestep_embedder.linear_2",
        "csize_embedder.mlp.0": "adaln_single.emb.resolution_embedder.linear_1",
        "csize_embedder.mlp.2": "adaln_single.emb.resolution_embedder.linear_2",
        "ar_embedder.mlp.0": "adaln_single.emb.aspect_ratio_embedder.linear_1",
        "ar_embedder.mlp.2": "adaln_single.emb.aspect_ratio_embedder.linear_2",
        "t_block.1": "adaln_single.linear",
        "y_embedder.y_proj.fc1": "caption_projection.linear_1",
        "y_embedder.y_proj.fc2": "caption_projection.linear_2",
        "final_layer.linear": "proj_out",
        "final_layer": "",
    }
    inside = {
        "attn.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
        "attn.proj": ("attn1.to_out.0",),
        "cross_attn.q_linear": ("attn2.to_q",),
        "cross_attn.kv_linear": ("attn2.to_k", "attn2.to_v"),
        "cross_attn.proj": ("attn2.to_out.0",),
        "mlp.fc1": ("ff.net.0.proj",),
        "mlp.fc2": ("ff.net.2",),
    }
    table: dict[str, Tensor] = {}
    for key, value in state.items():
        module, _, name = key.rpartition(".")
        if key.startswith("blocks."):
            _, number, part = module.split(".", 2) if module.count(".") > 1 else (*module.split("."), "")
            at = f"transformer_blocks.{number}"
            names = [f"{at}.{other}.{name}" for other in inside[part]] if part else [f"{at}.{name}"]
            table |= dict(zip(names, value.chunk(len(names)) if part else [value], strict=True))
        elif module in renamed:
            table[f"{renamed[module]}.{name}".lstrip(".")] = value
    return table


@extra
@quiet
@pytest.mark.parametrize("size", [(8, 8), (6, 12)])
def test_pixart_agrees_with_diffusers(size):
    from diffusers import PixArtTransformer2DModel

    other = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=72,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=144,
        sample_size=8,
        patch_size=2,
        caption_channels=16,
        use_additional_conditions=True,
        interpolation_scale=2,
    ).eval()
    ours = randomised(PixArt(SIZES))
    loaded = other.load_state_dict(diffusers_weights(ours.state_dict()), strict=False)
    assert not loaded.unexpected_keys
    assert set(loaded.missing_keys) <= {"pos_embed.pos_embed"}

    latent, level, features = noise(2, 4, *size), torch.tensor([3, 700]), noise(2, 120, 16, seed=4)
    present = torch.arange(120) < torch.tensor([[5], [90]])
    added_conditions = {"resolution": torch.full((2, 2), 1024.0), "aspect_ratio": torch.ones(2, 1)}
    with torch.no_grad():
        expected = other(
            latent,
            features,
            level,
            added_conditions,
            encoder_attention_mask=present.float(),
            return_dict=False,
        )[0]
        actual = ours(latent, level, Caption(features=features, present=present))
    # Float32 through two blocks and angles of up to 1024 radians.
    torch.testing.assert_close(actual, expected, atol=2e-4, rtol=1e-4)


def reference_scheduler(plan: object) -> object:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(variance_type="learned_range", clip_sample=False)
    scheduler.set_timesteps(timesteps=list(reversed(plan.steps)))
    return scheduler


@extra
@quiet
def test_a_step_agrees_with_diffusers():
    plan = schedule(50)
    scheduler = reference_scheduler(plan)
    latent, predicted, share = noise(1, 4, 5, 5), noise(1, 4, 5, 5, seed=2), noise(1, 4, 5, 5, seed=3).tanh()
    for i in (49, 20, 1):
        mean, deviation = ddpm_step(latent, predicted, share, plan=plan, i=i)
        stepped = scheduler.step(
            torch.cat([predicted, share], dim=1),
            plan.steps[i],
            latent,
            generator=torch.Generator().manual_seed(7),
        ).prev_sample
        fresh = torch.randn(1, 4, 5, 5, generator=torch.Generator().manual_seed(7))
        # Float32 betas there, float64 here; the first steps divide by sqrt(a), 0.0064.
        torch.testing.assert_close(mean + deviation * fresh, stepped, atol=3e-3, rtol=1e-3)


@extra
@quiet
def test_fifty_steps_agree_with_diffusers_where_the_network_is_sure():
    """With the smallest variance and a good predictor both chains end at the clean latent."""
    plan, clean = schedule(50), noise(1, 4, 5, 5)
    alpha_bar = dict(zip(plan.steps, plan.alpha_bar, strict=True))

    def perfect(latent: Tensor, step: int) -> Tensor:
        true = (latent - math.sqrt(alpha_bar[step]) * clean) / math.sqrt(1 - alpha_bar[step])
        return torch.cat([true, -torch.ones_like(true)], dim=1)

    start = noise(1, 4, 5, 5, seed=9)
    actual = sample(perfect, start, plan, generator=torch.Generator().manual_seed(0))
    scheduler, latent = reference_scheduler(plan), start
    for step in reversed(plan.steps):
        latent = scheduler.step(perfect(latent, step), step, latent).prev_sample
    torch.testing.assert_close(actual, clean, atol=1e-4, rtol=0)
    torch.testing.assert_close(latent, clean, atol=1e-3, rtol=0)
