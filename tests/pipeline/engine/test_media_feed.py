"""Pictures and frames on their way to a sink: left out where there is no room, or tried again."""

import threading
from dataclasses import dataclass, field

import pytest

from connectors.errors import NotWritableError
from pipeline.clock import ManualClock
from pipeline.engine.delivery import Delivery
from pipeline.engine.media_feed import MediaFeed
from pipeline.engine.sink_watch import Observers, SinkLimits, SinkWatch
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from tests.pipeline.engine.runs import wait_until
from tests.pipeline.engine.sinks import FilmSink, Frames, status, stop, value_of
from tests.pipeline.fakes import make_frame
from tests.pipeline.streams.player import Player


def frame_of(seq, *, is_live=False):
    return Delivery(frame=make_frame(seq), is_live=is_live)


def test_frames_are_tried_again_until_they_arrive(make_outbox):
    sink = Frames(num_failures=2)
    outbox, *_ = make_outbox(sink)
    outbox.start()
    for seq in range(4):
        outbox.put(frame_of(seq))
    wait_until(lambda: outbox.acknowledged == 4)
    stop(outbox)
    assert sink.told == [0, 1, 2, 3]
    assert sink.num_flushes > 0


def test_live_frames_are_left_out_where_there_is_no_room_and_others_wait(make_outbox):
    sink = Frames(num_failures=10**6)
    outbox, metrics, _ = make_outbox(sink, queue=2)
    outbox.start()
    for seq in range(5):
        outbox.put(frame_of(seq, is_live=True))
    assert not outbox.has_room
    outbox.put(frame_of(5))  # under way when its source was told to wait
    assert value_of(metrics, "shed_total", sink="sink-0", kind="frames") == 3
    sink.num_failures = 0
    stop(outbox)
    assert sink.told == [0, 1, 5]


def test_a_stream_that_is_gone_is_closed_behind_its_last_frame(make_outbox):
    sink = FilmSink()
    outbox, *_ = make_outbox(sink)
    outbox.start()
    outbox.put(Delivery(closed_stream="s0"))
    stop(outbox)
    assert sink.told == ["s0 closed"]


def test_pictures_that_a_sink_leaves_out_by_itself_are_counted(make_outbox):
    sink = type("Choosy", (FilmSink,), {"num_refused": 7})()
    outbox, metrics, _ = make_outbox(sink)
    outbox.start()
    counted = {"sink": "sink-0", "kind": "pictures"}
    wait_until(lambda: value_of(metrics, "shed_total", **counted) == 7)
    stop(outbox)
    assert value_of(metrics, "shed_total", **counted) == 7


def test_frames_that_a_sink_has_in_flight_are_waiting_too(make_outbox):
    sink = type("Holding", (Frames,), {"num_pending": 3})()
    outbox, metrics, _ = make_outbox(sink)
    outbox.start()
    outbox.put(frame_of(0))
    wait_until(lambda: sink.told == [0])
    wait_until(lambda: value_of(metrics, "sink_waiting", sink="sink-0") == 3)
    del type(sink).num_pending
    stop(outbox)


def drawing_of(seq):
    player = Player()
    return Delivery(result=player.play(make_frame(seq)))


def make_feed(sink, *, capacity=2, on_room=lambda: None, clock=None):
    clock, metrics = clock or ManualClock(), Metrics(tuple)
    observers = Observers(metrics=metrics, health=Health(clock, stall_s=60), clock=clock)
    limits = SinkLimits(behind_s=2, down_s=10)
    watch = SinkWatch("media", is_durable=sink.is_durable, limits=limits, observers=observers)
    feed = MediaFeed(sink, watch, capacity=capacity, metrics=metrics, clock=clock, on_room=on_room)
    return feed, metrics


def test_room_is_told_of_once_a_full_queue_has_some_again():
    sink, told = FilmSink(), []
    feed, _ = make_feed(sink, on_room=lambda: told.append(feed.has_room))
    feed.open()
    for number in range(2):
        feed.put(number, drawing_of(number))
    assert not feed.has_room
    sink.gate.set()
    feed.start()
    feed.drain()
    assert feed.join(30)
    assert (sink.told, told) == ([0, 1], [True])


@dataclass
class FullDisk(FilmSink):
    """Has room for some pictures, and perhaps for the end of the film."""

    num_good: int = 0
    can_close: bool = True

    def write(self, frame, overlays, captions):
        if len(self.told) == self.num_good:
            raise NotWritableError("film", "disk full")
        self.told.append(frame.frame_seq)

    def close(self):
        if not self.can_close:
            raise NotWritableError("film", "disk full")


@pytest.mark.parametrize(
    ("num_good", "can_close", "is_failure"),
    [(1, True, False), (0, True, True), (2, False, True)],
)
def test_a_sink_of_pictures_fails_a_run_that_it_leaves_nothing_of(
    num_good, can_close, is_failure, make_outbox
):
    outbox, *_ = make_outbox(FullDisk(num_good=num_good, can_close=can_close))
    outbox.start()
    for seq in range(2):
        outbox.put(drawing_of(seq))
    left = stop(outbox)["sink-0"]
    assert ("disk full" in left.text, left.is_failure) == (True, is_failure)


class Closing(Frames):
    is_interrupted = is_closed = False

    def interrupt(self):
        self.is_interrupted = True

    def close(self):
        self.is_closed = True


def test_a_feed_whose_thread_never_began_has_ended_and_closes_its_sink():
    sink = Closing()
    feed, _ = make_feed(sink)
    feed.open()
    assert feed.join(0.0)
    feed.abandon()
    assert sink.is_closed


def test_what_waits_is_not_acknowledged_though_all_that_was_written_is_flushed():
    feed, _ = make_feed(Frames())
    assert feed.acknowledged(7) == 7
    feed.put(8, frame_of(0))
    assert feed.acknowledged(8) == 0


