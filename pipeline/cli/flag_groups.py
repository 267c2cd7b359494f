"""Flags of a command as dataclasses, and flags that a call has no use for."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any, cast, get_type_hints

import typer

from pipeline.errors import ConfigError


def with_flag_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups of flags: dataclasses whose fields are annotated for typer.

    To typer every field is a parameter of the command; the command gets the filled dataclass.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    members: dict[str, list[str]] = {}
    for parameter in inspect.signature(command).parameters.values():
        group = groups.get(parameter.name)
        if group is None:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        flags = _flags_of(group)
        members[parameter.name] = [flag.name for flag in flags]
        parameters += flags

    @wraps(command)
    def run(**given: object) -> None:
        filled = {
            name: cast("Any", groups[name])(**{flag: given.pop(flag) for flag in flags})
            for name, flags in members.items()
        }
        command(**given, **filled)

    # typer reads both.
    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def refuse_unfit(context: typer.Context, chosen: str, fits: Mapping[str, Collection[str]]) -> None:
    """Refuse flags that are given but mean nothing in the way in which a command is used.

    Args:
        context: Of the command.
        chosen: The way; a key of ``fits``.
        fits: Of each way, as people would write it, the parameters that it knows and others do not.

    Raises:
        ConfigError: If there are any; names them and the ways they go with.
    """
    unfit = {name for names in fits.values() for name in names} - set(fits[chosen])
    given: dict[tuple[str, ...], list[str]] = {}
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in unfit and _is_given(context, name):
            ways = tuple(way for way, names in fits.items() if name in names)
            given.setdefault(ways, []).append(parameter.opts[0])
    if given:
        raise ConfigError(
            [
                f"{', '.join(flags)}: not with {chosen} (accepted: {', '.join(ways)})"
                for ways, flags in given.items()
            ]
        )


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and not source.name.startswith("DEFAULT")


def _flags_of(group: Any) -> list[inspect.Parameter]:  # noqa: ANN401 - any dataclass
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]
