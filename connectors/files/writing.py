"""Files that are there whole or not at all, whatever kills the writer or fills the disk."""

import json
import os
from contextlib import suppress
from pathlib import Path

from connectors.errors import NotWritableError


def write_whole(
    path: Path, data: bytes, *, is_synced: bool = False, is_private: bool = False
) -> None:
    """Write a file, making its folder; a kill half-way leaves the former file.

    Args:
        path: The file.
        data: All of its content.
        is_synced: A power cut leaves the former file or this one, too.
        is_private: Only the user may read it.

    Raises:
        NotWritableError: If it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_private:
            part.touch(mode=0o600)
        part.write_bytes(data)
        if is_synced:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        # On a full disk what was written of it only takes room.
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise NotWritableError(str(path), str(error.strerror or error)) from error


def write_json(path: Path, content: object) -> None:
    """Write JSON values as :func:`write_whole` writes a file."""
    write_whole(path, f"{json.dumps(content)}\n".encode())
