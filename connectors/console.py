"""Records on the terminal."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Self, TextIO, cast

from pydantic import Field
from rich.console import Console
from rich.text import Text
from typing_extensions import override

from connectors.base import RecordSink, Refused
from connectors.config import BaseSinkConfig
from connectors.errors import redact_url
from connectors.json_lines import to_dead_letter_line, to_json_line
from connectors.record import Record
from connectors.terminal import escape_controls

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


class ConsoleSink(RecordSink):
    """Writes one readable line per record, or every record as one line of JSON.

    Control characters and markup in names are shown, not carried out. A record that is no JSON is
    shown by its length, or as :func:`connectors.json_lines.to_dead_letter_line` writes it.

    Guarantee: best effort; a line is handed to the terminal before ``write`` returns.
    Ordering: that of the writes.
    Parallelism: one writer.
    """

    is_durable = False

    def __init__(self, *, config: ConsoleSinkConfig, stream: TextIO | None = None) -> None:
        self._config = config
        self._stream = stream
        self._console = Console(file=stream, soft_wrap=True, highlight=False)
        self._num_refused = 0

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
            kind = record.topic.value.split(".")[1]
            if self._config.json_lines:
                self._write_json(record)
            elif kind in self._config.kinds:
                self._console.print(_to_text(kind, record))
        return ()

    @override
    def flush(self) -> None:
        (self._stream or sys.stdout).flush()

    @override
    def close(self) -> None:
        self.flush()

    def _write_json(self, record: Record) -> None:
        try:
            body: Any = json.loads(to_json_line(record))
        except (ValueError, RecursionError):
            self._num_refused += 1
            body = json.loads(to_dead_letter_line(record))
        # In ASCII, so that no control character reaches the terminal.
        (self._stream or sys.stdout).write(f"{json.dumps(body, separators=(',', ':'))}\n")


def _to_text(kind: str, record: Record) -> Text:
    time = datetime.fromtimestamp(record.timestamp_ms / 1000, tz=UTC)
    text = Text(f"{time:%H:%M:%S}.{time.microsecond // 1000:03d}  ", style="dim")
    text.append(f"{kind:<8}", style=_COLOURS.get(kind, ""))
    text.append(f"  {escape_controls(record.key)}", style="bold")
    try:
        body: Any = json.loads(record.value)
    except (ValueError, RecursionError):
        return text.append(f"  {len(record.value)} bytes")
    if not isinstance(body, dict):
        return text
    fields = cast("dict[str, Any]", body)
    for name in _NOTED:
        if fields.get(name) is not None:
            text.append(f"  {name}=", style="dim").append(escape_controls(str(fields[name])))
    if isinstance(fields.get("objects"), list):
        text.append(f"  {len(fields['objects'])} objects")
    return text
