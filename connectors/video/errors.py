"""PyAV's errors, and whatever else comes out of it, in our words."""

from collections.abc import Sequence

from av.error import (
    ExitError,
    FFmpegError,
    HTTPForbiddenError,
    HTTPNotFoundError,
    HTTPUnauthorizedError,
    InvalidDataError,
)

from connectors.errors import (
    CorruptMediaError,
    NotFoundError,
    Position,
    SourceError,
    StreamEndedError,
    StreamStalledError,
    UnauthorizedError,
    UnreachableError,
    UnsupportedMediaError,
)

_VIDEOS = "a video that FFmpeg decodes (MP4, MKV, AVI, MOV, TS, WebM, …)"

_Translation = tuple[tuple[type[Exception], ...], type[SourceError], str]
# Most specific first: PyAV's errors derive from the built-in ones too.
_FILE_ERRORS: tuple[_Translation, ...] = (
    ((FileNotFoundError,), NotFoundError, "a path that exists"),
    ((PermissionError,), SourceError, "a path that may be read"),
    ((LookupError,), UnsupportedMediaError, _VIDEOS),
    ((FFmpegError,), CorruptMediaError, "a whole file"),
    ((OSError,), SourceError, "a path that can be read"),
    ((Exception,), CorruptMediaError, "a whole file"),
)
_LIVE_ERRORS: tuple[_Translation, ...] = (
    ((HTTPUnauthorizedError, HTTPForbiddenError), UnauthorizedError, "its user and password"),
    ((HTTPNotFoundError, FileNotFoundError), NotFoundError, "a path that the camera serves"),
    ((ExitError, TimeoutError), StreamStalledError, ""),
    ((LookupError,), UnsupportedMediaError, _VIDEOS),
    ((EOFError,), StreamEndedError, ""),
    ((FFmpegError, OSError), UnreachableError, ""),
    ((Exception,), CorruptMediaError, ""),
)


def translate_file_error(
    error: Exception, stream_id: str, *, position: Position, is_known_container: bool
) -> SourceError:
    """Return our error for one raised while a file was read; reading it again cannot help.

    Args:
        error: What PyAV or the system raised.
        stream_id: Whose it is.
        position: Where it happened.
        is_known_container: Whether the first bytes are those of a video, so that what cannot be
            opened is a broken one rather than something else.
    """
    kind, accepted = _look_up(error, _FILE_ERRORS)
    if kind is CorruptMediaError and not is_known_container and isinstance(error, InvalidDataError):
        kind, accepted = UnsupportedMediaError, _VIDEOS
    reason = describe(error)
    return kind(stream_id, reason, position=position, accepted=accepted, recoverable=False)


def translate_live_error(error: Exception, stream_id: str, *, position: Position) -> SourceError:
    """Return our error for one raised by a camera, which may come back from any of them."""
    kind, accepted = _look_up(error, _LIVE_ERRORS)
    is_silent = kind is StreamStalledError
    reason = "silent for longer than the timeout" if is_silent else describe(error)
    return kind(stream_id, reason, position=position, accepted=accepted, recoverable=True)


def describe(error: Exception) -> str:
    """Return the reason alone, without the address that PyAV quotes."""
    if isinstance(error, (FFmpegError, OSError)) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, FFmpegError):
        return type(error).__name__.lower()
    text = str(error.args[0]) if error.args else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _look_up(error: Exception, table: Sequence[_Translation]) -> tuple[type[SourceError], str]:
    return next((ours, accepted) for foreign, ours, accepted in table if isinstance(error, foreign))
