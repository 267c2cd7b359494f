"""A sink of transactions and a group of partitions that go on in memory, and engines over them."""

import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

from connectors.base import Advance, Refused, TransactionSink
from connectors.errors import SinkUnreachableError
from connectors.kafka.config import KafkaSinkConfig, KafkaSourceConfig
from connectors.record import Record, Topic
from pipeline.clock import ManualClock
from tests.pipeline.engine.runs import bodies, make_app, make_config
from tests.pipeline.engine.test_handovers import Group
from tests.pipeline.fakes import BlobTracker

KAFKA = KafkaSourceConfig(bootstrap="127.0.0.1:1", topic="frames", group_id="readers")
WRITER = "writer"
INTERVAL_S = 10.0
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Committed:
    """One transaction."""

    records: tuple[Record, ...]
    advances: tuple[Advance, ...]
    pointer: str

    @property
    def positions(self):
        return {name: at for one in self.advances for name, at in one.last.items()}


@dataclass
class Books(TransactionSink):
    """Keeps what is committed; lets so many calls pass, and fails first as it is told to."""

    pointers: tuple[str, ...] = ()
    num_allowed: float = inf
    num_entered: int = 0
    errors: deque[Exception] = field(default_factory=deque)
    refuses: frozenset[Topic] = frozenset()
    asked: list[frozenset[str]] = field(default_factory=list)
    commits: list[Committed] = field(default_factory=list)
    is_interrupted: bool = False
    is_closed: bool = False

    def __post_init__(self):
        self.changed = threading.Condition()

    def open(self):
        pass

    def recover(self, groups):
        self._pass()
        self.asked.append(frozenset(groups))
        return self.pointers

    def commit(self, records, advances, pointer):
        self._pass()
        refused = [one for one in records if one.topic in self.refuses]
        kept = tuple(one for one in records if one not in refused)
        self.commits.append(Committed(kept, tuple(advances), pointer))
        return [Refused(record=one, reason="odd") for one in refused]

    def _pass(self):
        with self.changed:
            self.num_entered += 1
            self.changed.wait_for(lambda: self.num_allowed > 0 or self.is_interrupted, 30)
            if self.is_interrupted:
                raise SinkUnreachableError("books", "interrupted")
            self.num_allowed -= 1
            if self.errors:
                raise self.errors.popleft()

    def allow(self, num=inf):
        """Let so many further calls pass."""
        with self.changed:
            self.num_allowed = num
            self.changed.notify_all()

    def flush(self):
        pass

    def interrupt(self):
        with self.changed:
            self.is_interrupted = True
            self.changed.notify_all()

    def close(self):
        self.is_closed = True

    @property
    def records(self):
        return [record for one in self.commits for record in one.records]

    def of(self, topic):
        return [record for record in self.records if record.topic is topic]


class Partitions(Group):
    """A group whose positions transactions move; ends where it is told to."""

    has_ended = False

    def leave_offsets(self):
        self.leaves_offsets = True

    def commit(self, position):
        raise AssertionError("only transactions move the position")

    def membership(self, names):
        return tuple(names) if set(names) <= self.owned.keys() else None

    def read(self):
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.is_closed or self.has_ended)
            return super().read() if self.waiting or self.is_closed else None

    def end(self):
        with self.changed:
            self.has_ended = True
            self.changed.notify_all()

    def close(self):
        super().close()
        self.on_close()

    def on_close(self):
        """Nothing by default."""


class StandingClock(ManualClock):
    """Moves only when told to; once it is hasty, by seconds with each look."""

    is_hasty = False

    def monotonic_s(self):
        if self.is_hasty:
            self.advance(10.0)
        return super().monotonic_s()


class Run:
    """An engine whose time stands still, turn by turn."""

    def __init__(self, config, books, group, *, others=(), tracker=None, build=None):
        self.books, self.group, self.clock = books, group, StandingClock()
        self.app = make_app(
            config,
            build=build or (lambda *_: group),
            others=others,
            tracker=tracker or BlobTracker(),
            clock=self.clock,
        )
        self._turns = self.app.engine.iterate()

    def until(self, condition, *, seconds=10.0):
        """Turn until something has come about."""
        deadline_s = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline_s, f"it did not come about in {seconds} s"
            next(self._turns)

    def turn(self, num=2):
        """Take a few turns in which nothing comes: time for all that is to be done at once."""
        for _ in range(num):
            next(self._turns)

    def until_done(self, num):
        """Turn until so many frames have a result."""
        self.until(lambda: self.num_done == num)

    def until_committed(self, num):
        """Turn until so many transactions are committed, and the engine knows."""
        self.until(lambda: len(self.books.commits) == num)
        self.until(lambda: self.app.engine._parts.outbox.transactions.is_free)
        next(self._turns)

    def pass_interval(self):
        self.clock.advance(INTERVAL_S)

    def play_out(self):
        """Turn until the engine ends by itself; returns what came of it."""
        deadline_s = time.monotonic() + 10.0
        for _ in self._turns:
            assert time.monotonic() < deadline_s, "it did not end"
        return self.app.engine.summary()

    def close(self):
        """Break the engine off; what does not end by itself is not waited for."""
        self.clock.is_hasty = True
        self._turns.close()

    @property
    def num_done(self):
        return sum(one.counts.processed for one in self.app.engine.summary().streams)


def exactly_once(folder, stream_id="*", *others, interval_s=INTERVAL_S, most=100_000):
    """A configuration of a worker that delivers exactly once; each source is in another group."""
    engine = {"buffer_frames": 64, "stop_timeout_s": PATIENCE_S}
    status = {"every_s": 3600, "stalled_s": 3600, "offline_s": 3600}  # no word of time that passes
    config = make_config(stream_id, source=KAFKA, engine=engine, status=status)
    streams = [
        config.streams[0].model_copy(
            update={"id": other, "source": KAFKA.model_copy(update={"group_id": other})}
        )
        for other in others
    ]
    transactions = {"id": WRITER, "commit_interval_s": interval_s, "commit_results": most}
    sink = KafkaSinkConfig(
        bootstrap=KAFKA.bootstrap, delivery="exactly_once", transactions=transactions
    )
    state = config.state.model_copy(update={"folder": folder})
    return config.model_copy(
        update={"streams": (*config.streams, *streams), "sinks": (sink,), "state": state}
    )


@contextmanager
def running(monkeypatch, config, books, group, **options):
    """An engine over a group and a sink; it is broken off at the end."""
    monkeypatch.setattr("pipeline.app.build_sink", lambda _: books)
    run = Run(config, books, group, **options)
    try:
        yield run
    finally:
        run.close()


def reading(**logs):
    """A group that has all its partitions."""
    group = Partitions(**logs)
    group.assign(*group.logs)
    return group


def positions(books):
    return [one.positions for one in books.commits]


def seqs(committed):
    """By stream, the frames of which a transaction has masklets."""
    found = {}
    for body in bodies(committed, Topic.MASKLETS):
        found.setdefault(body["stream_id"], []).append(body["frame_seq"])
    return found
