"""What befalls workers: kills, stops, full disks, damaged state and clocks that jump."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kafka import KafkaConsumer, KafkaProducer

from connectors.frame import CaptureClock, Frame
from connectors.kafka.config import FramesSinkConfig
from connectors.kafka.frames import KafkaFrameSink
from tests.chaos.broker_faults import MASKLETS, STREAMS, config_of, num_delivered
from tests.chaos.camera_faults import (
    FAKETIME,
    Site,
    try_camera,
    why_no_faketime,
    why_no_gstreamer,
)
from tests.chaos.camera_faults import config_of as files_config
from tests.chaos.fault import Fault, Trial
from tests.chaos.outcome import Limits, Outcome
from tests.chaos.records import (
    Tail,
    Told,
    count_identities,
    find_event_faults,
    find_missing,
    find_repeats,
    read_broker,
)
from tests.chaos.worker import Worker, worker
from tests.connectors.small_disk import fill, small_disk
from tests.pipeline.engine.runs import wait_until
from tests.pipeline.fakes import make_frame
from tests.servers import kafka_broker, strict_kafka_broker

# A worker's whole start counts: 3 s on an idle core, and 28 s were seen among 26 other programs.
_START = Limits(recovery_s=60.0)
_WAIT_S = 120.0
_FPS = 10.0
_FRAMES = "maskstream.frames.v1"
_NUM_STOPS = 5
_SILENCE_S = 60.0
_TRANSACTIONS = "chaos"
EXACTLY_ONCE = {"delivery": "exactly_once", "transactions": {"id": _TRANSACTIONS}}
COMMITTED = {"isolation_level": "read_committed"}
SESSION_S = 6.0
_LASTING = ("events", "status")


def _moments(trial: Trial) -> Iterator[float]:
    """Yield how long each life lasts after its first record; the same each time."""
    rng = random.Random(trial.num_kills)  # noqa: S311
    for _ in range(trial.num_kills):
        yield rng.uniform(0.0, 2.5)


def _live(watching: Worker, is_going_on: Callable[[], bool]) -> float:
    """Begin a life; returns how long it took until something new came out."""
    began_s = watching.start()
    wait_until(is_going_on, seconds=_WAIT_S)
    return time.monotonic() - began_s


def num_frames(watching: Worker) -> int:
    """Return for how many frames the broker has confirmed a record in this life."""
    return watching.values("records_delivered_total", "topic")[MASKLETS]


def try_kills_beside_cameras(trial: Trial) -> Outcome:
    """Kill a worker that watches cameras and writes to a broker."""
    witness, pause = trial.folder / "witness", threading.Event()
    tail, recoveries_s = Tail(witness), []
    with (
        kafka_broker() as (address, _),
        worker(trial.folder, config_of(address), MASKSTREAM_TEST_WITNESS=str(witness)) as watching,
    ):
        for moment_s in (*_moments(trial), 1.0):
            if recoveries_s:
                watching.kill()
            recoveries_s.append(_live(watching, lambda: num_frames(watching) > 0))
            pause.wait(moment_s)
        others = watching.stop()
        records = read_broker(address)
    # What was on its way to both, and on no disk, neither of them need have.
    tail.read()
    due = [one for one in tail.records if one.kind in _LASTING]
    return _outcome(watching, recoveries_s, records, due, others)


def _outcome(
    watching: Worker,
    recoveries_s: list[float],
    records: list[Told],
    due: list[Told],
    others: list[str],
) -> Outcome:
    return Outcome(
        recoveries_s=tuple(recoveries_s[1:]),  # the first is no recovery
        frames_lost=watching.frames_lost,
        records_lost=len(find_missing(due, records)),
        repeats=find_repeats(records),
        identities=count_identities(records, standing=STREAMS),
        event_faults=tuple(find_event_faults(records, standing=STREAMS)),
        others=tuple(others),
    )


def try_kills_behind_kafka(trial: Trial, *, is_exact: bool = False) -> Outcome:
    """Kill a worker that reads frames from Kafka and writes to Kafka, exactly once perhaps."""
    pause, recoveries_s = threading.Event(), []
    with ExitStack() as ends:
        address = ends.enter_context(_broker_for(trial, is_exact=is_exact))
        films = ends.enter_context(publishing(address))
        config = config_behind(address, group_instance_id="worker-1")
        config["sinks"][0] |= EXACTLY_ONCE if is_exact else {}
        watching = ends.enter_context(worker(trial.folder, config))
        for moment_s in (*_moments(trial), 1.0):
            if recoveries_s:
                watching.kill()
            recoveries_s.append(_live(watching, lambda: num_frames(watching) > 0))
            pause.wait(moment_s)
        films.stop()
        wait_for_all(address, films.published)
        others = watching.stop()
        records = read_broker(address, **(COMMITTED if is_exact else {}))
    outcome = _outcome(watching, recoveries_s, records, [], others)
    return replace(outcome, records_lost=len(films.published - frames_of(records)))


@contextmanager
def _broker_for(trial: Trial, *, is_exact: bool) -> Iterator[str]:
    """A broker; exactly once, one that hides what was aborted."""
    if is_exact:
        with strict_kafka_broker(trial.folder / "broker") as address:
            yield address
    else:
        with kafka_broker() as (address, _):
            yield address


def try_fencing(trial: Trial) -> Outcome:
    """Let another producer begin under the id of a worker's transactions."""
    with ExitStack() as ends:
        address = ends.enter_context(_broker_for(trial, is_exact=True))
        films = ends.enter_context(publishing(address))
        config = config_behind(address, group_instance_id="worker-1")
        config["sinks"][0] |= EXACTLY_ONCE
        watching = ends.enter_context(worker(trial.folder, config))
        recoveries_s = [_live(watching, lambda: num_frames(watching) > 0)]
        usurper = KafkaProducer(bootstrap_servers=address, transactional_id=_TRANSACTIONS)
        usurper.init_transactions()
        watching.wait(seconds=_WAIT_S)
        usurper.close()
        recoveries_s.append(_live(watching, lambda: num_frames(watching) > 0))
        films.stop()
        wait_for_all(address, films.published)
        others = watching.stop()
        records = read_broker(address, **COMMITTED)
    if "another producer has begun" not in watching.log:
        others.append("the fenced worker did not say why it ended")
    outcome = _outcome(watching, recoveries_s, records, [], others)
    return replace(outcome, records_lost=len(films.published - frames_of(records)))


