"""The newest snapshots of each stream in a topic that all workers of a group share."""

import logging
import threading
import zlib
from collections.abc import Collection, Iterator
from typing import ClassVar
from urllib.parse import quote

from typing_extensions import override

from connectors.errors import Position, SinkError
from connectors.kafka.state_topic import StateTopic, ValueRefusedError
from pipeline.engine.state.snapshot_file import (
    SnapshotFileError,
    StoredSnapshot,
    decode_snapshot_file,
    encode_snapshot_file,
)
from pipeline.engine.state.snapshot_store import SnapshotRefusedError, SnapshotStore

_logger = logging.getLogger("maskstream.state")

_KEY_CHARACTERS = 100  # of a foreign one, in the log
_SLOTS = ("0", "1")  # two keys a stream: compaction leaves the snapshot before a damaged one


class SnapshotTopic(SnapshotStore):
    """Keeps two snapshots a stream, in the partition of the number that the stream's frames have.

    What is kept in a partition is read whole before the first frame of a stream of it, and is at
    hand until that stream has gone on; then its newest one is. Of two snapshots the one is newer
    that is behind more frames: a worker that was cut off may write an old one late.

    Args:
        topic: Others may keep theirs in it under deployments of their own.
        deployment: Whose streams these are.
    """

    is_shared: ClassVar[bool] = True

    def __init__(self, topic: StateTopic, *, deployment: str) -> None:
        self._topic = topic
        self._deployment = quote(deployment, safe="")
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._found: dict[str, dict[str, dict[str, bytes]]] = {}
        self._released: set[str] = set()
        self._slots: dict[str, str] = {}
        self._partitions: dict[str, int] = {}
        self._newest: dict[str, bytes] = {}

    @override
    def prepare(self, position: Position) -> None:
        with self._reading:  # by sources of several topics
            for name in position:
                with self._lock:
                    if name in self._found:
                        continue
                    self._released.discard(name)
                streams = self._read(_number_of(name))
                with self._lock:
                    if name not in self._released:  # else it may be old when it comes back
                        self._found[name] = streams

    @override
    def release(self, partitions: Collection[str]) -> None:
        with self._lock:
            self._released |= set(partitions)
            for name in partitions:
                self._found.pop(name, None)
            numbers = set(map(_number_of, partitions))
            for stream_id in [one for one, number in self._partitions.items() if number in numbers]:
                self._forget(stream_id)

    @override
    def save(self, snapshot: StoredSnapshot) -> int:
        stream_id, data = snapshot.about.stream_id, encode_snapshot_file(snapshot)
        partition = _partition_of(snapshot)
        slot = self._slots.get(stream_id, _SLOTS[0])
        try:
            self._topic.write(self._key(slot, stream_id), data, partition=partition)
        except ValueRefusedError as error:
            raise SnapshotRefusedError(self._topic.name, error.reason) from error
        with self._lock:
            self._remember(stream_id, data, partition, slot)
        return len(data)

    @override
    def load(self, stream_id: str) -> tuple[StoredSnapshot | None, list[str]]:
        with self._lock:
            kept = [
                (slot, data, _number_of(name))
                for name, streams in self._found.items()
                for slot, data in streams.pop(stream_id, {}).items()
            ]
        problems: list[str] = []
        newest: StoredSnapshot | None = None
        for slot, data, partition in kept:
            try:
                snapshot = _decode(data, stream_id)
            except SnapshotFileError as error:
                key = self._key(slot, stream_id)
                problems.append(f"{self._topic.name}, key {key}: {error}")
                continue
            if newest is None or _reach(snapshot) > _reach(newest):
                newest = snapshot
                with self._lock:
                    self._remember(stream_id, data, partition, slot)
        if newest is None and stream_id in self._newest:
            newest = decode_snapshot_file(self._newest[stream_id])
        return newest, problems

    @override
    def load_others(self, claimed: Collection[str]) -> Iterator[StoredSnapshot]:
        return iter(())

    @override
    def delete(self, stream_id: str) -> None:
        with self._lock:
            partition = self._partitions.get(stream_id)
            self._forget(stream_id)
        if partition is None:
            return
        try:
            for slot in _SLOTS:
                self._topic.write(self._key(slot, stream_id), b"", partition=partition)
        except SinkError as error:
            _logger.warning("its state is left: %s", error, extra={"stream": stream_id})

    @override
    def interrupt(self) -> None:
        self._topic.interrupt()

    @override
    def close(self) -> None:
        self._topic.close()

    def _key(self, slot: str, stream_id: str) -> str:
        return f"{slot}/{self._deployment}/{stream_id}"

    def _remember(self, stream_id: str, data: bytes, partition: int, slot: str) -> None:
        self._newest[stream_id] = data
        self._partitions[stream_id] = partition
        self._slots[stream_id] = _other(slot)

    def _forget(self, stream_id: str) -> None:
        for known in (self._newest, self._partitions, self._slots):
            known.pop(stream_id, None)

    def _read(self, partition: int) -> dict[str, dict[str, bytes]]:
        """Return the snapshots of a partition by stream and slot."""
        streams: dict[str, dict[str, bytes]] = {}
        strays: list[str] = []
        for key, data in self._topic.read(partition).items():
            slot, deployment, stream_id = [*key.split("/", 2), "", ""][:3]
            if slot in _SLOTS and stream_id:
                if deployment == self._deployment:
                    streams.setdefault(stream_id, {})[slot] = data
            else:
                strays.append(key)
        if strays:  # a line for all: the topic may be another program's
            about = self._topic.name, partition, len(strays), strays[0][:_KEY_CHARACTERS]
            _logger.warning(
                "%s, partition %d: %d keys are no stream's, such as %r; left out", *about
            )
        return streams


def _decode(data: bytes, stream_id: str) -> StoredSnapshot:
    snapshot = decode_snapshot_file(data)
    if snapshot.about.stream_id != stream_id:
        raise SnapshotFileError(f"is of stream {snapshot.about.stream_id!r}")
    return snapshot


def _reach(snapshot: StoredSnapshot) -> tuple[int, float]:
    """Return how much a snapshot is behind: frames of its stream, then time."""
    about = snapshot.about
    return max(map(int, about.source.values()), default=0), about.taken_at.timestamp()


def _partition_of(snapshot: StoredSnapshot) -> int:
    """Return the partition of a stream's last frame; of one without frames any, but the same."""
    names = list(snapshot.about.source)
    return _number_of(names[-1]) if names else zlib.crc32(snapshot.about.stream_id.encode())


def _number_of(name: str) -> int:
    return int(name.rpartition("/")[2])


def _other(slot: str) -> str:
    return _SLOTS[1 - _SLOTS.index(slot)]
