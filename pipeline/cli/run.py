"""``maskstream run``: watch streams until they end. Heavy imports wait until it is run."""

import logging
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from pipeline.cli.errors import log_level, reporting_errors
from pipeline.cli.flag_groups import refuse_unfit
from pipeline.cli.flags import (
    DEFAULT_STREAM_ID,
    Checkpoint,
    Device,
    Json,
    ModelName,
    OneCamera,
    Overrides,
    apply_overrides,
    config_from_flags,
)
from pipeline.cli.output import RunProgress, show_summary, write_error
from pipeline.config.loading import load_config
from pipeline.config.run import RunConfig
from pipeline.errors import ConfigError, RunError
from pipeline.observe.logs import set_up_logs

if TYPE_CHECKING:
    from pipeline.engine.engine import Engine
    from pipeline.engine.summary import RunSummary

# Times of files go by a clock that ticks every 10 ms at most.
_TICK_S = 0.01
_END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MetricsPort = Annotated[
    int | None, typer.Option(help="Port for /metrics, /livez, /readyz; 0 switches it off.")
]


def run(  # noqa: PLR0913 - one parameter per flag
    context: typer.Context,
    config: Annotated[Path | None, typer.Argument(help="A YAML configuration.")] = None,
    *,
    source: Annotated[
        str | None, typer.Option(help="rtsp://…, a file or folder, kafka://host:port/topic, …")
    ] = None,
    concept: Annotated[
        list[str] | None, typer.Option(help="What to look for; may be given again.")
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(help="kafka://host:port, jsonl:FOLDER, FILE.mp4, FILE.png, console."),
    ] = None,
    zone: Annotated[
        list[str] | None, typer.Option(help="'gate=0.1,0.2 0.9,0.2 0.5,0.9'; may be given again.")
    ] = None,
    stream_id: Annotated[
        str, typer.Option(help="Name of the stream: camera, or * (every key) for Kafka.")
    ] = DEFAULT_STREAM_ID,
    max_fps: Annotated[float | None, typer.Option(help="Look at no more frames a second.")] = None,
    model: ModelName[str | None] = None,
    checkpoint: Checkpoint = None,
    device: Device[str | None] = None,
    metrics_port: MetricsPort = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if anything at all has failed.")
    ] = False,
    json_lines: Json = False,
) -> None:
    """Watch streams until they end: from a configuration, or one camera from flags."""
    overrides = Overrides(
        model=model, checkpoint=checkpoint, device=device, metrics_port=metrics_port
    )
    with reporting_errors(json_lines=json_lines):
        if (config is None) == (source is None):
            raise ConfigError(["give either a configuration file or --source (accepted: one)"])
        if config is not None:
            camera = "concept", "sink", "zone", "max_fps", "stream_id"
            refuse_unfit(context, "a configuration", {"a configuration": (), "--source": camera})
            load = partial(_load, config, overrides)
            run_to_end(load(), json_lines=json_lines, is_strict=strict, load=load)
        else:
            flags = OneCamera(
                source=source or "",
                concepts=concept or (),
                sinks=sink or (),
                zones=zone or (),
                stream_id=stream_id,
                max_fps=max_fps,
                json_lines=json_lines,
            )
            resolved = config_from_flags(flags, overrides)
            run_to_end(resolved, json_lines=json_lines, is_strict=strict)


def _load(path: Path, overrides: Overrides) -> RunConfig:
    return apply_overrides(load_config(path), overrides)


