"""What is delivered, through a real broker that goes away and workers that are killed."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from connectors.memory import MemorySink
from pipeline.config.run import RunConfig
from tests.e2e.cameras import Sections, watch_cameras
from tests.e2e.runs import ROOT, read_all
from tests.pipeline.engine.runs import in_turn, wait_until
from tests.servers import durable_kafka_broker, free_port, object_store, proxied_kafka_broker

LASTING = ("events", "status", "tracks")
SLOW = pytest.mark.slow


@pytest.fixture
def broker():
    """The proxy of a broker, and the broker's process, which goes on at the end."""
    with proxied_kafka_broker() as (proxy, process):
        yield proxy, process
        process.send_signal(signal.SIGCONT)


def config_of(tmp_path, **fields):
    sections = fields.pop("sections", {})
    sections = {"state": {"folder": str(tmp_path / "state")}, **sections}
    return RunConfig.model_validate(Sections(sections=sections, **fields).build())


def value_of(app, name, **labels):
    return app.metrics.registry.get_sample_value(f"maskstream_{name}", labels) or 0


def num_delivered(app, sink):
    topics = [f"maskstream.{kind}.v1" for kind in (*LASTING, "masklets")]
    return sum(value_of(app, "records_delivered_total", sink=sink, topic=one) for one in topics)


def told(sink, kind):
    """What a sink in memory was told, by key: id and body of each record, in order."""
    found = {}
    for record in sink.records:
        if record.topic.value.split(".")[1] == kind:
            about = (dict(record.headers)["ce_id"], record.value)
            found.setdefault(record.key, []).append(about)
    return found


def arrived(records):
    """What is on the broker, likewise."""
    found = {}
    for record in records:
        about = (dict(record.headers)["ce_id"], record.value)
        found.setdefault(record.key.decode(), []).append(about)
    return found


class SlowSink(MemorySink):
    """Takes half a second for each write."""

    def write(self, records):
        threading.Event().wait(0.5)
        return super().write(records)


# The quick variant runs beside other tests: of what stops an engine it tells 20 s, not 0.7.
@pytest.mark.parametrize(("seconds", "gap_s"), [(4, 5.0), pytest.param(60, 0.5, marks=SLOW)])
def test_dead_and_slow_sinks_stop_no_camera_and_no_other_sink(seconds, gap_s, tmp_path):
    healthy, turns_s = MemorySink(), []
    config = config_of(
        tmp_path,
        kafka={"dead": f"127.0.0.1:{free_port()}"},
        sections={"delivery": {"down_s": 1}},
    )
    app = watch_cameras(config, sinks=[SlowSink(), healthy])
    until_s = time.monotonic() + seconds

    def on_turn():
        turns_s.append(time.monotonic())
        if turns_s[-1] >= until_s:
            app.engine.stop()

    summary = app.engine.run(on_turn)
    assert max(after - before for before, after in pairwise(turns_s)) <= gap_s
    masklets = told(healthy, "masklets")
    assert masklets.keys() == {"a", "b"}
    for stream in summary.streams:
        assert stream.counts.received >= 5 * seconds
        assert set(stream.counts.dropped) <= {"stopped"}
        assert len(masklets[stream.stream_id]) == stream.counts.processed
    assert value_of(app, "sink_state", sink="dead", state="down") == 1
    assert num_delivered(app, "dead") == 0
    assert "kept in" in summary.sink_errors["dead"]


def away(how, broker):
    """Return what takes a broker away and what brings it back."""
    proxy, process = broker
    if how == "cut":
        return proxy.cut, proxy.restore
    return (
        lambda: process.send_signal(signal.SIGSTOP),
        lambda: process.send_signal(signal.SIGCONT),
    )


@pytest.mark.parametrize(
    ("how", "seconds", "log_bytes"),
    [
        ("cut", 3, 1 << 20),
        ("stopped", 3, 1 << 20),
        pytest.param("cut", 60, 20 << 20, marks=SLOW),
        pytest.param("stopped", 60, 20 << 20, marks=SLOW),
    ],
)
def test_broker_away_gets_everything_once_but_counted_masklets(
    how, seconds, log_bytes, broker, tmp_path
):
    leave, come_back = away(how, broker)
    delivery = {"log_bytes": log_bytes, "memory_bytes": 65536, "down_s": 0.5}
    address = broker[0].address
    config = config_of(tmp_path, kafka={"kafka": address}, sections={"delivery": delivery})
    witness = MemorySink()
    app = watch_cameras(config, zoom=16, sinks=[witness])
    since_s = []

    def go_away():
        leave()
        since_s.append(time.monotonic())

    def has_lasted():
        has_shed = value_of(app, "shed_total", sink="kafka", kind="masklets") > 0
        is_down = value_of(app, "sink_state", sink="kafka", state="down") == 1
        return has_shed and is_down and time.monotonic() - since_s[0] >= seconds

    summary = in_turn(
        app.engine,
        (lambda: num_delivered(app, "kafka") >= 50, go_away),
        (has_lasted, come_back),
        (lambda: value_of(app, "sink_waiting", sink="kafka") < 20, lambda: None),
        seconds=120 + 4 * seconds,
    )
    assert not summary.sink_errors
    records = read_all(address, "")
    for kind in LASTING:
        assert arrived(records[kind]) == told(witness, kind)
        assert value_of(app, "shed_total", sink="kafka", kind=kind) == 0
    shed = value_of(app, "shed_total", sink="kafka", kind="masklets")
    assert len(records["masklets"]) + shed == sum(map(len, told(witness, "masklets").values()))
    for key, found in arrived(records["masklets"]).items():
        left = iter(told(witness, "masklets")[key])
        assert all(one in left for one in found)  # in order, none twice
    assert num_delivered(app, "kafka") == sum(map(len, records.values()))


