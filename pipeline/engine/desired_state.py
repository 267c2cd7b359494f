"""What streams there are to be: the configuration file with what commands have changed."""

import logging
from concurrent.futures import Future
from pathlib import Path

from pipeline.clock import format_time
from pipeline.config.run import RunConfig
from pipeline.config.sections.stream import StreamConfig
from pipeline.engine.overlay import Overlay, merge, read_overlay
from pipeline.engine.overlay_writer import OverlayWriter
from pipeline.records.command import AnyCommand, CommandResult
from pipeline.streams.result import Revisions

_logger = logging.getLogger("maskstream.commands")
_NAME = "overlay.yaml"


class DesiredState:
    """The one owner of changes at run time. Used by the engine's thread alone.

    Attributes:
        config: What holds now; another one after each command.
        overlay: What of it commands have changed.

    Args:
        file: The configuration file.
        folder: The state folder, where changes outlive the run; ``None``: they end with it.

    Raises:
        StateError: If the changes of former runs cannot be read, or do not fit the file.
    """

    def __init__(self, file: RunConfig, folder: Path | None) -> None:
        self._file = {stream.id: stream for stream in file.streams}
        path = None if folder is None else folder / _NAME
        self.config, self.overlay = file, Overlay()
        if path is not None:
            self.overlay = read_overlay(path)
            merged = merge(file, self.overlay, path=path)
            self.config = merged.config
            for one in merged.conflicts:
                _logger.warning(
                    "%s was changed by %s at %s, and in the configuration file since; what the "
                    "command said holds (accepted: the file's value by a command, or without %s)",
                    one.field,
                    one.issued_by,
                    format_time(one.issued_at),
                    path,
                    extra={"stream": one.stream_id},
                )
        self._writer = OverlayWriter(path)

    def stream(self, stream_id: str) -> StreamConfig | None:
        """Return how a stream is to be; ``None``: there is to be none of that name."""
        return next((one for one in self.config.streams if one.id == stream_id), None)

    def commit(self, command: AnyCommand, config: RunConfig) -> None:
        """Take over what a command has led to; it is written with the command's answer."""
        stream_id = command.stream_id
        before, self.config = self.stream(stream_id), config
        self.overlay = self.overlay.changed(
            command, file=self._file.get(stream_id), before=before, now=self.stream(stream_id)
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
