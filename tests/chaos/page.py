"""Rows of the page of results, and the page."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.fault import Fault, Trial
from tests.chaos.outcome import NOISE_MS, Outcome, in_words

PAGE = Path("configs/guarantees.md")
COLUMNS = (
    "fault",
    "what was done",
    "recovery",
    "frames lost",
    "records lost",
    "repeats",
    "identities kept",
    "wrong events",
    "p99 beside",
)
_TEXT = """\
# What faults cost

`make chaos` brings about each fault of this table with real servers, brokers and processes,
measures from outside what it costs, and writes this page. It fails, and names the limit, if one
is broken. Measured {when} on {cores} cores, beside other programs;
workers killed up to {kills} times.

{table}

- **recovery**: from the end of the fault, or a worker's new start, to the first record of after
  it; for brokers, until nothing waits; for workers that share streams, the longest time that one
  of these had no result; the slowest of all. In brackets what is accepted: for cameras the longest
  wait between two tries and 2 s.
- **frames lost**: by cause, as the worker counts them in `maskstream_frames_dropped_total`.
  `away` are those that a camera would have given while there was no way to it, `shed` those whose
  record was left out for want of room.
- **records lost** (accepted: 0; –: not counted): missing where a file beside has them, or where a
  frame calls for them. For workers that are killed beside cameras, events and status: what a
  camera gave in the last moment was nowhere yet. For those behind Kafka, a record for each frame.
- **repeats**: records that came again, equal but for `result_time`, and others (accepted: 0).
- **identities kept**: streams on which a thing that stands there has one track to the end; of the
  car park, things that have.
- **wrong events** (accepted: 0): events that began twice, jumped, went on after their end, or
  ended though the thing stood there. What stands there has one event, open to the end.
- **p99 beside**: time from capture to result of a camera beside, before and during the fault
  (accepted: 20 % more, or {noise_ms:g} ms, which other programs on these cores can take; with
  three and more programs for two cores it says nothing).

The model has fixed answers here but for the car park, so that identities are those of tracks, state
and events. What `sam3-nano` keeps, by `{identity_command}`: {identity}.
{broken}
## Not run

{not_run}
"""
# The tracker's own share, on held-out worlds; measured apart, because it takes the model.
_IDENTITY_COMMAND = 'make bench-state ARGS="--worlds 40"'
_IDENTITY = (
    "248 of 248 objects that were visible before and after gaps of 0 to 2 s\n(244 without a kill)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the page says of a fault.

    Attributes:
        name: Of the fault.
        cells: One for each column; none: it was not tried.
        broken: Limits that do not hold.
        missing: Why it was not tried.
        num_kills: How often workers were killed.
        on: The day, as ISO writes it.
    """

    name: str
    cells: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    missing: str = ""
    num_kills: int = 0
    on: str = ""

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> "Row":
        lists = {name: tuple(fields[name]) for name in ("cells", "broken")}
        return cls(**{**fields, **lists})

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def build_row(fault: Fault, trial: Trial, outcome: Outcome | str) -> Row:
    """Return the row of a fault that was tried; text says why it led to nothing."""
    about = {"name": fault.name, "num_kills": trial.num_kills, "on": f"{datetime.now(UTC):%F}"}
    what = fault.what.format(kills=trial.num_kills)
    if isinstance(outcome, str):
        cells = (fault.name, what, "never", *["?"] * (len(COLUMNS) - 3))
        return Row(cells=cells, broken=(outcome,), **about)
    kept, num_all = outcome.identities
    cells = (
        fault.name,
        what,
        f"{in_words(max(outcome.recoveries_s))} (≤ {fault.limits.recovery_s:g})",
        ", ".join(f"{n} {cause}" for cause, n in sorted(outcome.frames_lost.items()) if n) or "0",
        "–" if outcome.records_lost is None else str(outcome.records_lost),
        f"{outcome.repeats.same}, {outcome.repeats.other} others",
        f"{kept} of {num_all}",
        str(len(outcome.event_faults)),
        _latencies(outcome),
    )
    return Row(cells=cells, broken=outcome.broken(fault.limits), **about)


def build_page(rows: Sequence[Row], not_run: Mapping[str, str]) -> str:
    """Return the page of all faults.

    Args:
        rows: One for each, in order.
        not_run: What nobody can bring about here, and why.
    """
    days = sorted({row.on for row in rows if row.cells})
    missing = {row.name: row.missing for row in rows if not row.cells} | dict(not_run)
    broken = [f"- **{row.name}**: {one}" for row in rows for one in row.broken]
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(row.cells for row in rows if row.cells)]
    return _TEXT.format(
        when=" to ".join(dict.fromkeys((days[0], days[-1]))) if days else "never",
        cores=os.cpu_count(),
        kills=max((row.num_kills for row in rows), default=0),
        table="\n".join(map(_line, lines)),
        broken="\n".join(["", "## Limits that are broken", "", *broken, ""]) if broken else "",
        not_run="\n".join(f"- {name}: {reason}." for name, reason in missing.items()),
        identity_command=_IDENTITY_COMMAND,
        identity=_IDENTITY,
        noise_ms=NOISE_MS,
    )


def _latencies(outcome: Outcome) -> str:
    if outcome.latencies_ms is None:
        return "–"
    before, during = outcome.latencies_ms
    text = f"{before:.0f}, {during:.0f} ms"
    return text if outcome.is_timed else f"{text}; not judged, load {outcome.load:.0f} a core"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
