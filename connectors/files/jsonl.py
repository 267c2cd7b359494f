"""Records as files of JSON lines."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field
from typing_extensions import override

from connectors.base import RecordSink
from connectors.config import BaseSinkConfig
from connectors.errors import DeliveryFailedError, NotWritableError, redact_url
from connectors.record import Record, Topic


class JsonlSinkConfig(BaseSinkConfig, frozen=True):
    """One file of JSON lines per kind of record."""

    type: Literal["jsonl"] = "jsonl"
    folder: Path = Field(description="Folder, made if missing.")
    append: bool = Field(
        default=True, description="Go on in files that are there, or begin them anew."
    )

    @property
    @override
    def owned_path(self) -> Path:
        return self.folder

    @override
    def list_files(self) -> list[Path]:
        return sorted(self.folder.glob("*.jsonl"))

    @classmethod
    @override
    def from_url(cls, url: str) -> Self:
        folder = url.partition(":")[2]
        if not folder:
            raise ValueError(f"bad sink {redact_url(url)!r}; accepted: jsonl:FOLDER")
        return cls(folder=Path(folder))


def file_name(topic: Topic) -> str:
    """Return the file's name for a kind of record: ``events.jsonl``."""
    return f"{topic.value.split('.')[1]}.jsonl"


class JsonlSink(RecordSink):
    """Writes ``masklets.jsonl``, ``tracks.jsonl``, ``events.jsonl``, … into one folder.

    Guarantee: each record is handed to the system as one whole line before ``write`` returns, so
        that a killed process leaves whole lines but perhaps for the last, which a kill in the
        middle of its write can tear; ``flush`` waits for the disk. A torn last line, of a kill or a
        power cut, is removed when the file is opened for appending.
    Ordering: that of the writes, within each file.
    Parallelism: one writer per folder.
    """

    def __init__(self, *, config: JsonlSinkConfig) -> None:
        self._folder = config.folder
        self._append = config.append
        self._files: dict[Topic, int] = {}
        self._is_open = False

    @override
    def open(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._not_writable(self._folder, error) from error
        if not os.access(self._folder, os.W_OK):
            raise NotWritableError(str(self._folder), "no right to write", accepted="a folder")
        self._is_open = True

    @override
    def write(self, records: Sequence[Record]) -> None:
        for record in records:
            line = self._to_line(record)
            if record.topic not in self._files:
                self._files[record.topic] = self._open_file(self._folder / file_name(record.topic))
            self._write_line(self._files[record.topic], line, record.topic)

    @override
    def flush(self) -> None:
        for topic, descriptor in self._files.items():
            try:
                os.fsync(descriptor)
            except OSError as error:
                name = str(self._folder / file_name(topic))
                raise DeliveryFailedError(name, error.strerror or str(error)) from error

    @override
    def close(self) -> None:
        try:
            if self._is_open:
                self.flush()
        finally:
            self._is_open = False
            files, self._files = self._files, {}
            for descriptor in files.values():
                os.close(descriptor)

    def _open_file(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | (0 if self._append else os.O_TRUNC)
        try:
            descriptor = os.open(path, flags, 0o644)
        except OSError as error:
            raise self._not_writable(path, error) from error
        _drop_torn_line(descriptor)
        return descriptor

    def _write_line(self, descriptor: int, line: bytes, topic: Topic) -> None:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        try:
            written = os.write(descriptor, line)
            if written == len(line):
                return
            reason = "the disk took only part of a line"
        except OSError as error:
            reason = error.strerror or str(error)
        os.ftruncate(descriptor, end)
        name = str(self._folder / file_name(topic))
        raise DeliveryFailedError(name, reason, position={"byte": end})

    def _to_line(self, record: Record) -> bytes:
        if b"\n" not in record.value and record.value.startswith(b"{"):
            return record.value + b"\n"
        try:
            return json.dumps(json.loads(record.value), separators=(",", ":")).encode() + b"\n"
        except ValueError as error:
            name = str(self._folder / file_name(record.topic))
            raise DeliveryFailedError(
                name, f"a record of {record.key!r} is not JSON", accepted="UTF-8 JSON records"
            ) from error

    @staticmethod
    def _not_writable(path: Path, error: OSError) -> NotWritableError:
        return NotWritableError(
            str(path), error.strerror or str(error), accepted="a writable folder"
        )


def _drop_torn_line(descriptor: int) -> None:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    while end > 0:
        start = max(end - 65536, 0)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            os.ftruncate(descriptor, start + newline + 1)
            return
        end = start
    os.ftruncate(descriptor, 0)
