"""Frames of two cameras on one topic become records on others; garbage in between harms neither."""

import json
from base64 import b64decode
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from connectors.frame import CaptureClock, Frame
from connectors.kafka.config import FramesSinkConfig
from connectors.kafka.frames import KafkaFrameSink
from tests.e2e.runs import (
    KINDS,
    assert_ids_are_unique,
    assert_published_as_promised,
    bodies,
    read_all,
    read_topic,
    run_to_end,
    topic_of,
)
from tests.e2e.scenes import BUS, DEER, FPS, ious_with_truth, make_world

PREFIX, GROUP = "e2e.kafka.", "e2e.kafka"
FRAMES = topic_of(PREFIX, "frames")
GARBAGE = b"\xff\xd8\xff this is no picture"
WORLDS = {"north": make_world(DEER, seconds=3.0), "south": make_world(BUS, seconds=3.0)}
CONFIG = f"""\
deployment: test
streams:
  - id: "*"
    source:
      type: kafka
      bootstrap: ${{KAFKA}}
      topic: {FRAMES}
      group_id: {GROUP}
      until_end: true
    concepts: [deer, bus]
    rules:
      - {{type: appear, name: seen}}
sinks:
  - {{type: kafka, bootstrap: "${{KAFKA}}", topics: {{prefix: {PREFIX}}}}}
  - {{type: jsonl, folder: "${{OUT}}"}}
"""


@dataclass(frozen=True)
class Passed:
    """What a run left behind."""

    exit_code: int
    folder: Path
    stderr: str
    records: dict[str, list]

    def of(self, kind, stream_id):
        found = bodies(self.records[kind])
        return [body for body in found if body["stream_id"] == stream_id]


def frame_of(stream_id, index):
    return Frame(
        stream_id=stream_id,
        stream_epoch=0,
        frame_seq=index,
        pixels=WORLDS[stream_id].render(index).pixels,
        pts_us=round(index * 1e6 / FPS),
        captured_at=datetime.fromtimestamp(1_700_000_000 + index / FPS, tz=UTC),
        capture_clock=CaptureClock.WORLD,
    )


def publish_frames(bootstrap):
    """Both cameras in turn; between their frames something under the name of the first."""
    config = FramesSinkConfig(bootstrap=bootstrap, topic=FRAMES)
    num_frames = WORLDS["north"].num_frames
    with KafkaFrameSink(config=config) as sink:
        for index in range(num_frames):
            for stream_id in WORLDS:
                sink.write(frame_of(stream_id, index))
            if index == num_frames // 2:
                sink.flush()
                producer = KafkaProducer(bootstrap_servers=bootstrap)
                producer.send(FRAMES, key=b"north", value=GARBAGE).get(30)
                producer.close()


@pytest.fixture(scope="module")
def passed(tmp_path_factory, kafka_bootstrap):
    folder = tmp_path_factory.mktemp("kafka")
    config = folder / "kafka.yaml"
    config.write_text(CONFIG)
    publish_frames(kafka_bootstrap)
    out = folder / "out"
    code = run_to_end("run", config, folder=folder, KAFKA=kafka_bootstrap, OUT=str(out))
    return Passed(
        exit_code=code,
        folder=out,
        stderr=(folder / "stderr").read_text(),
        records=read_all(kafka_bootstrap, PREFIX),
    )


def test_run_ends_by_itself_at_the_end_of_the_topic(passed):
    assert passed.exit_code == 0
    assert "Traceback" not in passed.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_is_as_published(passed, kind):
    for record in passed.records[kind]:
        assert_published_as_promised(kind, record)
    assert_ids_are_unique(passed.records[kind])


@pytest.mark.parametrize("stream_id", WORLDS)
def test_every_frame_is_answered_once_in_order(passed, stream_id):
    seqs = [body["frame_seq"] for body in passed.of("masklets", stream_id)]
    assert seqs == list(range(WORLDS[stream_id].num_frames))


@pytest.mark.parametrize(("stream_id", "concept"), [("north", "deer"), ("south", "bus")])
def test_each_camera_gets_its_own_track_and_event(passed, stream_id, concept):
    tracks, events = passed.of("tracks", stream_id), passed.of("events", stream_id)
    assert [body["concept"] for body in tracks if body["kind"] == "confirmed"] == [concept]
    assert [body["concept"] for body in events if body["phase"] == "new"] == [concept]


@pytest.mark.parametrize("stream_id", WORLDS)
def test_masks_lie_on_what_the_camera_saw(passed, stream_id):
    ious = [
        iou
        for body in passed.of("masklets", stream_id)
        for iou in ious_with_truth(WORLDS[stream_id], body, body["frame_seq"])
    ]
    assert len(ious) >= WORLDS[stream_id].num_frames // 2
    assert np.quantile(ious, 0.1) >= 0.5


def test_garbage_is_a_dead_letter_that_says_why(passed, kafka_bootstrap):
    [letter] = read_topic(kafka_bootstrap, topic_of(PREFIX, "dlq"))
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (b"north", GARBAGE)
    assert headers["maskstream_error_type"] == b"BadFrameError"
    assert FRAMES.encode() in headers["maskstream_position"]
    assert passed.of("status", "north")[-1]["counts"]["dropped"] == {"bad_frame": 1}
    assert passed.of("status", "south")[-1]["counts"]["dropped"] == {}


def test_garbage_harms_no_file_beside_the_topics(passed):
    [line] = (passed.folder / "dlq.jsonl").read_text().splitlines()
    assert b64decode(json.loads(line)["value_base64"]) == GARBAGE
    for kind in KINDS:
        lines = (passed.folder / f"{kind}.jsonl").read_text().splitlines()
        assert len(lines) == len(passed.records[kind])


def test_everything_read_is_committed(passed, kafka_bootstrap):
    consumer = KafkaConsumer(bootstrap_servers=kafka_bootstrap, group_id=GROUP)
    numbers = consumer.partitions_for_topic(FRAMES)
    partitions = [TopicPartition(FRAMES, number) for number in numbers]
    done = [consumer.committed(partition) or 0 for partition in partitions]
    consumer.close()
    assert sum(done) == 2 * WORLDS["north"].num_frames + 1
