"""The page of results says all that was tried, and what was not."""

import re
from dataclasses import replace
from pathlib import Path

from tests.chaos.fault import Trial
from tests.chaos.outcome import Outcome
from tests.chaos.page import COLUMNS, PAGE, Row, build_page, build_row
from tests.chaos.table import FAULTS, NOT_RUN

ROOT = Path(__file__).parents[2]
TRIAL = Trial(folder=Path("unused"), num_kills=7)
GOOD = Outcome(
    recoveries_s=(0.5, 1.25),
    frames_lost={"away": 3, "bad_frame": 0},
    records_lost=0,
    identities=(2, 2),
)


def rows_of(text):
    """Cells of each row of the table, the head left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def not_run_in(text):
    return re.findall(r"^- (.+?): ", text.partition("## Not run")[2], re.MULTILINE)


def test_page_has_each_fault_once_with_its_figures_or_why_there_are_none():
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    tried = [cells[0] for cells in rows_of(text)]
    names = [fault.name for fault in FAULTS]
    assert sorted([*tried, *not_run_in(text)]) == sorted([*names, *NOT_RUN])
    assert [name for name in names if name in tried] == tried
    assert all(len(cells) == len(COLUMNS) for cells in rows_of(text))


def test_page_names_faults_that_are_there():
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    broken = re.findall(r"^- \*\*(.+?)\*\*: ", text.partition("## Limits")[2], re.MULTILINE)
    assert set(broken) <= {fault.name for fault in FAULTS}


def test_readme_links_to_the_page():
    assert f"({PAGE})" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_row_tells_the_slowest_recovery_and_what_was_lost():
    fault = replace(FAULTS[0], name="kill", what="{kills} kills")
    row = build_row(fault, TRIAL, GOOD)
    assert row.cells[:4] == ("kill", "7 kills", "1.2 s (≤ 4)", "3 away")
    assert row.cells[4:] == ("0", "0, 0 others", "2 of 2", "0", "–")
    assert row.broken == ()
    assert Row.from_json(row.to_json()) == row


def test_records_that_nobody_counts_are_not_said_to_be_there():
    row = build_row(FAULTS[0], TRIAL, replace(GOOD, records_lost=None))
    assert row.cells[COLUMNS.index("records lost")] == "–"
    assert row.broken == ()


def test_page_names_limits_that_are_broken_and_what_could_not_be_tried():
    broken = build_row(FAULTS[0], TRIAL, replace(GOOD, records_lost=2))
    missing = Row(name="size flip", missing="no server")
    text = build_page([broken, missing], {"power cut": "needs a machine"})
    assert "- **camera killed**: 2 records lost (accepted: 0)" in text
    assert not_run_in(text) == ["size flip", "power cut"]


def test_fault_that_leads_to_nothing_breaks_its_limit():
    row = build_row(FAULTS[0], TRIAL, "it led to nothing")
    assert len(row.cells) == len(COLUMNS)
    assert row.broken == ("it led to nothing",)
