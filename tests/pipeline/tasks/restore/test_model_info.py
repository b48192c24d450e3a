"""The commands of the weights folder: list, info, add, fetch."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from freezeframe import cli
from freezeframe.models.nets.nafnet import NAFNet, NetConfig
from freezeframe.models.registry.bundled import card
from freezeframe.models.store import weights_cache
from freezeframe.models.store.catalog import CATALOGUE


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def run(*words: object):
    return CliRunner().invoke(cli.app, ["models", *map(str, words)])


@pytest.fixture
def checkpoint(cache_folder) -> Path:
    path = cache_folder / "mine.pth"
    network = NAFNet(NetConfig(width=8, encoders=(1, 1), middle=1, decoders=(1, 1)))
    torch.save({"params": network.state_dict()}, path)
    return path


def fields(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.splitlines())


def test_alone_it_shows_the_card_of_the_shipped_weights():
    result = run()
    assert result.exit_code == 0
    assert f"sha256: {card()['sha256']}" in result.stdout.splitlines()


def test_the_list_names_every_release_and_how_it_comes_here(cache_folder, checkpoint):
    run("add", checkpoint)
    lines = run("list").stdout.splitlines()
    state = {line.split()[0]: line for line in lines}
    assert set(CATALOGUE) <= set(state)
    assert " installed " in state["mine"]
    assert " fetch " in state["swinir-color-noise25"]
    assert " manual " in state["nafnet-gopro-64"]
    assert "Apache-2.0" in state["swinir-color-noise25"]
    assert lines[-1] == f"folder: {cache_folder / 'cache' / 'freezeframe' / 'models'}"


def test_info_of_what_is_only_known():
    result = fields(run("info", "swinir-gray-jpeg20").stdout)
    assert result["installed"] == "no"
    assert result["input"].startswith("greyscale")
    assert result["published at"].startswith("https://github.com/")
    assert result["licence"] == "Apache-2.0"


def test_info_tells_the_cost_and_remembers_what_was_measured(checkpoint):
    run("add", checkpoint)
    before = fields(run("info", "mine", "--device", "cpu", "--precision", "fp32").stdout)
    assert before["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert before["parameters"] == f"{sum(v.numel() for v in _state(checkpoint).values()) / 1e6:.2f} million"
    assert "add --measure" in before["time per megapixel"]
    measured = fields(run("info", "mine", "--device", "cpu", "--precision", "fp32", "--measure").stdout)
    assert float(measured["time per megapixel"].removesuffix(" s")) > 0
    assert measured["backend"] == "torch fp32"
    after = fields(run("info", "mine", "--device", "cpu", "--precision", "fp32").stdout)
    assert after["time per megapixel"] == measured["time per megapixel"]
    assert 0.01 < float(after["memory per megapixel"].removesuffix(" GB")) < 10


def _state(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["params"]


def test_a_checkpoint_is_added_whole_with_its_hash_and_can_be_named(checkpoint):
    result = run("add", checkpoint)
    installed_path = Path(result.stdout.strip())
    assert result.exit_code == 0
    assert "NAFNet; use it with: --model mine" in result.stderr
    assert installed_path.parent == weights_cache.weights_folder()
    assert installed_path.read_bytes() == checkpoint.read_bytes()
    sha256 = hashlib.sha256(installed_path.read_bytes()).hexdigest()
    assert weights_cache.read_manifest()[installed_path.name]["sha256"] == sha256
    assert weights_cache.find("mine").path == installed_path
    assert run("add", checkpoint).exit_code == 0, "once more changes nothing"
    assert run("add", installed_path).exit_code == 0, "from the folder itself, too"


def test_another_file_of_the_same_name_needs_force(cache_folder, checkpoint):
    run("add", checkpoint)
    network = NAFNet(NetConfig(width=8, encoders=(1,), middle=1, decoders=(1,)))
    torch.save({"params": network.state_dict()}, checkpoint)
    result = run("add", checkpoint)
    assert result.exit_code == 2
    assert "exists with other content; rename your file or add --force" in result.stderr
    assert run("add", checkpoint, "--force").exit_code == 0
    assert weights_cache.find("mine").path.read_bytes() == checkpoint.read_bytes()


def test_a_file_known_by_its_hash_takes_the_releases_name(checkpoint, monkeypatch):
    from dataclasses import replace

    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    monkeypatch.setitem(CATALOGUE, "nafnet-gopro-32", replace(CATALOGUE["nafnet-gopro-32"], sha256=sha256))
    result = run("add", checkpoint)
    assert "--model nafnet-gopro-32" in result.stderr
    assert weights_cache.find("nafnet-gopro-32").path.name == "NAFNet-GoPro-width32.pth"


def test_a_file_that_only_bears_a_releases_name_is_refused(checkpoint):
    impostor = checkpoint.rename(checkpoint.with_name("NAFNet-GoPro-width32.pth"))
    result = run("add", impostor)
    assert result.exit_code == 2
    assert "has the name of nafnet-gopro-32" in result.stderr
    assert not weights_cache.installed()


class Evil:
    """A malicious pickle: a command that runs when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def malicious(path: Path) -> None:
    torch.save({"params": Evil(path.with_name("mark"))}, path)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Evil(path.with_name("mark"))))


def truncated(path: Path) -> None:
    torch.save({"params": {"intro.weight": torch.zeros(10_000)}}, path)
    path.write_bytes(path.read_bytes()[:20_000])


def words(path: Path) -> None:
    path.write_text("<html>You need to log in</html>")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("write_bad", [malicious, bare_pickle, truncated, words, empty])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_checkpoint_or_more_than_that_is_refused_in_one_sentence(cache_folder, write_bad, suffix):
    path = cache_folder / f"bad{suffix}"
    write_bad(path)
    result = run("add", path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"freezeframe: {path}: ")
    assert len(result.stderr.splitlines()) == 1
    assert not (cache_folder / "mark").exists(), "nothing in it was run"
    assert not weights_cache.installed()
    assert CliRunner().invoke(cli.app, ["restore", str(path), "x.png", "--model", str(path)]).exit_code == 2
    assert not (cache_folder / "mark").exists()


def test_what_is_absent_or_unknown_is_said():
    assert "there is no such checkpoint file" in run("add", "absent.pth").stderr
    result = run("fetch", "swinir-colour-noise25")
    assert result.exit_code == 2
    assert "did you mean swinir-color-noise25" in result.stderr
    assert "models list" in run("info", "no-such-net").stderr
    manual_hint = run("fetch", "nafnet-gopro-64")
    assert manual_hint.exit_code == 2
    assert "models add NAFNet-GoPro-width64.pth" in manual_hint.stderr


def test_the_ledger_may_be_lost(checkpoint):
    run("add", checkpoint)
    (weights_cache.weights_folder() / weights_cache.MANIFEST).write_text("{ not json")
    assert weights_cache.find("mine").name == "mine"
    assert weights_cache.read_manifest()["mine.pth"]["sha256"]


def test_a_file_that_was_only_touched_is_still_the_same(checkpoint):
    run("add", checkpoint)
    installed_path = weights_cache.weights_folder() / "mine.pth"
    os.utime(installed_path, ns=(0, 0))
    assert weights_cache.find("mine").path == installed_path
    assert weights_cache.read_manifest()["mine.pth"]["changed"] == 0, (
        "so that it is not read whole the next time"
    )
