"""When a file is full, and how files are named and ordered then."""

from pathlib import Path

import pytest

from connectors.files.rotation import Rotation, in_order, kind_of, stamped_path

DAY_S = 86_400.0
MIDNIGHT_S = 20_000 * DAY_S


@pytest.mark.parametrize(
    ("size", "added", "written_s", "is_due"),
    [
        (90, 10, MIDNIGHT_S, False),
        (90, 11, MIDNIGHT_S, True),
        (0, 1000, MIDNIGHT_S - 1, False),
        (1, 1, MIDNIGHT_S - 1, True),
    ],
)
def test_a_file_is_full_by_size_or_at_midnight_but_never_when_empty(size, added, written_s, is_due):
    rotation = Rotation(num_bytes=100, period_s=DAY_S)
    now_s = MIDNIGHT_S + 60
    assert rotation.is_due(size=size, added=added, written_s=written_s, now_s=now_s) is is_due


@pytest.mark.parametrize("never", [None, 0])
def test_neither_limit_need_be_set(never):
    rotation = Rotation(num_bytes=never, period_s=never)
    assert not rotation.is_due(size=10**12, added=1, written_s=0, now_s=MIDNIGHT_S)


def test_no_name_is_given_twice_and_names_are_read_in_the_order_of_writing(tmp_path):
    names = []
    for now_s in (MIDNIGHT_S, MIDNIGHT_S, MIDNIGHT_S, MIDNIGHT_S + 1):
        path = stamped_path(tmp_path / "events.jsonl", now_s)
        path.touch()
        names.append(path.name)
    assert names == [
        "events-20241004T000000Z.jsonl",
        "events-20241004T000000Z_002.jsonl",
        "events-20241004T000000Z_003.jsonl",
        "events-20241004T000001Z.jsonl",
    ]
    others = ["events.jsonl", "masklets.jsonl"]
    paths = [Path(name) for name in [*reversed(others), *reversed(names)]]
    assert [path.name for path in in_order(paths)] == [*names, *others]
    assert {kind_of(Path(name)) for name in names} == {"events"}
    assert kind_of(Path("my-events.jsonl")) == "my-events"


def test_a_name_that_leads_nowhere_is_taken_too(tmp_path):
    (tmp_path / "events-20241004T000000Z.jsonl").symlink_to("nowhere")
    assert stamped_path(tmp_path / "events.jsonl", MIDNIGHT_S).stem.endswith("_002")
