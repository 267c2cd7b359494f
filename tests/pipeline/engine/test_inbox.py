"""Messages reach the engine in order, a stop first, and the inbox keeps its bound."""

import threading

import pytest

from pipeline.engine.inbox import Inbox, SourceEnded, SourceOpened, Stop


def test_messages_come_in_order_and_once():
    inbox = Inbox()
    for number in range(3):
        inbox.post(SourceEnded(source=number))
    assert [message.source for message in inbox.drain()] == [0, 1, 2]
    assert inbox.drain() == []


def test_requested_stop_comes_before_everything_else_and_once():
    inbox = Inbox()
    posted = [SourceEnded(source=0), SourceOpened(source=1, at_us=0)]
    for message in posted:
        inbox.post(message)
    assert not inbox.is_stop_requested
    inbox.request_stop()
    assert inbox.drain() == [Stop(), *posted]
    assert inbox.drain() == []
    assert inbox.is_stop_requested


def test_one_who_posts_into_a_full_inbox_waits_for_room():
    inbox = Inbox(capacity=1)
    inbox.post(SourceEnded(source=0))
    thread = threading.Thread(target=inbox.post, args=(SourceEnded(source=1),), daemon=True)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    assert [message.source for message in inbox.drain()] == [0]
    thread.join(10)
    assert [message.source for message in inbox.drain()] == [1]


def test_closing_lets_go_of_those_who_wait():
    inbox = Inbox(capacity=1)
    inbox.post(SourceEnded(source=0))
    thread = threading.Thread(target=inbox.post, args=(SourceEnded(source=1),), daemon=True)
    thread.start()
    inbox.close()
    thread.join(10)
    assert not thread.is_alive()
    assert len(inbox.drain()) == 1


@pytest.mark.parametrize("wake", [Inbox.wake, lambda inbox: inbox.post(Stop())])
def test_wait_ends_when_there_is_something_to_do(wake):
    inbox = Inbox()
    thread = threading.Thread(target=inbox.wait, args=(60,), daemon=True)
    thread.start()
    wake(inbox)
    thread.join(10)
    assert not thread.is_alive()


def test_what_came_before_the_wait_is_not_waited_for():
    inbox = Inbox()
    inbox.wake()
    thread = threading.Thread(target=inbox.wait, args=(60,), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_capacity_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        Inbox(capacity=0)
