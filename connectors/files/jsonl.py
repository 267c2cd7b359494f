"""Records as files of JSON lines."""

import errno
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field
from typing_extensions import override

from connectors.base import RecordSink, Refused
from connectors.config import BaseSinkConfig
from connectors.errors import DeliveryFailedError, NotWritableError, redact_url
from connectors.json_lines import to_dead_letter_line, to_json_line
from connectors.record import Record, Topic

_log = logging.getLogger("maskstream.connectors.jsonl")


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

    Dead letters hold any bytes: a line of ``dlq.jsonl`` has ``key``, ``headers`` and
    ``value_base64``. A record that is no JSON becomes such a line, logged and counted in
    ``num_refused``; the others go on.

    Guarantee: records are handed to the system as whole lines before ``write`` returns, so that a
        killed process leaves whole lines but perhaps for the last, which a kill in the middle of
        its write can tear; ``flush`` waits for the disk. A ``write`` that raises has left none of
        its lines, and may be repeated. A torn last line, of a kill or a power cut, is removed when
        the file is opened for appending.
    Ordering: that of the writes, within each file.
    Parallelism: one writer per folder.
    """

    def __init__(self, *, config: JsonlSinkConfig) -> None:
        self._folder = config.folder
        self._append = config.append
        self._files: dict[Topic, int] = {}
        self._begun: set[Topic] = set()
        self._is_open = False
        self._num_refused = 0

    @property
    @override
    def num_refused(self) -> int:
        return self._num_refused

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
    def write(self, records: Sequence[Record]) -> Sequence[Refused]:
        lines: dict[Topic, list[bytes]] = {}
        num_refused = 0
        for record in records:
            try:
                lines.setdefault(record.topic, []).append(to_json_line(record))
            except ValueError as error:
                num_refused += 1
                _log.error("%s; put among the dead letters", error, extra={"stream": record.key})
                lines.setdefault(Topic.DLQ, []).append(to_dead_letter_line(record))
        self._write_all(lines)
        self._num_refused += num_refused
        return ()

    @override
    def flush(self) -> None:
        for topic, descriptor in self._files.items():
            try:
                os.fsync(descriptor)
            except OSError as error:
                raise self._not_delivered(topic, error) from error

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

    def _write_all(self, lines: Mapping[Topic, Sequence[bytes]]) -> None:
        """Write all lines, or, if one file fails, none of them."""
        ends: dict[Topic, int] = {}
        for topic, added in lines.items():
            if not added:
                continue
            try:
                descriptor = self._descriptor_of(topic)
                ends[topic] = os.lseek(descriptor, 0, os.SEEK_END)
                _write_whole(descriptor, b"".join(line + b"\n" for line in added))
            except OSError as error:
                self._take_back(ends)
                raise self._not_delivered(topic, error, byte=ends.get(topic)) from error

    def _take_back(self, ends: Mapping[Topic, int]) -> None:
        for topic, end in ends.items():
            descriptor = self._files.pop(topic)  # opened anew when it is needed again
            with suppress(OSError):
                os.ftruncate(descriptor, end)
            with suppress(OSError):
                os.close(descriptor)

    def _descriptor_of(self, topic: Topic) -> int:
        if topic not in self._files:
            is_new = not self._append and topic not in self._begun
            path = self._folder / file_name(topic)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if is_new else 0)
            descriptor = os.open(path, flags, 0o644)
            _drop_torn_line(descriptor)
            self._files[topic] = descriptor
            self._begun.add(topic)
        return self._files[topic]

    def _not_delivered(
        self, topic: Topic, error: OSError, byte: int | None = None
    ) -> DeliveryFailedError:
        return DeliveryFailedError(
            str(self._folder / file_name(topic)),
            error.strerror or str(error),
            position={} if byte is None else {"byte": byte},
            recoverable=True,
        )

    @staticmethod
    def _not_writable(path: Path, error: OSError) -> NotWritableError:
        return NotWritableError(
            str(path), error.strerror or str(error), accepted="a writable folder"
        )


def _write_whole(descriptor: int, data: bytes) -> None:
    if os.write(descriptor, data) < len(data):
        raise OSError(errno.ENOSPC, "the disk took only a part")


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
