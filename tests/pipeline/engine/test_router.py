"""Frames find their stream's buffer by name."""

import threading

import pytest

from pipeline.config.sections.stream import Overflow
from pipeline.engine.buffer import FrameBuffer
from pipeline.engine.ledger import DropCause, Ledger
from pipeline.engine.router import FrameRouter


def make_buffer(stream_id="a"):
    return FrameBuffer(
        stream_id, capacity=2, overflow=Overflow.WAIT, ledger=Ledger(), on_frame=lambda: None
    )


def test_names_are_unknown_until_the_engine_answers():
    router, buffer = FrameRouter(), make_buffer()
    assert router.find("a") is None
    router.open("a", buffer)
    assert router.find("a") is buffer
    router.forget("a")
    assert router.find("a") is None


def test_refused_names_may_ask_again_when_a_stream_has_gone():
    router = FrameRouter()
    router.open("a", make_buffer())
    router.refuse("b", DropCause.STREAM_LIMIT)
    assert router.find("b") is DropCause.STREAM_LIMIT
    router.forget("a")
    assert router.find("b") is None


def test_refused_names_are_bounded():
    router = FrameRouter()
    for number in range(1025):
        router.refuse(str(number), DropCause.STREAM_LIMIT)
    assert router.find("0") is None
    assert router.find("1") is router.find("1024") is DropCause.STREAM_LIMIT


def open_and_forget(router):
    router.open("a", make_buffer())
    router.forget("a")


@pytest.mark.parametrize(
    "act",
    [
        lambda router: router.open("a", make_buffer()),
        lambda router: router.refuse("a", DropCause.STREAM_LIMIT),
        open_and_forget,
        FrameRouter.close,
    ],
)
def test_one_who_waits_learns_of_every_change_and_of_the_end(act):
    router = FrameRouter()
    version = router.version
    act(router)  # before the wait begins: a change that was undone is one all the same
    thread = threading.Thread(target=router.wait_change, args=(version,), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_one_who_waits_goes_on_waiting_without_a_change():
    router = FrameRouter()
    thread = threading.Thread(target=router.wait_change, args=(router.version,), daemon=True)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    router.close()
    thread.join(10)
    assert not thread.is_alive()
