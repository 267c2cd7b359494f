"""Workers that deliver exactly once: killed, stopped, shut out, with a full disk, anew."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from connectors.errors import NotWritableError
from connectors.kafka.config import FramesSinkConfig
from connectors.kafka.frames import KafkaFrameSink
from connectors.record import Topic
from pipeline.app import build_app
from pipeline.config.loading import load_config
from pipeline.engine.state.snapshot_folder import SnapshotFolder
from pipeline.errors import ExitCode
from pipeline.observe.logs import set_up_logs
from tests.e2e.runs import ROOT, topic_of
from tests.pipeline.engine.runs import RULES, ZONES, wait_until
from tests.pipeline.engine.sinks import GateSink
from tests.pipeline.fakes import LossyBlobTracker, make_frame
from tests.servers import free_port, strict_kafka_broker

SLOW = pytest.mark.slow
STREAMS = ("north", "south", "west")
PERIOD = 32  # frames in which a thing comes, walks into the right half and goes
# This broker deletes what is older than a week.
BEGAN = datetime.now(UTC)


def publish(bootstrap, num_frames, *, topic, num_partitions=1, first=0):
    """As many frames of each stream, in turn; on one partition streams wait for each other."""
    setup = {"partitions": num_partitions}
    config = FramesSinkConfig(bootstrap=bootstrap, topic=topic, image="png", topic_setup=setup)
    with KafkaFrameSink(config=config) as sink:
        for seq in range(first, first + num_frames):
            for number, stream_id in enumerate(STREAMS):
                place = (seq + 5 * number) % PERIOD
                blobs = {"red": (place, 8)} if place <= 26 else None
                frame = make_frame(seq, blobs=blobs, stream_id=stream_id)
                sink.write(replace(frame, captured_at=BEGAN + timedelta(seconds=seq / 10)))


def write_config(
    folder, bootstrap, *, prefix, topic, worker="worker", until_end=True, **transactions
):
    """Write the configuration of a worker that ends with its topic; returns its path."""
    folder.mkdir(exist_ok=True)
    source = {
        "type": "kafka",
        "bootstrap": bootstrap,
        "topic": topic,
        "group_id": f"{prefix}group",
        "group_instance_id": worker,  # this broker never gives up a dead member of another kind
        "until_end": until_end,
    }
    rules = [{**RULES[0], "update_every_s": 0.5}, RULES[1]]
    stream = {"id": "*", "source": source, "concepts": ["red"], "zones": ZONES, "rules": rules}
    sink = {
        "type": "kafka",
        "bootstrap": bootstrap,
        "delivery": "exactly_once",
        "transactions": {"commit_interval_s": 0.1, **transactions},
        "topics": {"prefix": prefix},
    }
    config = {
        "deployment": "test",
        "worker": worker,
        "streams": [stream],
        "sinks": [sink],
        "engine": {"max_batch": 2},
        "tracking": {"confirm_s": 0.1},
        "state": {"folder": str(folder / "state")},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))
    return path


@contextmanager
def worker(config):
    """A worker as a process; it is gone when the block is left."""
    command = [sys.executable, "-m", "tests.e2e.kafka_worker", str(config)]
    with (config.parent / "stderr").open("a") as errors:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=ROOT, stderr=errors, env=environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def run_to_end(config):
    with worker(config) as process:
        assert process.wait(120) == 0, (config.parent / "stderr").read_text()


def read_committed(bootstrap, topic):
    """Return what a consumer sees that reads what is committed, in order in each partition."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    numbers = consumer.partitions_for_topic(topic) or ()
    partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    records = []
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for batch in consumer.poll(timeout_ms=100).values():
            records += batch
    consumer.close()
    return records


def told(bootstrap, prefix, kind):
    """By stream, ids and bodies but for times of results, in order."""
    found = defaultdict(list)
    for record in read_committed(bootstrap, topic_of(prefix, kind)):
        body = json.loads(record.value)
        body.pop("result_time", None)
        found[record.key.decode()].append((dict(record.headers)["ce_id"], body))
    return found


@contextmanager
def progress(bootstrap, prefix):
    """Return what tells how many frames a worker's group has committed."""
    group, admin = f"{prefix}group", KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        yield lambda: sum(
            one.offset for one in admin.list_group_offsets({group: None})[group].values()
        )
    finally:
        admin.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """The broker named by KAFKA_BOOTSTRAP, else one of our own that hides what was aborted."""
    if "KAFKA_BOOTSTRAP" in os.environ:
        yield os.environ["KAFKA_BOOTSTRAP"]
        return
    with strict_kafka_broker(tmp_path_factory.mktemp("broker")) as address:
        yield address


