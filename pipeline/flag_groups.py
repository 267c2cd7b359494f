"""Flags that several commands share, declared once."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any, cast, get_type_hints


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
