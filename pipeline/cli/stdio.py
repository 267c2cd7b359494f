"""Standard streams whose reader may go away, as ``head`` goes once it has its lines."""

import io
import sys
from contextlib import suppress
from typing import Self, TextIO, cast

from typing_extensions import override


class LeavableStream(io.TextIOWrapper):
    """A standard stream that is closed, without an error, once nobody reads it any more.

    What is written after that is left out: the command goes on and ends with its own code.
    """

    _origin: io.TextIOWrapper

    @classmethod
    def over(cls, stream: io.TextIOWrapper) -> Self:
        """Return one that writes to the same file, in the same way."""
        made = cls(
            stream.buffer,
            encoding=stream.encoding,
            errors=stream.errors,
            newline="\n",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        made._origin = stream  # which closes the file once nobody holds it
        return made

    @override
    def write(self, text: str, /) -> int:
        if not self.closed:
            try:
                return super().write(text)
            except BrokenPipeError:
                self._leave()
        # Still no place for bytes: by that typer tells which kind of stream it has.
        return io.StringIO().write(text)

    @override
    def flush(self) -> None:
        if not self.closed:
            try:
                super().flush()
            except BrokenPipeError:
                self._leave()

    @override
    def isatty(self) -> bool:
        return not self.closed and super().isatty()

    def _leave(self) -> None:
        # Python's own streams leave the descriptor open, so no other file gets its number.
        with suppress(BrokenPipeError):
            self.buffer.close()


def let_readers_leave() -> None:
    """Let the reader of stdout or stderr go away without ending the command."""
    sys.stdout, sys.stderr = map(_leavable, (sys.stdout, sys.stderr))


def _leavable(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    return LeavableStream.over(cast("io.TextIOWrapper", stream))
