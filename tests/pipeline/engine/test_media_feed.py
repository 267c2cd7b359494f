"""Pictures and frames on their way to a sink: left out where there is no room, or tried again."""

from pipeline.clock import ManualClock
from pipeline.engine.delivery import Delivery
from pipeline.engine.media_feed import MediaFeed
from pipeline.engine.sink_watch import Observers, SinkLimits, SinkWatch
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from tests.pipeline.engine.runs import wait_until
from tests.pipeline.engine.sinks import FilmSink, Frames, stop, value_of
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
