"""What people and programs see of a run: progress, summary, errors."""

import json
import logging
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from connectors.errors import redact_url
from connectors.terminal import escape_controls
from pipeline.engine.summary import RunSummary

# Given the number of steps, returns what is called after each of them.
OnTotal = Callable[[int], Callable[[], None]]
_logger = logging.getLogger("maskstream.output")

_SHOW_EVERY_S = 0.25
_LINE_EVERY_S = 1.0


def write_line(kind: str, **fields: object) -> None:
    """Write one line of JSON to stdout."""
    sys.stdout.write(f"{json.dumps({'type': kind, **fields}, default=str)}\n")
    sys.stdout.flush()


def write_error(message: str) -> None:
    """Write one clear line to stderr, without secrets."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    shown = _plain(redact_url(message))
    console.print(Text("error: ", style="bold red").append(shown, style="default"))


def write_warning(message: str) -> None:
    """Write one clear line to stderr about something that may not be as expected."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text("warning: ", style="bold yellow").append(_plain(message), style="default"))


class RunProgress:
    """Shows on stderr how a run goes, or writes it to stdout as JSON lines.

    Args:
        json_lines: JSON lines instead of a live line for people.
    """

    def __init__(self, *, json_lines: bool) -> None:
        self._json_lines = json_lines
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._is_stuck = False
        self._shown_s = 0.0
        self._began_s = 0.0

    def __enter__(self) -> "RunProgress":
        self._began_s = self._shown_s = time.monotonic()
        if not self._json_lines and self._console.is_terminal:
            self._live = Live(
                console=self._console,
                transient=True,
                auto_refresh=False,
                redirect_stdout=_are_lines_to_pass(),
            )
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def is_due(self) -> bool:
        """Whether it is time to show something again."""
        every_s = _LINE_EVERY_S if self._json_lines else _SHOW_EVERY_S
        if time.monotonic() - self._shown_s < every_s:
            return False
        self._shown_s = time.monotonic()
        return self._json_lines or self._live is not None

    def show(self, summary: RunSummary) -> None:
        """Show a summary of what happened so far."""
        if self._json_lines:
            self._write_line(summary)
        elif self._live is not None:
            brief = _brief(summary)
            text = "  ".join(f"{name.replace('_', ' ')} {value}" for name, value in brief.items())
            self._live.update(Text(f"⏵ {text}", style="cyan"), refresh=True)

    def _write_line(self, summary: RunSummary) -> None:
        """Write a line, or none while stdout takes none: no camera stops for that."""
        try:
            write_line("progress", **_brief(summary))
        except OSError as error:
            if not self._is_stuck:
                _logger.warning("%s; progress is left out until it can", error)
            self._is_stuck = True
        else:
            self._is_stuck = False


@contextmanager
def progress_bar(name: str, *, least_steps: int = 1) -> Generator[OnTotal]:
    """Show a bar on stderr if that is a terminal; yields what takes the number of steps.

    Args:
        name: Label beside the bar.
        least_steps: Fewer steps than this show no bar.
    """
    console = Console(stderr=True)
    with Progress(
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=_are_lines_to_pass(),
    ) as bar:

        def begin(total: int) -> Callable[[], None]:
            task = bar.add_task(name, total=total, visible=total >= least_steps)
            return lambda: bar.advance(task)

        yield begin


def show_summary(summary: RunSummary, *, files: list[Path], json_lines: bool) -> None:
    """Write what a run led to, to stdout."""
    if json_lines:
        body = asdict(summary)
        for stream, plain in zip(summary.streams, body["streams"], strict=True):
            plain["counts"] = stream.counts.model_dump()
        fields = {"fps": round(summary.fps, 2), "files": files, "failed": summary.num_failed}
        write_line("summary", **body, **fields, ok=summary.num_failed == 0)
        return
    console = Console(highlight=False)
    console.print(_stream_table(summary))
    for name, reason in summary.sink_errors.items():
        if name not in summary.num_kept:
            console.print(Text(_plain(f"sink {name} failed: {reason}"), style="red"))
    for path in files:
        console.print(Text(_plain(f"  {path}  "), style="bold").append(_size_of(path), style="dim"))
    if summary.num_failed:
        console.print(Text(f"{summary.num_failed} failed", style="bold red"))
    for name in summary.num_kept:  # at the end, where it is read
        console.print(Text(_plain(f"sink {name}: {summary.sink_errors[name]}"), style="yellow"))


def _are_lines_to_pass() -> bool:
    """Whether rich is to let lines of stdout pass above what it shows on stderr.

    It writes them to stderr for that, which is wrong where stdout is a file or a pipe.
    """
    return sys.stdout.isatty()


def _stream_table(summary: RunSummary) -> Table:
    title = f"{summary.num_processed} frames in {summary.wall_s:.1f} s, {summary.fps:.1f} fps"
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in ("stream", "frames", "dropped", "tracks", "events", "ended"):
        table.add_column(heading)
    for stream in summary.streams:
        counts = stream.counts
        lost = {**({"gated": counts.gated} if counts.gated else {}), **counts.dropped}
        ending = Text("failed", style="red") if stream.error else Text("well")
        cells = (
            stream.stream_id,
            f"{counts.processed} of {counts.received}",
            _listed(lost) or "0",
            f"{stream.num_tracks}  {_in_brackets(stream.concepts)}".strip(),
            _listed(stream.events, separator="\n") or "0",
        )
        # As texts: rich reads markup in strings, and an id or a concept may hold brackets.
        table.add_row(*(Text(_plain(cell)) for cell in cells), ending)
    return table


def _plain(text: str) -> str:
    """Return ``text`` with only its line feeds left to steer the terminal."""
    return "\n".join(map(escape_controls, text.split("\n")))


def _brief(summary: RunSummary) -> dict[str, object]:
    counts = [stream.counts for stream in summary.streams]
    return {
        "frames": summary.num_processed,
        "fps": round(summary.fps, 1),
        "dropped": sum(sum(count.dropped.values()) for count in counts),
        "tracks": sum(stream.num_tracks for stream in summary.streams),
        "events": sum(sum(stream.events.values()) for stream in summary.streams),
    }


def _listed(numbers: dict[str, int], separator: str = ", ") -> str:
    return separator.join(f"{num} {name}" for name, num in sorted(numbers.items()))


def _in_brackets(numbers: dict[str, int]) -> str:
    return f"({_listed(numbers)})" if numbers else ""


def _size_of(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