@SLOW
def test_broker_killed_and_back_has_everything_in_order_but_for_one_batch_repeated(tmp_path):
    pytest.importorskip("moto", reason="the extra dev-full is not installed")
    port = free_port()
    address = f"127.0.0.1:{port}"
    witness = MemorySink()
    app = watch_cameras(config_of(tmp_path, kafka={"kafka": address}), sinks=[witness])
    with object_store() as store, ExitStack() as brokers:

        def start():
            return brokers.enter_context(durable_kafka_broker(store, port))[1]

        process = start()
        summary = in_turn(
            app.engine,
            (lambda: num_delivered(app, "kafka") >= 100, process.kill),
            (lambda: value_of(app, "sink_waiting", sink="kafka") >= 100, start),
            (lambda: value_of(app, "sink_waiting", sink="kafka") < 50, lambda: None),
            seconds=120,
        )
        records = read_all(address, "")
    assert not summary.sink_errors
    num_repeats = 0
    for kind in (*LASTING, "masklets"):
        for key, expected in told(witness, kind).items():
            found = arrived(records[kind])[key]
            once = list(dict.fromkeys(found))  # a repeat with another body would be one more
            assert once == expected
            num_repeats += len(found) - len(once)
    assert num_repeats <= 500


@contextmanager
def worker(config, **environ):
    """A worker as a process; it is gone when the block is left."""
    command = [sys.executable, "-m", "tests.e2e.cameras", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environ}
    with (config.parent / "stderr").open("a") as errors:
        process = subprocess.Popen(command, cwd=ROOT, stderr=errors, env=environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def write_config(tmp_path, **fields):
    path = tmp_path / "config.yaml"
    path.write_text(config_of(tmp_path, **fields).model_dump_json(exclude_unset=True))
    return path


def witnessed(folder, kind):
    """Ids and bodies in the files of a folder; the last line of a killed worker may be torn."""
    found = {}
    for path in folder.glob(f"{kind}*.jsonl"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            body = json.loads(line)
            found[body.pop("ce_id")] = body
    return found


@pytest.mark.parametrize("num_kills", [2, pytest.param(20, marks=SLOW)])
def test_killed_workers_lose_no_event_and_repeat_the_same_bytes(num_kills, broker, tmp_path):
    proxy, _ = broker
    config = write_config(tmp_path, kafka={"kafka": proxy.address})
    folder = tmp_path / "witness"
    rng = random.Random(num_kills)  # noqa: S311 - the same moments each time
    for number in range(num_kills):
        if number % 2 == 0:
            proxy.cut()
        num_before = len(witnessed(folder, "events"))
        with worker(config, MASKSTREAM_TEST_WITNESS=str(folder)) as process:
            wait_until(lambda: len(witnessed(folder, "events")) > num_before + 3)  # noqa: B023
            proxy.restore()  # so that it dies while away, while draining, or in between
            threading.Event().wait(rng.uniform(0.0, 0.8))
            process.kill()
    with worker(config, MASKSTREAM_TEST_WITNESS=str(folder)) as process:
        num_before = len(witnessed(folder, "events"))
        wait_until(lambda: len(witnessed(folder, "events")) > num_before + 3)
        process.terminate()
        assert process.wait(30) == 0
    records = read_all(proxy.address, "")
    for kind in ("events", "status"):
        found = {}
        for record in records[kind]:
            ce_id = dict(record.headers)["ce_id"].decode()
            assert found.setdefault(ce_id, record.value) == record.value
        bodies = {ce_id: json.loads(value) for ce_id, value in found.items()}
        expected = witnessed(folder, kind)
        assert len(expected) > num_kills
        assert {ce_id: bodies.get(ce_id) for ce_id in expected} == expected


@pytest.mark.parametrize(
    ("stop_timeout_s", "step_s", "num_tries"), [(4, 0.3, 1), pytest.param(10, 1.0, 20, marks=SLOW)]
)
def test_sigterm_ends_in_time_whatever_hangs(stop_timeout_s, step_s, num_tries, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        config = write_config(
            tmp_path,
            stream_ids=("a", "b", "c", "mute"),
            urls={"mute": f"rtsp://127.0.0.1:{mute.getsockname()[1]}/camera"},
            kafka={"dead": f"127.0.0.1:{free_port()}"},
            jsonl={"files": str(tmp_path / "files")},
            sections={
                "engine": {"stop_timeout_s": stop_timeout_s},
                "delivery": {"queue": 1, "memory_bytes": 65536, "log_bytes": 1 << 20},
            },
        )
        for _ in range(num_tries):
            num_before = num_lines(tmp_path / "files")
            with worker(config, MASKSTREAM_TEST_MODEL_S=str(step_s)) as process:
                connection, _ = mute.accept()
                wait_until(lambda: num_lines(tmp_path / "files") > num_before + 5)  # noqa: B023
                process.terminate()
                began_s = time.monotonic()
                assert process.wait(60) == 0
                assert time.monotonic() - began_s <= stop_timeout_s
                connection.close()


def num_lines(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.jsonl"))
