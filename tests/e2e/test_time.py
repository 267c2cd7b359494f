"""Times that cannot be trusted, from pictures on disk to records on disk."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.app import build_app
from pipeline.cli.flags import OneCamera, Overrides, config_from_flags
from tests.media import write_photo
from tests.pipeline.fakes import COLORS, BlobTracker

DAY = datetime(2026, 5, 1, 8, 0, 0, tzinfo=UTC)
FALSE = datetime(2036, 5, 1, 8, 0, 1, tzinfo=UTC)
KINDS = ("masklets", "tracks", "events")


def run(folder, shots):
    """Run over photos of (time, whether the animal is on it); return the records by kind."""
    (folder / "in").mkdir()
    for number, (taken_at, has_animal) in enumerate(shots):
        pixels = np.zeros((48, 64, 3), np.uint8)
        if has_animal:
            pixels[16:32, 16:32] = COLORS["red"]
        write_photo(folder / "in" / f"IMG_{number:04d}.JPG", pixels, taken_at=taken_at)
    camera = OneCamera(source=str(folder / "in"), concepts=["red"], sinks=[f"jsonl:{folder}/out"])
    app = build_app(config_from_flags(camera, Overrides()), tracker=BlobTracker())
    assert app.engine.run().exit_code(is_strict=True) == 0
    files = {kind: folder / "out" / f"{kind}.jsonl" for kind in KINDS}
    return {
        kind: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        for kind, path in files.items()
    }


def after(seconds):
    return DAY + timedelta(seconds=seconds)


def events(records, kind, phase="new"):
    return [one for one in records["events"] if (one["kind"], one["phase"]) == (kind, phase)]


def changes(records, kind):
    return [one for one in records["tracks"] if one["kind"] == kind]


@pytest.mark.parametrize("count", [3, 5])
def test_a_burst_in_one_second_is_evidence(tmp_path, count):
    records = run(tmp_path, [(DAY, True)] * count)
    assert len(changes(records, "confirmed")) == 1
    assert len(events(records, "appear")) == 1
    times = [one["stream_time_us"] for one in records["masklets"]]
    assert times == [40_000 * number for number in range(count)]


def test_visits_half_a_day_and_days_apart_are_visits_of_their_own(tmp_path):
    times = [DAY, after(1), after(43_200), after(43_201), after(3 * 86_400 + 43_201)]
    records = run(tmp_path, [(time, True) for time in times])
    started = changes(records, "started")
    assert [one["capture_time"][:19] for one in started] == [
        "2026-05-01T08:00:00", "2026-05-01T20:00:00", "2026-05-04T20:00:01",
    ]  # fmt: skip
    assert [one["track_no"] for one in started] == [1, 2, 3]
    assert [one["reason"] for one in changes(records, "ended")] == [
        "discontinuity", "discontinuity", "stream_ended",
    ]  # fmt: skip
    assert len(events(records, "appear")) == 3
    ends = events(records, "appear", "end")
    assert max(one["value"]["present_s"] for one in ends) <= 1.0
    assert max(one["age_s"] for one in records["tracks"]) <= 1.0
    assert [one["end_time"][:19] for one in ends] == [
        "2026-05-01T08:00:01", "2026-05-01T20:00:01", "2026-05-04T20:00:01",
    ]  # fmt: skip


@pytest.mark.parametrize("place", [0, 1, 3, 8])
def test_one_false_stamp_stops_no_clock(tmp_path, place):
    shots = [(after(2 * number), number < 3) for number in range(9)]
    shots[place] = (FALSE, shots[place][1])
    records = run(tmp_path, shots)
    assert len(records["masklets"]) == 9
    ages = [thing["age_s"] for one in records["masklets"] for thing in one["objects"]]
    assert max(ages) <= 16
    assert len(changes(records, "started")) == 1
    (gone,) = events(records, "disappear")
    assert gone["frame_seq"] == 4
    times = [one.get(field) for one in records["events"] for field in ("start_time", "end_time")]
    assert {time[:10] for time in times if time is not None} == {"2026-05-01"}


def test_a_gap_within_the_limit_is_stated_and_not_counted(tmp_path):
    times = [0, 1, 2, 3, 43, 44]
    records = run(tmp_path, [(after(seconds), True) for seconds in times])
    assert len(changes(records, "started")) == 1
    (end,) = events(records, "appear", "end")
    assert end["gap_s"] == 39.0
    assert end["value"]["present_s"] == 4.0
