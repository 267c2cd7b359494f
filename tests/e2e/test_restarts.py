"""Workers that are killed and started again raise nothing twice, and give no number twice."""

import json
import random
import threading
from datetime import UTC, datetime

import pytest

from pipeline.clock import format_time
from tests.e2e.test_delivery import witnessed, worker, write_config
from tests.pipeline.engine.runs import wait_until

SLOW = pytest.mark.slow


def lines_of(folder, kind):
    """Bodies in the files of a kind, in the order in which they were written."""
    found = []
    for path in sorted(folder.glob(f"{kind}*.jsonl"), key=lambda path: path.stat().st_mtime_ns):
        found += [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    return found


@pytest.mark.parametrize("num_kills", [3, pytest.param(20, marks=SLOW)])
def test_killed_workers_go_on_with_their_tracks_and_events(num_kills, tmp_path):
    folder = tmp_path / "witness"
    config = write_config(
        tmp_path, sections={"state": {"folder": str(tmp_path / "state"), "snapshot_every_s": 0.3}}
    )
    rng = random.Random(num_kills)  # noqa: S311 - the same moments each time
    for number in range(num_kills + 1):
        num_before = len(witnessed(folder, "events"))
        with worker(config, MASKSTREAM_TEST_WITNESS=str(folder)) as process:
            wait_until(lambda: len(witnessed(folder, "events")) > num_before + 3)  # noqa: B023
            threading.Event().wait(rng.uniform(0.0, 1.5))
            if number < num_kills:
                process.kill()
            else:
                process.terminate()
                assert process.wait(30) == 0
    events = lines_of(folder, "events")
    phases = {}
    for body in events:
        phases.setdefault(body["event_id"], []).append((body["sequence"], body["phase"]))
    assert len(events) > 3 * num_kills
    for told in phases.values():
        numbers = sorted({sequence for sequence, _ in told})
        assert numbers == list(range(len(numbers)))
        assert [phase for _, phase in sorted(set(told))].count("new") == 1
        assert [phase for _, phase in sorted(set(told))].count("end") <= 1
    uids = {}
    for body in lines_of(folder, "tracks"):
        uids.setdefault((body["stream_id"], body["track_no"]), set()).add(body["track_uid"])
    assert all(len(found) == 1 for found in uids.values())
    text = (config.parent / "stderr").read_text()
    assert "Traceback" not in text


def test_camera_taken_out_of_the_file_ends_its_events_once_and_the_other_goes_on(tmp_path):
    folder = tmp_path / "witness"
    state = {"state": {"folder": str(tmp_path / "state"), "snapshot_every_s": 0.3}}
    config = write_config(tmp_path, sections=state)

    def told(kind, stream_id):
        found = lines_of(folder, kind) if folder.exists() else []
        return [body for body in found if body["stream_id"] == stream_id]

    def open_events():
        last = {body["event_id"]: body for body in told("events", "b")}
        return {name for name, body in last.items() if body["phase"] != "end"}

    def run_until(condition):
        with worker(config, MASKSTREAM_TEST_WITNESS=str(folder)) as process:
            wait_until(condition)
            process.kill()

    run_until(open_events)
    were_open, num_before = open_events(), len(told("status", "a"))
    killed_at = format_time(datetime.now(UTC))
    write_config(tmp_path, stream_ids=("a",), sections=state)
    run_until(lambda: not open_events() and len(told("status", "a")) > num_before + 3)
    forgotten = tmp_path / "state/snapshots/b"
    run_until(lambda: len(told("status", "a")) > num_before + 9 and not forgotten.exists())
    ends = [body for body in told("events", "b") if body.get("end_reason") == "stream_removed"]
    # A line may come twice after a kill, but not another one.
    once = {(body["event_id"], body["ce_id"], body["result_time"]) for body in ends}
    ended = [event_id for event_id, *_ in once]
    assert len(ended) == len(set(ended))
    assert were_open <= set(ended)  # the log may know of one that was not in the file yet
    assert [path.name for path in (tmp_path / "state/snapshots").iterdir()] == ["a"]
    later = [body for body in told("status", "a") if body["time"] > killed_at]
    assert all(body["restored"]["taken_at"] < body["time"] for body in later)
    assert not any("state_error" in body for body in later)
