"""docs/reference/cli.md from the commands themselves: arguments, options, ranges, defaults and help texts.

Run: python -m benchmarks.release.cli_reference > docs/reference/cli.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from freezeframe import cli

HEAD = """# Command line reference

Generated from the help texts by `python -m benchmarks.release.cli_reference > docs/reference/cli.md`. Options
that several commands share are explained in [the command line](../user/command-line.md). Values in brackets
are defaults.
"""


def render_page() -> str:
    """The page as Markdown: one section per command."""
    sections = (
        _section(words, command) for words, command in _commands(get_command(cli.app), ("freezeframe",))
    )
    return "\n".join([HEAD, *sections])


def _commands(group: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield (*words, name), command
        if hasattr(command, "commands"):
            yield from _commands(command, (*words, name))


def _section(words: tuple[str, ...], command: Any) -> str:
    params = command.get_params(command.context_class(command, info_name=words[-1]))
    params = [param for param in params if param.name != "help"]
    arguments = [param for param in params if param.param_type_name == "argument"]
    usage = " ".join([*words, *map(_usage, arguments)])
    lines = [f"## {' '.join(words)}", "", " ".join(command.help.split()), "", f"    {usage}", ""]
    if params:
        lines += ["| argument, option | value | meaning |", "|---|---|---|", *map(_row, params), ""]
    return "\n".join(lines)


def _usage(param: Any) -> str:
    name = _metavar(param) + "..." * (param.nargs == -1)
    return name if param.required else f"[{name}]"


def _row(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"| {_metavar(param)} | | {_escape(param.help)} |"
    default = param.default
    is_set = default is not None and default is not False
    shown = is_set and not param.required and "default" not in (param.help or "")
    default_text = " x ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    meaning = _escape(param.help or "") + f" [{default_text}]" * shown
    names = ", ".join(f"`{name}`" for name in param.opts)
    value = _escape(_metavar(param) + _limits(param))
    return f"| {names} | {value} | {meaning} |".replace("|  |", "| |")


def _metavar(param: Any) -> str:
    if param.param_type_name == "argument":
        return str(param.metavar or param.name).upper()
    text = param.metavar if param.metavar is not None else param.display_type_rich(None)
    return str(text).strip("<>").replace("|", ", ")


def _limits(param: Any) -> str:
    bounds = getattr(param, "type", None) or param.type_descriptor.parameter_info
    low, high = getattr(bounds, "min", None), getattr(bounds, "max", None)
    if low is None:
        return ""
    return f", {low:g} or more" if high is None else f", {low:g} to {high:g}"


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    sys.stdout.write(render_page())
