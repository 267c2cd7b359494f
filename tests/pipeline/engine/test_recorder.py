"""What is encoded, what is left out where there is no room, and when it counts as safe."""

import pytest

from connectors.record import Record, Topic
from pipeline.clock import SystemClock
from pipeline.engine import recorder as module
from pipeline.engine.delivery import Delivery
from pipeline.engine.log.kinds import Kind
from pipeline.engine.log.record_log import Consumer, RecordLog
from pipeline.engine.recorder import Recorder
from pipeline.observe.live import LiveView
from pipeline.observe.metrics import Metrics
from pipeline.records.schema import StatusRecord
from tests.pipeline.engine.runs import wait_until
from tests.pipeline.engine.test_publisher import STARTED, make_result
from tests.pipeline.fakes import START


@pytest.fixture
def log():
    log = RecordLog(None, [Consumer(name="s", uses_log=False)], log_bytes=1, memory_bytes=10**6)
    yield log
    log.close()


def make_recorder(log, **fields):
    metrics = Metrics(tuple)
    told = []
    fields = {"deployment": "d", "worker": "w", "capacity": 2, "clock": SystemClock(), **fields}
    return Recorder(log, metrics=metrics, on_room=lambda: told.append(1), **fields), metrics, told


def drain(recorder):
    recorder.start()
    recorder.request_stop()
    assert recorder.join(30)


def topics_of(log):
    found = []
    for kind in Kind:
        batch = log.read(kind, "s", max_bytes=10**6, max_records=100)
        found += [record.topic for record in batch.records] if batch else []
    return found


def test_live_results_without_room_give_up_their_masklets_and_keep_their_news(log):
    recorder, metrics, told = make_recorder(log)
    for number in range(1, 6):
        recorder.put(number, Delivery(result=make_result(STARTED), is_live=True))
    assert not recorder.has_room
    drain(recorder)
    topics = topics_of(log)
    assert topics.count(Topic.TRACKS) == 5
    assert topics.count(Topic.MASKLETS) == 2
    value = metrics.registry.get_sample_value
    assert value("maskstream_shed_total", {"sink": "recorder", "kind": "masklets"}) == 3
    assert len(told) == 1


def test_results_of_streams_that_may_wait_are_kept_whole(log):
    recorder, *_ = make_recorder(log)
    for number in range(1, 6):
        recorder.put(number, Delivery(result=make_result()))
    drain(recorder)
    assert topics_of(log).count(Topic.MASKLETS) == 5


def test_nothing_is_safe_before_it_was_confirmed(log, monkeypatch):
    monkeypatch.setattr(module, "_MAX_MARKS", 3)
    recorder, *_ = make_recorder(log)
    status = StatusRecord(stream_id="cam", state="running", since=START, time=START)
    for number in range(1, 7):
        recorder.put(number, Delivery(record=status))
    assert recorder.acknowledged(6) == 0
    drain(recorder)
    for seq, safe in ((0, 0), (1, 1), (2, 2), (5, 2), (6, 6)):
        log.confirm(Kind.ALERTS, "s", seq)
        assert recorder.acknowledged(6) == safe


def test_a_record_that_cannot_be_logged_is_safe_with_its_letter(log):
    due = []
    recorder, *_ = make_recorder(log, on_alerts=lambda: due.append(1))
    bytes_that_may_change = bytearray(b"x")
    record = Record(topic=Topic.TRACKS, key="k", value=bytes_that_may_change, timestamp_ms=0)
    recorder.put(1, Delivery(dead_letter=record))
    drain(recorder)
    assert topics_of(log) == [Topic.DLQ]
    assert due
    assert recorder.acknowledged(1) == 0
    log.confirm(Kind.ALERTS, "s", 1)
    assert recorder.acknowledged(1) == 1


def test_what_has_no_record_is_safe_behind_what_came_before_it(log):
    recorder, *_ = make_recorder(log)
    recorder.put(1, Delivery(result=make_result()))
    drain(recorder)
    assert recorder.acknowledged(9) == 0
    log.confirm(Kind.MASKLETS, "s", 1)
    wait_until(lambda: recorder.acknowledged(9) == 9)


def test_alerts_are_shown_once_they_are_in_the_log(log):
    live, last_seqs = LiveView(), []
    live.watch(lambda: last_seqs.append(log.last_seq(Kind.ALERTS)))
    recorder, *_ = make_recorder(log, live=live)
    recorder.put(1, Delivery(result=make_result()))
    status = StatusRecord(stream_id="cam", state="running", since=START, time=START)
    recorder.put(2, Delivery(record=status))
    drain(recorder)
    [(number, record)] = live.news_since(0).records
    assert (number, record.topic) == (1, Topic.STATUS)
    assert last_seqs == [1]
