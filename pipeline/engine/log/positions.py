"""How far one consumer is within one kind."""

from dataclasses import dataclass


@dataclass(slots=True)
class Position:
    """What a consumer has confirmed, was handed and will never get.

    A batch that it was handed may be shed before it is confirmed. Whether that is a loss is only
    known later: not if it is confirmed, so if the consumer reads again.

    Attributes:
        done: Records up to this number are confirmed, or shed.
        handed: Number of the last record that it was handed.
        num_shed: Records that it will never get.
        doubt_from: First number of what was shed from its hands, if ``doubt_to`` is not smaller.
        doubt_to: Last number of that.
    """

    done: int
    handed: int = 0
    num_shed: int = 0
    doubt_from: int = 1
    doubt_to: int = 0

    @property
    def settled(self) -> int:
        """Records up to this number are confirmed, or shed for good."""
        return self.done if self.doubt_to < self.doubt_from else min(self.done, self.doubt_from - 1)

    @property
    def unhanded_after(self) -> int:
        """Records behind this number are neither confirmed nor in its hands."""
        return max(self.done, self.handed)

    def confirm(self, seq: int) -> None:
        """Take records up to a number as arrived."""
        self.done = max(self.done, seq)
        self.doubt_from = max(self.doubt_from, seq + 1)

    def shed(self, first: int, last: int, num_unhanded: int) -> None:
        """Count records as lost.

        Args:
            first: Number of the first of them.
            last: Number of the last.
            num_unhanded: How many of them there were behind :attr:`unhanded_after`.
        """
        if self.done < last and first <= self.handed:
            if self.doubt_to < self.doubt_from:
                self.doubt_from = max(first, self.done + 1)
            self.doubt_to = min(last, self.handed)
        self.num_shed += num_unhanded

    def pass_over(self, seq: int) -> None:
        """Go on behind a number: nothing up to there is left."""
        self.done = max(self.done, seq)

    def read_again(self) -> None:
        """Count what was shed from its hands: it asks for more without having confirmed it."""
        self.num_shed += max(0, self.doubt_to - self.doubt_from + 1)
        self.doubt_from, self.doubt_to = 1, 0
        self.handed = self.done

    def hand(self, seq: int) -> None:
        """Take records up to a number as in its hands."""
        self.handed = seq
