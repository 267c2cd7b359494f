"""One segment: a file of entries with a name by its first sequence number."""

import errno
import logging
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from connectors.record import Record
from pipeline.engine.log.entries import SEGMENT_HEAD_BYTES, decode_record, scan

_logger = logging.getLogger("maskstream.log")

INDEX_STEP_BYTES = 1 << 16
"""A read begins at most so far before what it looks for: 30 records of 2 kB, 0.1 ms."""


_STEP_BYTES = 1 << 16  # around a bad sector: 30 records of 2 kB are given up, in one failed read
_UNREADABLE = b"\xff"  # no zeros: these would be a torn end, which was promised to nobody


_INDEX_STEP_MS = 10_000
"""An age is at most so much too high. A segment of alerts may take days to fill."""


class Point(NamedTuple):
    """Where an entry begins.

    Attributes:
        seq: Its sequence number.
        at_byte: Its first byte in the file.
        appended_ms: When it was appended, milliseconds since the epoch.
    """

    seq: int
    at_byte: int
    appended_ms: int


@dataclass(frozen=True, slots=True)
class Hole:
    """Records of a segment that are lost.

    Attributes:
        first_seq: Sequence number of the first of them.
        last_seq: Of the last.
        at_byte: Where in the file they should be.
    """

    first_seq: int
    last_seq: int
    at_byte: int

    def num_within(self, after: int, to: int) -> int:
        """Return how many of them lie behind ``after``, up to and with ``to``."""
        return max(0, min(self.last_seq, to) - max(self.first_seq - 1, after))


@dataclass(slots=True)
class Segment:
    """What is known of a file: records ``first_seq`` to ``last_seq`` but for the holes.

    Attributes:
        path: The file.
        first_seq: Sequence number of the first record, as the file is named.
        last_seq: Of the last.
        num_bytes: Size of the file as far as it is good and durable.
        holes: What is lost of it.
        index: Some of its entries, the first good one too.
    """

    path: Path
    first_seq: int
    last_seq: int
    num_bytes: int = SEGMENT_HEAD_BYTES
    holes: list[Hole] = field(default_factory=list[Hole])
    index: list[Point] = field(default_factory=list[Point])

    def num_within(self, after: int, to: int) -> int:
        """Return how many records lie behind ``after``, up to and with ``to``."""
        after, to = max(after, self.first_seq - 1), min(to, self.last_seq)
        return max(0, to - after) - sum(hole.num_within(after, to) for hole in self.holes)

    def add_hole(self, hole: Hole) -> None:
        """Take records as lost; those of known holes are so already."""
        kept = [
            known
            for known in self.holes
            if known.last_seq < hole.first_seq or hole.last_seq < known.first_seq
        ]
        merged = [known for known in self.holes if known not in kept]
        first_seq = min([hole.first_seq, *(known.first_seq for known in merged)])
        last_seq = max([hole.last_seq, *(known.last_seq for known in merged)])
        self.holes = [*kept, Hole(first_seq, last_seq, hole.at_byte)]

    def find(self, after: int) -> Point:
        """Return the nearest known entry at or before ``after + 1``."""
        place = bisect_right(self.index, after + 1, key=lambda point: point.seq)
        if place:
            return self.index[place - 1]
        # The first entries are lost.
        appended_ms = self.index[0].appended_ms if self.index else 0
        return Point(self.first_seq, SEGMENT_HEAD_BYTES, appended_ms)

    def add_to_index(self, point: Point) -> None:
        """Remember an entry, if it is far enough from the one before."""
        last = self.index[-1] if self.index else None
        if (
            last is None
            or point.at_byte >= last.at_byte + INDEX_STEP_BYTES
            # The clock may have been set back.
            or abs(point.appended_ms - last.appended_ms) >= _INDEX_STEP_MS
        ):
            self.index.append(point)


@dataclass(frozen=True, slots=True)
class Place:
    """Where to read: a segment as it was when it was looked up.

    Attributes:
        segment: The segment; of it only the path is read without the log's lock.
        first_seq: Number of the entry with which to begin.
        start: Where that entry begins.
        last_seq: Number of the last entry.
        end: Where that entry ends.
        after: Records up to this number are passed over.
    """

    segment: Segment
    first_seq: int
    start: int
    last_seq: int
    end: int
    after: int


