"""The newest records of one kind, in memory and shared by all that read them."""

from dataclasses import dataclass

from connectors.record import Record


@dataclass(slots=True)
class Held:
    """A record in memory.

    Attributes:
        seq: Its sequence number.
        record: The record.
        num_bytes: Its size.
        bytes_to: Sizes of all records ever appended, up to and with this one.
        appended_s: When it was appended, monotonic.
    """

    seq: int
    record: Record
    num_bytes: int
    bytes_to: int
    appended_s: float


class MemoryTail:
    """Records ``first_seq`` to ``last_seq``, without a gap. Used by one thread at a time.

    Attributes:
        num_bytes: Size of all of them.

    Args:
        last_seq: Sequence number of the last record before the first one appended.
    """

    def __init__(self, last_seq: int) -> None:
        self._held: dict[int, Held] = {}
        self._bytes_to = 0
        self.num_bytes = 0
        self.first_seq = last_seq + 1
        self.last_seq = last_seq

    def append(self, record: Record, num_bytes: int, now_s: float) -> None:
        """Take one record more."""
        self.last_seq += 1
        self._bytes_to += num_bytes
        self.num_bytes += num_bytes
        held = Held(self.last_seq, record, num_bytes, self._bytes_to, now_s)
        self._held[self.last_seq] = held

    def __getitem__(self, seq: int) -> Held:
        return self._held[seq]

    def __len__(self) -> int:
        return len(self._held)

    def bytes_after(self, seq: int) -> int:
        """Return the size of what is held behind a sequence number."""
        first_seq = max(seq + 1, self.first_seq)
        if first_seq > self.last_seq:
            return 0
        first = self._held[first_seq]
        return self._bytes_to - first.bytes_to + first.num_bytes

    def drop_to(self, seq: int) -> None:
        """Let go of all records up to and with a sequence number."""
        for dropped in range(self.first_seq, min(seq, self.last_seq) + 1):
            self.num_bytes -= self._held.pop(dropped).num_bytes
            self.first_seq = dropped + 1

    def skip_to(self, seq: int) -> None:
        """Count a record as appended and let go of: nobody is to read it."""
        self.drop_to(self.last_seq)
        self.first_seq, self.last_seq = seq + 1, seq
