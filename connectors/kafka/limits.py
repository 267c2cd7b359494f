"""How large records may be, as a broker's refusals tell."""

import time
from collections.abc import Callable

from connectors.kafka.client import MAX_RECORD_BYTES
from connectors.record import Topic

# In percent of a refused size. Brokers weigh compressed batches, so that the limit for one body
# is found by trying: from 64 MiB to 1 MiB in fifteen steps.
_SHRINK_TO = 75
# A refusal costs a new producer; one step more in this time costs nothing that shows.
_GROW_EVERY_S = 600.0
_MAX_STEPS = 64  # from one byte to 64 MiB


class SizeLimits:
    """The largest body to send, topic by topic.

    Three quarters of what was refused last; a step more every ten minutes, as a topic's limit may
    have been raised.

    Args:
        now_s: Monotonic time.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._learnt: dict[Topic, tuple[int, float]] = {}

    def of(self, topic: Topic) -> int:
        """Return the limit in bytes."""
        if topic not in self._learnt:
            return MAX_RECORD_BYTES
        num_bytes, learnt_s = self._learnt[topic]
        num_steps = min(int((self._now_s() - learnt_s) / _GROW_EVERY_S), _MAX_STEPS)
        return min(int(num_bytes * (100 / _SHRINK_TO) ** num_steps), MAX_RECORD_BYTES)

    def learn(self, topic: Topic, num_bytes: int) -> None:
        """Note that a body of this size was refused."""
        self._learnt[topic] = max(num_bytes * _SHRINK_TO // 100, 1), self._now_s()
