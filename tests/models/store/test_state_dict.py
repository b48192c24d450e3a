from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from freezeframe.data.errors import UnreadableMedia
from freezeframe.models.store.state_dict import read_state, unwrap

WEIGHTS = {"intro.weight": torch.arange(6.0).reshape(2, 3), "intro.bias": torch.ones(2)}


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in WEIGHTS.items()}


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"params": WEIGHTS},
        {"params_ema": WEIGHTS, "params": {key: -value for key, value in WEIGHTS.items()}},
        {"state_dict": prefixed("net."), "epoch": 3, "hparams": {"lr": 1e-4}},
        {"model": prefixed("module."), "optimizer": {"state": {}}},
        {"state_dict": prefixed("module.net."), "step": torch.tensor(7)},
        {"model": {"params": prefixed("module.")}},
    ],
    ids=["bare", "params", "average before last", "lightning", "DataParallel", "both prefixes", "nested"],
)
def test_the_weights_are_found_wherever_their_makers_put_them(tmp_path, content):
    path = tmp_path / "net.pth"
    torch.save(content, path)
    state = read_state(path)
    assert state.keys() == WEIGHTS.keys()
    assert all(torch.equal(state[key], value) for key, value in WEIGHTS.items())


def test_a_prefix_that_only_some_names_have_belongs_to_them():
    """A sub-module may be named `net`."""
    state = prefixed("net.") | {"head.weight": torch.ones(1)}
    assert unwrap(state).keys() == state.keys()


def test_safetensors_files_are_read_too(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(prefixed("module."), path)
    assert read_state(path).keys() == WEIGHTS.keys()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, value, dtype):
    broken = {key: each.clone().to(dtype) for key, each in WEIGHTS.items()}
    if dtype == torch.float8_e4m3fn:
        value = float("nan")  # it has no infinity
    broken["intro.weight"].view(-1)[4:5] = torch.tensor([value]).to(dtype)
    path = tmp_path / "net.safetensors"
    save_file(broken, path)
    with pytest.raises(
        UnreadableMedia, match=r"net\.safetensors: its weights intro\.weight contain NaN or infinity"
    ):
        read_state(path)


def test_whole_numbers_beside_the_weights_are_read(tmp_path):
    """Counters and index tables, as in batch norms and window attention."""
    path = tmp_path / "net.safetensors"
    save_file({**WEIGHTS, "steps": torch.tensor(7), "seen": torch.tensor([True])}, path)
    assert read_state(path).keys() == {*WEIGHTS, "steps", "seen"}


class Intruder:
    """Runs a command when unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("form", ["torch.save", "pickle"])
def test_code_in_a_checkpoint_is_not_run(tmp_path, form, protocol):
    path, trace = tmp_path / "net.pth", tmp_path / "was here"
    content = {"params": {**WEIGHTS, "more": Intruder(trace)}}
    if form == "torch.save":
        torch.save(content, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(UnreadableMedia, match=r"net\.pth.*safetensors"):
        read_state(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(1).expand(10**6, 3, 3, 3),
        torch.zeros(10**6, 3, device="meta"),
        torch.sparse_coo_tensor(
            torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (10**6, 10**6), check_invariants=True
        ),
    ],
    ids=["a million channels over one number", "a shape without numbers", "sparse"],
)
def test_a_tensor_must_hold_the_numbers_that_it_claims(tmp_path, value):
    """Otherwise a small file could declare a network that fits into no memory."""
    path = tmp_path / "net.pth"
    torch.save({"intro.weight": value}, path)
    with pytest.raises(UnreadableMedia, match=r"net\.pth: its tensors are incomplete"):
        read_state(path)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], 5, {"params": {}}, torch.ones(3)], ids=str)
def test_a_file_without_weights_is_refused(tmp_path, content):
    path = tmp_path / "net.pth"
    torch.save(content, path)
    with pytest.raises(UnreadableMedia, match=r"net\.pth: holds no weights"):
        read_state(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UnreadableMedia, match=r"nowhere\.pth.*spelling"):
        read_state(tmp_path / "nowhere.pth")


def stored(form: str) -> bytes:
    buffer = io.BytesIO()
    torch.save(WEIGHTS, buffer, _use_new_zipfile_serialization=form == "zip")
    return buffer.getvalue()


GOOD = {form: stored(form) for form in ("zip", "legacy")}


def weights_or_complaint(path: Path) -> dict[str, torch.Tensor] | str:
    try:
        return read_state(path)
    except UnreadableMedia as error:
        return str(error)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(), form=st.sampled_from(["zip", "legacy"]), suffix=st.sampled_from([".pth", ".safetensors"])
)
def test_damage_ends_in_weights_or_in_one_sentence(tmp_path, data, form, suffix):
    """Truncated, flipped or random bytes: always the same type of error."""
    good = GOOD[form]
    damaged = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for position in data.draw(st.lists(st.integers(0, len(good) - 1), max_size=4)):
        if position < len(damaged):
            damaged[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path / f"net{suffix}"
    path.write_bytes(damaged)
    outcome = weights_or_complaint(path)
    if isinstance(outcome, str):
        assert str(path) in outcome
        assert "\n" not in outcome
    else:
        assert all(isinstance(value, torch.Tensor) for value in outcome.values())
