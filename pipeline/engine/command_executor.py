"""Carries out commands: what is asked for is checked whole, done, and written down."""

import logging
from collections.abc import Iterable
from concurrent.futures import Future

from pydantic import ValidationError

from models.protocols import DeviceLostError
from pipeline.config.run import RunConfig
from pipeline.config.sections.stream import StreamConfig
from pipeline.engine.control import StreamControl
from pipeline.engine.desired_state import DesiredState
from pipeline.engine.inbox import ExecuteCommand, Inbox, Message
from pipeline.engine.overlay import with_streams
from pipeline.engine.stream_table import RunningStream, StreamTable
from pipeline.errors import (
    ConceptError,
    ConfigError,
    MaskstreamError,
    StreamExistsError,
    StreamLimitError,
    UnknownStreamError,
)
from pipeline.records.command import (
    AddConcept,
    AddStream,
    AnyCommand,
    ChangeStream,
    CommandError,
    CommandErrorType,
    CommandRefusedError,
    CommandResult,
    FirstFrame,
    PauseStream,
    Reload,
    RemoveConcept,
    RemoveStream,
    RenameConcept,
    ResumeStream,
    SetRules,
    SetZones,
    StreamCommand,
    command_error,
    invalid_error,
)

_logger = logging.getLogger("maskstream.commands")

_MAX_WAITING = 256  # messages in the inbox; a step drains them all, so that many mean a long step
_TYPES: dict[type[MaskstreamError], CommandErrorType] = {
    UnknownStreamError: CommandErrorType.UNKNOWN_STREAM,
    StreamExistsError: CommandErrorType.STREAM_EXISTS,
    StreamLimitError: CommandErrorType.STREAM_LIMIT,
    ConceptError: CommandErrorType.MODEL_REFUSED,
}


