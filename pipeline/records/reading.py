"""Records back from JSON lines, as the ``jsonl`` sink writes them, and from Kafka messages."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from reprlib import repr as short_repr
from typing import cast

from pydantic import ValidationError

from connectors.files.rotation import in_order, kind_of
from pipeline.errors import RecordError
from pipeline.records.schema import RECORD_TYPES, AnyRecord

# A client may have none for a message that has no headers, or for a header that has no value.
Headers = Iterable[tuple[str, bytes | None]] | None
Message = tuple[Headers, bytes | None]

_ACCEPTED = "a .jsonl file, a folder of them, lines, or (headers, value) of Kafka messages"
# Of a folder, files of records alone: neither dead letters nor what else lies there.
_KINDS = frozenset(topic.value.split(".")[1] for topic in RECORD_TYPES)
_REQUIRED: tuple[tuple[frozenset[str], type[AnyRecord]], ...] = tuple(
    (frozenset(name for name, one in kind.model_fields.items() if one.is_required()), kind)
    for kind in RECORD_TYPES.values()
)


def read_records(source: str | Path | Iterable[str | Message]) -> Iterator[AnyRecord]:
    """Yield the records of a file, a folder, lines or messages, each as the model of its kind.

    The files of a folder are read kind by kind, rotated ones before the one that they were rotated
    from. A last line that is still being written, without its end, is left out. Dead letters are no
    records, so a folder's ``dlq`` files are left out too.

    Args:
        source: A ``.jsonl`` file, a folder of them, lines, or pairs of the headers and the value of
            Kafka messages.

    Raises:
        RecordError: If a line is no record; names file and line. Or if the source is none.
        OSError: If a file cannot be read.

    Example:
        >>> for record in read_records("demo-out/masklets.jsonl"):
        ...     for one in record.objects:
        ...         print(record.frame_seq, one.concept, one.mask and one.mask.to_array().sum())
    """
    if not isinstance(source, str | Path):
        yield from _read_items(_items_of(source), name="line")
        return
    if "\0" in str(source):
        raise RecordError(f"source: bad value {str(source)!r} (accepted: {_ACCEPTED})")
    path = Path(source)
    files = [path]
    if path.is_dir():
        files = in_order(file for file in path.glob("*.jsonl") if kind_of(file) in _KINDS)
    for file in files:
        with file.open("rb") as lines:
            whole = (line for line in lines if line.endswith(b"\n"))
            yield from _read_items(whole, name=str(file))


def read_message(headers: Headers, value: bytes | None) -> AnyRecord:
    """Return the record of a Kafka message, as the model of its kind.

    Args:
        headers: The message's headers.
        value: Its value.

    Raises:
        RecordError: If it is no record: its ``ce_type`` names no kind, or the value is none.

    Example:
        >>> for message in KafkaConsumer("maskstream.events.v1"):
        ...     event = read_message(message.headers, message.value)
    """
    attributes = {name: (text or b"").decode("utf-8", "replace") for name, text in headers or ()}
    name = attributes.get("ce_type", "")
    kind = next((kind for topic, kind in RECORD_TYPES.items() if topic.value == name), None)
    if value is None:
        raise RecordError("message: has no value (accepted: a record)")
    if kind is None:
        accepted = ", ".join(topic.value for topic in RECORD_TYPES)
        raise RecordError(f"message: bad ce_type {name!r} (accepted: {accepted})")
    model = _validate(kind, value, where="message")
    return model.model_copy(update={"ce_id": attributes.get("ce_id") or None})


def _items_of(source: object) -> Iterable[object]:
    if isinstance(source, bytes | Mapping) or not isinstance(source, Iterable):
        shown = short_repr(cast("object", source))
        raise RecordError(f"source: bad value {shown} (accepted: {_ACCEPTED})")
    return cast("Iterable[object]", source)


def _read_items(items: Iterable[object], *, name: str) -> Iterator[AnyRecord]:
    for number, item in enumerate(items, start=1):
        where = f"{name}:{number}"
        match item:
            case str() | bytes():
                if item.strip():
                    yield _read_line(item, where=where)
            case tuple() if len(cast("tuple[object, ...]", item)) == 2:
                yield read_message(*cast("Message", item))
            case _:
                raise RecordError(f"{where}: bad value {short_repr(item)} (accepted: JSON text)")


def _read_line(line: str | bytes, *, where: str) -> AnyRecord:
    try:
        text = line if isinstance(line, str) else line.decode("utf-8")
        body: object = json.loads(text)
    except UnicodeDecodeError as error:
        raise RecordError(f"{where}: is not UTF-8 text (accepted: JSON lines)") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where}: is not JSON: {error}") from error
    keys = cast("Mapping[str, object]", body).keys() if isinstance(body, dict) else frozenset[str]()
    kinds = [kind for required, kind in _REQUIRED if required <= keys]
    if len(kinds) != 1:
        accepted = ", ".join(kind.__name__ for kind in RECORD_TYPES.values())
        raise RecordError(f"{where}: is no record (accepted: {accepted})")
    return _validate(kinds[0], text, where=where)


def _validate(kind: type[AnyRecord], text: str | bytes, *, where: str) -> AnyRecord:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{where}: {field}: {first['msg']}") from error
