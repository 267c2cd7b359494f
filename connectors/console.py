"""Records on the terminal."""

import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Self, TextIO, cast

from pydantic import Field
from rich.console import Console
from rich.text import Text
from typing_extensions import override

from connectors.base import RecordSink, Refused
from connectors.config import BaseSinkConfig
from connectors.errors import DeliveryFailedError, redact_url
from connectors.json_lines import to_dead_letter_line, to_json_line
from connectors.record import Record
from connectors.terminal import escape_controls

_log = logging.getLogger("maskstream.connectors.console")
_COLOURS = {"masklets": "dim", "tracks": "cyan", "events": "bold yellow", "status": "magenta"}
_NOTED = (
    "phase",
    "state",
    "change",
    "kind",
    "type",
    "rule",
    "zone",
    "track_no",
    "concept",
    "reason",
)


class ConsoleSinkConfig(BaseSinkConfig, frozen=True):
    """Events, track changes and status as readable lines, or every record as JSON."""

    type: Literal["console"] = "console"
    json_lines: bool = Field(default=False, description="Write every record as one line of JSON.")
    kinds: tuple[Literal["masklets", "tracks", "events", "status"], ...] = (
        "tracks",
        "events",
        "status",
    )

    @classmethod
    @override
    def from_url(cls, url: str) -> Self:
        if url != "console":
            raise ValueError(f"bad sink {redact_url(url)!r}; accepted: console")
        return cls()


class _Console(Console):
    @override
    def on_broken_pipe(self) -> None:
        """Tell it as every other file does, where rich would end the thread and close stdout."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class ConsoleSink(RecordSink):
    """Writes one readable line per record, or every record as one line of JSON.

    Control characters and markup in names are shown, not carried out. A record that is no JSON is
    shown by its length, or as :func:`connectors.json_lines.to_dead_letter_line` writes it. Once
    nobody reads any more, which is logged, records are left out and counted in ``num_refused``.

    Guarantee: best effort; a line is handed to the terminal before ``write`` returns.
    Ordering: that of the writes.
    Parallelism: one writer.
    """

    is_durable = False

    def __init__(self, *, config: ConsoleSinkConfig, stream: TextIO | None = None) -> None:
        self._config = config
        self._stream = stream
        self._console = _Console(file=stream, soft_wrap=True, highlight=False)
        self._num_refused = 0
        self._is_gone = False

    @property
    @override
    def num_refused(self) -> int:
        return self._num_refused

    @override
    def open(self) -> None:
        """Nothing to open."""

    @override
    def write(self, records: Sequence[Record]) -> Sequence[Refused]:
        for record in records:
            if self._is_gone:
                self._num_refused += 1
            else:
                self._guard(lambda record=record: self._show(record))
        self.flush()
        return ()

    @override
    def flush(self) -> None:
        self._guard(lambda: self._out().flush())

    @override
    def close(self) -> None:
        self.flush()

    def _out(self) -> TextIO:
        stream = self._stream or cast("TextIO | None", sys.stdout)
        if stream is None or stream.closed:  # the command ends
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        return stream

    def _guard(self, act: Callable[[], None]) -> None:
        """Act unless nobody reads any more. Raises ``DeliveryFailedError``, on a full disk say."""
        if self._is_gone:
            return
        try:
            act()
            self._out()  # closed now, if nobody reads what was written
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                reason = error.strerror or str(error)
                raise DeliveryFailedError("console", reason, recoverable=True) from error
            self._is_gone = True
            self._num_refused += 1
            _log.warning("nobody reads the console any more; records for it are left out")

    def _show(self, record: Record) -> None:
        kind = record.topic.value.split(".")[1]
        if self._config.json_lines:
            self._write_json(record)
        elif kind in self._config.kinds:
            encoding = getattr(self._out(), "encoding", None) or "utf-8"
            self._console.print(_to_text(kind, record, encoding))

    def _write_json(self, record: Record) -> None:
        try:
            body: Any = json.loads(to_json_line(record))
        except (ValueError, RecursionError):
            self._num_refused += 1
            body = json.loads(to_dead_letter_line(record))
        # In ASCII, so that no control character reaches the terminal.
        self._out().write(f"{json.dumps(body, separators=(',', ':'))}\n")


def _to_text(kind: str, record: Record, encoding: str) -> Text:
    def shown(text: str) -> str:
        return escape_controls(text).encode(encoding, "backslashreplace").decode(encoding)

    text = Text(f"{_to_time(record.timestamp_ms)}  ", style="dim")
    text.append(f"{kind:<8}", style=_COLOURS.get(kind, ""))
    text.append(f"  {shown(record.key)}", style="bold")
    try:
        body: Any = json.loads(record.value)
    except (ValueError, RecursionError):
        return text.append(f"  {len(record.value)} bytes")
    if not isinstance(body, dict):
        return text
    fields = cast("dict[str, Any]", body)
    for name in _NOTED:
        if fields.get(name) is not None:
            text.append(f"  {name}=", style="dim").append(shown(str(fields[name])))
    if isinstance(fields.get("objects"), list):
        text.append(f"  {len(fields['objects'])} objects")
    return text


def _to_time(timestamp_ms: int) -> str:
    try:
        time = datetime.fromtimestamp(timestamp_ms / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError):  # of a year that no calendar has
        return f"{timestamp_ms} ms"
    return f"{time:%H:%M:%S}.{time.microsecond // 1000:03d}"
