from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from freezeframe.models.nets.hair.degradation_encoder import Attention, DegradationEncoder
from freezeframe.models.nets.hair.model import (
    HAIR,
    RELEASED,
    HyperStage,
    NetConfig,
    infer_config,
    load,
    matches,
)
from freezeframe.models.nets.restormer import model as restormer
from freezeframe.models.nets.restormer.layers import Kernels, Shape
from freezeframe.models.nets.restormer.model import Restormer
from freezeframe.models.restorer.image_restorer import load_restorer

BODY = restormer.NetConfig(
    dim=4, blocks=(1, 1, 1, 2), refinement=1, heads=(1, 2, 2, 4), expansion=2.5, reduce_latent=True
)
SMALL = NetConfig(body=BODY, box_sizes=(3, 2, 4, 2, 3), embedding_dim=16, encoder_width=6)


def random_network(config: NetConfig, seed: int = 0) -> HAIR:
    """Every weight drawn at random, those of the norms too, and the boxes."""
    network = HAIR(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for value in network.parameters():
        value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    return network


def pictures(*size: int, seed: int = 1) -> Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def published_shapes() -> dict[str, list[int]]:
    """The key table of the released checkpoint, written down without our modules."""
    table: dict[str, list[int]] = {}

    def layer(name: str, out: int, *inside: int) -> None:
        table[f"{name}.weight"] = [out, *inside]
        table[f"{name}.bias"] = [out]

    def norms(name: str, c: int, heads: int) -> None:
        layer(f"{name}.norm1.body", c)
        layer(f"{name}.norm2.body", c)
        table[f"{name}.attn.temperature"] = [heads, 1, 1]

    def residual(name: str) -> None:
        for i in (1, 2):
            layer(f"{name}.norm{i}", 72)
            layer(f"{name}.conv{i}", 72, 72, 3, 3)

    for i, (c, h, heads) in enumerate(((48, 127, 1), (96, 255, 2), (192, 510, 4))):
        for j in range((4, 6, 6)[i]):
            block = f"encoder_level{i + 1}.{j}"
            norms(block, c, heads)
            table[f"{block}.attn.qkv.weight"] = [3 * c, c, 1, 1]
            table[f"{block}.attn.qkv_dwconv.weight"] = [3 * c, 1, 3, 3]
            table[f"{block}.attn.project_out.weight"] = [c, c, 1, 1]
            table[f"{block}.ffn.project_in.weight"] = [2 * h, c, 1, 1]
            table[f"{block}.ffn.dwconv.weight"] = [2 * h, 1, 3, 3]
            table[f"{block}.ffn.project_out.weight"] = [c, h, 1, 1]
        table[f"down{i + 1}_{i + 2}.body.0.weight"] = [c // 2, c, 3, 3]
    for name, c, heads, count, box, numbers in (
        ("latent", 384, 8, 8, 9, 1_794_762),
        ("decoder_level3", 192, 4, 6, 6, 455_580),
        ("decoder_level2", 96, 2, 6, 7, 117_486),
        ("decoder_level1", 96, 1, 4, 5, 117_486),
        ("refinement", 96, 1, 4, 5, 117_486),
    ):
        table[f"{name}.kernel_box"] = [box, numbers]
        for i in range(count):
            norms(f"{name}.blocks.{i}", c, heads)
            for j, (inside, out) in enumerate(((96, 48), (48, 24), (24, 12), (12, box))):
                layer(f"{name}.extracts.{i}.net.{2 * j}", out, inside)
    table["patch_embed.proj.weight"] = [48, 3, 3, 3]
    layer("reduce_latent", 192, 384, 3, 3)
    for name, inside in (("up4_3", 192), ("up3_2", 192), ("up2_1", 96)):
        table[f"{name}.body.0.weight"] = [2 * inside, inside, 3, 3]
    table["reduce_chan_level3.weight"] = [192, 288, 1, 1]
    table["reduce_chan_level2.weight"] = [96, 192, 1, 1]
    table["output.weight"] = [3, 96, 3, 3]
    layer("feature.conv_in", 72, 384, 3, 3)
    for i in range(3):
        for j in range(3):
            residual(f"feature.down.{i}.block.{j}")
    for i in range(2):
        layer(f"feature.down.{i}.downsample.conv", 72, 72, 3, 3)
    residual("feature.mid.block_1")
    residual("feature.mid.block_2")
    layer("feature.mid.attn_1.norm", 72)
    for name in ("q", "k", "v", "proj_out"):
        layer(f"feature.mid.attn_1.{name}", 72, 72, 1, 1)
    layer("feature.norm_out", 72)
    layer("feature.conv_out", 96, 72, 3, 3)
    return table


def test_the_released_network_has_its_keys_shapes_and_size():
    with torch.device("meta"):
        state = HAIR(RELEASED).state_dict()
    table = published_shapes()
    assert {key: list(value.shape) for key, value in state.items()} == table
    assert len(table) == 665
    assert sum(map(math.prod, table.values())) == 28_559_846


def test_norms_of_the_released_network_share_three_channels():
    """What no file tells: 24 groups, 1e-6 under the root."""
    with torch.device("meta"):
        norm = HAIR(RELEASED).feature.norm_out
    assert (norm.num_groups, norm.num_channels, norm.eps) == (24, 72, 1e-6)


def test_hyper_parameters_are_read_off_the_shapes():
    state = {key: torch.zeros(shape, device="meta").half() for key, shape in published_shapes().items()}
    assert matches(state)
    assert infer_config(state) == RELEASED
    other = replace(
        SMALL,
        body=replace(BODY, dim=6, heads=(1, 1, 3, 2), expansion=2, channels=1, centred=False),
        embedding_dim=24,
    )
    for config in (SMALL, other):
        assert infer_config(random_network(config).state_dict()) == config


@pytest.mark.parametrize(
    "wrong", [{"box_sizes": (2, 2)}, {"box_sizes": (1, 1, 1, 1, 0)}, {"encoder_width": 8}], ids=str
)
def test_a_layout_that_cannot_be_built_says_why(wrong):
    with pytest.raises(ValueError, match=r"boxes|sensed"):
        replace(SMALL, **wrong)


def test_relatives_are_told_apart():
    hair = random_network(SMALL).state_dict()
    plain = Restormer(BODY).state_dict()
    assert (matches(hair), restormer.matches(hair)) == (True, False)
    assert (matches(plain), restormer.matches(plain)) == (False, True)
    assert not matches({})


@pytest.mark.parametrize("harm", ["missing", "left over", "misshapen"])
def test_a_state_that_does_not_fit_exactly_is_refused_by_key_name(harm):
    state = random_network(SMALL).state_dict()
    key = "latent.extracts.1.net.4.weight"
    if harm == "missing":
        del state[key]
    elif harm == "left over":
        key = "latent.extracts.1.net.8.weight"
        state[key] = torch.zeros(1)
    else:
        state[key] = state[key][:1]
    with pytest.raises(RuntimeError, match=key.replace(".", r"\.")):
        load(state)


def test_the_file_as_its_training_left_it_loads(tmp_path):
    """A Lightning checkpoint: weights under `state_dict`, their names behind `net.`."""
    network = random_network(SMALL)
    path = tmp_path / "hair3d.ckpt"
    state = {f"net.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 7, "state_dict": state, "hyper_parameters": {"lr": 2e-4}}, path)
    restorer = load_restorer(path, device="cpu", precision="fp32")
    light = torch.rand(1, 3, 40, 33, generator=torch.Generator().manual_seed(2))
    encoded = torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    restored = network(encoded).clamp(0, 1)
    expected = torch.where(restored <= 0.04045, restored / 12.92, ((restored + 0.055) / 1.055) ** 2.4)
    assert (expected - light).abs().max() > 0.01, "the network changes nothing: nothing is tested"
    # float32 with sums in another order, through curves of slope up to 13.
    torch.testing.assert_close(restorer(light), expected, atol=5e-5, rtol=0)


def chosen(network: HAIR, which: dict[str, list[int]]) -> None:
    """Has block i of each stage take kernel which[stage][i] of the box and no other, whatever the picture."""
    for stage, places in which.items():
        for extract, place in zip(network.get_submodule(f"{stage}.extracts"), places, strict=True):
            last = extract.net[6]
            last.weight.zero_()
            last.bias.fill_(-1e4)
            last.bias[place] = 1e4


def plain_twin(network: HAIR, which: dict[str, list[int]]) -> Restormer:
    """The Restormer whose blocks hold what those of `network` take from their boxes."""
    names = (
        "attn.qkv",
        "attn.qkv_dwconv",
        "attn.project_out",
        "ffn.project_in",
        "ffn.dwconv",
        "ffn.project_out",
    )
    twin = Restormer(BODY).double().eval().requires_grad_(False)
    given = network.state_dict()
    state = {key: value for key, value in given.items() if key in twin.state_dict()}
    for stage, places in which.items():
        for i, place in enumerate(places):
            rest = given[f"{stage}.kernel_box"][place]
            for name in names:
                key = f"{stage}.{i}.{name}.weight"
                shape = twin.state_dict()[key].shape
                state[key], rest = rest[: shape.numel()].reshape(shape), rest[shape.numel() :]
            assert not len(rest)
            for name in ("norm1.body.weight", "norm1.body.bias", "norm2.body.weight", "norm2.body.bias"):
                state[f"{stage}.{i}.{name}"] = given[f"{stage}.blocks.{i}.{name}"]
            state[f"{stage}.{i}.attn.temperature"] = given[f"{stage}.blocks.{i}.attn.temperature"]
    twin.load_state_dict(state, strict=True)
    return twin


def test_a_network_that_takes_one_kernel_of_each_box_is_a_restormer():
    network = random_network(SMALL).double()
    which = {
        "latent": [2, 0],
        "decoder_level3": [1],
        "decoder_level2": [3],
        "decoder_level1": [0],
        "refinement": [2],
    }
    chosen(network, which)
    encoded = pictures(2, 3, 32, 40)
    expected = plain_twin(network, which)(encoded)
    assert (expected - encoded).abs().max() > 0.1
    torch.testing.assert_close(network(encoded), expected, atol=1e-10, rtol=0)
    which["latent"] = [0, 2]
    assert (plain_twin(network, which)(encoded) - expected).abs().max() > 1e-3


def naive_kernels(made: HyperStage, index: int, told: np.ndarray) -> list[np.ndarray]:
    """From what is told of one picture to six kernels, number by number."""
    x = told
    net = made.extracts[index].net
    for j in (0, 2, 4, 6):
        weight, bias = net[j].weight.numpy(), net[j].bias.numpy()
        x = np.array([sum(weight[o, i] * x[i] for i in range(len(x))) + bias[o] for o in range(len(bias))])
        if j < 6:
            x = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])
    shares = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
    box = made.kernel_box.numpy()
    numbers = iter(sum(share * row for share, row in zip(shares, box, strict=True)))
    return [np.array([next(numbers) for _ in range(math.prod(size))]).reshape(size) for size in made.shapes]


def random_stage(seed: int = 3) -> HyperStage:
    shape = Shape(channels=4, heads=2, hidden=5)
    made = HyperStage(shape, count=2, box=3, embedding_dim=16).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for value in made.parameters():
        value.copy_(torch.randn(value.shape, generator=generator))
    return made


@pytest.mark.parametrize("index", [0, 1])
def test_made_kernels_against_loops(index):
    made = random_stage()
    told = torch.randn(2, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    kernels = made.kernels(made.extracts[index](told))
    for picture in range(2):
        expected = naive_kernels(made, index, told[picture].numpy())
        for field, kernel in zip(fields(Kernels), expected, strict=True):
            # float64 on both sides: only the order of the sums differs.
            np.testing.assert_allclose(getattr(kernels, field.name)[picture].numpy(), kernel, atol=1e-12)


def test_each_picture_of_a_batch_has_kernels_of_its_own():
    network = random_network(SMALL).double()
    encoded = pictures(3, 3, 32, 32)
    encoded[1] *= 0.2
    told = network.degradation(encoded)
    assert (told[0] - told[1]).abs().max() > 1e-4
    alone = torch.cat([network(picture[None]) for picture in encoded])
    torch.testing.assert_close(network(encoded), alone, atol=1e-10, rtol=0)


def test_what_is_told_once_is_what_the_network_tells_itself():
    network = random_network(SMALL).double()
    encoded = pictures(2, 3, 40, 37)
    told = network.degradation(encoded)
    assert told.shape == (2, 16)
    torch.testing.assert_close(network(encoded, degradation=told), network(encoded), atol=1e-12, rtol=0)
    # One row serves all pictures.
    shared = network(encoded, degradation=told[:1])
    torch.testing.assert_close(shared[:1], network(encoded[:1]), atol=1e-10, rtol=0)
    assert (shared[1] - network(encoded)[1]).abs().max() > 1e-6


def test_tiles_that_share_what_is_told_are_restored_by_the_same_kernels():
    """Left to themselves, as the release leaves them, a calm and a busy tile make different kernels."""
    network = random_network(SMALL).double()
    picture = pictures(1, 3, 32, 64)
    picture[..., 32:] = 0.5
    told = network.degradation(picture)
    tiles = picture[..., :32], picture[..., 32:]
    own = [network.degradation(tile) for tile in tiles]
    assert (own[0] - own[1]).abs().max() > 1e-3
    stage = network.get_submodule("latent")
    made = [stage.kernels(stage.extracts[0](each)).qkv for each in (told, *own)]
    assert (made[1] - made[2]).abs().max() > 1e-4
    for tile in tiles:
        assert not torch.equal(network(tile, degradation=told), network(tile))


def test_tiles_of_a_picture_that_repeats_are_the_whole_picture():
    """Attention between channels is a mean over the picture: where every tile shows the same it agrees.

    Blocks of one pixel's reach, so that no border is in the way: the 3 x 3 kernels keep their middle only.
    """
    body = replace(BODY, blocks=(1, 1, 1, 1))
    made = HyperStage(body.shape(0), count=1, box=2, embedding_dim=16).double().requires_grad_(False)
    told = torch.randn(1, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    kernels = made.kernels(made.extracts[0](told))
    middle = torch.zeros(3, 3, dtype=torch.float64)
    middle[1, 1] = 1
    kernels.qkv_dwconv.mul_(middle)
    kernels.ffn_dwconv.mul_(middle)
    tile = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    whole = made.blocks[0](tile.repeat(1, 1, 2, 3), kernels)
    torch.testing.assert_close(whole, made.blocks[0](tile, kernels).repeat(1, 1, 2, 3), atol=1e-12, rtol=0)


def test_what_is_told_is_a_mean_over_places():
    network = random_network(SMALL).double()
    features = torch.randn(2, 32, 8, 8, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    seen: list[Tensor] = []
    network.feature.conv_out.register_forward_hook(lambda module, inputs, answer: seen.append(answer))
    told = network.feature(features)
    assert seen[0].shape == (2, 16, 2, 2)
    expected = [[float(np.mean(plane)) for plane in picture] for picture in seen[0].numpy()]
    np.testing.assert_allclose(told.numpy(), expected, atol=1e-12)


def test_the_senses_attention_against_loops():
    attention = Attention(6).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(8)
    for value in attention.parameters():
        value.copy_(torch.randn(value.shape, generator=generator))
    x = torch.randn(1, 6, 2, 3, generator=generator, dtype=torch.float64)
    even = attention.norm(x)[0].flatten(1).numpy()

    def each(layer: torch.nn.Conv2d, rows: np.ndarray) -> np.ndarray:
        return layer.weight[..., 0, 0].numpy() @ rows + layer.bias.numpy()[:, None]

    query, key, value = (each(layer, even) for layer in (attention.q, attention.k, attention.v))
    gathered = np.zeros_like(even)
    for i in range(6):
        weights = np.exp([query[:, i] @ key[:, j] / math.sqrt(6) for j in range(6)])
        gathered[:, i] = sum(w * value[:, j] for j, w in enumerate(weights / weights.sum()))
    expected = x[0].flatten(1).numpy() + each(attention.proj_out, gathered)
    np.testing.assert_allclose(attention(x)[0].flatten(1).numpy(), expected, atol=1e-11)


def test_every_operation_counts():
    """A weight without effect would load without a word wherever its key is wired to."""
    body = replace(BODY, blocks=(1, 1, 2), heads=(1, 2, 2))
    network = random_network(replace(SMALL, body=body, box_sizes=(3, 2, 4, 2))).double()
    encoded = pictures(1, 3, 16, 32)
    before = network(encoded)
    # A bias of the keys adds the same to all logits of a place: softmax does not see it.
    idle = {"feature.mid.attn_1.k.bias"}
    for name, value in network.named_parameters():
        kept = value.clone()
        # Uneven: softmax does not see a constant, and a norm not one added to all channels.
        value.add_(torch.linspace(0.1, 1, value.numel(), dtype=value.dtype).reshape(value.shape))
        change = (network(encoded) - before).abs().max() / before.abs().max()
        assert (change < 1e-12) == (name in idle), f"{name} changes the picture by {change}"
        value.copy_(kept)


@pytest.mark.parametrize(("height", "width"), [(32, 40), (33, 47), (1, 1), (9, 50)])
def test_any_size_is_restored_as_part_of_its_mirrored_self(height, width):
    network = random_network(SMALL).double()
    encoded = pictures(1, 3, height, width)
    below, right = (max(side + -side % 8, 32) - side for side in (height, width))
    whole = np.pad(encoded.numpy(), ((0, 0), (0, 0), (0, below), (0, right)), mode="reflect")
    expected = network(torch.from_numpy(whole))[..., :height, :width]
    torch.testing.assert_close(network(encoded), expected, atol=1e-11, rtol=0)


def test_the_smallest_picture_is_what_two_halvings_need():
    sense = DegradationEncoder(8, width=6, embedding_dim=4)
    assert sense(torch.rand(1, 8, 4, 4)).shape == (1, 4)
    with pytest.raises(RuntimeError, match="size"):
        sense(torch.rand(1, 8, 3, 3))
    assert RELEASED.min_side == 32


def test_the_correction_is_the_answer_less_the_picture():
    network = random_network(SMALL).double()
    encoded = pictures(1, 3, 32, 33)
    torch.testing.assert_close(network.correction(encoded), network(encoded) - encoded, atol=1e-12, rtol=0)


def test_fresh_kernels_are_as_large_as_fresh_convolutions():
    """Mixed evenly, a box of n gives kernels of the deviation that torch begins convolutions with."""
    torch.manual_seed(0)
    shape = Shape(channels=32, heads=1, hidden=80)
    made = HyperStage(shape, count=1, box=6, embedding_dim=16)
    made.requires_grad_(False)
    kernels = made.kernels(torch.full((1, 6), 1 / 6))
    for field, size in zip(fields(Kernels), made.shapes, strict=True):
        expected = 1 / math.sqrt(3 * math.prod(size[1:]))
        # A deviation estimated from 864 numbers or more is within 4 of its 2.4 % standard errors.
        assert float(getattr(kernels, field.name).std()) == pytest.approx(expected, rel=0.1)


def test_every_weight_learns_from_a_fresh_start():
    torch.manual_seed(0)
    network = HAIR(SMALL)
    encoded = pictures(2, 3, 64, 64).float()
    ((network(encoded) - torch.rand_like(encoded)) ** 2).mean().backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name
        assert value.grad.any() or value.numel() == 1, f"{name} never learns"


def test_half_precision_rounds_the_change_and_not_the_picture():
    torch.manual_seed(0)
    network = HAIR(SMALL).eval().requires_grad_(False)
    encoded = pictures(1, 3, 32, 40).float()
    exact = network.correction(encoded)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = network.correction(encoded).float()
    rough = network.bfloat16().correction(encoded.bfloat16()).float()
    # bf16 has 8 bits: the roundings of some thirty layers on the way add up to a few per cent of the change.
    for answer in (mixed, rough):
        assert 0 < (answer - exact).abs().max() < 0.08 * exact.abs().max()
