import threading

import pytest

from connectors.errors import (
    BadFrameError,
    CorruptMediaError,
    DeliveryFailedError,
    SourceError,
    StreamEndedError,
)
from connectors.memory import (
    BadFile,
    BadFrame,
    Corrupt,
    Disconnect,
    Eof,
    MemoryPictureSink,
    MemorySink,
    MemorySource,
    Pause,
)
from connectors.record import Record, Topic
from tests.media import make_frame

RECORD = Record(topic=Topic.EVENTS, key="camera", value=b"{}", timestamp_ms=0)


def test_disconnect_is_recoverable_and_begins_a_new_epoch():
    source = MemorySource([make_frame(0), Disconnect(), make_frame(1)])
    source.open()
    assert source.read().stream_epoch == 0
    with pytest.raises(StreamEndedError) as caught:
        source.read()
    assert caught.value.recoverable
    assert source.read().stream_epoch == 1


def test_corrupt_is_final_and_eof_ends():
    script = [Corrupt("bits"), Eof(), make_frame(0)]
    source = MemorySource(script)
    with source, pytest.raises(CorruptMediaError, match=r"at index 0.+bits"):
        source.read()
    again = MemorySource(script, position=source.position())
    assert again.read() is None
    assert again.position() == {"index": 2, "lost_connections": 0}


def test_source_built_anew_goes_on_behind_what_was_played():
    script = [make_frame(0), Disconnect(), make_frame(1)]
    first = MemorySource(script)
    frame = first.read()
    with pytest.raises(StreamEndedError):
        first.read()
    again = MemorySource(script, position=first.position()).read()
    assert (again.frame_seq, again.stream_epoch) == (1, 1)
    assert MemorySource(script, position=frame.position).position() == frame.position


@pytest.mark.parametrize("fault", [BadFile("torn"), BadFrame(b"\xff", "torn")])
def test_reading_goes_on_behind_a_bad_file_and_a_bad_frame(fault):
    source = MemorySource([make_frame(0), fault, make_frame(1)])
    source.read()
    with pytest.raises(SourceError, match=r"at index 1.+torn") as caught:
        source.read()
    assert caught.value.continues
    again = MemorySource(
        [make_frame(0), fault, make_frame(1)], position=caught.value.resume_position
    )
    for one in (source, again):
        assert (one.read().frame_seq, one.read()) == (1, None)


def test_bad_frame_carries_its_bytes():
    with pytest.raises(BadFrameError) as caught:
        MemorySource([BadFrame(b"\xff")]).read()
    assert caught.value.payload == b"\xff"


def test_pauses_may_pass_on_a_clock_of_the_test():
    passed = []
    source = MemorySource([Pause(3600), make_frame(0)], wait=passed.append)
    assert source.read().frame_seq == 0
    assert passed == [3600]


@pytest.mark.parametrize("end", [MemorySource.close, MemorySource.interrupt])
def test_another_thread_can_end_a_pause(end):
    source = MemorySource([Pause(60), make_frame(0)])
    source.open()
    reader = threading.Thread(target=source.read, daemon=True)
    reader.start()
    end(source)
    reader.join(timeout=5)
    assert not reader.is_alive()


def test_sinks_are_bounded():
    with MemorySink(capacity=1) as sink:
        sink.write([RECORD])
        with pytest.raises(DeliveryFailedError, match="1 records"):
            sink.write([RECORD])
    assert sink.of(Topic.EVENTS) == [RECORD]
    pictures = MemoryPictureSink(capacity=1)
    pictures.write(make_frame(0), [], ["hello"])
    with pytest.raises(DeliveryFailedError, match="1 pictures"):
        pictures.write(make_frame(1), [], [])