@pytest.mark.parametrize(
    ("num_kills", "num_frames"),
    [(4, 120), pytest.param(20, 600, marks=[SLOW, pytest.mark.timeout(900)])],
)
def test_killed_worker_delivers_each_record_once_as_if_never_killed(
    num_kills, num_frames, broker, topic, tmp_path
):
    whole, cut = f"{topic}.whole.", f"{topic}.cut."
    publish(broker, num_frames, topic=topic)
    run_to_end(write_config(tmp_path / "whole", broker, prefix=whole, topic=topic))
    config = write_config(tmp_path / "cut", broker, prefix=cut, topic=topic)
    rng = random.Random(num_kills)  # noqa: S311 - the same moments each time
    with progress(broker, cut) as num_committed:
        for _ in range(num_kills):
            num_before = num_committed()
            with worker(config) as process:
                wait_until(lambda: num_committed() > num_before)  # noqa: B023
                threading.Event().wait(rng.uniform(0.0, 0.3))
                process.kill()
        with worker(config) as process:
            num_before = num_committed()
            wait_until(lambda: num_committed() > num_before)
            process.terminate()
            assert process.wait(30) == 0
    run_to_end(config)
    for kind in ("masklets", "tracks", "events"):
        assert told(broker, cut, kind) == told(broker, whole, kind)
    masklets = told(broker, cut, "masklets")
    assert masklets.keys() == set(STREAMS)
    for found in masklets.values():
        assert [body["frame_seq"] for _, body in found] == list(range(num_frames))
    assert "Traceback" not in (config.parent / "stderr").read_text()


def watch(config, *, until=lambda: False, on_turn=lambda: None, sinks=()):
    """Run a worker in this process to its end, or until a condition: then it is gone, unended."""
    tracker = LossyBlobTracker(memory_s=0.1, step_s=0.01)
    app = build_app(load_config(config), tracker=tracker, sinks=sinks)
    turns = app.engine.iterate()
    for _ in turns:
        on_turn()
        if until():
            turns.close()
            break
    return app.engine.summary()


def frames_of(bootstrap, prefix):
    """By stream, numbers of the frames that have a committed record, in order."""
    found = told(bootstrap, prefix, "masklets")
    return {stream_id: [body["frame_seq"] for _, body in of] for stream_id, of in found.items()}


def in_order(num_frames):
    return {stream_id: list(range(num_frames)) for stream_id in STREAMS}


@pytest.fixture
def started(broker, topic, tmp_path):
    """A worker's configuration; its run was broken off with some, not all, of it committed."""
    prefix = f"{topic}."
    publish(broker, 60, topic=topic)
    config = write_config(tmp_path, broker, prefix=prefix, topic=topic)
    with progress(broker, prefix) as num_committed:
        summary = watch(config, until=lambda: num_committed() > 20)
        assert num_committed() < 3 * 60
    assert not summary.errors
    return config, prefix


def test_broken_off_worker_reads_no_frame_again_whose_results_are_committed(broker, started):
    config, prefix = started
    before = frames_of(broker, prefix)
    summary = watch(config)
    [stream] = summary.streams
    assert stream.counts.dropped == {}
    assert stream.counts.processed == 3 * 60 - sum(map(len, before.values()))
    assert frames_of(broker, prefix) == in_order(60)


def test_lost_folder_costs_tracks_and_repeats_no_frame(broker, started):
    config, prefix = started
    shutil.rmtree(config.parent / "state")
    watch(config)
    assert frames_of(broker, prefix) == in_order(60)


def test_damaged_snapshot_begins_its_stream_anew(broker, started, capsys):
    config, prefix = started
    set_up_logs()
    for path in (config.parent / "state").glob("snapshots/*/newest.snapshot"):
        path.write_bytes(path.read_bytes()[:-1])
    watch(config)
    assert "its checksum is wrong; the stream begins anew" in capsys.readouterr().err
    assert frames_of(broker, prefix) == in_order(60)


def test_worker_that_is_shut_out_ends_and_says_so(broker, topic, tmp_path):
    prefix = f"{topic}."
    publish(broker, 60, topic=topic)
    config = write_config(tmp_path, broker, prefix=prefix, topic=topic, id=topic)
    usurpers = []

    def usurp():
        if not usurpers and num_committed():
            usurpers.append(KafkaProducer(bootstrap_servers=broker, transactional_id=topic))
            usurpers[0].init_transactions()

    with progress(broker, prefix) as num_committed:
        summary = watch(config, on_turn=usurp)
    usurpers[0].close()
    assert "another producer has begun under the id" in summary.sink_errors["kafka"]
    assert summary.exit_code() is ExitCode.FAILED
    assert frames_of(broker, prefix) != in_order(60)
    watch(config)
    assert frames_of(broker, prefix) == in_order(60)


