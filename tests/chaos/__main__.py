"""``make chaos``: bring about each fault, measure what it costs, and write the page of results.

What a worker left behind lies in ``runs/chaos``. The page is written once every fault has a row,
so that single ones can be tried again by ``ARGS="--only 'camera killed'"``.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import warnings
from pathlib import Path

from rich.console import Console

from tests.chaos.fault import Fault, Trial
from tests.chaos.page import COLUMNS, PAGE, Row, build_page, build_row
from tests.chaos.table import FAULTS, NOT_RUN

_RUNS = Path("runs/chaos")
_ROWS = _RUNS / "rows.json"


def main() -> None:
    """Try the faults; the exit code is 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    kills = int(os.environ.get("KILLS", "20"))
    parser.add_argument("--kills", type=int, default=kills, help="of workers, in a row about them")
    parser.add_argument("--only", action="append", default=[], help="name of a fault, or a part")
    options = parser.parse_args()
    # kafka-python reads its schemas by functions that Python 3.11 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    logging.getLogger("kafka").setLevel(logging.ERROR)
    console = Console(highlight=False, width=200)
    rows = _read_rows()
    chosen = [fault for fault in FAULTS if _is_chosen(fault, options.only)]
    for fault in chosen:
        rows[fault.name] = row = try_fault(fault, num_kills=options.kills)
        _write_rows(rows)
        show(console, row)
    if all(fault.name in rows for fault in FAULTS):
        page = build_page([rows[fault.name] for fault in FAULTS], NOT_RUN)
        PAGE.write_text(page, encoding="utf-8")
        console.print(f"{PAGE} is written")
    sys.exit(any(rows[fault.name].broken for fault in chosen))


def try_fault(fault: Fault, *, num_kills: int) -> Row:
    """Bring a fault about where that can be, and return its row."""
    if (missing := fault.missing()) is not None:
        return Row(name=fault.name, missing=missing)
    folder = (_RUNS / fault.name.replace(" ", "-").replace(",", "").replace("%", "p")).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    trial = Trial(folder=folder, num_kills=num_kills)
    try:
        return build_row(fault, trial, fault.run(trial))
    except Exception as error:  # noqa: BLE001 - whatever it is, the others are tried
        return build_row(fault, trial, f"it led to nothing: {type(error).__name__}: {error}")


def show(console: Console, row: Row) -> None:
    """Print a row as it comes."""
    if not row.cells:
        console.print(f"[yellow]{row.name}: NOT RUN: {row.missing}[/]")
        return
    cells = zip(COLUMNS[2:], row.cells[2:], strict=True)
    console.print(f"{row.name}: " + "; ".join(f"{name} {cell}" for name, cell in cells))
    for limit in row.broken:
        console.print(f"[red]BROKEN: {row.name}: {limit}[/]")


def _is_chosen(fault: Fault, names: list[str]) -> bool:
    return not names or any(name in fault.name for name in names)


def _read_rows() -> dict[str, Row]:
    if not _ROWS.exists():
        return {}
    return {row["name"]: Row.from_json(row) for row in json.loads(_ROWS.read_text())}


def _write_rows(rows: dict[str, Row]) -> None:
    _ROWS.write_text(json.dumps([row.to_json() for row in rows.values()]))


if __name__ == "__main__":
    main()
