"""Workers of one consumer group share streams, which move between them as workers come and go."""

import json
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager

import pytest
from kafka import KafkaAdminClient

from connectors.files.jsonl import JsonlSinkConfig
from connectors.kafka.config import FramesSinkConfig, KafkaSourceConfig, StateTopicConfig
from connectors.kafka.frames import KafkaFrameSink
from connectors.memory import MemorySink
from connectors.record import Topic
from pipeline.app import build_app
from tests.pipeline.engine.runs import bodies, make_config, wait_until
from tests.pipeline.fakes import BlobTracker, make_walk

NAMES = [f"gate-{number}" for number in range(6)]
NUM_FRAMES = 30
WALKS = {name: make_walk(NUM_FRAMES, stream_id=name) for name in NAMES}


def config_of(bootstrap, topic, folder, **sections):
    """The configuration of a worker with a state folder of its own."""
    source = KafkaSourceConfig(
        type="kafka", bootstrap=bootstrap, topic=topic, group_id=topic, session_timeout_s=2
    )
    kept = StateTopicConfig(bootstrap=bootstrap, topic=f"{topic}.state")
    config = make_config("*", source=source)
    state = config.state.model_copy(update={"folder": folder, "topic": kept})
    return config.model_copy(update={"state": state, **sections})


class Worker:
    """An engine on a thread of its own, and what it told."""

    def __init__(self, bootstrap, topic, folder):
        self.sink = MemorySink()
        config = config_of(bootstrap, topic, folder)
        self.app = build_app(config, tracker=BlobTracker(), sinks=[self.sink])
        self.thread = threading.Thread(target=self.app.engine.run, daemon=True)

    def start(self):
        self.thread.start()

    def stop(self):
        self.app.engine.stop()
        if self.thread.ident is not None:
            self.thread.join(30)
            assert not self.thread.is_alive()

    @property
    def streams(self):
        """Streams of which it tells now."""
        return {name for name in NAMES if f'stream="{name}"' in self.metrics}

    @property
    def metrics(self):
        return self.app.metrics.exposition().decode()


@pytest.fixture
def frames(kafka_bootstrap, topic):
    """Publishes frames of all streams, from one number to another."""
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    admin.create_topics({topic: {"num_partitions": 4, "replication_factor": 1}})
    admin.close()
    config = FramesSinkConfig(bootstrap=kafka_bootstrap, topic=topic, image="png")

    def publish(first, last):
        with KafkaFrameSink(config=config) as sink:
            for name in NAMES:
                for frame in WALKS[name][first:last]:
                    sink.write(frame)

    return publish


@pytest.fixture
def workers(kafka_bootstrap, topic, tmp_path):
    """Two that are not started: building an engine beside one that runs is for its thread alone."""
    made = [Worker(kafka_bootstrap, topic, tmp_path / str(number)) for number in range(2)]
    yield made
    for worker in made:
        worker.stop()


def frames_told(*workers):
    found = Counter()
    for worker in workers:
        for body in bodies(worker.sink, Topic.MASKLETS):
            found[body["stream_id"], body["frame_seq"]] += 1
    return found


def assert_one_story(*workers):
    """Each stream has one track from its beginning, and each of its events is told once a phase."""
    tracks = [one for worker in workers for one in bodies(worker.sink, Topic.TRACKS)]
    assert Counter((one["stream_id"], one["kind"]) for one in tracks) == {
        (name, kind): 1 for name in NAMES for kind in ("started", "confirmed")
    }
    assert len({one["track_uid"] for one in tracks}) == len(NAMES)
    events = [one for worker in workers for one in bodies(worker.sink, Topic.EVENTS)]
    phases = Counter((one["stream_id"], one["rule"], one["phase"]) for one in events)
    assert phases == {(name, rule, "new"): 1 for name in NAMES for rule in ("seen", "in-right")}


def test_streams_keep_ids_and_events_while_workers_come_and_go(frames, workers):
    first, second = workers
    first.start()
    frames(0, 10)
    wait_until(lambda: sum(frames_told(first).values()) == 10 * len(NAMES))
    second.start()
    wait_until(lambda: len(first.streams) < len(NAMES))
    moved = set(NAMES) - first.streams
    frames(10, 20)
    wait_until(lambda: len(frames_told(first, second)) == 20 * len(NAMES))
    assert {name for name, _ in frames_told(second)} == moved == second.streams
    first.stop()
    frames(20, NUM_FRAMES)
    wait_until(lambda: len(frames_told(first, second)) == NUM_FRAMES * len(NAMES))
    second.stop()
    assert set(frames_told(first, second).values()) == {1}
    assert_one_story(first, second)