def committed_meanwhile(num_committed, is_held, let_go):
    """Return what looks once, half a second after a cut is held up, and then lets it go.

    A transaction takes a tenth of that.
    """
    since_s, found = [], []

    def look():
        if not found and is_held():
            since_s.append(time.monotonic())
            if since_s[-1] - since_s[0] > 0.5:
                found.append(num_committed())
                let_go()

    return look, found


def test_full_disk_is_waited_for(broker, topic, tmp_path, monkeypatch):
    is_full, failed = threading.Event(), threading.Event()
    is_full.set()

    class FullFolder(SnapshotFolder):
        def save(self, snapshot):
            if is_full.is_set():
                failed.set()
                raise NotWritableError("state", "No space left on device")
            return super().save(snapshot)

    monkeypatch.setattr("pipeline.app.SnapshotFolder", FullFolder)
    prefix = f"{topic}."
    publish(broker, 20, topic=topic)
    config = write_config(tmp_path, broker, prefix=prefix, topic=topic)
    with progress(broker, prefix) as num_committed:
        look, committed = committed_meanwhile(num_committed, failed.is_set, is_full.clear)
        summary = watch(config, on_turn=look)
    assert not summary.errors
    assert committed == [0]
    assert frames_of(broker, prefix) == in_order(20)


def test_nothing_is_committed_that_the_sinks_beside_do_not_have(broker, topic, tmp_path):
    class MaskletsGate(GateSink):
        def write(self, records):
            if any(record.topic is Topic.MASKLETS for record in records):
                return super().write(records)
            self.records += records
            return []

    prefix, gate = f"{topic}.", MaskletsGate()
    publish(broker, 20, topic=topic)
    config = write_config(tmp_path, broker, prefix=prefix, topic=topic)
    with progress(broker, prefix) as num_committed:
        look, committed = committed_meanwhile(num_committed, gate.entered.is_set, gate.gate.set)
        watch(config, on_turn=look, sinks=[gate])
    assert committed == [0]
    assert frames_of(broker, prefix) == in_order(20)
    masklets = [record for record in gate.records if record.topic is Topic.MASKLETS]
    assert len(masklets) == 3 * 20


def test_commit_comes_after_so_many_results_however_long_the_interval(broker, topic, tmp_path):
    prefix, began_s = f"{topic}.", time.monotonic()
    publish(broker, 20, topic=topic)
    options = {"until_end": False, "commit_interval_s": 60, "commit_results": 8}
    config = write_config(tmp_path, broker, prefix=prefix, topic=topic, **options)
    with progress(broker, prefix) as num_committed:
        watch(config, until=num_committed)
    assert time.monotonic() - began_s < 30


def test_streams_that_end_leave_no_state(broker, topic, tmp_path):
    publish(broker, 10, topic=topic)
    watch(write_config(tmp_path, broker, prefix=f"{topic}.", topic=topic))
    assert list((tmp_path / "state").glob("snapshots/*")) == []
    last = [body["state"] for _, body in told(broker, f"{topic}.", "status")["north"]][-1]
    assert last == "ended"


def test_stop_while_the_broker_is_away_ends_at_once_and_touches_no_state(started):
    config, _ = started
    before = {path: path.read_bytes() for path in config.parent.glob("state/snapshots/*/*")}
    away = config.with_name("away.yaml")
    away.write_text(re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{free_port()}", config.read_text()))
    with worker(away) as process:
        wait_until(lambda: "tried again" in (config.parent / "stderr").read_text())
        process.terminate()
        assert process.wait(30) == 0
    assert before == {path: path.read_bytes() for path in config.parent.glob("state/snapshots/*/*")}


def test_partition_goes_to_another_worker_with_all_that_was_made_of_it(broker, topic, tmp_path):
    prefix, num_frames, said = f"{topic}.", 150, tmp_path / "a/stderr"
    publish(broker, 50, topic=topic, num_partitions=4)
    options = {"prefix": prefix, "topic": topic, "until_end": False}
    first = write_config(tmp_path / "a", broker, worker="a", **options)
    second = write_config(tmp_path / "b", broker, worker="b", **options)
    with progress(broker, prefix) as num_committed, worker(first) as one:
        wait_until(lambda: num_committed() > 30)
        with worker(second) as other:
            publish(broker, 50, topic=topic, first=50)
            wait_until(lambda: "goes to another worker" in said.read_text(), seconds=60)
            publish(broker, 50, topic=topic, first=100)
            wait_until(lambda: num_committed() == 3 * num_frames, seconds=120)
            for process in (one, other):
                process.terminate()
            assert (one.wait(30), other.wait(30)) == (0, 0), said.read_text()
    assert frames_of(broker, prefix) == in_order(num_frames)
