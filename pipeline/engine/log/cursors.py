"""How far each consumer has confirmed, as it outlives the process: one small file each."""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast
from urllib.parse import quote
from zlib import crc32

from connectors.files.writing import write_whole
from pipeline.engine.log.folder_lock import make_folder, unusable
from pipeline.engine.log.kinds import Kind

_logger = logging.getLogger("maskstream.log")

Confirmed = dict[Kind, int]
"""Sequence number of the last confirmed record of each kind; 0: none is."""


class CursorFolder:
    """Reads and replaces the files of a folder.

    Args:
        folder: Made if need be.
        consumers: Names of all that are configured.

    Raises:
        StateError: If the folder cannot be made or read.
    """

    def __init__(self, folder: Path, consumers: Sequence[str]) -> None:
        self._paths = {name: folder / f"{quote(name, safe='')}.json" for name in consumers}
        self._highest: Confirmed = dict.fromkeys(Kind, 0)
        try:
            make_folder(folder)
            self._found = {path: self._load(path) for path in sorted(folder.glob("*.json"))}
        except OSError as error:
            raise unusable(folder, error) from error
        for path in self._found.keys() - set(self._paths.values()):
            with suppress(OSError):
                path.unlink()

    @property
    def highest(self) -> Confirmed:
        """The highest numbers of all files, those of former consumers too."""
        return dict(self._highest)

    def confirmed(self, consumer: str) -> Confirmed | None:
        """Return what a consumer's file said at the start; ``None``: nothing that can be used."""
        return self._found.get(self._paths[consumer])

    def save(self, consumer: str, confirmed: Mapping[Kind, int]) -> None:
        """Replace a consumer's file.

        Raises:
            NotWritableError: If it cannot be written; the former one is still there.
        """
        numbers = {kind.value: seq for kind, seq in confirmed.items()}
        content = {"confirmed": numbers, "crc32": _checksum(numbers)}
        write_whole(self._paths[consumer], f"{json.dumps(content)}\n".encode(), is_synced=True)

    def _load(self, path: Path) -> Confirmed | None:
        try:
            confirmed = _parse(path.read_bytes())
        except (OSError, ValueError) as error:
            is_damaged = isinstance(error, ValueError)
            what = f"is damaged ({error})" if is_damaged else f"cannot be read ({error.strerror})"
            _logger.warning("%s %s: taken as if it were not there", path, what)
            return None
        self._highest = {kind: max(self._highest[kind], seq) for kind, seq in confirmed.items()}
        return confirmed


def _parse(text: bytes) -> Confirmed:
    """Return what a file says. Raises ``ValueError`` if it is damaged."""
    try:
        content = cast("dict[str, object]", json.loads(text))
    except ValueError as error:
        raise ValueError("no JSON") from error
    try:
        numbers, checksum = cast("dict[str, int]", content["confirmed"]), content["crc32"]
    except (TypeError, KeyError) as error:
        raise ValueError("no cursor") from error
    # A number that was damaged upwards would pass over records.
    if checksum != _checksum(numbers):
        raise ValueError("its checksum is wrong")
    return {kind: numbers.get(kind.value, 0) for kind in Kind}


def _checksum(numbers: Mapping[str, int]) -> int:
    return crc32(json.dumps(numbers, sort_keys=True).encode())
