"""Where snapshots of streams are kept."""

from collections.abc import Collection, Iterator
from typing import ClassVar, Protocol

from connectors.errors import NotWritableError, Position
from pipeline.engine.state.snapshot_file import StoredSnapshot


class SnapshotRefusedError(NotWritableError):
    """The snapshot is not taken, whatever is tried; a smaller one may be."""


class SnapshotStore(Protocol):
    """Keeps the newest snapshots of each stream: a damaged one leaves the one before.

    Attributes:
        is_shared: Other workers find them, and go on with streams that move to them.
    """

    is_shared: ClassVar[bool]

    def prepare(self, position: Position) -> None:
        """Have at hand what is kept of the streams in partitions. Waits; for a source's thread.

        Raises:
            SourceError: If it cannot be read now.
        """
        ...

    def release(self, partitions: Collection[str]) -> None:
        """Let go of what is at hand of partitions that go to another worker."""
        ...

    def save(self, snapshot: StoredSnapshot) -> int:
        """Make a snapshot durable; returns its size in bytes.

        Raises:
            SnapshotRefusedError: If it is too large.
            SinkError: If it cannot be written now; those before it are still there.
        """
        ...

    def load(self, stream_id: str) -> tuple[StoredSnapshot | None, list[str]]:
        """Return the newest good snapshot of a stream, and what is wrong with newer ones."""
        ...

    def load_others(self, claimed: Collection[str]) -> Iterator[StoredSnapshot]:
        """Yield the newest good snapshot of each stream but those claimed, unless it is shared.

        What cannot be read is logged.
        """
        ...

    def delete(self, stream_id: str) -> None:
        """Forget a stream; what cannot be deleted is logged, and left."""
        ...

    def interrupt(self) -> None:
        """End what waits; called by another thread, at a stop."""
        ...

    def close(self) -> None:
        """Let go of everything held."""
        ...