@dataclass(slots=True)
class Chunk:
    """What was read at a place.

    Attributes:
        records: Good records, with their sequence numbers.
        holes: What should lie between them, but is lost.
        last_seq: Up to here everything was looked at.
    """

    records: list[tuple[int, Record]]
    holes: list[Hole]
    last_seq: int


def read_chunk(
    place: Place, *, max_bytes: int, max_records: int, skips_unreadable: bool = False
) -> Chunk:
    """Read records: one at least, if any good one is left.

    Args:
        place: Where.
        max_bytes: Size of it all; one record may be larger.
        max_records: How many.
        skips_unreadable: Records on bad sectors are left out, and the others read.

    Raises:
        OSError: If the file cannot be read.
    """
    window = max_bytes + INDEX_STEP_BYTES
    while True:
        is_whole = place.start + window >= place.end
        num_bytes = min(window, place.end - place.start)
        read = read_around if skips_unreadable else read_bytes
        data = read(place.segment.path, place.start, num_bytes)
        chunk = _collect(data, place, max_bytes, max_records, is_whole=is_whole)
        if chunk.records or is_whole:
            return chunk
        # Cut by the window, or damaged: to tell which takes the rest of the file.
        window = place.end - place.start


def read_behind(segments: Sequence[Segment], after: int) -> list[tuple[int, Record]]:
    """Return all records behind a number, with their numbers; what cannot be read is left out."""
    records: list[tuple[int, Record]] = []
    for segment in segments:
        if not segment.num_within(after, segment.last_seq):
            continue
        first_seq, start, _ = segment.find(after)
        place = Place(segment, first_seq, start, segment.last_seq, segment.num_bytes, after)
        # As many records as bytes at most: all.
        everything = segment.num_bytes
        try:
            chunk = read_chunk(
                place, max_bytes=everything, max_records=everything, skips_unreadable=True
            )
        except OSError as error:
            _logger.warning("%s: %s; left out", segment.path, error.strerror or error)
            continue
        records += chunk.records
    return records


def _collect(
    data: bytes, place: Place, max_bytes: int, max_records: int, *, is_whole: bool
) -> Chunk:
    chunk = Chunk([], [], place.last_seq)
    last_seq, end, num_bytes = place.first_seq - 1, 0, 0
    for entry in scan(data, 0, last_seq, is_whole=is_whole):
        is_full = num_bytes + entry.end - entry.start > max_bytes
        if chunk.records and (is_full or len(chunk.records) == max_records):
            chunk.last_seq = last_seq
            return chunk
        if entry.seq > last_seq + 1:
            chunk.holes.append(Hole(last_seq + 1, entry.seq - 1, place.start + end))
        last_seq, end = entry.seq, entry.end
        if entry.seq <= place.after:
            continue
        record = decode_record(data, entry)
        if record is None:
            chunk.holes.append(Hole(entry.seq, entry.seq, place.start + entry.start))
            continue
        chunk.records.append((entry.seq, record))
        num_bytes += entry.end - entry.start
    if is_whole and last_seq < place.last_seq:
        chunk.holes.append(Hole(last_seq + 1, place.last_seq, place.start + end))
    chunk.last_seq = place.last_seq if is_whole else last_seq
    return chunk


def read_bytes(path: Path, start: int, num_bytes: int) -> bytes:
    """Read a part of a file, less where the file ends before.

    Raises:
        OSError: If any of it cannot be read.
    """
    with path.open("rb") as file:
        return _read_part(file.fileno(), start, num_bytes)


def read_around(path: Path, start: int, num_bytes: int) -> bytes:
    """Read what can be read of a part of a file; the rest is filled, so that nothing moves.

    Raises:
        OSError: If the file cannot be opened.
    """
    parts: list[bytes] = []
    with path.open("rb") as file:
        for at in range(start, start + num_bytes, _STEP_BYTES):
            size = min(_STEP_BYTES, start + num_bytes - at)
            try:
                parts.append(_read_part(file.fileno(), at, size))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                parts.append(_UNREADABLE * size)
    return b"".join(parts)


def _read_part(fd: int, start: int, num_bytes: int) -> bytes:
    data = os.pread(fd, num_bytes, start)
    # A read that meets a bad sector may end before it; one at the end of the file is empty.
    while len(data) < num_bytes and (
        part := os.pread(fd, num_bytes - len(data), start + len(data))
    ):
        data += part
    return data


def count(segments: Sequence[Segment], after: int, to: int) -> int:
    """Return how many records of segments lie behind ``after``, up to and with ``to``."""
    return sum(segment.num_within(after, to) for segment in segments)