def test_an_interrupted_feed_gives_up_what_it_tries_again():
    sink = Closing(num_failures=10**6)
    feed, _ = make_feed(sink)
    feed.open()
    feed.start()
    feed.put(1, frame_of(0))
    wait_until(lambda: feed.watch.error is not None)
    assert not feed.join(0.0)
    feed.interrupt()
    assert feed.join(10)
    assert (sink.told, sink.is_interrupted, sink.is_closed) == ([], True, True)


def test_a_sink_takes_what_is_of_its_kind_alone():
    film, frames = make_feed(FilmSink())[0], make_feed(Frames())[0]
    drawn, sceneless = drawing_of(0), Player()
    sceneless.play(make_frame(0, blobs={"red": (8, 8)}))
    ended = Delivery(result=sceneless.end())
    assert ended.result.scene is None
    for delivery in (ended, frame_of(0), status()):
        film.put(1, delivery)
    for delivery in (ended, drawn, status()):
        frames.put(1, delivery)
    assert (film.num_waiting, frames.num_waiting) == (0, 0)
    film.put(2, drawn)
    frames.put(2, frame_of(0))
    assert (film.num_waiting, frames.num_waiting) == (1, 1)


def test_a_slow_sink_of_pictures_is_waited_for_and_one_that_hangs_is_not():
    clock, metrics = ManualClock(), Metrics(tuple)
    observers = Observers(metrics=metrics, health=Health(clock, stall_s=60), clock=clock)
    limits = SinkLimits(behind_s=2, down_s=10)
    watch = SinkWatch("film", is_durable=False, limits=limits, observers=observers)
    sink = FilmSink()
    feed = MediaFeed(sink, watch, capacity=2, metrics=metrics, clock=clock, on_room=lambda: None)
    feed.open()
    feed.start()
    for number in range(2):
        feed.put(number, drawing_of(number))
    assert sink.entered.wait(30)
    for _ in range(2):
        clock.advance(5)
        assert not feed.has_room
        feed.judge()
    assert feed.has_room
    assert observers.health.readiness().sinks["film"].error == "has confirmed nothing for 10 s"
    feed.put(2, drawing_of(2))  # left out, or it would be kept for ever with all that follow
    feed.put(3, Delivery(closed_stream="cam"))
    assert value_of(metrics, "shed_total", sink="film", kind="pictures") == 1
    sink.gate.set()
    feed.drain()
    assert feed.join(30)
    assert sink.told == [0, 1, "cam closed"]


@dataclass
class SlowToFlush(Frames):
    """Takes frames at once, and has them durable when its gate opens."""

    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    def flush(self):
        self.entered.set()
        self.gate.wait(30)
        super().flush()


@pytest.mark.parametrize(("sink", "put"), [(SlowToFlush(), frame_of), (FilmSink(), drawing_of)])
def test_the_oldest_waits_until_the_sink_has_it_for_good(sink, put):
    clock = ManualClock()
    feed, metrics = make_feed(sink, clock=clock)
    feed.open()
    for number in range(2):
        feed.put(number + 1, put(number))
        clock.advance(1)
    feed.start()
    assert sink.entered.wait(30)
    feed.judge()
    assert value_of(metrics, "sink_oldest_record_seconds", sink="media") == 2
    clock.advance(1)
    feed.judge()
    assert feed.watch.error.endswith("for 3 s")
    sink.gate.set()
    feed.drain()
    assert feed.join(30)
    feed.judge()
    assert value_of(metrics, "sink_oldest_record_seconds", sink="media") == 0
    assert feed.watch.error is None


def test_pictures_that_a_sink_leaves_out_at_the_very_end_are_counted(make_outbox, monkeypatch):
    monkeypatch.setattr("pipeline.engine.outbox._JUDGE_S", 60.0)
    sink = type("Choosy", (FilmSink,), {"num_refused": 7})()
    outbox, metrics, _ = make_outbox(sink)
    outbox.start()
    stop(outbox)
    assert value_of(metrics, "shed_total", sink="sink-0", kind="pictures") == 7


class Odd(FilmSink):
    """Has a bug with its first picture."""

    num_tries = 0

    def write(self, frame, overlays, captions):
        self.num_tries += 1
        if self.num_tries == 1:
            raise ZeroDivisionError("a bug")
        super().write(frame, overlays, captions)


def test_a_picture_that_a_sink_has_a_bug_with_is_left_out_and_counted(caplog):
    sink = Odd()
    sink.gate.set()
    feed, metrics = make_feed(sink)
    feed.open()
    for number in range(2):
        feed.put(number + 1, drawing_of(number))
    feed.start()
    feed.drain()
    assert feed.join(30)
    assert (sink.num_tries, sink.told) == (2, [1])
    assert value_of(metrics, "shed_total", sink="media", kind="pictures") == 1
    assert "a bug" in caplog.text


def test_a_close_waits_for_the_one_who_judges(make_outbox, monkeypatch):
    monkeypatch.setattr("pipeline.engine.outbox._JUDGE_S", 0.01)
    closer, is_asked, answers = threading.current_thread(), threading.Event(), threading.Event()

    def num_refused(_sink):
        if threading.current_thread() is not closer:
            is_asked.set()
            answers.wait(30)
        return 0

    before = {one for one in threading.enumerate() if one.name == "delivery-judge"}
    outbox, *_ = make_outbox(type("Slow", (FilmSink,), {"num_refused": property(num_refused)})())
    outbox.start()
    assert is_asked.wait(30)
    threading.Timer(0.2, answers.set).start()
    outbox.close()
    assert before >= {one for one in threading.enumerate() if one.name == "delivery-judge"}
