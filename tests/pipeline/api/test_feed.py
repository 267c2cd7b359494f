"""Server-sent events: in order, from where a client left, and nothing waits for who is slow."""

import asyncio
import json

import pytest

from pipeline.api import feed as module
from pipeline.api.feed import EventFeed, EventStream, Wanted
from pipeline.observe.live import LiveView
from tests.pipeline.api.backends import event_of, status_of


class Viewer:
    """A client of one stream of events, in this process."""

    def __init__(self, feed, *, last_event_id=None, **wanted):
        self.parts, self.head = [], None
        self.has_read, self.is_gone, self.may_write = (asyncio.Event() for _ in range(3))
        self.may_write.set()
        stream = EventStream(feed, Wanted(**wanted), feed.place_of(last_event_id))
        self.task = asyncio.ensure_future(stream({}, self._receive, self._send))

    async def _receive(self):
        await self.is_gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        await self.may_write.wait()
        if message["type"] == "http.response.start":
            self.head = message
        else:
            self.parts.append(message["body"])
            self.has_read.set()

    @property
    def told(self):
        """The events so far, as (name, data)."""
        blocks = b"".join(self.parts).decode().split("\n\n")
        fields = [
            dict(line.split(": ", 1) for line in one.splitlines() if ": " in line) for one in blocks
        ]
        return [(one["event"], json.loads(one["data"])) for one in fields if "event" in one]

    @property
    def last_id(self):
        return b"".join(self.parts).decode().rpartition("id: ")[2].partition("\n")[0]

    async def read(self, num):
        async with asyncio.timeout(30):
            while len(self.told) < num:
                self.has_read.clear()
                await self.has_read.wait()
        return self.told

    async def leave(self):
        self.is_gone.set()
        async with asyncio.timeout(30):
            await self.task


def playing(scene):
    """Run a coroutine over a view and its feed."""

    async def play(**fields):
        live = LiveView(**fields)
        await scene(live, EventFeed(live))

    return lambda **fields: asyncio.run(play(**fields))


def test_records_come_in_order_with_their_ids():
    @playing
    async def scene(live, feed):
        viewer = Viewer(feed)
        await asyncio.sleep(0)
        live.add_records([event_of(1), status_of()])
        live.add_records([event_of(2)])
        told = await viewer.read(3)
        assert [name for name, _ in told] == ["event", "status", "event"]
        assert told[0][1] == {"ce_id": "id-1", "number": 1}
        assert told[1][1]["state"] == "running"
        assert (b"content-type", b"text/event-stream; charset=utf-8") in viewer.head["headers"]
        assert not any(name == b"content-length" for name, _ in viewer.head["headers"])
        await viewer.leave()

    scene()


def test_a_client_begins_with_what_is_new_and_comes_back_to_what_it_missed():
    @playing
    async def scene(live, feed):
        live.add_records([event_of(1)])
        first = Viewer(feed)
        await asyncio.sleep(0)
        live.add_records([event_of(2)])
        assert [data["number"] for _, data in await first.read(1)] == [2]
        await first.leave()
        live.add_records([event_of(3), event_of(4)])
        again = Viewer(feed, last_event_id=first.last_id)
        assert [data["number"] for _, data in await again.read(2)] == [3, 4]
        await again.leave()

    scene()


@pytest.mark.parametrize("event_id", ["", "x", "feedbeef-0", "{run}-x", "{run}-²", "{run}--1"])
def test_a_place_that_means_nothing_is_the_newest(event_id):
    live = LiveView()
    live.add_records([event_of(1), event_of(2)])
    feed = EventFeed(live)
    assert feed.place_of(event_id.format(run=feed._run)) == 2
    assert feed.place_of(f"{feed._run}-1") == 1
    assert feed.place_of(f"{feed._run}-{10**30}") == 2


def test_only_what_was_asked_for_is_sent():
    @playing
    async def scene(live, feed):
        viewer = Viewer(feed, stream_ids=frozenset({"yard"}))
        await asyncio.sleep(0)
        live.add_records([event_of(1), event_of(2, "yard"), event_of(3)])
        live.add_records([event_of(4, "yard")])
        assert [data["number"] for _, data in await viewer.read(2)] == [2, 4]
        await viewer.leave()

    scene()


def test_a_client_that_is_slow_misses_the_oldest_and_is_told():
    @playing
    async def scene(live, feed):
        slow, quick = Viewer(feed), Viewer(feed)
        await asyncio.sleep(0)
        slow.may_write.clear()
        for number in range(1, 21):
            live.add_records([event_of(number)])
            await quick.read(number)
        slow.may_write.set()
        told = await slow.read(5)
        numbers = [data["number"] for name, data in told if name == "event"]
        [missed] = [data["num"] for name, data in told if name == "missed"]
        assert numbers[-4:] == [17, 18, 19, 20]
        assert missed == 20 - len(numbers)
        await slow.leave()
        await quick.leave()

    scene(max_records=4)


def test_many_records_wake_the_loop_once():
    @playing
    async def scene(live, feed):
        viewer = Viewer(feed)
        await asyncio.sleep(0.01)
        num_parts = len(viewer.parts)
        for number in range(100):
            live.add_records([event_of(number)])
        await viewer.read(100)
        assert len(viewer.parts) == num_parts + 1
        await viewer.leave()

    scene()


def test_readers_at_one_place_share_what_was_encoded_and_others_do_not():
    live = LiveView()
    feed = EventFeed(live)
    live.add_records([event_of(1), event_of(2, "yard")])
    everything = feed.chunk_since(0, Wanted())
    assert feed.chunk_since(0, Wanted()) is everything
    yard, last = feed.chunk_since(0, Wanted(stream_ids=frozenset({"yard"})))
    assert (yard.count(b"data: "), last) == (1, 2)
    assert feed.chunk_since(2, Wanted()) == (b"", 2)
    live.add_records([status_of()])
    chunk, last = feed.chunk_since(0, Wanted())
    assert (chunk.count(b"data: "), last) == (3, 3)
    for number in range(100):
        feed.chunk_since(0, Wanted(stream_ids=frozenset({str(number)})))
    assert len(feed._encoded) <= 16


def test_readers_are_woken_at_a_pace():
    @playing
    async def scene(live, feed):
        viewer = Viewer(feed)
        await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for number in range(1, 6):
            live.add_records([event_of(number)])
            await viewer.read(number)
        assert loop.time() - began_s >= 4 * module.PACE_S
        await viewer.leave()

    scene()


def test_silence_is_broken_now_and_then(monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)

    @playing
    async def scene(_live, feed):
        viewer = Viewer(feed)
        async with asyncio.timeout(30):
            while viewer.parts.count(b":\n\n") < 3:
                viewer.has_read.clear()
                await viewer.has_read.wait()
        await viewer.leave()

    scene()


def test_records_after_the_loop_has_ended_harm_nobody():
    lives = []

    @playing
    async def scene(live, feed):
        lives.append(live)
        viewer = Viewer(feed)
        await asyncio.sleep(0)
        await viewer.leave()

    scene()
    lives[0].add_records([event_of(1)])
    assert lives[0].num_records == 1
