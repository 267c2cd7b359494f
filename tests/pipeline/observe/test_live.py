"""The newest of every stream: nothing grows, nothing waits, and who is slow is told."""

import threading

from connectors.record import Record, Topic
from pipeline.observe.live import LiveView
from pipeline.streams.result import Scene
from tests.pipeline.engine.runs import make_config
from tests.pipeline.fakes import make_frame

[CONFIG] = make_config().streams


def record(number, topic=Topic.EVENTS, stream_id="cam"):
    return Record(topic=topic, key=stream_id, value=b"%d" % number, timestamp_ms=0)


def values(news):
    return [(number, record.value) for number, record in news.records]


def test_the_newest_frame_of_an_open_stream_is_shown():
    live = LiveView()
    live.set_stream("cam", CONFIG)
    assert live.streams["cam"].scene is None
    for seq in range(3):
        live.show(Scene.bare(make_frame(seq)))
    assert live.streams["cam"].scene.frame.frame_seq == 2


def test_a_stream_that_is_configured_otherwise_keeps_its_frame():
    live, other = LiveView(), CONFIG.model_copy(update={"rules": ()})
    live.set_stream("cam", CONFIG)
    live.show(Scene.bare(make_frame()))
    live.set_stream("cam", other)
    assert live.streams["cam"].config is other
    assert live.streams["cam"].scene is not None


def test_a_stream_that_is_gone_holds_no_frame_and_none_comes_back():
    live = LiveView()
    live.set_stream("cam", CONFIG)
    before = live.streams
    live.drop_stream("cam")
    live.show(Scene.bare(make_frame()))
    assert live.streams == {}
    assert before.keys() == {"cam"}  # who reads them now goes on


def test_records_are_numbered_and_only_events_and_status_are_shown():
    live = LiveView()
    live.add_records([record(1), record(2, Topic.MASKLETS), record(3, Topic.STATUS)])
    live.add_records([record(4, Topic.DLQ)])
    assert values(live.news_since(0)) == [(1, b"1"), (2, b"3")]
    assert values(live.news_since(1)) == [(2, b"3")]
    assert values(live.news_since(2)) == []
    assert live.num_records == 2


def test_a_reader_that_is_slow_is_told_how_many_it_has_missed():
    live = LiveView(max_records=2)
    live.add_records([record(number) for number in range(1, 6)])
    news = live.news_since(1)
    assert (values(news), news.num_missed) == ([(4, b"4"), (5, b"5")], 2)
    assert live.news_since(3).num_missed == 0


def test_the_reader_is_told_of_records_by_their_thread():
    live, told = LiveView(), []
    live.watch(lambda: told.append(threading.current_thread().name))
    writer = threading.Thread(target=live.add_records, args=([record(1)],), name="writer")
    writer.start()
    writer.join()
    live.add_records([record(2, Topic.TRACKS)])
    assert told == ["writer"]
