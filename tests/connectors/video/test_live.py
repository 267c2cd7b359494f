import threading
import time

import numpy as np
import pytest

from connectors.video.decode import Picture
from connectors.video.live import LiveReader

PICTURE = Picture(
    pixels=np.zeros((2, 2, 3), np.uint8),
    pts_us=0,
    nominal_step_us=None,
    wall_clock=None,
    is_discontinuous=False,
)


class Video:
    """What a thread decodes: ``read`` goes on when the test says so."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.go_on = threading.Event()
        self.closed = threading.Event()
        self.num_read = 0
        self.heard_s = time.monotonic()

    def read(self):
        self.go_on.wait(10)
        self.num_read += 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self.closed.set()


def live(video):
    reader = LiveReader(lambda: video, name="test")
    reader.wait_open(5)
    return reader


def test_pictures_come_in_order_then_the_end_again_and_again():
    video = Video(PICTURE, PICTURE)
    video.go_on.set()
    reader = live(video)
    assert [reader.read(5) is None for _ in range(4)] == [False, False, True, True]
    assert video.closed.wait(5)


def test_foreign_error_is_raised_behind_the_pictures_that_came_before():
    video = Video(PICTURE, OverflowError("absurd"))
    video.go_on.set()
    reader = live(video)
    assert reader.read(5).picture is PICTURE
    with pytest.raises(OverflowError, match="absurd"):
        reader.read(5)
    assert video.closed.wait(5)


def test_error_while_opening_is_raised_where_one_waits():
    def fail():
        raise PermissionError

    with pytest.raises(PermissionError):
        LiveReader(fail, name="test").wait_open(5)


def test_silence_is_a_timeout_and_the_abandoned_video_is_closed_when_it_stirs():
    video = Video(PICTURE)
    reader = live(video)
    with pytest.raises(TimeoutError):
        reader.read(0.05)
    reader.close()
    assert not video.closed.is_set()
    video.go_on.set()
    assert video.closed.wait(5)


def test_packets_without_pictures_are_no_silence():
    """A camera whose key frames are far apart sends much that cannot be decoded yet."""
    video, reader_done = Video(PICTURE), threading.Event()
    reader, arrivals = live(video), []

    def read():
        arrivals.append(reader.read(0.3))
        reader_done.set()

    threading.Thread(target=read, daemon=True).start()
    ends_s = time.monotonic() + 0.6
    while time.monotonic() < ends_s:
        video.heard_s = time.monotonic()
        assert not reader_done.wait(0.02)
    video.go_on.set()
    assert reader_done.wait(5)
    assert arrivals[0].picture is PICTURE


def test_no_more_than_one_picture_waits():
    video = Video(*[PICTURE] * 5)
    video.go_on.set()
    reader = live(video)
    reader.read(5)
    assert not video.closed.wait(0.05)
    assert video.num_read <= 3  # one taken, one that waits, one about to
    reader.close()
    assert video.closed.wait(5)
