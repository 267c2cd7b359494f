"""Logs for people or for machines, on stderr: without secrets, escape sequences or floods.

A record's stream and sink are given as ``extra={"stream": stream_id}`` or ``extra={"sink": name}``.
"""

import json
import logging
import sys
import threading
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from textwrap import indent

from typing_extensions import override

from connectors.errors import redact_url
from connectors.terminal import escape_controls
from pipeline.clock import Clock, SystemClock, format_time

ROOT = "maskstream"

WINDOW_S = 10.0
MAX_ALIKE = 5
"""Lines alike that are shown in a window; one camera with a bad cable wrote 4,936."""
_MAX_KINDS = 1000  # 64 streams with 15 kinds of trouble each
_MAX_CHARS = 4000  # a library's error may quote a whole document


def set_up_logs(*, style: str = "text", level: int = logging.WARNING) -> None:
    """Send the program's own logs to stderr; at DEBUG every line, else no floods.

    Args:
        style: ``text`` or ``json``.
        level: Lowest level that is shown.
    """
    logger = logging.getLogger(ROOT)
    for handler in tuple(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handler = StderrHandler() if level <= logging.DEBUG else RateLimitedHandler(SystemClock())
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


class TextFormatter(logging.Formatter):
    """``<local time with zone> <LEVEL> <logger> [stream=…]: <message>``, a traceback indented."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).astimezone()
        fields = {"stream": _field(record, "stream"), "sink": _field(record, "sink")}
        named = " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
        head = f"{time.isoformat(timespec='milliseconds')} {record.levelname:<7} {record.name}"
        line = f"{head} [{named}]: " if named else f"{head}: "
        line = escape_controls(line + _clean(record.getMessage()))
        if not record.exc_info:
            return line
        # Indented, so that no text in an error can pass for a line of the log.
        trace = self.formatException(record.exc_info).splitlines()
        told = "\n".join(escape_controls(item) for item in trace)
        return f"{line}\n{indent(redact_url(told), '  ')}"


class JsonFormatter(logging.Formatter):
    """One object a line; fields without a value are null."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        error = self.formatException(record.exc_info) if record.exc_info else None
        body = {
            "time": format_time(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _clean(record.getMessage()),
            "stream": _field(record, "stream"),
            "sink": _field(record, "sink"),
            "error": None if error is None else redact_url(error),
        }
        return json.dumps(body)


def _field(record: logging.LogRecord, name: str) -> str | None:
    value = getattr(record, name, None)
    return None if value is None else redact_url(str(value))


def _clean(message: str) -> str:
    """Return a message without secrets, cut to a length that can be read."""
    # First without secrets: a cut in the middle of an address would hide that it holds one.
    redacted = redact_url(message)
    num_more = len(redacted) - _MAX_CHARS
    return redacted if num_more <= 0 else f"{redacted[:_MAX_CHARS]}… ({num_more} more characters)"


class StderrHandler(logging.Handler):
    """Writes to what ``sys.stderr`` is at that time, which a progress line replaces."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - as in every handler: a log must not stop the program
            self.handleError(record)


CallLater = Callable[[float, Callable[[], None]], object]
"""Calls a function after some seconds, on any thread."""


def start_timer(delay_s: float, call: Callable[[], None]) -> None:
    """Call a function after ``delay_s`` on a thread of its own."""
    timer = threading.Timer(delay_s, call)
    timer.daemon = True
    timer.start()


class RateLimitedHandler(StderrHandler):
    """Shows the first few records alike, then every :data:`WINDOW_S` how many more there were.

    Args:
        clock: For windows.
        call_later: For the count of a flood that ends while nothing else is logged.
    """

    def __init__(self, clock: Clock, call_later: CallLater = start_timer) -> None:
        super().__init__()
        self._clock = clock
        self._call_later = call_later
        self._limit = RateLimit()
        self._is_timed = False

    @override
    def emit(self, record: logging.LogRecord) -> None:
        now_s = self._clock.monotonic_s()
        self._show_due(now_s)
        if self._limit.admit(record, now_s):
            super().emit(record)
        elif not self._is_timed:
            self._is_timed = True
            self._call_later(WINDOW_S, self._on_time)

    @override
    def close(self) -> None:
        """Show the counts that are open."""
        self.acquire()
        try:
            self._show_due(inf)
        finally:
            self.release()
        super().close()

    def _on_time(self) -> None:
        self.acquire()
        try:
            self._is_timed = False
            self._show_due(self._clock.monotonic_s())
        finally:
            self.release()

    def _show_due(self, now_s: float) -> None:
        for summary in self._limit.take_due(now_s):
            super().emit(summary)


@dataclass(slots=True)
class _Kind:
    """Records alike in one window; ``last`` is the newest of those not shown."""

    ends_s: float
    num_shown: int = 0
    num_hidden: int = 0
    last: logging.LogRecord | None = None


class RateLimit:
    """Decides which records are shown. Knows time only as it is told.

    Records are alike if logger, message template, stream, sink and types of error agree. A window
    begins with the first of a kind; one that had to hide records is followed by another at once,
    in which all are counted, so that a lasting flood is one line per window.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, ...], _Kind] = {}
        self._next_s = inf

    def admit(self, record: logging.LogRecord, now_s: float) -> bool:
        """Tell whether to show a record; if not, it is counted."""
        key = _kind_of(record)
        if key not in self._kinds and len(self._kinds) >= _MAX_KINDS:
            key = (record.name,)
        kind = self._kinds.setdefault(key, _Kind(now_s + WINDOW_S))
        self._next_s = min(self._next_s, kind.ends_s)
        if kind.num_shown < MAX_ALIKE:
            kind.num_shown += 1
            return True
        kind.num_hidden += 1
        kind.last = _plain(record)
        return False

    def take_due(self, now_s: float) -> list[logging.LogRecord]:
        """Return one record for each window that has ended and hid some."""
        if now_s < self._next_s:
            return []
        due: list[logging.LogRecord] = []
        for key, kind in tuple(self._kinds.items()):
            if now_s < kind.ends_s:
                continue
            if kind.last is None:
                del self._kinds[key]
                continue
            if kind.num_hidden > 1:
                kind.last.msg += f" (+{kind.num_hidden - 1} like it in {WINDOW_S:g} s)"
            due.append(kind.last)
            self._kinds[key] = _Kind(now_s + WINDOW_S, num_shown=MAX_ALIKE)
        self._next_s = min((kind.ends_s for kind in self._kinds.values()), default=inf)
        return due


def _kind_of(record: logging.LogRecord) -> tuple[str, ...]:
    named = (str(record.msg), *(str(getattr(record, name, "")) for name in ("stream", "sink")))
    args = record.args if isinstance(record.args, tuple) else ()
    errors = (type(item).__name__ for item in args if isinstance(item, BaseException))
    return record.name, *named, *errors


def _plain(record: logging.LogRecord) -> logging.LogRecord:
    """Return a copy that holds on to no error, and so to no frame of a stack."""
    plain = copy(record)
    plain.msg, plain.args, plain.exc_info = record.getMessage(), None, None
    return plain
