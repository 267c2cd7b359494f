"""Pictures and frames on their way to a sink: left out where there is no room, or tried again."""

from pipeline.engine.delivery import Delivery
from tests.pipeline.engine.runs import wait_until
from tests.pipeline.engine.sinks import FilmSink, Frames, stop, value_of
from tests.pipeline.fakes import make_frame


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