def run_to_end(
    config: RunConfig,
    *,
    json_lines: bool,
    level: int = logging.INFO,
    is_strict: bool = False,
    load: Callable[[], RunConfig] | None = None,
) -> None:
    """Run a configuration with progress and a summary; exits with a code if anything failed.

    Args:
        config: The configuration.
        json_lines: Print machine-readable lines.
        level: Of the log.
        is_strict: A single failure fails the run.
        load: Reads the configuration file again, which SIGHUP asks for where there is no terminal.
    """
    set_up_logs(style=config.observe.log_format, level=log_level(level))
    began_s = time.time()
    # A terminal that closes ends the run.
    reloads = load is not None and not (sys.stdin is not None and sys.stdin.isatty())
    with _ending_on_signals(reloads=reloads) as end:
        from pipeline.api.running import open_app  # takes seconds: within what a signal ends

        with open_app(config, load=load) as app:
            end.watch(app.engine)
            summary = run_engine(app.engine, json_lines=json_lines, on_turn=end.reload_if_due)
    files = files_since(config, began_s)
    finish(summary, files=files, json_lines=json_lines, is_strict=is_strict)


def files_since(config: RunConfig, began_s: float) -> list[Path]:
    """Return the files that sinks have written to since a time, in seconds since the epoch."""
    found = {path for sink in config.sinks for path in sink.list_files()}
    return sorted(path for path in found if _written_s(path) > began_s - _TICK_S)


def _written_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # rotated files may be taken away at any time
        return 0.0


def run_engine(
    engine: "Engine", *, json_lines: bool, on_turn: Callable[[], None] = lambda: None
) -> "RunSummary":
    """Run an engine with progress until it ends; returns what it led to."""
    with RunProgress(json_lines=json_lines) as progress:

        def show() -> None:
            on_turn()
            if progress.is_due():
                progress.show(engine.summary())

        return engine.run(show)


def finish(
    summary: "RunSummary", *, files: list[Path], json_lines: bool, is_strict: bool = False
) -> None:
    """Show what a run led to; exits with a code if something has failed."""
    try:
        show_summary(summary, files=files, json_lines=json_lines)
    finally:  # a full disk behind stdout hides none of them
        for error in summary.errors:
            write_error(error)
    if code := summary.exit_code(is_strict=is_strict):
        raise typer.Exit(code)


@contextmanager
def _ending_on_signals(*, reloads: bool) -> Generator["_EndSignal"]:
    """Let the first SIGINT, SIGTERM or SIGHUP end the run in order, and a second one at once.

    A SIGHUP that was ignored before, as by ``nohup``, stays so. With ``reloads`` it has the
    configuration file read again.
    """
    before = {number: signal.getsignal(number) for number in _END_SIGNALS}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    end = _EndSignal(before, reloads=reloads)
    for number in end.before:
        signal.signal(number, end.on_signal)
    try:
        yield end
    except KeyboardInterrupt:
        if end.is_early:
            raise RunError("stopped before the run began") from None
        raise
    finally:
        end.restore()


class _EndSignal:
    """What a signal ends: the engine, or before there is one the start.

    Args:
        before: Handlers to be restored.
        reloads: SIGHUP ends nothing, but has the configuration file read again.
    """

    def __init__(self, before: dict[signal.Signals, Any], *, reloads: bool) -> None:
        self.before = before
        self._reloads = reloads
        self._is_reload_due = False
        self.is_early = False
        self._engine: Engine | None = None

    def watch(self, engine: "Engine") -> None:
        """The start is over: signals end an engine from now on."""
        self._engine = engine
        if self.is_early:  # whatever was being loaded has swallowed the interruption
            engine.stop()

    def on_signal(self, number: int, _frame: object) -> None:
        """End the run, and let the next signal end the process; or note a reload."""
        if number == signal.SIGHUP and self._reloads:
            self._is_reload_due = True
            return
        self.restore()
        if self._engine is None:
            self.is_early = True
            raise KeyboardInterrupt
        self._engine.stop()

    def reload_if_due(self) -> None:
        """Have the configuration file read again, by a thread of its own, if a signal asked so."""
        if not self._is_reload_due or self._engine is None:
            return
        self._is_reload_due = False
        from pipeline.records.command import Reload

        command = Reload(
            command_id=f"sighup-{uuid4()}", issued_by="SIGHUP", issued_at=datetime.now(UTC)
        )
        execute = self._engine.execute
        Thread(target=execute, args=(command,), name="reload", daemon=True).start()

    def restore(self) -> None:
        """Let signals do what they did before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
