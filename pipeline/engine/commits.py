"""How far the frames of a source are done: what may be committed where it keeps its position.

A source like Kafka goes on from the committed position after a restart, so that position must not
pass a frame whose result is not safe yet. Frames are finished in any order; the position that may
be committed is the low-water mark: everything read before it is finished.
"""

from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from threading import Lock

from connectors.errors import Position

_OPEN = -1


@dataclass(slots=True, eq=False)
class Ticket:
    """One frame, or refused input, on its way.

    Attributes:
        position: The resume point behind it; ``None`` moves nothing.
        is_taken: The engine has it; until then it waits in a buffer or on its way to one.
        is_void: Its frame is another worker's, and to be dropped.
        number: Its place in the order of reading.
    """

    position: Position | None = None
    is_taken: bool = False
    is_void: bool = False
    number: int = 0
    _delivery: int = _OPEN

    def finish(self, delivery: int = 0) -> None:
        """Say that it is done once delivery number ``delivery`` is acknowledged; 0: at once.

        A ticket that is never finished belongs to a frame that was lost: nothing behind it is
        ever committed, so that it comes again.
        """
        self._delivery = delivery

    def is_finished(self, acknowledged: int) -> bool:
        """Whether it is done, given that deliveries up to ``acknowledged`` are."""
        return self._delivery != _OPEN and self._delivery <= acknowledged

    @property
    def has_result(self) -> bool:
        """Whether what it led to is on its way, if it led to anything."""
        return self._delivery != _OPEN


class CommitLog:
    """The tickets of one source, in the order in which its frames were read.

    The source's thread begins and cancels tickets, any thread finishes them, the engine's thread
    takes marks.
    """

    def __init__(self) -> None:
        self._tickets: deque[Ticket] = deque()
        self._lock = Lock()
        self._numbers = count()
        self._edge: int | None = None
        self._moved: dict[str, int | float | str] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def begin(self, position: Position | None) -> Ticket:
        """Return the ticket of what was just read."""
        with self._lock:
            ticket = Ticket(position, number=next(self._numbers))
            self._tickets.append(ticket)
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Void the ticket of a frame that another worker reads."""
        ticket.is_void = True
        with self._lock, suppress(ValueError):
            self._tickets.remove(ticket)

    def take_out(self, partitions: Collection[str]) -> "LeavingTickets":
        """Remove the tickets of partitions, and void those of frames that nobody has taken yet."""
        with self._lock:
            leaving = [one for one in self._tickets if _is_of(one, partitions)]
            self._tickets = deque(one for one in self._tickets if not _is_of(one, partitions))
        for ticket in leaving:
            ticket.is_void = not ticket.is_taken
        return LeavingTickets(leaving)

    def take_mark(self, acknowledged: int) -> Position | None:
        """Return how far the position has moved since the last call; ``None``: it has not.

        Only what has moved is named, so that a partition that went to another worker meanwhile is
        not set back when it returns.
        """
        mark: dict[str, int | float | str] = {}
        with self._lock:
            while self._tickets and self._tickets[0].is_finished(acknowledged):
                mark |= self._tickets.popleft().position or {}
        return mark or None

    # For transactions: results of frames go with the position behind all of them, so a cut lies
    # behind all frames that have a result. Streams that are ahead wait for the others.

    @property
    def has_results(self) -> bool:
        """Whether frames have a result since the last cut."""
        with self._lock:
            return any(ticket.has_result for ticket in self._tickets)

    def has_results_of(self, partitions: Collection[str]) -> bool:
        """Whether frames of some of these partitions have a result since the last cut."""
        with self._lock:
            return any(one.has_result and _is_of(one, partitions) for one in self._tickets)

    def begin_cut(self) -> None:
        """Let frames wait that were read behind the last one with a result, until :meth:`cut`."""
        with self._lock:
            self._edge = max((one.number for one in self._tickets if one.has_result), default=-1)

    def is_behind_cut(self, ticket: Ticket) -> bool:
        """Whether a frame is to wait for a cut."""
        return self._edge is not None and ticket.number > self._edge

    @property
    def is_cut_ready(self) -> bool:
        """Whether no frame before the cut that was begun is without result."""
        with self._lock:
            return all(one.has_result or self.is_behind_cut(one) for one in self._tickets)

    def cut(self) -> tuple[Position, Position]:
        """End a cut that is ready.

        Returns:
            The point behind the first frame of partitions that have moved, and that behind the last
            frame of all.
        """
        first: dict[str, int | float | str] = {}
        with self._lock:
            while self._tickets and not self.is_behind_cut(self._tickets[0]):
                for name, place in (self._tickets.popleft().position or {}).items():
                    if self._moved.get(name) != place:
                        first.setdefault(name, place)
                        self._moved[name] = place
        self._edge = None
        return first, dict(self._moved)

    def forget(self, partitions: Collection[str]) -> None:
        """Move partitions no more that have gone to another worker."""
        for name in partitions:
            self._moved.pop(name, None)


class LeavingTickets:
    """The tickets of partitions that go to another worker, in order.

    Args:
        tickets: Those of frames that the other one reads again are void.
    """

    def __init__(self, tickets: Sequence[Ticket]) -> None:
        self._tickets = tuple(tickets)

    def is_settled(self, acknowledged: int) -> bool:
        """Whether no further frame will be done, given what is acknowledged."""
        return all(one.is_void or one.is_finished(acknowledged) for one in self._tickets)

    def mark(self, acknowledged: int) -> Position:
        """Return how far each partition is done: up to the first frame that is not."""
        mark: dict[str, int | float | str] = {}
        blocked: set[str] = set()
        for ticket in self._tickets:
            position = ticket.position or {}
            if ticket.is_void or not ticket.is_finished(acknowledged):
                blocked |= position.keys()
            mark |= {name: at for name, at in position.items() if name not in blocked}
        return mark

    def void(self) -> None:
        """Let no frame count as done any more."""
        for ticket in self._tickets:
            ticket.is_void = True


def _is_of(ticket: Ticket, partitions: Collection[str]) -> bool:
    return any(name in partitions for name in ticket.position or {})
