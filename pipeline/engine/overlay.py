"""What commands have changed of a configuration, as a layer over its file.

A change is a field of a stream with the value that it has now, who gave it that, and what the file
said then: where the file says something else by now, both have changed it, which is a conflict.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, cast

import yaml
from pydantic import BaseModel, Field, JsonValue, SecretStr, ValidationError
from pydantic_core import to_jsonable_python

from pipeline.config.loading import dotted_field
from pipeline.config.run import RunConfig
from pipeline.config.sections.stream import StreamConfig
from pipeline.errors import StateError
from pipeline.fields import Name, StrictModel
from pipeline.records.base import UtcTime
from pipeline.records.command import AnyCommand, CommandResult, Reload, StreamCommand
from pipeline.streams.result import Revisions

_PRESENT = "present"  # whether the stream is there at all
_NOTHING = object()  # equals no value of a file
_MAX_COMMANDS = 256  # of which the answers are kept: retries come within minutes
_MAX_BYTES = 16 * 1024 * 1024
_HEAD = "# What commands have changed; the configuration file is the base. Holds passwords.\n"
_MEND = "what this program has written, or no such file: then the configuration file alone counts"


class Change(StrictModel):
    """One field of one stream."""

    stream_id: Name
    field: str
    """Of the stream's configuration, or ``present``."""
    value: JsonValue
    """What it is now."""
    base: str
    """Digest of what the file said when it was changed."""
    command_id: str
    issued_by: str
    issued_at: UtcTime


class Answered(StrictModel):
    """A command that was carried out or refused."""

    digest: str
    """Of the command, so that another one under its id is noticed."""
    result: CommandResult


class Overlay(StrictModel):
    """All changes, and the answers to the last commands."""

    version: Literal[1] = 1
    revision: Annotated[int, Field(ge=0)] = 0
    """Grows with each change of what is looked for, of rules or zones."""
    revisions: dict[str, Revisions] = Field(default={})
    """By stream: its last changes."""
    changes: tuple[Change, ...] = ()
    answered: Annotated[tuple[Answered, ...], Field(max_length=_MAX_COMMANDS)] = ()
    """Oldest first."""

    def changed(
        self,
        command: StreamCommand,
        *,
        file: StreamConfig | None,
        before: StreamConfig | None,
        now: StreamConfig | None,
    ) -> "Overlay":
        """Return the overlay behind a command.

        Args:
            command: What was carried out.
            file: Its stream as the configuration file has it; ``None``: it has none.
            before: The stream as it was to be.
            now: The stream as it is to be; ``None``: there is to be none.
        """
        revised = self._revised(command.stream_id, before, now)
        changes = self._changes_with(command, file, now)
        return revised.model_copy(update={"changes": tuple(changes)})

    def _revised(
        self, stream_id: str, before: StreamConfig | None, now: StreamConfig | None
    ) -> "Overlay":
        """Return the overlay with other revisions of a stream, if what they number has changed."""
        others = {name: one for name, one in self.revisions.items() if name != stream_id}
        if now is None:
            return self.model_copy(update={"revisions": others})
        is_prompt = before is None or before.concepts != now.concepts
        is_rule = before is None or (before.rules, before.zones) != (now.rules, now.zones)
        if not is_prompt and not is_rule:
            return self
        known, number = self.revisions.get(stream_id, Revisions()), self.revision + 1
        revisions = Revisions(
            prompt=number if is_prompt else known.prompt, rule=number if is_rule else known.rule
        )
        news = {"revision": number, "revisions": {**others, stream_id: revisions}}
        return self.model_copy(update=news)

    def _changes_with(
        self, command: StreamCommand, file: StreamConfig | None, now: StreamConfig | None
    ) -> list[Change]:
        stream_id = command.stream_id
        before = {one.field: one for one in self.changes if one.stream_id == stream_id}
        said, wanted = _fields_of(file), _fields_of(now)
        fields = wanted if now is not None else {_PRESENT: wanted[_PRESENT]}
        changes = [one for one in self.changes if one.stream_id != stream_id]
        for name, value in fields.items():
            known = before.get(name)
            if name in said and said[name] == value:
                continue
            if known is not None and known.value == value:
                changes.append(known)
                continue
            changes.append(
                Change(
                    stream_id=stream_id,
                    field=name,
                    value=value,
                    base=digest_of(said.get(name)),
                    command_id=command.command_id,
                    issued_by=command.issued_by,
                    issued_at=command.issued_at,
                )
            )
        return changes

    def over(self, file: RunConfig, *, before: RunConfig, now: RunConfig) -> "Overlay":
        """Return the overlay over another file; what that says by itself is no change any more.

        Args:
            file: The file as it is now.
            before: What held before.
            now: What holds now.
        """
        said = {stream.id: _fields_of(stream) for stream in file.streams}
        nothing = _fields_of(None)
        changes = tuple(
            one
            for one in self.changes
            if said.get(one.stream_id, nothing).get(one.field, _NOTHING) != one.value
        )
        overlay = self.model_copy(update={"changes": changes})
        old, new = ({one.id: one for one in config.streams} for config in (before, now))
        for stream_id in dict.fromkeys((*old, *new)):
            overlay = overlay._revised(stream_id, old.get(stream_id), new.get(stream_id))  # noqa: SLF001 - its own
        return overlay

    def without(self, conflicts: Sequence[Change]) -> "Overlay":
        """Return the overlay without some of its changes."""
        changes = tuple(one for one in self.changes if one not in conflicts)
        return self.model_copy(update={"changes": changes})

    def answer(self, command: AnyCommand, result: CommandResult) -> "Overlay":
        """Return the overlay with the answer to a command; the oldest answers are forgotten."""
        answered = Answered(digest=_digest_of_command(command), result=result)
        return self.model_copy(update={"answered": (*self.answered, answered)[-_MAX_COMMANDS:]})

    def find_answer(self, command: AnyCommand) -> CommandResult | None:
        """Return what a command was answered before; ``None``: it is new.

        Raises:
            KeyError: If another command had its id.
        """
        for one in self.answered:
            if one.result.command_id == command.command_id:
                if one.digest != _digest_of_command(command):
                    raise KeyError(command.command_id)
                return one.result
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A configuration file with an overlay on it.

    Attributes:
        config: What holds.
        conflicts: Changes of fields that the file has changed as well since; they hold.
    """

    config: RunConfig
    conflicts: tuple[Change, ...] = ()


def merge(file: RunConfig, overlay: Overlay, *, path: Path) -> Merged:
    """Return a configuration with the changes of an overlay; a conflict leaves the change.

    Args:
        file: The configuration file.
        overlay: What has changed.
        path: Where that is written, for errors.

    Raises:
        StateError: If they do not fit together.
    """
    if not overlay.changes:
        return Merged(config=file)
    streams = {stream.id: stream for stream in file.streams}
    conflicts: list[Change] = []
    for stream_id in dict.fromkeys(one.stream_id for one in overlay.changes):
        stream = streams.get(stream_id)
        said, news = _fields_of(stream), dict[str, JsonValue]()
        for one in overlay.changes:
            if one.stream_id != stream_id:
                continue
            news[one.field] = one.value
            is_same = one.field in said and said[one.field] == one.value
            if not is_same and digest_of(said.get(one.field)) != one.base:
                conflicts.append(one)
        if not news.pop(_PRESENT, stream is not None):
            streams.pop(stream_id, None)
            continue
        given = {} if stream is None else dict(stream)
        try:
            streams[stream_id] = StreamConfig.model_validate({**given, "id": stream_id, **news})
        except ValidationError as error:
            raise _unfit(path, error, StreamConfig, f"stream {stream_id!r}: ") from None
    try:
        config = with_streams(file, tuple(streams.values()))
    except ValidationError as error:
        raise _unfit(path, error, RunConfig) from None
    return Merged(config=config, conflicts=tuple(conflicts))


def with_streams(config: RunConfig, streams: Sequence[StreamConfig]) -> RunConfig:
    """Return a configuration with other streams. Raises ``ValidationError`` if they do not fit."""
    return RunConfig.model_validate({**dict(config), "streams": tuple(streams)})


def read_overlay(path: Path) -> Overlay:
    """Return the overlay in a file; an empty one if there is none.

    Raises:
        StateError: If it cannot be read, or is damaged.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES)
        return Overlay.model_validate(yaml.load(content, Loader=_LOADER))  # noqa: S506  a safe one
    except FileNotFoundError:
        return Overlay()
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        raise StateError(path=path, reason=reason, accepted=_MEND) from error
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, ValidationError):
            raise _unfit(path, error, Overlay) from None
        raise StateError(path=path, reason="is not YAML", accepted=_MEND) from error


