"""Watches who writes the engine's state while an engine runs."""

import threading
from contextlib import contextmanager
from functools import wraps
from types import FunctionType

from pipeline.engine.control import StreamControl
from pipeline.engine.engine import Engine
from pipeline.engine.scheduler import Scheduler
from pipeline.engine.status import StatusBook
from pipeline.engine.stream_table import RunningSource, RunningStream, StreamTable
from pipeline.engine.summary import SummaryBook
from pipeline.engine.turns import Turns
from pipeline.engine.worker import Worker
from pipeline.events.rules.machine import RuleBook
from pipeline.streams.stream import Stream
from pipeline.tracking.tracks import TrackBook

WATCHED = (
    RuleBook,
    RunningSource,
    RunningStream,
    Scheduler,
    StatusBook,
    Stream,
    StreamControl,
    StreamTable,
    SummaryBook,
    TrackBook,
    Turns,
    Worker,
)
# Not the stream clock: a rate gate has one of its own, on the source's thread.


class Watch:
    """The threads that run engines now, and who else has written or called."""

    def __init__(self):
        self.writers = []
        self.strangers = []

    @contextmanager
    def writing(self):
        writer = threading.get_ident()
        self.writers.append(writer)
        try:
            yield
        finally:
            self.writers.remove(writer)

    def runs(self, run):
        @wraps(run)
        def running(*args, **fields):
            with self.writing():
                return run(*args, **fields)

        return running

    def iterates(self, iterate):
        @wraps(iterate)
        def iterating(engine):
            turns = iterate(engine)
            try:
                while True:
                    with self.writing():
                        if next(turns, self) is self:
                            return
                    yield
            finally:
                with self.writing():
                    turns.close()

        return iterating

    def checked(self, name, method):
        @wraps(method)
        def checking(*args, **fields):
            if self.writers and threading.get_ident() not in self.writers:
                self.strangers.append((name, threading.current_thread().name))
            return method(*args, **fields)

        return checking


@contextmanager
def watch_writers(monkeypatch):
    """Fail at the end if another thread than the engine's has touched what is the engine's."""
    watch = Watch()
    monkeypatch.setattr(Engine, "run", watch.runs(Engine.run))
    monkeypatch.setattr(Engine, "iterate", watch.iterates(Engine.iterate))
    for kind in WATCHED:
        for name, method in list(vars(kind).items()):
            if isinstance(method, FunctionType) and not name.startswith("__"):
                label = f"{kind.__name__}.{name}"
                monkeypatch.setattr(kind, name, watch.checked(label, method))
        setter = watch.checked(f"{kind.__name__} attribute", object.__setattr__)
        monkeypatch.setattr(kind, "__setattr__", setter)
    yield watch
    assert watch.strangers == []
