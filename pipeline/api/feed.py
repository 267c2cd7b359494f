"""Events and status as server-sent events."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from connectors.json_lines import to_json_line
from connectors.record import Record, Topic
from pipeline.observe.live import LiveView, News

HEARTBEAT_S = 15.0
"""Proxies close what says nothing for 30 to 60 s."""
_NAMES = {Topic.EVENTS: b"event", Topic.STATUS: b"status"}
_RETRY = b"retry: 2000\n\n"
_HEARTBEAT = b":\n\n"


class EventFeed:
    """Wakes all readers of one event loop when there are new records.

    Args:
        live: Has the records.
    """

    def __init__(self, live: LiveView) -> None:
        self._live = live
        # Of this process: numbers of another one's records mean nothing here.
        self._run = secrets.token_hex(4)
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_due = False

    def join(self) -> None:
        """Let readers of the running loop be woken from now on."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._is_due = loop, False
            self._live.watch(self._on_record)

    @property
    def changed(self) -> asyncio.Event:
        """Set once there are records that are not there yet."""
        return self._changed

    def place_of(self, event_id: str | None) -> int:
        """Return the number of the record that a reader has had last; unknown ones: the newest."""
        run, _, number = (event_id or "").partition("-")
        is_ours = run == self._run and number.isascii() and number.isdecimal()
        return min(int(number[:18]), self._live.num_records) if is_ours else self._live.num_records

    def news_since(self, number: int) -> News:
        """Return what came behind a record."""
        return self._live.news_since(number)

    def encode(self, number: int, record: Record) -> bytes:
        """Return a record as an event of the stream."""
        name, line = _NAMES[record.topic], to_json_line(record)
        return b"id: %b-%d\nevent: %b\ndata: %b\n\n" % (self._run.encode(), number, name, line)

    def _on_record(self) -> None:
        """Wake the loop once for all records that come until it runs; any thread."""
        loop = self._loop
        if loop is None or self._is_due:
            return
        self._is_due = True
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._is_due = False
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class EventStream(Response):
    """An answer that goes on until the client leaves.

    One that reads more slowly than records come misses the oldest, and gets an event ``missed``
    with their number.

    Args:
        feed: Has the records.
        takes: Which of them to send.
        number: Of the record that the client has had last.
    """

    media_type = "text/event-stream"

    def __init__(self, feed: EventFeed, takes: Callable[[Record], bool], number: int) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._feed = feed
        self._takes = takes
        self._number = number

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._feed.join()
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        await _send(send, _RETRY)
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            while not gone.done():
                # Asked for before the records, so that none comes unnoticed between the two.
                changed = self._feed.changed
                if chunk := self._next_chunk():
                    await _send(send, chunk)
                if not await _either(gone, changed):
                    await _send(send, _HEARTBEAT)
        finally:
            gone.cancel()

    def _next_chunk(self) -> bytes:
        news = self._feed.news_since(self._number)
        parts = [b'event: missed\ndata: {"num":%d}\n\n' % news.num_missed] * bool(news.num_missed)
        for number, record in news.records:
            if self._takes(record):
                parts.append(self._feed.encode(number, record))
            self._number = number
        return b"".join(parts)


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _either(gone: asyncio.Future[None], changed: asyncio.Event) -> bool:
    """Wait until one of two has come about; ``False``: neither has for a while."""
    change = asyncio.ensure_future(changed.wait())
    try:
        done, _ = await asyncio.wait(
            {gone, change}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        change.cancel()
    return bool(done)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
