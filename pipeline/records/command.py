"""Commands: what a running engine can be asked for, by whatever door, and what it answers.

A command is ``{command_id, command, stream_id, args, issued_by, issued_at}``; ``command`` says what
``args`` holds. Unknown fields are errors.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self, cast, get_args

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from pipeline.config.loading import dotted_field
from pipeline.config.sections.stream import ConceptConfig, StreamConfig
from pipeline.events.rules.union import RuleConfig
from pipeline.events.zones import ZoneConfig
from pipeline.fields import Name, Phrase, StrictModel
from pipeline.records.base import Open, RecordModel, UtcTime

# The pipeline's errors end with the first, those of connectors with the second.
_ACCEPTED = re.compile(r"^(.*?)(?: \(accepted: (.*)\)|; accepted: (.*))$", re.DOTALL)


class _Issued(StrictModel):
    """Fields of every command."""

    command_id: Annotated[str, Field(min_length=1, max_length=120)]
    """Chosen by whoever issues it. A command that comes again under its id is not carried out
    again: it gets the answer that it had."""
    issued_by: Annotated[str, Field(min_length=1, max_length=200)]
    """Who asked for it; stands beside what it has changed."""
    issued_at: UtcTime
    """When."""


class BaseCommand(_Issued):
    """Fields of every command about a stream."""

    stream_id: Name
    """The stream that it is about."""


class NoArgs(StrictModel):
    """A command that needs no more than its stream."""


class _StreamCommand(BaseCommand):
    args: StreamConfig
    """The whole stream, as in the configuration; its ``id`` may be left out."""

    @model_validator(mode="before")
    @classmethod
    def _name(cls, data: object) -> object:
        fields = _as_fields(data)
        args = None if fields is None else _as_fields(fields.get("args"))
        if fields is None or args is None or "id" in args:
            return data
        return {**fields, "args": {"id": fields.get("stream_id"), **args}}

    @model_validator(mode="after")
    def _check_name(self) -> Self:
        if self.args.id != self.stream_id:
            raise ValueError(
                f"args.id {self.args.id!r} is another stream (accepted: {self.stream_id!r})"
            )
        return self


class AddStream(_StreamCommand):
    """Begin a stream."""

    command: Literal["add_stream"] = "add_stream"


class ChangeStream(_StreamCommand):
    """Give a stream another configuration. Its source is left alone if that stays as it is."""

    command: Literal["change_stream"] = "change_stream"


class RemoveStream(BaseCommand):
    """End a stream and its source."""

    command: Literal["remove_stream"] = "remove_stream"
    args: NoArgs = NoArgs()


class SetRulesArgs(StrictModel):
    """All rules of a stream."""

    rules: Annotated[tuple[RuleConfig, ...], Field(max_length=200)]
    """In place of those before; rules that stay as they were go on as if nothing had happened."""


class SetRules(BaseCommand):
    """Give a stream other rules."""

    command: Literal["set_rules"] = "set_rules"
    args: SetRulesArgs


class SetZonesArgs(StrictModel):
    """All zones of a stream."""

    zones: Annotated[tuple[ZoneConfig, ...], Field(max_length=200)]
    """In place of those before; rules about zones that stay as they were go on."""


class SetZones(BaseCommand):
    """Give a stream other zones."""

    command: Literal["set_zones"] = "set_zones"
    args: SetZonesArgs


class AddConcept(BaseCommand):
    """Look for one thing more on a stream, from its next frame on."""

    command: Literal["add_concept"] = "add_concept"
    args: ConceptConfig
    """A phrase, and an id and a name if it is to have others than those made of it."""


class RenameConceptArgs(StrictModel):
    """A concept's other name."""

    concept_id: str
    """The concept."""
    name: Phrase
    """What records call it; what is looked for stays."""


class RenameConcept(BaseCommand):
    """Call a concept otherwise; its tracks go on."""

    command: Literal["rename_concept"] = "rename_concept"
    args: RenameConceptArgs


class RemoveConceptArgs(StrictModel):
    """A concept."""

    concept_id: str
    """The concept."""


class RemoveConcept(BaseCommand):
    """Look for a concept no more: its tracks and their events end, all others go on."""

    command: Literal["remove_concept"] = "remove_concept"
    args: RemoveConceptArgs


class PauseStream(BaseCommand):
    """Look at a stream no more for now; its tracks and events wait."""

    command: Literal["pause_stream"] = "pause_stream"
    args: NoArgs = NoArgs()


class ResumeStream(BaseCommand):
    """Look at a stream again."""

    command: Literal["resume_stream"] = "resume_stream"
    args: NoArgs = NoArgs()