def frames_of(records: list[Told]) -> set[tuple[str, int]]:
    """Return the frames that have a record."""
    frames = (one for one in records if one.kind == "masklets")
    return {(one.stream_id, one.body["frame_seq"]) for one in frames}


def wait_for_all(address: str, expected: set[tuple[str, int]]) -> None:
    """Return once all frames have a record, or none has come for long; what lacks is counted."""
    missing, last_s = set(expected), time.monotonic()
    options = {"bootstrap_servers": address, "auto_offset_reset": "earliest"}
    consumer = KafkaConsumer(MASKLETS, **options)
    while missing and time.monotonic() - last_s < _SILENCE_S:
        for records in consumer.poll(timeout_ms=500).values():
            bodies = [json.loads(record.value) for record in records]
            missing -= {(body["stream_id"], body["frame_seq"]) for body in bodies}
            last_s = time.monotonic()
    consumer.close()


def config_behind(address: str, **source: Any) -> dict[str, Any]:
    """Return what reads frames of streams from a broker, and writes to it.

    Args:
        address: Of the broker.
        source: Further settings of the source.
    """
    config = config_of(address)
    source |= {"type": "kafka", "bootstrap": address, "topic": _FRAMES, "group_id": "chaos"}
    source["session_timeout_s"] = SESSION_S
    config["streams"] = [{**config["streams"][0], "id": "*", "source": source}]
    # One stream a batch: only then are repeats equal to the byte.
    return {**config, "engine": {"max_batch": 1, "commit_every_s": 1.0}}


