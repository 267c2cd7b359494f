"""Records back from JSON lines, as the ``jsonl`` sink and ``console --json`` write them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from reprlib import repr as short_repr
from typing import cast

from pydantic import ValidationError

from connectors.files.rotation import in_order, kind_of
from pipeline.errors import RecordError
from pipeline.records.schema import RECORD_TYPES, AnyRecord

_ACCEPTED = "a .jsonl file, a folder of them, or lines"
_REQUIRED: tuple[tuple[frozenset[str], type[AnyRecord]], ...] = tuple(
    (frozenset(name for name, one in kind.model_fields.items() if one.is_required()), kind)
    for kind in RECORD_TYPES.values()
)


def read_records(source: str | Path | Iterable[str]) -> Iterator[AnyRecord]:
    """Yield the records of a file, a folder or lines, each as the model of its kind.

    A last line that is still being written, without its end, is left out. Dead letters are no
    records, so a folder's ``dlq.jsonl`` is left out too. Rotated files come before the one that
    is being written.

    Args:
        source: A ``.jsonl`` file, a folder of them, or lines.

    Raises:
        RecordError: If a line is no record; names file and line. Or if the source is none.
        OSError: If a file cannot be read.

    Example:
        >>> for record in read_records("demo-out/masklets.jsonl"):
        ...     for one in record.objects:
        ...         print(record.frame_seq, one.concept, one.mask and one.mask.to_array().sum())
    """
    if not isinstance(source, str | Path):
        yield from _read_lines(_lines_of(source), name="line")
        return
    if "\0" in str(source):
        raise RecordError(f"source: bad value {str(source)!r} (accepted: {_ACCEPTED})")
    path = Path(source)
    files = [path]
    if path.is_dir():
        files = in_order(file for file in path.glob("*.jsonl") if kind_of(file) != "dlq")
    for file in files:
        with file.open("rb") as lines:
            whole = (line for line in lines if line.endswith(b"\n"))
            yield from _read_lines(whole, name=str(file))


def _lines_of(source: object) -> Iterable[object]:
    if isinstance(source, bytes | Mapping) or not isinstance(source, Iterable):
        shown = short_repr(cast("object", source))
        raise RecordError(f"source: bad value {shown} (accepted: {_ACCEPTED})")
    return cast("Iterable[object]", source)


def _read_lines(lines: Iterable[object], *, name: str) -> Iterator[AnyRecord]:
    for number, line in enumerate(lines, start=1):
        where = f"{name}:{number}"
        if not isinstance(line, str | bytes):
            raise RecordError(f"{where}: bad value {short_repr(line)} (accepted: JSON text)")
        if line.strip():
            yield _read(line, where=where)


def _read(line: str | bytes, *, where: str) -> AnyRecord:
    try:
        text = line if isinstance(line, str) else line.decode("utf-8")
        body: object = json.loads(text)
    except UnicodeDecodeError as error:
        raise RecordError(f"{where}: is not UTF-8 text (accepted: JSON lines)") from error
    except ValueError as error:
        raise RecordError(f"{where}: is not JSON: {error}") from error
    keys = cast("Mapping[str, object]", body).keys() if isinstance(body, dict) else frozenset[str]()
    kinds = [kind for required, kind in _REQUIRED if required <= keys]
    if len(kinds) != 1:
        accepted = ", ".join(kind.__name__ for kind in RECORD_TYPES.values())
        raise RecordError(f"{where}: is no record (accepted: {accepted})")
    try:
        return kinds[0].model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{where}: {field}: {first['msg']}") from error
