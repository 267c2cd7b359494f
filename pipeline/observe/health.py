"""Whether the engine turns, and what its streams and sinks are doing."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from connectors.errors import redact_url
from pipeline.clock import Clock, format_time
from pipeline.records.schema import RestoredState, StreamState

_MAX_ERROR_CHARS = 500  # a reason is one line; a library's error may quote a whole document
_BLIND = frozenset({StreamState.OFFLINE, StreamState.FAILED})


class SinkState(StrEnum):
    """What a sink is doing."""

    UP = "up"
    BEHIND = "behind"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHealth:
    """What a stream is doing; the fields are those of its status record."""

    state: StreamState
    since: datetime
    error: str | None = None
    restored: RestoredState | None = None
    state_error: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return what a health answer shows."""
        restored = self.restored
        return {
            "state": self.state,
            "since": format_time(self.since),
            "error": self.error,
            "restored": None if restored is None else restored.model_dump(mode="json"),
            "state_error": self.state_error,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkHealth:
    """A sink's state and why; ``is_durable`` says whether its records must arrive."""

    state: SinkState
    error: str | None
    is_durable: bool

    def to_json(self) -> dict[str, str | None]:
        """Return what a health answer shows."""
        return {"state": self.state, "error": self.error}


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """One answer to a probe.

    Attributes:
        reasons: Why the answer is no; empty if it is yes.
        streams: By stream id.
        sinks: By name.
    """

    reasons: tuple[str, ...]
    streams: Mapping[str, StreamHealth]
    sinks: Mapping[str, SinkHealth]

    @property
    def is_good(self) -> bool:
        """Whether the answer is yes."""
        return not self.reasons

    def to_json(self) -> dict[str, object]:
        """Return the body of the answer."""
        return {
            "ok": self.is_good,
            "reasons": list(self.reasons),
            "streams": {name: stream.to_json() for name, stream in self.streams.items()},
            "sinks": {name: sink.to_json() for name, sink in self.sinks.items()},
        }


class Health:
    """States of the engine, its streams and its sinks. Any thread may write and read.

    Args:
        clock: For the engine's turns.
        stall_s: How long a turn of the engine may take before it counts as stalled.
    """

    def __init__(self, clock: Clock, *, stall_s: float) -> None:
        self._clock = clock
        self._stall_s = stall_s
        self._lock = threading.Lock()
        self._turned_s: float | None = None
        self._streams: dict[str, StreamHealth] = {}
        self._sinks: dict[str, SinkHealth] = {}
        self._log_error: str | None = None

    def beat(self) -> None:
        """Note a turn of the engine."""
        self._turned_s = self._clock.monotonic_s()

    def set_stream(self, stream_id: str, stream: StreamHealth) -> None:
        """Note what a stream is doing, since when, and why."""
        stream = replace(stream, error=_clean(stream.error), state_error=_clean(stream.state_error))
        with self._lock:
            self._streams[stream_id] = stream

    def forget_stream(self, stream_id: str) -> None:
        """Leave a stream out of the answers from now on."""
        with self._lock:
            self._streams.pop(stream_id, None)

    def set_sink(
        self, name: str, state: SinkState, *, error: str | None = None, is_durable: bool = True
    ) -> None:
        """Note what a sink is doing and why."""
        sink = SinkHealth(state=state, error=_clean(error), is_durable=is_durable)
        with self._lock:
            self._sinks[name] = sink

    def set_log_error(self, error: str | None) -> None:
        """Note why the log of records cannot be written; ``None``: it can."""
        self._log_error = _clean(error)

    def liveness(self) -> HealthReport:
        """Report whether the engine turns. Good while it has not begun to."""
        return self._report(self._stall())

    def readiness(self) -> HealthReport:
        """Report whether the engine turns and sees a stream, and what must be kept is kept."""
        report = self._report(None)
        down = [
            f"sink {name!r} is down: {sink.error or 'no reason known'}"
            for name, sink in report.sinks.items()
            if sink.state is SinkState.DOWN and sink.is_durable
        ]
        starting = "the engine has not begun to turn" if self._turned_s is None else None
        return replace(
            report,
            reasons=_known(
                starting,
                self._stall(),
                _blindness(report.streams),
                *down,
                self._log_error,
                _loss(report.streams),
            ),
        )

    def _report(self, reason: str | None) -> HealthReport:
        with self._lock:
            streams, sinks = dict(self._streams), dict(self._sinks)
        return HealthReport(reasons=_known(reason), streams=streams, sinks=sinks)

    def _stall(self) -> str | None:
        if self._turned_s is None:
            return None
        still_s = self._clock.monotonic_s() - self._turned_s
        if still_s <= self._stall_s:
            return None
        return f"the engine has not turned for {still_s:.0f} s (accepted: {self._stall_s:g} s)"


def _blindness(streams: Mapping[str, StreamHealth]) -> str | None:
    """Return the reason if every stream that has not ended is offline or failed."""
    states = [stream.state for stream in streams.values() if stream.state is not StreamState.ENDED]
    if not states or not all(state in _BLIND for state in states):
        return None
    return f"all {len(states)} stream(s) are offline or failed"


def _loss(streams: Mapping[str, StreamHealth]) -> str | None:
    """Return the reason if a stream could not go on from here after a crash."""
    errors = [one.state_error for one in streams.values() if one.state_error is not None]
    return f"the state of {len(errors)} stream(s) is not kept: {errors[0]}" if errors else None


def _known(*reasons: str | None) -> tuple[str, ...]:
    return tuple(reason for reason in reasons if reason is not None)


def _clean(error: str | None) -> str | None:
    return None if error is None else redact_url(error)[:_MAX_ERROR_CHARS]
