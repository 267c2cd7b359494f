"""Events and status as server-sent events."""

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from connectors.json_lines import to_json_line
from connectors.record import Record, Topic
from pipeline.observe.live import LiveView

HEARTBEAT_S = 15.0
"""Proxies close what says nothing for 30 to 60 s."""
PACE_S = 0.1
"""Least time between two turns of all readers: one of 200 readers takes 7 ms of a core."""
_NAMES = {Topic.EVENTS: b"event", Topic.STATUS: b"status"}
_MAX_ENCODED = 16  # of up to 1 MB, for readers who are not all at one place
_RETRY = b"retry: 2000\n\n"
_HEARTBEAT = b":\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a reader follows.

    Attributes:
        topics: Kinds of record.
        stream_ids: Streams; none means all.
    """

    topics: frozenset[Topic] = frozenset(_NAMES)
    stream_ids: frozenset[str] = frozenset()

    def takes(self, record: Record) -> bool:
        """Whether a record is followed."""
        is_of_stream = not self.stream_ids or record.key in self.stream_ids
        return is_of_stream and record.topic in self.topics


class EventFeed:
    """Wakes all readers of one event loop when there are new records, and encodes these once.

    Args:
        live: Has the records.
    """

    def __init__(self, live: LiveView) -> None:
        self._live = live
        # Of this process: numbers of another one's records mean nothing here.
        self._run = secrets.token_hex(4)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[bool]] = set()
        self._is_due = False
        self._woke_s = 0.0
        self._encoded: dict[tuple[int, Wanted], tuple[bytes, int]] = {}
        self._encoded_to = 0

    def join(self) -> None:
        """Let readers of the running loop be woken from now on."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._is_due, self._waiting = loop, False, set()
            self._live.watch(self._on_record)

    def place_of(self, event_id: str | None) -> int:
        """Return the number of the record that a reader has had last; unknown ones: the newest."""
        run, _, number = (event_id or "").partition("-")
        is_ours = run == self._run and number.isascii() and number.isdecimal()
        return min(int(number[:18]), self._live.num_records) if is_ours else self._live.num_records

    def chunk_since(self, number: int, wanted: Wanted) -> tuple[bytes, int]:
        """Return what came behind a record, and the number of the last record looked at."""
        num_records = self._live.num_records
        if self._encoded_to != num_records or len(self._encoded) >= _MAX_ENCODED:
            self._encoded_to = num_records
            self._encoded.clear()
        key = (number, wanted)
        if key not in self._encoded:
            self._encoded[key] = self._encode_since(number, wanted)
        return self._encoded[key]

    async def wait(self, gone: asyncio.Future[None]) -> bool:
        """Wait for new records, or until a reader is gone; ``False``: neither for a while."""
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)

        def stop(_gone: asyncio.Future[None]) -> None:
            _wake_up(waiting)

        gone.add_done_callback(stop)
        timer = waiting.get_loop().call_later(HEARTBEAT_S, _let_go, waiting)
        try:
            return await waiting
        finally:
            timer.cancel()
            gone.remove_done_callback(stop)
            self._waiting.discard(waiting)

    def _encode_since(self, number: int, wanted: Wanted) -> tuple[bytes, int]:
        news = self._live.news_since(number)
        parts = [b'event: missed\ndata: {"num":%d}\n\n' % news.num_missed] * bool(news.num_missed)
        last = number
        for last, record in news.records:
            if wanted.takes(record):
                name, line = _NAMES[record.topic], to_json_line(record)
                place = self._run.encode(), last
                parts.append(b"id: %b-%d\nevent: %b\ndata: %b\n\n" % (*place, name, line))
        return b"".join(parts), last

    def _on_record(self) -> None:
        """Wake the loop once for all records that come until it runs; any thread."""
        loop = self._loop
        if loop is None or self._is_due:
            return
        self._is_due = True
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._wake_in_turn)

    def _wake_in_turn(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(max(0.0, self._woke_s + PACE_S - loop.time()), self._wake)

    def _wake(self) -> None:
        self._is_due = False
        self._woke_s = asyncio.get_running_loop().time()
        waiting, self._waiting = self._waiting, set()
        for reader in waiting:
            _wake_up(reader)


class EventStream(Response):
    """An answer that goes on until the client leaves.

    One that reads more slowly than records come misses the oldest, and gets an event ``missed``
    with their number.

    Args:
        feed: Has the records.
        wanted: Which of them to send.
        number: Of the record that the client has had last.
    """

    media_type = "text/event-stream"

    def __init__(self, feed: EventFeed, wanted: Wanted, number: int) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._feed = feed
        self._wanted = wanted
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
                chunk, self._number = self._feed.chunk_since(self._number, self._wanted)
                # While it sends more may come, for which it is not woken: so it asks once more.
                if chunk:
                    await _send(send, chunk)
                elif not await self._feed.wait(gone):
                    await _send(send, _HEARTBEAT)
        finally:
            gone.cancel()


def _wake_up(reader: "asyncio.Future[bool]") -> None:
    if not reader.done():
        reader.set_result(True)


def _let_go(reader: "asyncio.Future[bool]") -> None:
    if not reader.done():
        reader.set_result(False)


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
