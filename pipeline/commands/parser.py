"""How a command reads its words: an output in either place, options as a dataclass, --help in plain words."""

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
    """Where the result goes, named as an argument or by `--output`; a folder may be the current one."""
    if argument and option and argument != option:
        raise UnwritableOutput(f"{argument}: --output names {option} instead; name one output")
    path = argument or option
    if path is None:
        raise UnwritableOutput("no output is named; write it as the last argument or after -o")
    # An empty word is `.` to Path; neither has a name to write a result under.
    if not path.name and not folder:
        raise UnwritableOutput(f"{path}: is not a name for an output; name a file or a new folder")
    return path


def expand_option_groups(command: Callable[..., Any]) -> Callable[..., Any]:
    """`command` with each parameter that is a dataclass of options replaced by those options."""
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
    wrapper.__dict__.pop("__wrapped__")  # else the signature would be looked for there
    wrapper.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {option.name: option.annotation for option in options}
    return wrapper


def _group_parameters(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [_parameter(field.name, hints[field.name], field.default) for field in fields(kind)]


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


class Command(TyperCommand):
    """A command whose --help shows what to type and not Python's types."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, each with a word for its value."""
        return [_set_metavar(param, ctx) for param in super().get_params(ctx)]


class Group(TyperGroup):
    """Several commands, with a --help like theirs."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, each with a word for its value."""
        return [_set_metavar(param, ctx) for param in super().get_params(ctx)]


class Commands(Group):
    """The commands of `freezeframe`; who names a clip where a command belongs is told what to type."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first word names."""
        if args and args[0] not in self.commands and (suggestion := suggest_command(Path(args[0]))):
            ctx.fail(f"{args[0]!r} is not a command; did you mean: freezeframe {suggestion} {args[0]} OUTPUT")
        return super().resolve_command(ctx, args)


def suggest_command(path: Path) -> str | None:
    """The command for a clip, a folder or a photo; None for what is none of these."""
    suffix = path.suffix.lower()
    if suffix in PHOTO_SUFFIXES:
        return "restore"
    return "video" if suffix in VIDEO_SUFFIXES or path.exists() else None


def _set_metavar(param: Any, ctx: Any) -> Any:
    """Versions of Typer that show types have `display_type_rich`; the others show words anyway."""
    if not hasattr(param, "display_type_rich"):
        return param
    if param.param_type_name == "argument":
        param.metavar = param.metavar or param.name.upper()
        param.display_type_rich = lambda ctx: ""  # the name says it
    elif param.metavar is None:
        param.metavar = METAVARS.get(param.display_type_rich(ctx))
    return param
