"""Runs into files: a disk that fills up and has room again, and files that rotate."""

import json
from functools import partial

import pytest

from pipeline.config.run import RunConfig
from pipeline.records.reading import read_records
from tests.connectors.small_disk import fill, small_disk
from tests.e2e.cameras import Sections, watch_cameras
from tests.pipeline.engine.runs import in_turn

KINDS = ("events", "masklets", "tracks")


def config_of(tmp_path, folder, **options):
    sections = {
        "state": {"folder": str(tmp_path / "state")},
        "delivery": {"behind_s": 0.2, "down_s": 0.5},
    }
    fields = Sections(stream_ids=("a", "b"), jsonl={"files": str(folder)}, sections=sections)
    config = fields.build()
    config["sinks"][0] |= options
    return RunConfig.model_validate(config)


def bodies_in(folder, kind):
    """Bodies in the files of a kind, whichever of them holds them."""
    paths = folder.glob(f"{kind}*.jsonl")
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def delivered(app):
    """Records of each kind that the sink has confirmed."""
    value = app.metrics.registry.get_sample_value
    name = "maskstream_records_delivered_total"
    labels = [{"sink": "files", "topic": f"maskstream.{kind}.v1"} for kind in KINDS]
    return {kind: int(value(name, one) or 0) for kind, one in zip(KINDS, labels, strict=True)}


def has_delivered(app, num_masklets):
    return delivered(app)["masklets"] > num_masklets


def assert_whole(summary, folder):
    """Each frame that was processed has its record, once and in order."""
    masklets = bodies_in(folder, "masklets")
    for stream in summary.streams:
        mine = [body["frame_seq"] for body in masklets if body["stream_id"] == stream.stream_id]
        assert len(mine) == len(set(mine)) == stream.counts.processed
        assert set(stream.counts.dropped) <= {"stopped"}
    events = bodies_in(folder, "events")
    assert len({body["ce_id"] for body in events}) == len(events) > 0


def test_full_disk_stops_no_camera_and_its_files_go_on_when_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk", num_kb=256) as disk:
        if not disk.is_mount():
            pytest.skip("no file system may be mounted here")
        app = watch_cameras(config_of(tmp_path, disk / "records"))
        reasons, before = [], []

        def num_processed():
            return app.engine.summary().streams[0].counts.processed

        def note():
            reasons.append(json.dumps(app.health.readiness().to_json()))
            before.append(num_processed())

        summary = in_turn(
            app.engine,
            (lambda: delivered(app)["events"] > 2, lambda: fill(disk / "ballast")),
            (lambda: not app.health.readiness().is_good, note),
            (lambda: num_processed() > before[0] + 10, (disk / "ballast").unlink),
            (lambda: app.health.readiness().is_good, lambda: None),
        )
        assert "the disk is full" in reasons[0]
        assert "files" in reasons[0]
        assert summary.sink_errors == {}
        assert summary.exit_code(is_strict=True) == 0
        assert_whole(summary, disk / "records")
        assert delivered(app)["masklets"] == len(bodies_in(disk / "records", "masklets"))


def test_files_rotate_and_a_later_run_takes_the_place_of_none(tmp_path):
    folder = tmp_path / "records"
    config = config_of(tmp_path, folder, rotate_bytes=20_000)
    num_processed = 0
    for _ in range(2):
        app = watch_cameras(config)
        before = {path: path.read_bytes() for path in folder.glob("*-*.jsonl")}
        is_enough = partial(has_delivered, app, 80)
        summary = in_turn(app.engine, (is_enough, app.engine.stop))
        assert {path: path.read_bytes() for path in before} == before
        assert len(list(folder.glob("*-*.jsonl"))) > len(before)
        num_processed += sum(stream.counts.processed for stream in summary.streams)
        assert len(bodies_in(folder, "masklets")) == num_processed
    sizes = [path.stat().st_size for path in folder.glob("masklets-*.jsonl")]
    assert max(sizes) <= 40_000
    for path in folder.glob("masklets*.jsonl"):
        assert sum(1 for _ in read_records(path)) == len(path.read_text().splitlines())
