"""The log: the one owner of all records that wait for record sinks.

Knows records and the names of those that read them, nothing of sinks. One lock guards what is in
memory; no thread holds it while a file is read or written. A second one lets one thread at a time
write files.
"""

import errno
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from connectors.errors import NotWritableError
from connectors.record import Record
from pipeline.clock import Clock, SystemClock
from pipeline.engine.log.consumers import Consumer, Lag, Losses
from pipeline.engine.log.cursors import CursorFolder
from pipeline.engine.log.disk_watch import HANG_S, DiskWatch
from pipeline.engine.log.entries import encode_entry, encode_gap
from pipeline.engine.log.folder_lock import FolderLock
from pipeline.engine.log.kind_log import Batch, KindLog
from pipeline.engine.log.kinds import Kind
from pipeline.engine.log.memory_tail import Held
from pipeline.engine.log.segment_store import SegmentStore
from pipeline.engine.log.segments import Chunk, Hole, Place, Point, read_behind, read_chunk

_logger = logging.getLogger("maskstream.log")

_CURSOR_EVERY_S = 0.5
_RETRY_READ_S = 1.0
_MAX_READS = 3  # of a bad sector: a cable or a path to a volume that fails is back by then, or not
# What is under way when a source is told to wait must still fit: a quarter and an eighth of the
# defaults are 8 and 128 MiB, the results of some hundred frames.
_MEMORY_SHARE = 0.75
_LOG_SHARE = 0.875
_SEGMENTS_PER_LOG = 8
_HANG = f"the log cannot be written: the disk has not answered for {HANG_S:.0f} s"
# Before each fsync: 4 MiB of records of 2 kB take 20 ms of CPU to encode. A disk that failed is
# tried with less: 20 times a second it would take 40 % of a core.
_COMMIT_BYTES = 4 << 20
_RETRY_BYTES = 1 << 16


@dataclass(slots=True)
class _Reader:
    """State of a consumer that goes for all its kinds.

    Attributes:
        kinds: What it reads.
        is_awake: Its wait is to end.
        saved: Its cursor as it is on disk.
        saved_s: When that was written, monotonic.
        failed_path: The last segment with a sector that could not be read.
        num_failed_reads: How often that was.
    """

    kinds: frozenset[Kind]
    is_awake: bool = False
    saved: dict[Kind, int] = field(default_factory=dict[Kind, int])
    saved_s: float = float("-inf")
    failed_path: Path | None = None
    num_failed_reads: int = 0