def dump_overlay(overlay: Overlay) -> bytes:
    """Return an overlay as the bytes of its file."""
    text = yaml.dump(overlay.model_dump(mode="json"), Dumper=_DUMPER, sort_keys=False, width=100)
    return (_HEAD + text).encode()


# In C where there is one: 256 answers take 6 ms instead of 60.
_LOADER = cast("type[yaml.SafeLoader]", getattr(yaml, "CSafeLoader", yaml.SafeLoader))
_DUMPER = cast("type[yaml.SafeDumper]", getattr(yaml, "CSafeDumper", yaml.SafeDumper))


def digest_of(value: JsonValue) -> str:
    """Return a short name for a value; equal values have the same."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _digest_of_command(command: AnyCommand) -> str:
    # Who sends it again, and when, makes no other command of it.
    about = None if isinstance(command, Reload) else command.stream_id
    return digest_of([command.command, about, _plain(command.args)])


def _fields_of(stream: StreamConfig | None) -> dict[str, JsonValue]:
    """Return a stream's fields as they are written down."""
    if stream is None:
        return {_PRESENT: False}
    plain = cast("dict[str, JsonValue]", _plain(stream))
    del plain["id"]
    return {_PRESENT: True, **plain}


def _plain(value: object) -> JsonValue:
    """Return a value of a configuration as JSON, its secrets too."""
    match value:
        case BaseModel():
            names = type(value).model_fields
            return {name: _plain(getattr(value, name)) for name in names}
        case dict():
            items = cast("dict[object, object]", value).items()
            return {str(key): _plain(item) for key, item in items}
        case tuple() | list():
            return [_plain(item) for item in cast("Sequence[object]", value)]
        case SecretStr():
            return value.get_secret_value()
        case _:
            return cast("JsonValue", to_jsonable_python(value))


def _unfit(
    path: Path, error: ValidationError, root: type[BaseModel], where: str = ""
) -> StateError:
    first = error.errors(include_input=False, include_url=False)[0]
    field = dotted_field(first["loc"], root)
    reason = f"{where}{field or 'config'}: {first['msg'].removeprefix('Value error, ')}"
    return StateError(path=path, reason=reason, accepted=_MEND)
