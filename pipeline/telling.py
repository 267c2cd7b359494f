"""How every command tells of errors: one clear line each, and an exit code."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

import typer

from connectors.errors import ConnectorError
from pipeline.display import write_error, write_line
from pipeline.errors import ConfigError, MaskstreamError

FAILED, BAD_USAGE = 1, 2
DEBUG_VARIABLE = "MASKSTREAM_DEBUG"


@contextmanager
def telling(*, json_lines: bool = False) -> Generator[None]:
    """Turn errors into one clear line each and an exit code."""
    try:
        yield
    except ConfigError as error:
        for problem in error.problems:
            write_error(problem)
        if json_lines:
            write_line("check", ok=False, problems=error.problems)
        raise typer.Exit(BAD_USAGE) from None
    except (MaskstreamError, ConnectorError) as error:
        write_error(str(error))
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
        write_error(f"{type(error).__name__}: {error} (--debug shows where)")
        raise typer.Exit(FAILED) from None


def is_debugging() -> bool:
    """Whether tracebacks and all logs are wanted."""
    return bool(os.environ.get(DEBUG_VARIABLE))
