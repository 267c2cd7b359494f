"""What streams there are to be: the configuration file with what commands have changed."""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from pipeline.clock import format_time
from pipeline.config.run import RunConfig
from pipeline.config.sections.stream import StreamConfig
from pipeline.engine.overlay import Change, Overlay, merge, read_overlay
from pipeline.engine.overlay_writer import OverlayWriter
from pipeline.errors import ConfigError
from pipeline.records.command import (
    AnyCommand,
    CommandErrorType,
    CommandRefusedError,
    CommandResult,
    StreamCommand,
    command_error,
)
from pipeline.streams.result import Revisions

_logger = logging.getLogger("maskstream.commands")
_NAME = "overlay.yaml"
_HOLDS = (
    "what the command said holds (accepted: the file's value by a command, or a reload by force)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadPlan:
    """What another configuration file leads to.

    Attributes:
        file: The file.
        overlay: What lies over it.
        config: Both.
    """

    file: RunConfig
    overlay: Overlay
    config: RunConfig


class DesiredState:
    """The one owner of changes at run time. Used by the engine's thread alone.

    Attributes:
        config: What holds now; another one after each command.
        overlay: What of it commands have changed.

    Args:
        file: The configuration file.
        folder: The state folder, where changes outlive the run; ``None``: they end with it.
        load: Reads the configuration file again; ``None``: there is none.

    Raises:
        StateError: If the changes of former runs cannot be read, or do not fit the file.
    """

    def __init__(
        self,
        file: RunConfig,
        folder: Path | None,
        *,
        load: Callable[[], RunConfig] | None = None,
    ) -> None:
        self._file = file
        self._load = load
        path = None if folder is None else folder / _NAME
        self._path = path or Path(_NAME)
        self.config, self.overlay = file, Overlay()
        if path is not None:
            self.overlay = read_overlay(path)
            merged = merge(file, self.overlay, path=path)
            self.config = merged.config
            for one in merged.conflicts:
                extra = {"stream": one.stream_id}
                _logger.warning("%s; %s", _text_of(one), _HOLDS, extra=extra)
        self._writer = OverlayWriter(path)

    def stream(self, stream_id: str) -> StreamConfig | None:
        """Return how a stream is to be; ``None``: there is to be none of that name."""
        return next((one for one in self.config.streams if one.id == stream_id), None)

    def read_file(self) -> RunConfig:
        """Return the configuration file as it is now; any thread may call this.

        Raises:
            ConfigError: If it cannot be used, or there is none.
        """
        if self._load is None:
            raise ConfigError(["the run has no configuration file (accepted: one given at start)"])
        return self._load()

    def plan_reload(self, file: RunConfig, *, is_forced: bool) -> ReloadPlan:
        """Return what another configuration file leads to; nothing changes yet.

        Raises:
            CommandRefusedError: If more than streams differ, or a command and the file have changed
                the same field and the file is not to win.
            StateError: If what commands have changed does not fit the file.
        """
        for name in RunConfig.model_fields:
            if name != "streams" and getattr(file, name) != getattr(self._file, name):
                text = "is another one in the file, which takes a restart (accepted: as it was)"
                error = command_error(CommandErrorType.INVALID, text, field=name)
                raise CommandRefusedError(error)
        overlay = self.overlay
        merged = merge(file, overlay, path=self._path)
        if merged.conflicts and not is_forced:
            one = merged.conflicts[0]
            text = f"{_text_of(one)} (accepted: force, or the file as it was)"
            field = f"streams[{one.stream_id}].{one.field}"
            raise CommandRefusedError(command_error(CommandErrorType.CONFLICT, text, field=field))
        if merged.conflicts:
            overlay = overlay.without(merged.conflicts)
            merged = merge(file, overlay, path=self._path)
        return ReloadPlan(file=file, overlay=overlay, config=merged.config)

    def commit_reload(self, plan: ReloadPlan) -> None:
        """Take over another configuration file; it is written with the command's answer."""
        before, self.config, self._file = self.config, plan.config, plan.file
        self.overlay = plan.overlay.over(plan.file, before=before, now=plan.config)

    def commit(self, command: StreamCommand, config: RunConfig) -> None:
        """Take over what a command has led to; it is written with the command's answer."""
        stream_id = command.stream_id
        before, self.config = self.stream(stream_id), config
        file = next((one for one in self._file.streams if one.id == stream_id), None)
        self.overlay = self.overlay.changed(
            command, file=file, before=before, now=self.stream(stream_id)
        )

    def revisions_of(self, stream_id: str) -> Revisions:
        """Return the numbers of the last changes of a stream."""
        return self.overlay.revisions.get(stream_id, Revisions())

    def answer(
        self, command: AnyCommand, result: CommandResult, future: "Future[CommandResult]"
    ) -> None:
        """Answer a command, and remember that for when it comes again."""
        self.overlay = self.overlay.answer(command, result)
        self._writer.put(self.overlay, [(future, result)])

    def repeat(self, result: CommandResult, future: "Future[CommandResult]") -> None:
        """Give an answer that is not to be remembered, or is already."""
        self._writer.put(None, [(future, result)])

    def close(self, timeout_s: float) -> None:
        """Write what waits, and give all answers."""
        self._writer.close(timeout_s)


def _text_of(conflict: Change) -> str:
    when = format_time(conflict.issued_at)
    who = f"{conflict.field} of stream {conflict.stream_id!r} was changed by {conflict.issued_by}"
    return f"{who} at {when}, and in the configuration file since"
