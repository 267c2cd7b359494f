"""Workers that are killed and started again raise nothing twice, and give no number twice."""

import json
import random
import threading

import pytest

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