class ReloadArgs(StrictModel):
    """Who wins where the file and a command have changed the same."""

    force: bool = False
    """The file wins. Otherwise such a conflict is named, and nothing is applied."""


class Reload(_Issued):
    """Read the configuration file again, and apply what differs of its streams."""

    command: Literal["reload"] = "reload"
    args: ReloadArgs = ReloadArgs()


StreamCommand = (
    AddStream
    | ChangeStream
    | RemoveStream
    | AddConcept
    | RenameConcept
    | RemoveConcept
    | SetRules
    | SetZones
    | PauseStream
    | ResumeStream
)
AnyCommand = StreamCommand | Reload
Command = Annotated[AnyCommand, Field(discriminator="command")]
COMMAND: TypeAdapter[AnyCommand] = TypeAdapter(Command)

_BY_NAME = {kind.model_fields["command"].default: kind for kind in get_args(AnyCommand)}
COMMAND_NAMES = tuple(_BY_NAME)


def _as_fields(value: object) -> dict[str, object] | None:
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


class CommandErrorType(StrEnum):
    """Why a command was not carried out."""

    INVALID = "invalid"
    """Something in it, or the configuration that it would lead to, is not accepted."""
    UNKNOWN_STREAM = "unknown_stream"
    """No stream of that name is configured."""
    UNKNOWN_CONCEPT = "unknown_concept"
    """The stream has no concept of that id."""
    MODEL_REFUSED = "model_refused"
    """The model does not look for that."""
    STREAM_EXISTS = "stream_exists"
    """A stream of that name runs already."""
    STREAM_LIMIT = "stream_limit"
    """There are as many streams as the configuration allows."""
    CONFLICT = "conflict"
    """A command and the configuration file have changed the same field."""
    ID_TAKEN = "id_taken"
    """Another command has had this ``command_id``."""
    BUSY = "busy"
    """Too many commands wait; nothing was done, and the same command may be sent again."""
    STOPPED = "stopped"
    """The run has ended; nothing was done."""
    INTERNAL = "internal"
    """A bug; the log says more."""


class CommandError(RecordModel):
    """Why a command was not carried out; nothing has changed then."""

    type: Open[CommandErrorType]
    """Kind of error."""
    field: str | None = None
    """What of the command is at fault, for example ``args.rules[0].zone``."""
    message: str
    """What is wrong with it, for people."""
    accepted: str | None = None
    """What would be accepted."""


def command_error(kind: CommandErrorType, text: str, *, field: str | None = None) -> CommandError:
    """Return the error of a text that may end with ``(accepted: …)``."""
    found = _ACCEPTED.match(text)
    if found is None:
        return CommandError(type=kind, field=field, message=text)
    message, accepted = found[1], found[2] or found[3]
    return CommandError(type=kind, field=field, message=message, accepted=accepted)


def invalid_error(error: ValidationError, root: type[StrictModel]) -> CommandError:
    """Return the first of what pydantic does not accept in a model."""
    first = error.errors(include_input=False, include_url=False)[0]
    text = first["msg"].removeprefix("Value error, ")
    field = dotted_field(first["loc"], root) or None
    return command_error(CommandErrorType.INVALID, text, field=field)


class FirstFrame(RecordModel):
    """A frame of a stream."""

    stream_epoch: Annotated[int, Field(ge=0)]
    """Its epoch, or an earlier one."""
    frame_seq: Annotated[int, Field(ge=0)]
    """Its number."""


class CommandResult(RecordModel):
    """What became of a command."""

    command_id: str
    """The command's."""
    ok: bool
    """Whether it was carried out."""
    error: CommandError | None = None
    """Why not."""
    first_frame: FirstFrame | None = None
    """It holds for all frames of its stream from this one on. Null: for all that come."""
    is_kept: bool = False
    """Whether it holds after a restart as well: it is on disk."""
    worker: str | None = None
    """Name of the process that carried it out."""


class CommandRefusedError(ValueError):
    """What was sent is no command; ``error`` says why."""

    def __init__(self, error: CommandError) -> None:
        super().__init__(error.message)
        self.error = error


def parse_command(body: Mapping[str, object]) -> AnyCommand:
    """Return the command that a JSON object is.

    Raises:
        CommandRefusedError: If it is none.
    """
    name = body.get("command")
    kind = _BY_NAME.get(name) if isinstance(name, str) else None
    if kind is None:
        text = f"unknown command {name!r} (accepted: {', '.join(COMMAND_NAMES)})"
        error = command_error(CommandErrorType.INVALID, text, field="command")
        raise CommandRefusedError(error)
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise CommandRefusedError(invalid_error(error, kind)) from None
