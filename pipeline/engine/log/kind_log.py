"""Records of one kind: those in memory, those on disk, and who has which.

Knows nothing of threads: the caller holds the log's lock, but where it says otherwise.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from connectors.record import Record
from pipeline.engine.log.entries import size_of
from pipeline.engine.log.kinds import Kind
from pipeline.engine.log.memory_tail import Held, MemoryTail
from pipeline.engine.log.positions import Position
from pipeline.engine.log.segment_store import Commit, SegmentStore
from pipeline.engine.log.segments import Chunk, Hole, Place, Point, Segment, count

_logger = logging.getLogger("maskstream.log")


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to write, in order.

    Attributes:
        kind: Of what kind.
        last_seq: To be confirmed once all have arrived.
        records: One at least.
    """

    kind: Kind
    last_seq: int
    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What one consumer has not confirmed of one kind.

    Attributes:
        num_records: How many.
        num_bytes: Their size; on disk to within 64 kB.
        oldest: The first of them in memory, or on disk one close before it.
    """

    num_records: int
    num_bytes: int
    oldest: Held | Point | None


class KindLog:
    """The tail in memory, the segments on disk, and a position for each consumer.

    Args:
        kind: Of what kind.
        store: Segments, where any consumer uses the log.
        done: How far each consumer without log is, and each with log.
        last_seq: Highest sequence number ever given.
        memory_bytes: Size of what is kept in memory.
        holds_all: No consumer sees an alert before it is on disk.
        unshed: Consumers without log that lose nothing, whatever memory that takes.
    """

    def __init__(
        self,
        kind: Kind,
        store: SegmentStore | None,
        done: tuple[dict[str, int], dict[str, int]],
        last_seq: int,
        memory_bytes: int,
        holds_all: bool = False,  # noqa: FBT001, FBT002 - beside the bound
        *,
        unshed: Collection[str] = (),
    ) -> None:
        self.kind = kind
        self.store = store
        self.is_disk_failing = False
        self._holds_all = holds_all
        without_log, with_log = done
        self._without_log = {name: Position(seq) for name, seq in without_log.items()}
        self._with_log = {name: Position(seq) for name, seq in with_log.items()}
        self.positions = self._without_log | self._with_log
        self._unshed = {name: self._without_log[name] for name in unshed}
        self._tail = MemoryTail(last_seq)
        self._memory_bytes = memory_bytes
        self._synced_seq = last_seq
        self._shed_unwritten_to = 0

    @property
    def last_seq(self) -> int:
        """Number of the last record appended."""
        return self._tail.last_seq

    def safe_seq(self, best_effort: Collection[str] = ()) -> int:
        """Return up to where records are confirmed by each consumer, or on disk for it.

        Args:
            best_effort: Consumers that do not count.
        """
        safe = [
            max(position.settled, self._synced_seq) if name in self._with_log else position.settled
            for name, position in self.positions.items()
            if name not in best_effort
        ]
        return min(safe, default=self.last_seq)

    def is_written(self, seq: int) -> bool:
        """Return whether records up to a number are on disk, or none can be brought there."""
        return self._synced_seq >= seq or self.is_disk_failing or self.store is None

    def append(self, records: Sequence[Record], now_s: float) -> None:
        """Take records; the oldest make room for them.

        Raises:
            UnloggableError: If one cannot be written down; none is taken.
        """
        sizes = [size_of(record) for record in records]
        for record, num_bytes in zip(records, sizes, strict=True):
            if self.positions:
                self._tail.append(record, num_bytes, now_s)
            else:
                self._tail.skip_to(self.last_seq + 1)
        self.evict()

    def evict(self) -> None:
        """Keep memory within its bound, but for what is to be written to disk first."""
        tail = self._tail
        # The newest stays whatever its size: else it could never be delivered.
        while len(tail) > 1 and tail.num_bytes > self._memory_bytes:
            seq = tail.first_seq
            if seq > _least(self._unshed):
                return
            if seq > max(self._synced_seq, _least(self._with_log)):
                if not self.is_disk_failing:
                    return
                # They are not passed over: older ones may be on disk.
                _shed(self._with_log, seq, seq)
                self._shed_unwritten_to = seq
            _shed(self._without_log, seq, seq)
            for position in self._without_log.values():
                position.pass_over(seq)
            tail.drop_to(seq)

    def is_full(self, share: float) -> bool:
        """Return whether memory is full of what is nowhere else, to a share of its bound."""
        waiting = list(self._without_log.values())
        if self.is_disk_failing:
            waiting += self._with_log.values()
        limit = share * self._memory_bytes
        return any(self._tail.bytes_after(position.done) >= limit for position in waiting)

    # Memory to disk

    def to_write(self, to: int, max_bytes: int, *, is_everything: bool) -> list[Held]:
        """Return what is to be written now, in order.

        Args:
            to: Number of the last record that may be.
            max_bytes: Size of it all; one record may be larger.
            is_everything: Also what memory has room for.
        """
        tail, after = self._tail, max(self._synced_seq, _least(self._with_log))
        entries: list[Held] = []
        num_bytes = 0
        for seq in range(max(after + 1, tail.first_seq), to + 1):
            is_within = tail.bytes_after(seq - 1) <= self._memory_bytes
            if is_within and not is_everything and self.kind is not Kind.ALERTS:
                break
            num_bytes += tail[seq].num_bytes
            if entries and num_bytes > max_bytes:
                break
            entries.append(tail[seq])
        return entries

    def publish(self, commit: Commit, store: SegmentStore) -> bool:
        """Take what was written as durable.

        Returns:
            ``False``: some of it was shed while it was written, and counted as lost. Then nobody
            is to read it.
        """
        if commit.first_seq <= self._shed_unwritten_to:
            return False
        store.publish(commit)
        self._synced_seq = max(self._synced_seq, commit.last_seq)
        self.evict()
        return True

    def give_up_memory(self) -> None:
        """Count what is in memory alone as lost: the process ends."""
        tail = self._tail
        shed = {name: one for name, one in self._without_log.items() if name not in self._unshed}
        _shed(shed, tail.first_seq, tail.last_seq)
        _shed(self._with_log, max(tail.first_seq, self._synced_seq + 1), tail.last_seq)
        tail.drop_to(tail.last_seq)
        for position in self.positions.values():
            position.read_again()

    # Disk

    def tell_of_start(self, unknown: Sequence[str]) -> None:
        """Warn of what the process before has left, where not all of it was waited for.

        Args:
            unknown: Consumers whose cursors are lost.
        """
        num_records = 0 if self.store is None else count(self.store.segments, 0, 1 << 63)
        if num_records and not self._with_log:
            _logger.warning(
                "%d %s of the log are dropped: no sink reads them", num_records, self.kind
            )
        for name in unknown if num_records else ():
            _logger.warning(
                "sink %r has no cursor: all %d %s of the log go to it", name, num_records, self.kind
            )

    def note_removed(self) -> None:
        """Count as lost what others have removed of what waits; without the log's lock."""
        if self.store is None:
            return
        least = _least(self._with_log)
        for segment in self.store.segments:
            if segment.last_seq > least and not segment.path.exists():
                first_seq = max(segment.first_seq, least + 1)
                self.store.note_hole(segment, Hole(first_seq, segment.last_seq, 0))

    def num_waiting_bytes(self) -> int:
        """Return the size of what is on disk for consumers, and of what may yet go there."""
        if self.store is None:
            return 0
        least = _least(self._with_log)
        num_bytes = self._tail.bytes_after(max(self._synced_seq, least))
        waiting = (item.num_bytes for item in self.store.segments if item.last_seq > least)
        return num_bytes + sum(waiting)

    @property
    def num_disk_bytes(self) -> int:
        """Size of all that is on disk."""
        return 0 if self.store is None else self.store.num_bytes

    def take_confirmed(self, *, is_last_too: bool) -> list[Segment]:
        """Take out segments that nobody reads any more, the one in use only where asked to."""
        if self.store is None:
            return []
        segments, least = self.store.segments, _least(self._with_log)
        num_most = len(segments) - (0 if is_last_too or not self._with_log else 1)
        num_done = 0
        while num_done < num_most and segments[num_done].last_seq <= least:
            num_done += 1
        taken, self.store.segments = segments[:num_done], segments[num_done:]
        return taken

    def take_oldest(self) -> Segment | None:
        """Take out the oldest segment, shedding what is left of it."""
        if self.store is None or not self.store.segments:
            return None
        segment = self.store.segments.pop(0)
        for position in self._with_log.values():
            last = segment.last_seq
            num_unhanded = segment.num_within(position.unhanded_after, last)
            position.shed(segment.first_seq, last, num_unhanded)
            position.pass_over(last)
        return segment

    def delete(self, segment: Segment) -> None:
        """Remove the file of a segment that was taken out; without the log's lock."""
        if self.store is not None:
            self.store.delete(segment)

    # Consumers

    def has_next(self, consumer: str) -> bool:
        """Return whether there may be something for a consumer to read."""
        return self._readable_seq(consumer) > self.positions[consumer].done

    def read(self, consumer: str, *, max_bytes: int, max_records: int) -> Batch | Place | None:
        """Return what a consumer has not confirmed: from memory, or where to read it."""
        position = self.positions[consumer]
        position.read_again()
        place = self._find(consumer)
        if place is not None:
            return place
        tail, records = self._tail, list[Record]()
        num_bytes, seq = 0, max(position.done + 1, tail.first_seq)
        last_seq = self._readable_seq(consumer)
        while seq <= last_seq and len(records) < max_records:
            num_bytes += tail[seq].num_bytes
            if records and num_bytes > max_bytes:
                break
            records.append(tail[seq].record)
            seq += 1
        if not records:
            # What lay before is lost, and counted where it was.
            position.pass_over(last_seq)
            return None
        position.hand(seq - 1)
        return Batch(self.kind, seq - 1, records)

    def read_to(self, consumer: str, seq: int) -> list[Record]:
        """Return all that a consumer without log has not confirmed up to a number."""
        first = max(self.positions[consumer].done + 1, self._tail.first_seq)
        return [self._tail[number].record for number in range(first, seq + 1)]

    def take(self, consumer: str, place: Place, chunk: Chunk) -> Batch | None:
        """Return what was read at a place as a batch; ``None``: look for it again."""
        position = self.positions[consumer]
        if self.store is not None and any(item is place.segment for item in self.store.segments):
            for hole in chunk.holes:
                self.store.note_hole(place.segment, hole)
        # It may have been shed, and counted, while it was read.
        records = [record for seq, record in chunk.records if seq > position.done]
        if not records:
            return None
        position.hand(chunk.last_seq)
        return Batch(self.kind, chunk.last_seq, records)

    def confirm(self, consumer: str, seq: int) -> None:
        """Take records up to a number as arrived at a consumer."""
        self.positions[consumer].confirm(min(seq, self.last_seq))
        self._forget_confirmed()

    def backlog(self, consumer: str) -> Backlog:
        """Return what a consumer has not confirmed."""
        done, tail = self.positions[consumer].done, self._tail
        before, after = tail.first_seq - 1, max(done, tail.first_seq - 1)
        num_records, num_bytes = self.last_seq - after, tail.bytes_after(after)
        oldest: Held | Point | None = tail[after + 1] if num_records else None
        if consumer in self._with_log and self.store is not None:
            num_records += count(self.store.segments, done, before)
            for segment in self.store.segments:
                if segment.num_within(done, before):
                    start = segment.find(done).at_byte
                    end = segment.find(before).at_byte if segment.last_seq > before else None
                    num_bytes += (segment.num_bytes if end is None else end) - start
            place = self._find(consumer)
            oldest = oldest if place is None else place.segment.find(done)
        return Backlog(num_records, num_bytes, oldest)

    def _readable_seq(self, consumer: str) -> int:
        """Return the number of the last record that a consumer may see: alerts once on disk."""
        is_held = self.kind is Kind.ALERTS and (self._holds_all or consumer in self._with_log)
        return self._synced_seq if is_held and not self.is_disk_failing else self.last_seq

    def _find(self, consumer: str) -> Place | None:
        """Return where on disk a consumer goes on; ``None``: in memory, if anywhere."""
        done = self.positions[consumer].done
        if self.store is None or done + 1 >= self._tail.first_seq or consumer not in self._with_log:
            return None
        for segment in self.store.segments:
            if segment.num_within(done, self._tail.first_seq - 1):
                first_seq, start, _ = segment.find(done)
                last_seq, end = segment.last_seq, segment.num_bytes
                return Place(segment, first_seq, start, last_seq, end, done)
        return None

    def _forget_confirmed(self) -> None:
        self._tail.drop_to(_least(self.positions))


def _least(positions: dict[str, Position]) -> int:
    """Return up to where all have done; without any, nothing holds a record."""
    return min((position.done for position in positions.values()), default=1 << 63)


def _shed(positions: dict[str, Position], first: int, last: int) -> None:
    """Count records as lost for all that have not confirmed them."""
    for position in positions.values():
        position.shed(first, last, max(0, last - max(first - 1, position.unhanded_after)))