class RecordLog:
    """Keeps records until all consumers have confirmed them, within bounds.

    Guarantee: each consumer gets the records of a kind in order, none twice within one process,
    none left out but those counted. After a crash, consumers with log get again what their cursor
    did not know to be confirmed, and all alerts for which :meth:`sync` has returned.

    Threads: any number append, one syncs and closes, any number read and confirm, each for one
    consumer.

    Args:
        folder: Holds log and cursors; ``None`` if no consumer uses the log.
        consumers: All that read.
        log_bytes: Size on disk of all kinds together, exceeded by one write at most.
        memory_bytes: Size in memory of each kind, in bytes as on disk; as Python objects small
            records take about 1 kB more each.
        segment_bytes: Size at which a new segment is begun; an eighth of the log at most.
        clock: For ages, and for when cursors are written.

    Raises:
        StateError: If the folder cannot be made or written, or another process uses it.
    """

    def __init__(
        self,
        folder: Path | None,
        consumers: Sequence[Consumer],
        *,
        log_bytes: int,
        memory_bytes: int,
        segment_bytes: int = 8 << 20,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._log_bytes = log_bytes
        self._segment_bytes = max(1, min(segment_bytes, log_bytes // _SEGMENTS_PER_LOG))
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._disk = DiskWatch(self._clock)
        self._is_hanging = False
        self._error: str | None = None
        self._cursor_error: str | None = None
        self._is_stopping = False
        self._is_closed = False
        self._readers = {consumer.name: _Reader(kinds=consumer.kinds) for consumer in consumers}
        self._with_log = [item.name for item in consumers if item.uses_log]
        self._without_log = [item.name for item in consumers if not item.uses_log]
        self._limits = memory_bytes, any(item.goes_first for item in consumers)
        self._unshed = frozenset(item.name for item in consumers if item.misses_nothing)
        self._best_effort = frozenset(item.name for item in consumers if not item.is_durable)
        if folder is None and self._with_log:
            raise ValueError("consumers with log need a folder (accepted: a path)")
        self._folder_lock = None if folder is None else FolderLock(folder)
        try:
            self._cursors, self._kinds = self._open(folder)
        except BaseException:
            if self._folder_lock is not None:
                self._folder_lock.close()
            raise
        self._tidy()

    def _open(self, folder: Path | None) -> tuple[CursorFolder | None, dict[Kind, KindLog]]:
        kinds: dict[Kind, KindLog] = {}
        if folder is None:
            for kind in Kind:
                done = dict.fromkeys(self._who_read(kind, self._without_log), 0), dict[str, int]()
                kinds[kind] = KindLog(kind, None, done, 0, *self._limits, unshed=self._unshed)
            return None, kinds
        cursors = CursorFolder(folder / "cursors", self._with_log)
        confirmed = {name: cursors.confirmed(name) for name in self._with_log}
        for kind in Kind:
            store = SegmentStore(folder / "log" / kind.value, self._segment_bytes)
            last_seq = max([cursors.highest[kind], *(item.last_seq for item in store.segments)])
            without_log = dict.fromkeys(self._who_read(kind, self._without_log), last_seq)
            names = self._who_read(kind, self._with_log)
            with_log = {name: (confirmed[name] or {kind: 0})[kind] for name in names}
            done = (without_log, with_log)
            kinds[kind] = KindLog(kind, store, done, last_seq, *self._limits, unshed=self._unshed)
            kinds[kind].tell_of_start([name for name in names if not confirmed[name]])
        return cursors, kinds

    def _who_read(self, kind: Kind, names: Sequence[str]) -> list[str]:
        return [name for name in names if kind in self._readers[name].kinds]

    @property
    def error(self) -> str | None:
        """Why the disk cannot be written, ``None`` if it can; touches no disk."""
        hang = _HANG if self._is_hanging else None
        return hang or self._error or self._cursor_error

    # Threads that append, and the one that writes

    def append(self, kind: Kind, records: Sequence[Record]) -> int:
        """Take records, without waiting for any disk; any thread may.

        Returns:
            Sequence number of the last one; they count from 1, without a gap.

        Raises:
            UnloggableError: If one of them cannot be written down; it is named, and none is taken.
        """
        with self._changed:
            log = self._kinds[kind]
            log.append(records, self._clock.monotonic_s())
            self._changed.notify_all()
            return log.last_seq

    def sync(self) -> None:
        """Make alerts durable, and what memory has no room for; call it twice a second at least.

        A disk that fails is tried again at the next call. Until then records stay in memory as
        far as they find room, and alerts are read from there; :attr:`error` says why. A disk that
        does not answer for some seconds fails until this returns: :meth:`notice_hang` finds out.
        """
        with self._writing:
            if self._is_closed:
                return
            try:
                self._write_out(is_everything=self._is_stopping)
                self._tidy()
                self._save_cursors(is_last=False)
            finally:
                self._end_hang()

    def request_write_out(self) -> None:
        """Let each sync from now on write all that is not confirmed: for a stop. Any thread may."""
        self._is_stopping = True

    def has_room(self) -> bool:
        """Return whether records of sources that may wait can be taken without any being shed."""
        with self._changed:
            if any(log.is_full(_MEMORY_SHARE) for log in self._kinds.values()):
                return False
            num_bytes = sum(log.num_waiting_bytes() for log in self._kinds.values())
            return not self._with_log or num_bytes < _LOG_SHARE * self._log_bytes

    def notice_hang(self) -> None:
        """Take a disk that does not answer as failing: the thread that writes cannot say so."""
        if not self._disk.is_overdue:
            return
        with self._changed:
            if self._is_hanging or not self._disk.is_overdue:
                return
            self._is_hanging = True
            self._apply_failing()
        _logger.warning("%s; records stay in memory", _HANG)

    # Threads that feed consumers

    def read(self, kind: Kind, consumer: str, *, max_bytes: int, max_records: int) -> Batch | None:
        """Return the next records that a consumer has not confirmed, one at least, if any.

        Until it confirms them it is given the same ones again, unless they were shed.
        """
        log = self._kinds[kind]
        while True:
            with self._changed:
                found = log.read(consumer, max_bytes=max_bytes, max_records=max_records)
            if not isinstance(found, Place):
                return found
            chunk = self._read_chunk(consumer, found, max_bytes, max_records)
            if chunk is None:
                return None
            with self._changed:
                batch = log.take(consumer, found, chunk)
            if batch is not None:
                return batch

    def read_to(self, kind: Kind, consumer: str, seq: int) -> list[Record]:
        """Return all that a consumer without log has not confirmed up to a sequence number."""
        with self._changed:
            return self._kinds[kind].read_to(consumer, seq)

    def confirm(self, kind: Kind, consumer: str, seq: int) -> None:
        """Take all records up to a sequence number as arrived."""
        with self._changed:
            self._kinds[kind].confirm(consumer, seq)

    def wait(self, consumer: str, timeout_s: float) -> bool:
        """Return once a consumer may read something or is woken; ``False``: time is up."""
        reader = self._readers[consumer]
        logs = [self._kinds[kind] for kind in reader.kinds]
        with self._changed:
            is_due = self._changed.wait_for(
                lambda: reader.is_awake or any(log.has_next(consumer) for log in logs), timeout_s
            )
            reader.is_awake = False
            return is_due

    def wake(self, consumer: str) -> None:
        """End a consumer's wait, this one or the next."""
        with self._changed:
            self._readers[consumer].is_awake = True
            self._changed.notify_all()

    def kept(self, kind: Kind, consumer: str) -> list[tuple[int, Record]]:
        """Return what the process before this one left for a consumer on disk, with numbers."""
        log = self._kinds[kind]
        segments = () if log.store is None else log.store.segments
        return read_behind(segments, log.positions[consumer].done)

    # Anyone

    def last_seq(self, kind: Kind) -> int:
        """Return the number of the last record of a kind that was appended."""
        with self._changed:
            return self._kinds[kind].last_seq

    def safe_seq(self, kind: Kind) -> int:
        """Return up to where each record is confirmed by each durable consumer, or on disk."""
        with self._changed:
            return self._kinds[kind].safe_seq(self._best_effort)

    def is_written(self, kind: Kind, seq: int) -> bool:
        """Return whether records up to a number are on disk, or none can be brought there."""
        return self._kinds[kind].is_written(seq)

    def num_waiting(self, consumer: str) -> int:
        """Return how many records a consumer has not confirmed; touches no disk."""
        with self._changed:
            kinds = self._readers[consumer].kinds
            return sum(self._kinds[kind].backlog(consumer).num_records for kind in kinds)

    def lag(self, consumer: str) -> Lag:
        """Return what a consumer has not confirmed; touches no disk."""
        with self._changed:
            kinds = self._readers[consumer].kinds
            backlogs = [self._kinds[kind].backlog(consumer) for kind in kinds]
        ages = [self._age_s(backlog.oldest) for backlog in backlogs if backlog.oldest]
        return Lag(
            num_records=sum(backlog.num_records for backlog in backlogs),
            num_bytes=sum(backlog.num_bytes for backlog in backlogs),
            oldest_age_s=max(ages, default=0.0),
        )

    def counts(self) -> Losses:
        """Return what was lost so far."""
        with self._changed:
            shed = {
                (name, kind): log.positions[name].num_shed
                for kind, log in self._kinds.items()
                for name in log.positions
            }
            stores = {kind: log.store for kind, log in self._kinds.items()}
            corrupt = {kind: store.num_corrupt if store else 0 for kind, store in stores.items()}
        return Losses(shed=shed, corrupt=corrupt)

    def close(self) -> None:
        """Write what consumers with log have not confirmed, and let go of the folder.

        What is in memory alone then is lost, and counted. :meth:`lag` says what is on disk.
        """
        with self._writing:
            if self._is_closed:
                return
            self._is_closed = True
            self._write_out(is_everything=True)
            with self._changed:
                for log in self._kinds.values():
                    log.give_up_memory()
            self._tidy()
            self._save_cursors(is_last=True)
            self._end_hang()
            for log in self._kinds.values():
                log.note_removed()
                if log.store is not None:
                    log.store.close()
            if self._folder_lock is not None:
                self._folder_lock.close()

    # Files

    def _write_out(self, *, is_everything: bool) -> None:
        commit_bytes = min(_COMMIT_BYTES, self._segment_bytes)
        max_bytes = commit_bytes if self._error is None else min(_RETRY_BYTES, commit_bytes)
        try:
            for log in self._kinds.values():
                store = log.store
                if store is None:
                    continue
                # Only so far: what is appended meanwhile could go on for ever.
                to = log.last_seq
                while self._write_commit(log, store, to, max_bytes, is_everything=is_everything):
                    max_bytes = commit_bytes
                if self._error is not None:
                    # There may be nothing to write: consumers got it from memory.
                    with self._disk.timed():
                        store.probe()
        except OSError as error:
            self._set_error(f"the log cannot be written: {error.strerror or error}")
        else:
            self._set_error(None)

    def _write_commit(
        self, log: KindLog, store: SegmentStore, to: int, max_bytes: int, *, is_everything: bool
    ) -> bool:
        """Write one commit's worth; ``False``: there is nothing to write."""
        with self._changed:
            held = log.to_write(to, max_bytes, is_everything=is_everything)
        if not held:
            return False
        entries = self._encode(held)
        with self._disk.timed():
            commit = store.write(entries)
        with self._changed:
            is_published = log.publish(commit, store)
            self._changed.notify_all()
        if not is_published:
            with self._disk.timed():
                store.take_back(commit)
        self._tidy()
        return True

    def _encode(self, held: Sequence[Held]) -> list[tuple[int, bytes]]:
        # Ages are measured by the monotonic clock as long as the process lives.
        base_ms = 1000 * (self._clock.utc_now().timestamp() - self._clock.monotonic_s())
        entries: list[tuple[int, bytes]] = []
        for item in held:
            appended_ms = round(base_ms + 1000 * item.appended_s)
            try:
                entry = encode_entry(item.seq, appended_ms, item.record)
            except Exception:
                # Never seen: what append takes can be written. The others must not wait for it.
                _logger.exception("record %d cannot be written: left out on disk", item.seq)
                entry = encode_gap(item.seq, appended_ms)
            entries.append((item.seq, entry))
        return entries

    def _set_error(self, error: str | None) -> None:
        if error == self._error:
            return
        if error is None:
            _logger.info("the log can be written again")
        else:
            _logger.warning("%s; records stay in memory, and it is tried again", error)
        with self._changed:
            self._error = error
            self._apply_failing()

    def _end_hang(self) -> None:
        with self._changed:
            if not self._is_hanging:
                return
            self._is_hanging = False
            self._apply_failing()
        _logger.info("the disk of the log answers again")

    def _apply_failing(self) -> None:
        for log in self._kinds.values():
            log.is_disk_failing = self._is_hanging or self._error is not None
            log.evict()
        self._changed.notify_all()

    def _tidy(self) -> None:
        """Delete segments that all have confirmed and, over the log's bound, the oldest."""
        for is_last_too in (False, True):
            if is_last_too and self._num_disk_bytes <= self._log_bytes:
                return
            for log in self._kinds.values():
                with self._changed:
                    confirmed = log.take_confirmed(is_last_too=is_last_too)
                for segment in confirmed:
                    with self._disk.timed():
                        log.delete(segment)
        # The least precious first, even where it is the segment in use.
        for log in reversed(self._kinds.values()):
            while self._num_disk_bytes > self._log_bytes:
                with self._changed:
                    oldest = log.take_oldest()
                if oldest is None:
                    break
                with self._disk.timed():
                    log.delete(oldest)

    @property
    def _num_disk_bytes(self) -> int:
        return sum(log.num_disk_bytes for log in self._kinds.values())

    def _save_cursors(self, *, is_last: bool) -> None:
        if self._cursors is None:
            return
        now_s = self._clock.monotonic_s()
        for name in self._with_log:
            reader = self._readers[name]
            with self._changed:
                done = {kind: self._kinds[kind].positions[name].done for kind in reader.kinds}
            is_due = is_last or now_s - reader.saved_s >= _CURSOR_EVERY_S
            if done == reader.saved or not is_due:
                continue
            try:
                with self._disk.timed():
                    self._cursors.save(name, done)
            except NotWritableError as error:
                if self._cursor_error is None:
                    _logger.warning("%s; a crash now would repeat records", error)
                self._cursor_error = str(error)
                continue
            reader.saved, reader.saved_s = done, now_s
            self._cursor_error = None

    def _read_chunk(
        self, consumer: str, place: Place, max_bytes: int, max_records: int
    ) -> Chunk | None:
        reader, path = self._readers[consumer], place.segment.path
        is_bad = reader.failed_path == path and reader.num_failed_reads >= _MAX_READS
        try:
            return read_chunk(
                place, max_bytes=max_bytes, max_records=max_records, skips_unreadable=is_bad
            )
        except OSError as error:
            if error.errno == errno.ENOENT or (error.errno == errno.EIO and is_bad):
                # Shed a moment ago; or deleted by others or out of reach, and then lost.
                hole = Hole(place.after + 1, place.last_seq, place.start)
                return Chunk([], [hole], place.last_seq)
            _logger.warning("%s: %s; tried again", path, error.strerror or error)
            if error.errno == errno.EIO:
                num_before = reader.num_failed_reads if reader.failed_path == path else 0
                reader.failed_path, reader.num_failed_reads = path, num_before + 1
        with self._changed:
            self._changed.wait_for(lambda: reader.is_awake, _RETRY_READ_S)
        return None

    def _age_s(self, oldest: Held | Point) -> float:
        if isinstance(oldest, Held):
            return self._clock.monotonic_s() - oldest.appended_s
        return max(0.0, self._clock.utc_now().timestamp() - oldest.appended_ms / 1000)
