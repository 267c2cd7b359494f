"""What can go wrong in the pipeline.

MaskstreamError
├── ConfigError            the configuration cannot be used; exit code 2
├── RunError               a run came to nothing: a source gave no frame, or the device is gone
├── RecordError            a record's bytes are not what their topic promises
├── WeightsError           a model's weights cannot be had, read or written
├── ModelError             the model fails on a stream's frames, or does not take the stream
├── StreamLimitError       a source names more streams than the configuration allows
├── StateError             the state folder cannot be used, or another process uses it
├── SnapshotError          a text is no snapshot of a stream that this version can go on from
├── StreamExistsError      a stream of that name runs already
├── ConceptError           the model does not look for what a running stream is to look for
└── UnknownStreamError     no stream of that name can be changed or removed

Sources and sinks raise the errors of :mod:`connectors.errors`.
"""

from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Self

from typing_extensions import override


class ExitCode(IntEnum):
    """How a process ends."""

    DONE = 0
    FAILED = 1
    BAD_USAGE = 2
    """The command or the configuration cannot be used."""
    DEVICE_LOST = 3
    """The accelerator is gone; only a new process can use it again."""


def choose_exit_code(*, has_nothing: bool, num_failed: int, is_strict: bool) -> ExitCode:
    """Return how a run over any input ends: the one rule for all commands.

    Args:
        has_nothing: Some input that was asked for gave nothing at all.
        num_failed: Inputs and outputs that failed.
        is_strict: A single failure fails the run.
    """
    return ExitCode.FAILED if has_nothing or (is_strict and num_failed) else ExitCode.DONE


class MaskstreamError(Exception):
    """Root of all errors of the pipeline; its text is one line for people."""


class ConfigError(MaskstreamError):
    """The configuration cannot be used.

    Attributes:
        problems: One line each: where it is, what is wrong, what would be accepted.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)

    @override
    def __reduce__(self) -> tuple[type[Self], tuple[tuple[str, ...]]]:
        """Let it travel between processes, which build it anew from what it was built from."""
        return type(self), (self.problems,)


class RunError(MaskstreamError):
    """A run came to nothing: a source gave no frame, or the device is gone."""


class RecordError(MaskstreamError):
    """A record's bytes are not what their topic promises."""


class WeightsError(MaskstreamError):
    """A model's weights cannot be had, read or written."""


class ModelError(MaskstreamError):
    """The model fails on a stream's frames, or does not take the stream."""

    def __init__(self, *, stream_id: str, reason: str, frame_seq: int | None = None) -> None:
        where = "took no stream" if frame_seq is None else f"failed at frame {frame_seq}"
        super().__init__(f"stream {stream_id!r}: model {where}: {reason}")
        self.stream_id = stream_id
        self.frame_seq = frame_seq
        self.reason = reason


class StreamLimitError(MaskstreamError):
    """A source names more streams than the configuration allows."""

    def __init__(self, *, stream_id: str, limit: int) -> None:
        super().__init__(
            f"stream {stream_id!r}: would be stream number {limit + 1}; "
            f"raise engine.max_streams above {limit} to accept it"
        )
        self.stream_id = stream_id
        self.limit = limit


class StateError(MaskstreamError):
    """The state folder cannot be used, or another process uses it.

    Attributes:
        path: The folder or file.
        reason: What is wrong with it.
        accepted: What would be accepted.
    """

    def __init__(self, *, path: Path, reason: str, accepted: str) -> None:
        super().__init__(f"state {str(path)!r}: {reason} (accepted: {accepted})")
        self.path = path
        self.reason = reason
        self.accepted = accepted


class SnapshotError(MaskstreamError):
    """A text is no snapshot of a stream that this version can go on from."""


class StreamExistsError(MaskstreamError):
    """A stream of that name runs already."""

    def __init__(self, *, stream_id: str) -> None:
        super().__init__(f"stream {stream_id!r}: runs already (accepted: a name of its own)")
        self.stream_id = stream_id


class ConceptError(MaskstreamError):
    """The model does not look for what a running stream is to look for."""

    def __init__(self, *, stream_id: str, reason: str) -> None:
        super().__init__(f"stream {stream_id!r}: the model refuses: {reason}")
        self.stream_id = stream_id
        self.reason = reason


class UnknownStreamError(MaskstreamError):
    """No stream of that name can be changed or removed."""

    def __init__(self, *, stream_id: str, known: Sequence[str]) -> None:
        accepted = ", ".join(sorted(known)) or "none runs"
        super().__init__(f"stream {stream_id!r}: not configured (accepted: {accepted})")
        self.stream_id = stream_id