@contextmanager
def process(config, folder):
    """A worker in a process of its own; it is gone when the block is left."""
    folder.mkdir()
    path = folder / "config.yaml"
    path.write_text(config.model_dump_json(exclude_unset=True))
    command = [sys.executable, "-m", "tests.e2e.group_worker", str(path)]
    with (folder / "stderr").open("w") as errors:
        one = subprocess.Popen(command, stderr=errors)
        try:
            yield one
        finally:
            one.kill()
            one.wait()


def lines_of(folder, kind):
    """What all workers have written, by id; a repeat with another body is one more."""
    found = {}
    for path in folder.glob(f"*/out/{kind}*.jsonl"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            body = json.loads(line)
            for name in ("result_time", "dropped_since_last"):
                body.pop(name, None)
            found.setdefault(body.pop("ce_id"), set()).add(json.dumps(body, sort_keys=True))
    return found


@pytest.mark.parametrize("num_kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_workers_without_their_folders_leave_no_gap_and_nothing_twice(
    kafka_bootstrap, topic, frames, tmp_path, num_kills
):
    rng, made = random.Random(num_kills), []  # noqa: S311 - the same order each time
    step = NUM_FRAMES // (num_kills + 2)

    def start(stack):
        folder = tmp_path / f"worker-{len(made)}"
        sinks = (JsonlSinkConfig(type="jsonl", folder=folder / "out"),)
        config = config_of(kafka_bootstrap, topic, folder / "state", sinks=sinks)
        made.append(stack.enter_context(process(config, folder)))

    def wait_for(last):
        num = last * len(NAMES)
        wait_until(lambda: len(lines_of(tmp_path, "masklets")) == num, seconds=60)

    with ExitStack() as stack:
        start(stack)
        frames(0, step)
        wait_for(step)
        start(stack)
        for number in range(num_kills):
            frames((number + 1) * step, (number + 2) * step)
            before = (number + 1) * step * len(NAMES)
            wait_until(lambda: len(lines_of(tmp_path, "masklets")) > before)  # noqa: B023
            rng.choice([one for one in made if one.poll() is None]).kill()
            start(stack)
            wait_for((number + 2) * step)
        frames((num_kills + 1) * step, NUM_FRAMES)
        wait_for(NUM_FRAMES)
    assert_one_story_on_disk(tmp_path)


@pytest.mark.slow
def test_worker_that_slept_finds_its_streams_gone_and_lets_them_be(
    kafka_bootstrap, topic, frames, tmp_path
):
    def start(stack, name):
        folder = tmp_path / name
        sinks = (JsonlSinkConfig(type="jsonl", folder=folder / "out"),)
        config = config_of(kafka_bootstrap, topic, folder / "state", sinks=sinks)
        return stack.enter_context(process(config, folder))

    def wait_for(last):
        num = last * len(NAMES)
        wait_until(lambda: len(lines_of(tmp_path, "masklets")) == num, seconds=60)

    with ExitStack() as stack:
        first = start(stack, "first")
        frames(0, 6)
        wait_for(6)
        start(stack, "second")
        frames(6, 12)
        wait_for(12)
        first.send_signal(signal.SIGSTOP)
        frames(12, 18)
        wait_for(18)  # all of it by the second, once the first has expired
        first.send_signal(signal.SIGCONT)
        wait_until(lambda: "goes to another worker" in (tmp_path / "first/stderr").read_text())
        frames(18, NUM_FRAMES)
        wait_for(NUM_FRAMES)
    assert_one_story_on_disk(tmp_path)


def assert_one_story_on_disk(folder):
    """Repeats are equal; each stream has one track, and each of its events is told once a phase."""
    told = {kind: lines_of(folder, kind) for kind in ("masklets", "tracks", "events")}
    assert all(len(bodies) == 1 for lines in told.values() for bodies in lines.values())
    events = [json.loads(body) for (body,) in told["events"].values()]
    assert Counter((one["stream_id"], one["rule"], one["phase"]) for one in events) == {
        (name, rule, "new"): 1 for name in NAMES for rule in ("seen", "in-right")
    }
    tracks = [json.loads(body) for (body,) in told["tracks"].values()]
    assert len({one["track_uid"] for one in tracks}) == len(NAMES)
    assert "Traceback" not in "".join(one.read_text() for one in folder.glob("*/stderr"))
