"""Errors of every command: one clear line each, and an exit code."""

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress

import typer

from connectors.errors import ConnectorError, redact_url
from models.protocols import DeviceLostError
from pipeline.cli.output import write_error, write_line
from pipeline.cli.stdio import StandardStreamError
from pipeline.errors import ConfigError, ExitCode, MaskstreamError

DEBUG_VARIABLE = "MASKSTREAM_DEBUG"

# What the package itself does not need: modules by the extra that installs them.
EXTRAS: dict[str, frozenset[str]] = {
    "lab": frozenset({"fontTools", "matplotlib", "pycocotools", "tensorboard"}),
    "export": frozenset({"onnx", "onnxscript"}),
    "registry": frozenset({"httpx2"}),
    "supervision": frozenset({"supervision"}),
}


@contextmanager
def reporting_errors(*, json_lines: bool = False) -> Generator[None]:
    """Turn errors into one clear line each and an exit code; ``json_lines`` on stdout as well."""
    try:
        yield
    except ConfigError as error:
        for problem in error.problems:
            report_error(problem, json_lines=json_lines)
        raise typer.Exit(ExitCode.BAD_USAGE) from None
    except ModuleNotFoundError as error:
        report_error(_explain_missing(error), json_lines=json_lines)
        raise typer.Exit(ExitCode.BAD_USAGE) from None
    except DeviceLostError as error:
        report_error(str(error), json_lines=json_lines)
        raise typer.Exit(ExitCode.DEVICE_LOST) from None
    except (MaskstreamError, ConnectorError) as error:
        report_error(str(error), json_lines=json_lines)
        raise typer.Exit(ExitCode.FAILED) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if is_debugging():
            raise
        reason = f"{type(error).__name__}: {error} (--debug shows where)"
        report_error(reason, json_lines=json_lines)
        raise typer.Exit(ExitCode.FAILED) from None


def _explain_missing(error: ModuleNotFoundError) -> str:
    """Return what is missing and how to install it."""
    name = (error.name or "").partition(".")[0]
    extra = next((extra for extra, names in EXTRAS.items() if name in names), None)
    what = "maskstream" if extra is None else f"maskstream[{extra}]"
    return f"{name or error} is not installed (accepted: pip install '{what}')"


def report_error(reason: str, *, json_lines: bool, **fields: object) -> None:
    """Write an error to stderr for people and, with ``json_lines``, to stdout for programs."""
    write_error(reason)
    if json_lines:
        with suppress(StandardStreamError):  # which may be what is reported
            write_line("error", **fields, reason=redact_url(reason))


def log_level(usual: int = logging.WARNING) -> int:
    """Return the lowest level of logs to show: ``usual``, or all if they are wanted."""
    return logging.DEBUG if is_debugging() else usual


def is_debugging() -> bool:
    """Whether tracebacks and all logs are wanted."""
    return bool(os.environ.get(DEBUG_VARIABLE))
