"""How every command tells of errors: one clear line each, and an exit code."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

import typer

from connectors.errors import ConnectorError, redact_url
from pipeline.cli.output import write_error, write_line
from pipeline.errors import ConfigError, MaskstreamError

FAILED, BAD_USAGE = 1, 2
DEBUG_VARIABLE = "MASKSTREAM_DEBUG"


@contextmanager
def telling(*, json_lines: bool = False) -> Generator[None]:
    """Turn errors into one clear line each and an exit code; ``json_lines`` on stdout as well."""
    try:
        yield
    except ConfigError as error:
        for problem in error.problems:
            tell_error(problem, json_lines=json_lines)
        raise typer.Exit(BAD_USAGE) from None
    except (MaskstreamError, ConnectorError) as error:
        tell_error(str(error), json_lines=json_lines)
        raise typer.Exit(FAILED) from None
    except BrokenPipeError:
        # The reader of our output has left, as `head` does. Nothing more can be said.
        sys.stdout = None
        raise typer.Exit(FAILED) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if is_debugging():
            raise
        told = f"{type(error).__name__}: {error} (--debug shows where)"
        tell_error(told, json_lines=json_lines)
        raise typer.Exit(FAILED) from None


def tell_error(reason: str, *, json_lines: bool, **fields: object) -> None:
    """Tell people of an error on stderr, and programs on stdout if ``json_lines`` are wanted."""
    write_error(reason)
    if json_lines:
        write_line("error", **fields, reason=redact_url(reason))


def is_debugging() -> bool:
    """Whether tracebacks and all logs are wanted."""
    return bool(os.environ.get(DEBUG_VARIABLE))
