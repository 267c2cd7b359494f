"""Where snapshots of streams are kept."""

from typing import ClassVar, Protocol

from pipeline.engine.state.snapshot_file import StoredSnapshot


class SnapshotStore(Protocol):
    """Keeps the newest snapshots of each stream: a damaged one leaves the one before.

    Attributes:
        is_shared: Other workers find them, and go on with streams that move to them.
    """

    is_shared: ClassVar[bool]

    def save(self, snapshot: StoredSnapshot) -> int:
        """Make a snapshot durable; returns its size in bytes.

        Raises:
            NotWritableError: If it cannot be written; those before it are still there.
        """
        ...

    def load(self, stream_id: str) -> tuple[StoredSnapshot | None, list[str]]:
        """Return the newest good snapshot of a stream, and what is wrong with newer ones."""
        ...

    def delete(self, stream_id: str) -> None:
        """Forget a stream; what cannot be deleted is logged, and left."""
        ...