class Films:
    """Puts films of cameras on a topic, at their pace, until it is told to stop."""

    def __init__(self, address: str, names: Sequence[str]) -> None:
        self._address = address
        self._names = names
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="films")
        self._thread.start()
        self.published: set[tuple[str, int]] = set()

    def stop(self) -> None:
        """Return once all is on the topic."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        config = FramesSinkConfig(bootstrap=self._address, topic=_FRAMES, image="png")
        seq = 0
        with KafkaFrameSink(config=config) as sink:
            while not self._is_over.wait(1 / _FPS):
                for stream_id in self._names:
                    sink.write(_picture(stream_id, seq))
                    self.published.add((stream_id, seq))
                seq += 1


def _picture(stream_id: str, seq: int) -> Frame:
    place = seq % 32
    walker = {"red": (place, 8)} if place <= 26 else {}
    frame = make_frame(seq, blobs={"blue": (2, 17), **walker}, stream_id=stream_id)
    return replace(frame, captured_at=datetime.now(UTC), capture_clock=CaptureClock.ARRIVAL)


@contextmanager
def publishing(address: str, names: Sequence[str] = STREAMS) -> Iterator[Films]:
    films = Films(address, names)
    try:
        yield films
    finally:
        films.stop()


def try_stops(trial: Trial) -> Outcome:
    """Stop a worker in order, and start it again."""
    witness, pause = trial.folder / "witness", threading.Event()
    tail, recoveries_s, others = Tail(witness), [], []
    with (
        kafka_broker() as (address, _),
        worker(trial.folder, config_of(address), MASKSTREAM_TEST_WITNESS=str(witness)) as watching,
    ):
        for _ in range(_NUM_STOPS):
            recoveries_s.append(_live(watching, lambda: num_frames(watching) > 0))
            pause.wait(2.0)
            others += watching.stop()
        records = read_broker(address)
    tail.read()
    return _outcome(watching, recoveries_s, records, tail.records, others)


def try_full_disk(trial: Trial) -> Outcome:
    """Leave no room for files, log and snapshots of a worker that writes to a broker too."""
    pause = threading.Event()
    with (
        small_disk(trial.folder / "disk", num_kb=4096) as disk,
        kafka_broker() as (address, _),
    ):
        config = config_of(address)
        config["sinks"].append({"type": "jsonl", "name": "files", "folder": str(disk / "records")})
        config["state"] = {"folder": str(disk / "state")}
        with worker(trial.folder, config) as watching:
            watching.start()
            wait_until(lambda: num_delivered(watching) > 100, seconds=_WAIT_S)
            fill(disk / "ballast")
            pause.wait(trial.away_s)
            reasons = watching.unready()
            (disk / "ballast").unlink()
            began_s = time.monotonic()
            wait_until(lambda: not watching.unready(), seconds=_WAIT_S)
            recovery_s = time.monotonic() - began_s
            pause.wait(1.0)
            others = watching.stop()
            records = read_broker(address)
            tail = Tail(disk / "records")
            tail.read()
    if "full" not in str(reasons):
        others.append(f"/readyz did not say that the disk is full: {reasons}")
    outcome = _outcome(watching, [0.0, recovery_s], records, tail.records, others)
    lost = find_missing(tail.records, records) | find_missing(records, tail.records)
    return replace(outcome, records_lost=len(lost))


def why_no_small_disk() -> str | None:
    """Return what is missing for a disk that fills up."""
    with TemporaryDirectory() as folder, small_disk(Path(folder) / "disk", num_kb=64) as disk:
        return None if disk.is_mount() else "no file system may be mounted here"


def try_damage(trial: Trial) -> Outcome:
    """Kill a worker, and cut each stream's newest snapshot in half."""
    witness, pause = trial.folder / "witness", threading.Event()
    tail, recoveries_s, others = Tail(witness), [], []
    newest = "state/snapshots/*/newest.snapshot"
    # Files alone keep what waits for them in memory, and a kill may cost them a record.
    config = {**files_config(trial.folder / "unused", dict.fromkeys(STREAMS)), "sinks": []}
    with worker(trial.folder, config, MASKSTREAM_TEST_WITNESS=str(witness)) as watching:
        for number in range(3):
            if number:
                watching.kill()
                for path in trial.folder.glob(newest):
                    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            tail.read()
            num_before = len(tail.of("masklets", STREAMS[0]))
            recoveries_s.append(
                _live(watching, lambda: len(tail.of("masklets", STREAMS[0])) > num_before)  # noqa: B023
            )
            pause.wait(6.0)  # for three snapshots
        others = watching.stop()
    if watching.log.count("is cut or damaged") < 2 * len(STREAMS):
        others.append("the damage was not said in the log")
    tail.read()
    return _outcome(watching, recoveries_s, tail.records, [], others)


def try_clock_steps(trial: Trial) -> Outcome:
    """Let the worker's clock jump by an hour, and back."""
    clock = trial.folder / "clock"

    def put(text: str) -> Callable[[Site], None]:
        return lambda _site: clock.write_text(text)

    clock.write_text("+0\n")
    fake = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    return try_camera(put("+1h\n"), put("+0\n"), trial, has_clock=False, **fake)


WORKER_FAULTS = (
    Fault(
        name="worker killed, cameras",
        what="kill -9, {kills} times, at random moments; two cameras to a broker",
        run=try_kills_beside_cameras,
        limits=_START,
    ),
    Fault(
        name="worker killed, Kafka to Kafka",
        what="kill -9, {kills} times, at random moments; frames of two streams from a broker to it",
        run=try_kills_behind_kafka,
        limits=_START,
    ),
    Fault(
        name="worker killed, exactly once",
        what="kill -9, {kills} times; the same with transactions, as a consumer sees it that reads "
        "what is committed",
        run=partial(try_kills_behind_kafka, is_exact=True),
        limits=replace(_START, repeats=False),
    ),
    Fault(
        name="producer fenced",
        what="another producer begins under the id of a worker's transactions, which ends; it is "
        "started again",
        run=try_fencing,
        limits=replace(_START, repeats=False),
    ),
    Fault(
        name="worker stopped",
        what=f"SIGTERM and a new start, {_NUM_STOPS} times; two cameras to a broker",
        run=try_stops,
        limits=_START,
    ),
    Fault(
        name="disk full",
        what="no room for files, log and snapshots for 10 s; two cameras to files and a broker",
        run=try_full_disk,
        limits=Limits(recovery_s=5.0 + 2.0),
        missing=why_no_small_disk,
    ),
    Fault(
        name="snapshots damaged",
        what="kill -9 twice, and the newest snapshot of each stream cut in half",
        run=try_damage,
        limits=_START,
    ),
    Fault(
        name="clock steps",
        what="the worker's clock jumps an hour ahead, and back after 10 s; two cameras",
        run=try_clock_steps,
        limits=Limits(recovery_s=2.0),
        missing=lambda: why_no_gstreamer() or why_no_faketime(),
    ),
)
