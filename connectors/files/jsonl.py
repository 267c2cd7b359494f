"""Records as files of JSON lines."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator
from typing_extensions import override

from connectors.base import RecordSink, Refused
from connectors.config import BaseSinkConfig, GivenPath, check_placeholders, why_no_folder
from connectors.errors import DeliveryFailedError, NotWritableError, redact_url
from connectors.files.line_file import LineFile
from connectors.files.ownership import Ownership
from connectors.files.rotation import Rotation, in_order, stamped_path
from connectors.json_lines import to_json_line
from connectors.record import Record, Topic

_SUFFIX = ".jsonl"
_LOCK = ".jsonl.lock"
# What a power cut may cost. Each wait for a disk was 1 to 4 ms here, for one of five files.
_SYNC_S = 0.5


class JsonlSinkConfig(BaseSinkConfig, frozen=True):
    """One file of JSON lines per kind of record, such as ``masklets.jsonl``.

    A file that is full goes on as ``masklets-20261129T014500Z.jsonl``, by the UTC of that moment.
    """

    type: Literal["jsonl"] = "jsonl"
    folder: GivenPath = Field(description="Folder, made if missing; no other sink may write there.")
    append: bool = Field(
        default=True,
        description="Go on in files that are there; false: move them to a folder beside, named "
        "by the UTC of the start.",
    )
    rotate_bytes: int | None = Field(
        default=256 * 1024 * 1024,
        ge=0,
        description="Begin a new file before one grows larger; 0 or null: never. What is written "
        "at once, up to 4 MiB, goes into one file, so that a write that fails leaves nothing.",
    )
    rotate_s: float | None = Field(
        default=86_400.0,
        ge=0,
        le=31_622_400,
        allow_inf_nan=False,
        description="Begin a new file at each full multiple of this in UTC; 0 or null: never.",
    )

    @field_validator("folder")
    @classmethod
    def _check_folder(cls, folder: Path) -> Path:
        return check_placeholders(folder)

    @override
    def find_faults(self) -> Mapping[str, str]:
        reason = why_no_folder(self.folder)
        return {} if reason is None else {"folder": reason}

    @property
    @override
    def owned_path(self) -> Path:
        return self.folder

    @override
    def list_files(self) -> list[Path]:
        return in_order(self.folder.glob(f"*{_SUFFIX}"))

    @classmethod
    @override
    def from_url(cls, url: str) -> Self:
        folder = url.partition(":")[2]
        if not folder:
            raise ValueError(f"bad sink {redact_url(url)!r}; accepted: jsonl:FOLDER")
        return cls(folder=Path(folder))


def file_name(topic: Topic) -> str:
    """Return the file's name for a kind of record: ``events.jsonl``."""
    return f"{topic.value.split('.')[1]}{_SUFFIX}"


class JsonlSink(RecordSink):
    """Writes ``masklets.jsonl``, ``tracks.jsonl``, ``events.jsonl``, … into one folder.

    A line is the record's body with its ``ce_id`` as the first key. Dead letters hold any bytes: a
    line of ``dlq.jsonl`` has ``key``, ``headers`` and ``value_base64``. A record that is no JSON
    is refused; the others go on.

    Files rotate by size and time and never take the place of others. A file that somebody has
    moved or removed is begun anew within a second. The folder is locked while the sink is open.

    Guarantee: records are handed to the system as whole lines before ``write`` returns, so that a
        killed process leaves whole lines but perhaps for the last, which a kill in the middle of
        its write can tear; it is removed when the file is opened again. A ``write`` that raises
        has left none of its lines, and may be repeated. ``write`` waits for the disk every half
        second, ``flush`` does at once: a power cut costs no more than was written since.
    Ordering: that of the writes, within each file and from file to file of a kind.
    Parallelism: one writer per folder, in this process and all others.
    """

    # Whoever follows a file sees no difference, and its disk is asked to be durable less often.
    pace_s = 0.2

    def __init__(self, *, config: JsonlSinkConfig, now: Callable[[], float] = time.time) -> None:
        self._folder = config.folder
        self._append = config.append
        self._rotation = Rotation(num_bytes=config.rotate_bytes, period_s=config.rotate_s)
        self._now = now
        self._files: dict[Topic, LineFile] = {}
        self._ownership: Ownership | None = None
        self._synced_s = 0.0

    @override
    def open(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self._folder, os.W_OK):
                raise NotWritableError(str(self._folder), "no right to write", accepted="a folder")
            self._ownership = Ownership.take(self._folder / _LOCK, owned=self._folder)
            if not self._append:
                self._put_aside()
        except OSError as error:
            self.close()
            accepted = "a writable folder"
            reason = error.strerror or str(error)
            raise NotWritableError(str(self._folder), reason, accepted=accepted) from error

    @override
    def write(self, records: Sequence[Record]) -> Sequence[Refused]:
        lines: dict[Topic, list[bytes]] = {}
        refused: list[Refused] = []
        for record in records:
            try:
                lines.setdefault(record.topic, []).append(to_json_line(record))
            except ValueError as error:
                refused.append(Refused(record=record, reason=str(error)))
        self._write_all(lines)
        return refused

    @override
    def flush(self) -> None:
        for topic, file in self._files.items():
            try:
                file.sync()
            except OSError as error:
                raise self._not_delivered(topic, error) from error
        self._synced_s = time.monotonic()

    @override
    def close(self) -> None:
        files, self._files = self._files, {}
        ownership, self._ownership = self._ownership, None
        failed: DeliveryFailedError | None = None
        for topic, file in files.items():
            try:
                file.close()
            except OSError as error:
                failed = self._not_delivered(topic, error)
        if ownership is not None:
            ownership.release()
        if failed is not None:
            raise failed

    def _put_aside(self) -> None:
        """Move the files of former runs to a folder of their own, whose name is free."""
        if former := list(self._folder.glob(f"*{_SUFFIX}")):
            target = stamped_path(self._folder / "before", self._now())
            target.mkdir()
            for path in former:
                path.rename(target / path.name)

    def _write_all(self, lines: Mapping[Topic, Sequence[bytes]]) -> None:
        """Write all lines, or, if one file fails, none of them."""
        ends: dict[Topic, int] = {}
        for topic, added in lines.items():
            if not added:
                continue
            try:
                ends[topic] = self._file_of(topic).append(b"".join(line + b"\n" for line in added))
            except OSError as error:
                self._take_back(ends)
                raise self._not_delivered(topic, error) from error
        try:
            if time.monotonic() - self._synced_s > _SYNC_S:
                self.flush()
        except DeliveryFailedError:
            self._take_back(ends)
            raise

    def _take_back(self, ends: Mapping[Topic, int]) -> None:
        for topic, end in ends.items():
            self._files[topic].take_back(end)

    def _file_of(self, topic: Topic) -> LineFile:
        if topic not in self._files:
            path = self._folder / file_name(topic)
            self._files[topic] = LineFile(path, rotation=self._rotation, now=self._now)
        return self._files[topic]

    def _not_delivered(self, topic: Topic, error: OSError) -> DeliveryFailedError:
        path = str(self._folder / file_name(topic))
        return DeliveryFailedError(path, error.strerror or str(error), recoverable=True)
