"""Parsing of a command: an output as argument or option, options as a dataclass, plain metavars in --help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Any, get_type_hints

from typer.core import TyperCommand, TyperGroup

from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.files.suffixes import PHOTO_SUFFIXES, VIDEO_SUFFIXES

METAVARS = {
    "<path>": "PATH", "<str>": "TEXT", "<bool>": "",
    "<int>": "N", "<int range>": "N", "<float>": "NUMBER", "<float range>": "NUMBER",
}  # fmt: skip


def select_output(argument: Path | None, option: Path | None, *, folder: bool = False) -> Path:
    """The output path, given as an argument or by `--output`; a folder may be the current one.

    Raises:
        UnwritableOutput: None or two are given, or the path has no name.
    """
    if argument and option and argument != option:
        raise UnwritableOutput(f"{argument}: --output names {option} instead; name one output")
    path = argument or option
    if path is None:
        raise UnwritableOutput("no output is named; write it as the last argument or after -o")
    # Path("") is Path("."); neither has a name for a result.
    if not path.name and not folder:
        raise UnwritableOutput(f"{path}: is not a name for an output; name a file or a new folder")
    return path


def expand_option_groups(command: Callable[..., Any]) -> Callable[..., Any]:
    """Replace each parameter of `command` that is a dataclass of options by the options themselves."""
    signature, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    groups = {name: hints[name] for name in signature.parameters if is_dataclass(hints[name])}

    @wraps(command)
    def wrapper(**kwargs: Any) -> Any:
        instances = {
            name: kind(**{field.name: kwargs.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        return command(**kwargs, **instances)

    options: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        options += (
            _group_parameters(groups[name])
            if name in groups
            else [_parameter(name, hints[name], parameter.default)]
        )
    wrapper.__dict__.pop("__wrapped__")  # else `inspect` would read the signature of `command`
    wrapper.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {option.name: option.annotation for option in options}
    return wrapper


def _group_parameters(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [_parameter(field.name, hints[field.name], field.default) for field in fields(kind)]


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


class Command(TyperCommand):
    """A command whose --help shows metavars such as PX instead of Python types."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, each with a metavar."""
        return [_set_metavar(param, ctx) for param in super().get_params(ctx)]


class Group(TyperGroup):
    """A group of commands with the same --help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, each with a metavar."""
        return [_set_metavar(param, ctx) for param in super().get_params(ctx)]


class Commands(Group):
    """The commands of `freezeframe`. A path in place of a command is answered with the command to type."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command named by the first word."""
        if args and args[0] not in self.commands and (suggestion := suggest_command(Path(args[0]))):
            ctx.fail(f"{args[0]!r} is not a command; did you mean: freezeframe {suggestion} {args[0]} OUTPUT")
        return super().resolve_command(ctx, args)


def suggest_command(path: Path) -> str | None:
    """The command for a clip, a folder or a photo; None for any other path."""
    suffix = path.suffix.lower()
    if suffix in PHOTO_SUFFIXES:
        return "restore"
    return "video" if suffix in VIDEO_SUFFIXES or path.exists() else None


def _set_metavar(param: Any, ctx: Any) -> Any:
    """Only versions of Typer that show types have `display_type_rich`; the others show metavars already."""
    if not hasattr(param, "display_type_rich"):
        return param
    if param.param_type_name == "argument":
        param.metavar = param.metavar or param.name.upper()
        param.display_type_rich = lambda ctx: ""  # the name suffices
    elif param.metavar is None:
        param.metavar = METAVARS.get(param.display_type_rich(ctx))
    return param
