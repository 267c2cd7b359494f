"""Standard streams whose reader may go away, as ``head`` does, and whose disk may be full."""

import io
import os
import sys
from contextlib import suppress
from typing import Self, TextIO, cast

from typing_extensions import override

from pipeline.errors import MaskstreamError


class StandardStreamError(MaskstreamError, OSError):
    """A standard stream that takes nothing, as one into a file on a full disk."""

    @override
    def __str__(self) -> str:
        name = str(self.filename).strip("<>")
        return f"{name} cannot be written: {self.strerror} (accepted: a place that takes it)"


class LeavableStream(io.TextIOWrapper):
    """A standard stream that is closed, without an error, once nobody reads it any more.

    What is written after that is left out: the command goes on and ends with its own code. Any
    other error is a :class:`StandardStreamError`.
    """

    _origin: io.TextIOWrapper
    _is_optional = False

    @classmethod
    def over(cls, stream: io.TextIOWrapper, *, is_optional: bool = False) -> Self:
        """Return one that writes to the same file, in the same way.

        Args:
            stream: A standard stream.
            is_optional: What it does not take is left out: nobody can be told of it.
        """
        made = cls(
            stream.buffer,
            encoding=stream.encoding,
            errors=stream.errors,
            newline="\n",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        made._is_optional = is_optional
        made._origin = stream  # which closes the file once nobody holds it
        return made

    @override
    def write(self, text: str, /) -> int:
        if not self.closed:
            try:
                return super().write(text)
            except OSError as error:
                self._fail(error)
        # Still no place for bytes: by that typer tells which kind of stream it has.
        return io.StringIO().write(text)

    @override
    def flush(self) -> None:
        if not self.closed:
            try:
                super().flush()
            except OSError as error:
                self._fail(error)

    @override
    def isatty(self) -> bool:
        return not self.closed and super().isatty()

    def give_up(self) -> None:
        """Let what was not taken go nowhere, or Python would try it once more at its end."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)

    def _fail(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            # Python's own streams leave the descriptor open, so no other file gets its number.
            with suppress(BrokenPipeError):
                self.buffer.close()
        elif not self._is_optional:
            reason = error.strerror or str(error)
            raise StandardStreamError(error.errno, reason, self.name) from error


def let_readers_leave() -> None:
    """Let the reader of stdout or stderr go away without ending the command."""
    sys.stdout = _leavable(sys.stdout, is_optional=False)
    sys.stderr = _leavable(sys.stderr, is_optional=True)


def empty_stdout() -> None:
    """Write what stdout still holds. Raises :class:`StandardStreamError`, once."""
    stream = sys.stdout
    if not isinstance(stream, LeavableStream):
        return
    try:
        stream.flush()
    except StandardStreamError:
        stream.give_up()
        raise


def _leavable(stream: TextIO, *, is_optional: bool) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    return LeavableStream.over(cast("io.TextIOWrapper", stream), is_optional=is_optional)