class CommandExecutor:
    """The one way by which a running engine is changed.

    All but :meth:`post` is used by the engine's thread alone.

    Args:
        control: Lets streams enter, change and leave.
        table: The streams.
        desired: What there is to be.
        inbox: The engine's.
    """

    def __init__(
        self, control: StreamControl, table: StreamTable, desired: DesiredState, inbox: Inbox
    ) -> None:
        self._control = control
        self._table = table
        self._desired = desired
        self._inbox = inbox
        self._worker = desired.config.worker

    def post(self, command: AnyCommand) -> "Future[CommandResult]":
        """Have a command carried out at the next step; any thread may, and never waits here."""
        future: Future[CommandResult] = Future()
        error, file = _find_fault(command), None
        if isinstance(command, Reload):
            try:
                file = self._desired.read_file()
            except ConfigError as invalid:
                error = command_error(CommandErrorType.INVALID, str(invalid), field="args")
        if error is None and self._inbox.num_waiting >= _MAX_WAITING:
            text = "too many commands wait (accepted: the same one later)"
            error = command_error(CommandErrorType.BUSY, text)
        if error is not None:
            future.set_result(self._refusal(command, error))
        elif not self._inbox.post(
            ExecuteCommand(command=command, answer=future, file=file), waits=False
        ):
            future.set_result(self._refusal(command, _stopped()))
        return future

    def carry_out(self, message: ExecuteCommand) -> None:
        """Do what a command asks for, and have it answered."""
        command, answer = message.command, message.answer
        try:
            known = self._desired.overlay.find_answer(command)
        except KeyError:
            text = f"another command had the id {command.command_id!r} (accepted: one of its own)"
            error = command_error(CommandErrorType.ID_TAKEN, text, field="command_id")
            self._desired.repeat(self._refusal(command, error), answer)
            return
        if known is not None:
            self._desired.repeat(known, answer)
        elif self._control.is_stopping:
            self._desired.repeat(self._refusal(command, _stopped()), answer)
        else:
            try:
                result = self._result_of(message)
            except DeviceLostError:
                self._desired.repeat(self._refusal(command, _stopped()), answer)
                raise
            self._desired.answer(command, result, answer)

    def close(self, left: Iterable[Message], timeout_s: float) -> None:
        """Answer what the inbox still held when the run ended, and write all changes down."""
        for message in left:
            if isinstance(message, ExecuteCommand):
                refusal = self._refusal(message.command, _stopped())
                self._desired.repeat(refusal, message.answer)
        self._desired.close(timeout_s)

    def _result_of(self, message: ExecuteCommand) -> CommandResult:
        command, first_frame = message.command, None
        try:
            if not isinstance(command, Reload):
                first_frame = self._do(command)
            elif message.file is not None:
                self._reload(command, message.file)
        except CommandRefusedError as refused:
            error = refused.error
        except MaskstreamError as refused:
            kind = _TYPES.get(type(refused), CommandErrorType.INVALID)
            field = None if isinstance(command, Reload) else "stream_id"
            error = command_error(kind, str(refused), field=field)
        except DeviceLostError:
            raise
        except Exception as bug:
            _logger.exception("command %s failed", command.command, extra=_about(command))
            text = f"{type(bug).__name__}: {bug}"
            error = command_error(CommandErrorType.INTERNAL, text)
        else:
            by = command.issued_by
            _logger.info("%s by %s: done", command.command, by, extra=_about(command))
            return CommandResult(
                command_id=command.command_id,
                ok=True,
                first_frame=first_frame,
                is_kept=True,
                worker=self._worker,
            )
        _logger.warning("refused %s: %s", command.command, error.message, extra=_about(command))
        return self._refusal(command, error)

    def _reload(self, command: Reload, file: RunConfig) -> None:
        """Apply what differs of the streams; what the model refuses takes all of it back."""
        plan = self._desired.plan_reload(file, is_forced=command.args.force)
        old = {one.id: one for one in self._desired.config.streams}
        new = {one.id: one for one in plan.config.streams}
        changed: list[StreamConfig] = []
        try:
            for stream_id, config in new.items():
                if stream_id in old and old[stream_id] != config and stream_id in self._table:
                    self._control.change(config)
                    changed.append(old[stream_id])
        except ConceptError:
            for config in changed:
                self._control.change(config)
            raise
        for stream_id in old.keys() - new.keys():
            if stream_id in self._table:
                self._control.remove(stream_id, "removed")
        for stream_id, config in new.items():
            if stream_id not in old:
                self._control.add(config)
        self._desired.commit_reload(plan)
        for running in self._table:
            running.stream.revisions = self._desired.revisions_of(running.stream_id)

    def _do(self, command: StreamCommand) -> FirstFrame | None:
        """Carry a new command out; if this raises, nothing has changed."""
        match command:
            case AddStream(args=config):
                desired = self._with(config)
                self._control.add(config)
            case ChangeStream(args=config):
                self._configured(config.id)
                desired = self._change(config)
            case RemoveStream(stream_id=stream_id):
                desired = self._remove(stream_id)
            case RenameConcept(args=args):
                desired = self._edit_concept(command, args.concept_id, name=args.name)
            case RemoveConcept(args=args):
                desired = self._edit_concept(command, args.concept_id, name=None)
            case _:
                desired = self._edit(command, **self._news_of(command))
        self._desired.commit(command, desired)
        if command.stream_id not in self._table:
            return None
        running = self._table[command.stream_id]
        running.stream.revisions = self._desired.revisions_of(command.stream_id)
        return _next_frame(running)

    def _news_of(
        self, command: AddConcept | SetRules | SetZones | PauseStream | ResumeStream
    ) -> dict[str, object]:
        """Return the fields of a stream that a command gives other values."""
        match command:
            case AddConcept(args=concept):
                return {"concepts": (*self._configured(command.stream_id).concepts, concept)}
            case SetRules(args=args):
                return {"rules": args.rules}
            case SetZones(args=args):
                return {"zones": args.zones}
            case PauseStream():
                return {"paused": True}
            case ResumeStream():
                return {"paused": False}

    def _configured(self, stream_id: str) -> StreamConfig:
        config = self._desired.stream(stream_id)
        if config is None:
            known = [one.id for one in self._desired.config.streams]
            raise UnknownStreamError(stream_id=stream_id, known=known)
        return config

    def _edit(self, command: StreamCommand, **news: object) -> RunConfig:
        before = self._configured(command.stream_id)
        try:
            config = StreamConfig.model_validate({**dict(before), **news})
        except ValidationError as invalid:
            error = invalid_error(invalid, StreamConfig)
            field = f"args.{error.field}" if error.field else "args"
            raise CommandRefusedError(error.model_copy(update={"field": field})) from None
        return self._change(config)

    def _edit_concept(
        self, command: StreamCommand, concept_id: str, *, name: str | None
    ) -> RunConfig:
        """Give a concept another name; without one, take it out."""
        known = self._configured(command.stream_id).concepts
        if concept_id not in (one.id for one in known):
            accepted = ", ".join(repr(one.id) for one in known) or "none"
            text = f"no concept has the id {concept_id!r} (accepted: {accepted})"
            kind = CommandErrorType.UNKNOWN_CONCEPT
            raise CommandRefusedError(command_error(kind, text, field="args.concept_id"))
        edited = [
            one.model_copy(update={"name": name}) if one.id == concept_id else one
            for one in known
            if name is not None or one.id != concept_id
        ]
        return self._edit(command, concepts=tuple(edited))

    def _change(self, config: StreamConfig) -> RunConfig:
        desired = self._with(config)
        if config.id in self._table:
            self._control.change(config)
        return desired

    def _remove(self, stream_id: str) -> RunConfig:
        self._configured(stream_id)
        left = [one for one in self._desired.config.streams if one.id != stream_id]
        if not left:
            text = "it is the last stream, and the run would end (accepted: another one first)"
            error = command_error(CommandErrorType.INVALID, text, field="stream_id")
            raise CommandRefusedError(error)
        desired = self._checked(left)
        if stream_id in self._table:
            self._control.remove(stream_id, "removed")
        return desired

    def _with(self, config: StreamConfig) -> RunConfig:
        """Return the whole configuration with one stream new or changed, if it is accepted."""
        streams = {one.id: one for one in self._desired.config.streams}
        streams[config.id] = config
        return self._checked(streams.values())

    def _checked(self, streams: Iterable[StreamConfig]) -> RunConfig:
        try:
            return with_streams(self._desired.config, tuple(streams))
        except ValidationError as invalid:
            raise CommandRefusedError(invalid_error(invalid, RunConfig)) from None

    def _refusal(self, command: AnyCommand, error: CommandError) -> CommandResult:
        return CommandResult(
            command_id=command.command_id, ok=False, error=error, worker=self._worker
        )


def _find_fault(command: AnyCommand) -> CommandError | None:
    """Return why a source cannot work on this machine. Looks at files, which may take long."""
    if not isinstance(command, AddStream | ChangeStream):
        return None
    for name, reason in command.args.source.find_faults().items():
        return command_error(CommandErrorType.INVALID, reason, field=f"args.source.{name}")
    return None


def _next_frame(running: RunningStream) -> FirstFrame | None:
    """Return the next frame of a stream, as far as one is known: no turn is under way."""
    head, stamp = running.buffer.head, running.stream.last_stamp
    if head is not None:
        return FirstFrame(stream_epoch=head.frame.stream_epoch, frame_seq=head.frame.frame_seq)
    if stamp is not None:
        return FirstFrame(stream_epoch=stamp.stream_epoch, frame_seq=stamp.frame_seq + 1)
    return None


def _stopped() -> CommandError:
    return command_error(CommandErrorType.STOPPED, "the run has ended")


def _about(command: AnyCommand) -> dict[str, str]:
    return {} if isinstance(command, Reload) else {"stream": command.stream_id}
