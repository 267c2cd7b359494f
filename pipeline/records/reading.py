"""Records back from JSON lines, as the ``jsonl`` sink and ``console --json`` write them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from pipeline.errors import RecordError
from pipeline.records.schema import RECORD_TYPES, AnyRecord

_REQUIRED: tuple[tuple[frozenset[str], type[AnyRecord]], ...] = tuple(
    (frozenset(name for name, one in kind.model_fields.items() if one.is_required()), kind)
    for kind in RECORD_TYPES.values()
)


def read_records(source: str | Path | Iterable[str]) -> Iterator[AnyRecord]:
    """Yield the records of a file, a folder or lines, each as the model of its kind.

    A last line that is still being written, without its end, is left out. Dead letters are no
    records, so a folder's ``dlq.jsonl`` is left out too.

    Args:
        source: A ``.jsonl`` file, a folder of them, or lines.

    Raises:
        RecordError: If a line is no record; names file and line.
        OSError: If a file cannot be read.

    Example:
        >>> for record in read_records("demo-out/masklets.jsonl"):
        ...     for one in record.objects:
        ...         print(record.frame_seq, one.concept, one.mask and one.mask.to_array().sum())
    """
    if not isinstance(source, str | Path):
        yield from _read_lines(source, name="line")
        return
    path = Path(source)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.glob("*.jsonl") if file.stem != "dlq")
    for file in files:
        with file.open(encoding="utf-8") as lines:
            whole = (line for line in lines if line.endswith("\n"))
            yield from _read_lines(whole, name=str(file))


def _read_lines(lines: Iterable[str], *, name: str) -> Iterator[AnyRecord]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _read(line, where=f"{name}:{number}")


def _read(line: str, *, where: str) -> AnyRecord:
    try:
        body: object = json.loads(line)
    except ValueError as error:
        raise RecordError(f"{where}: is not JSON: {error}") from error
    keys = cast("Mapping[str, object]", body).keys() if isinstance(body, dict) else frozenset[str]()
    kinds = [kind for required, kind in _REQUIRED if required <= keys]
    if len(kinds) != 1:
        accepted = ", ".join(kind.__name__ for kind in RECORD_TYPES.values())
        raise RecordError(f"{where}: is no record (accepted: {accepted})")
    try:
        return kinds[0].model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{where}: {field}: {first['msg']}") from error
