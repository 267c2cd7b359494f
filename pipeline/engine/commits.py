"""How far the frames of a source are done: what may be committed where it keeps its position.

A source like Kafka goes on from the committed position after a restart, so that position must not
pass a frame whose result is not safe yet. Frames are finished in any order; the position that may
be committed is the low-water mark: everything read before it is finished.
"""

from collections import deque
from dataclasses import dataclass

from connectors.errors import Position

_OPEN = -1


@dataclass(slots=True)
class Ticket:
    """One frame, or refused input, on its way.

    Attributes:
        position: The resume point behind it; ``None`` moves nothing.
    """

    position: Position | None = None
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


class CommitLog:
    """The tickets of one source, in the order in which its frames were read.

    The source's thread begins tickets, any thread finishes them, the engine's thread takes marks.
    """

    def __init__(self) -> None:
        self._tickets: deque[Ticket] = deque()

    def __len__(self) -> int:
        return len(self._tickets)

    def begin(self, position: Position | None) -> Ticket:
        """Return the ticket of what was just read."""
        ticket = Ticket(position)
        self._tickets.append(ticket)
        return ticket

    def take_mark(self, acknowledged: int) -> Position | None:
        """Return how far the position has moved since the last call; ``None``: it has not.

        Only what has moved is named, so that a partition that went to another worker meanwhile is
        not set back when it returns.
        """
        mark: dict[str, int | float | str] = {}
        while self._tickets and self._tickets[0].is_finished(acknowledged):
            mark |= self._tickets.popleft().position or {}
        return mark or None
