"""Writes the overlay on a thread of its own, and answers commands once it is on disk."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path

from connectors.errors import NotWritableError
from connectors.files.writing import write_whole
from pipeline.engine.overlay import Overlay, dump_overlay
from pipeline.records.command import CommandResult

_logger = logging.getLogger("maskstream.commands")

Answer = tuple["Future[CommandResult]", CommandResult]


class OverlayWriter:
    """Nobody who waits for an answer can hold the engine, nor can a disk that hangs.

    Of several overlays that wait only the newest is written.

    Args:
        path: The file; ``None``: nothing is kept, and commands are answered at once.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._waiting: Overlay | None = None
        self._answers: list[Answer] = []
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="overlay-writer", daemon=True)

    def put(self, overlay: Overlay | None, answers: Sequence[Answer]) -> None:
        """Write an overlay, if one is given, and give answers then; never waits.

        Used by one thread.
        """
        with self._changed:
            self._waiting = overlay or self._waiting
            self._answers += answers
            self._changed.notify()
        if self._thread.ident is None:  # most runs never get a command
            self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._answers or self._is_stopping)
                overlay, self._waiting = self._waiting, None
                answers, self._answers = self._answers, []
                if not answers:
                    return
            is_kept = self._write(overlay)
            for future, result in answers:
                # Whoever waits may have given up.
                with suppress(InvalidStateError):
                    future.set_result(
                        result.model_copy(update={"is_kept": is_kept and result.is_kept})
                    )

    def _write(self, overlay: Overlay | None) -> bool:
        if self._path is None:
            return False
        if overlay is None:
            return True
        try:
            write_whole(self._path, dump_overlay(overlay), is_synced=True, is_private=True)
        except NotWritableError as error:
            _logger.error(  # noqa: TRY400 - its text says all
                "what commands have changed is lost at a restart: %s", error
            )
            return False
        return True
