"""Parsing of commands: the output as argument or option, one definition of shared options, plain help."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from freezeframe import cli
from freezeframe.data.errors import UnwritableOutput
from freezeframe.pipeline.commands.terminal.clip_options import ClipOptions
from freezeframe.pipeline.commands.terminal.parser import select_output


def commands(group=None, words=()):
    """Every command with its words on the command line."""
    for name, command in (group or get_command(cli.app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))
        yield (*words, name), command


COMMANDS = dict(commands())


def test_an_output_may_be_named_in_either_place():
    a, b = Path("a"), Path("b")
    assert select_output(a, None) == select_output(None, a) == select_output(a, a) == a
    with pytest.raises(UnwritableOutput, match="--output names b"):
        select_output(a, b)
    with pytest.raises(UnwritableOutput, match="no output"):
        select_output(None, None)


@pytest.mark.parametrize("name", [".", "/", ""])
def test_a_place_without_a_name_is_no_output(name):
    with pytest.raises(UnwritableOutput, match="name a file or a new folder"):
        select_output(Path(name), None)
    assert select_output(Path(name), None, folder=True) == Path(name)


WRITERS = [
    words
    for words, command in COMMANDS.items()
    if {"output", "out", "out_dir"} & {param.name for param in command.params}
]


@pytest.mark.parametrize("words", WRITERS, ids=" ".join)
def test_every_command_that_writes_knows_o(words):
    flags = {flag for param in COMMANDS[words].params for flag in param.opts}
    assert {"-o", "--output"} <= flags


WITH_DEFAULT = {"bench", "demo", "burst"}  # a folder of their own, or an option that is required


def test_burst_and_bench_keep_the_name_that_they_had():
    for name in ("burst", "bench", "demo"):
        assert "--out" in {flag for param in COMMANDS[name,].params for flag in param.opts}


def test_batch_takes_what_video_takes():
    """One definition: the same flags, defaults and help texts."""

    def shared(name):
        names = {field.name for field in fields(ClipOptions)}
        return {p.name: (p.opts, p.default, p.help) for p in COMMANDS[name,].params if p.name in names}

    assert shared("video") == shared("batch")
    assert len(shared("video")) == len(fields(ClipOptions))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_shows_what_to_type_and_not_types_of_python(words):
    page = CliRunner().invoke(cli.app, [*words, "--help"], env={"COLUMNS": "200"}).output
    assert "--help" in page
    assert not re.findall(r"<(?:path|str|bool|int|float|list|tuple)[^>]*>", page)


def test_a_configuration_survives_the_way_to_another_process():
    """`batch` passes its options as a command line: parsed again they are equal."""
    words = [
        "--start", "1:30.5", "--end", "100", "--fps", "30000/1001", "--budget", "90s", "--codec", "x265",
        "--quality", "20", "--min-blur", "2.5", "--strength", "0.5", "--radius", "1", "--network", "none",
        "--skip-damaged", "--restorer", "nafnet", "--splat", "auto", "--adapt", "1.5", "--shutter", "0.25",
    ]  # fmt: skip
    options = parsed(words)
    assert options == ClipOptions(
        start=90.5, end=100.0, fps=options.fps, budget=1.5, codec="hevc", quality=20.0, min_blur=2.5,
        strength=0.5, radius=1, network="none", skip_damaged=True, restorer=Path("nafnet"), splat="auto",
        adapt=1.5, shutter=0.25,
    )  # fmt: skip
    assert parsed(options.to_arguments()) == options
    assert parsed(ClipOptions().to_arguments()) == ClipOptions()


def parsed(words: list[str]) -> ClipOptions:
    command = COMMANDS["video",]
    params = command.make_context("video", ["in.mp4", "out.mp4", *words]).params
    return ClipOptions(**{field.name: params[field.name] for field in fields(ClipOptions)})


@pytest.mark.parametrize(
    ("word", "command_name"),
    [("clip.mp4", "video"), ("holiday.JPG", "restore"), ("{folder}", "video"), ("{clip}", "video")],
)
def test_a_file_where_a_command_belongs_is_answered_with_the_command(word, command_name, tmp_path):
    clip = tmp_path / "no suffix"
    clip.touch()
    word = word.format(folder=tmp_path, clip=clip)
    result = CliRunner().invoke(cli.app, [word, "more"], env={"COLUMNS": "400"})
    assert result.exit_code == 2
    assert f"freezeframe {command_name} {word} OUTPUT" in result.stderr


@pytest.mark.parametrize("words", [words for words in WRITERS if words[0] not in WITH_DEFAULT], ids=" ".join)
def test_an_output_that_is_not_named_is_asked_for_in_one_sentence(words, tmp_path):
    source = [str(tmp_path)] * any(p.name in {"source", "photos", "in_dir"} for p in COMMANDS[words].params)
    result = CliRunner().invoke(cli.app, [*words, *source])
    assert result.exit_code == 2
    assert result.stderr == "freezeframe: no output is named; write it as the last argument or after -o\n"


def test_a_misspelt_command_is_still_answered_with_the_nearest():
    assert "'video'" in CliRunner().invoke(cli.app, ["vidoe"]).stderr
