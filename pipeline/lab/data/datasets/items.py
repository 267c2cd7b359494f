"""JSON with distrust: typed access to objects whose makers are strangers."""

import json
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pipeline.errors import ConfigError
from pipeline.lab.data.datasets.problems import Problems
from pipeline.lab.data.datasets.shapes import Box

_BOX_SLACK_PX = 1.0


@dataclass(frozen=True, slots=True)
class Item:
    """One JSON object; every method raises ``ValueError`` naming the field that is wrong."""

    fields: dict[str, Any]

    @classmethod
    def of(cls, value: object) -> "Item":
        """Wrap a JSON value that should be an object."""
        if not isinstance(value, dict):
            raise ValueError(f"{value!r:.60} (accepted: an object)")  # noqa: TRY004 - data, not code
        return cls(cast("dict[str, Any]", value))

    def has(self, name: str) -> bool:
        """Return whether a field is there and not null."""
        return self.fields.get(name) is not None

    def integer(self, name: str) -> int:
        """Return a whole number; digits in quotes are one too."""
        value = self.fields.get(name)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        is_digits = isinstance(value, str) and value.isdecimal()
        if not (is_whole or is_digits or (isinstance(value, float) and value.is_integer())):
            raise ValueError(f"{name} {value!r} (accepted: a whole number)")
        return int(cast("int | float | str", value))

    def number(self, name: str) -> float:
        """Return a finite number."""
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
            raise ValueError(f"{name} {value!r} (accepted: a number)")
        return float(value)

    def text(self, name: str) -> str:
        """Return a text with something in it."""
        value = self.fields.get(name)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name} {value!r} (accepted: a text that is not empty)")
        return value

    def items(self, name: str, *, length: int | None = None) -> list[Any]:
        """Return a list, of ``length`` where given."""
        value = self.fields.get(name)
        if not isinstance(value, list):
            raise ValueError(f"{name} {value!r:.60} (accepted: a list)")  # noqa: TRY004
        found = cast("list[Any]", value)
        if length is not None and len(found) != length:
            raise ValueError(f"{name} of {len(found)} entries (accepted: {length}, one per frame)")
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts that is not empty."""
        value = self.items(name)
        if not value or not all(isinstance(one, str) and one for one in value):
            raise ValueError(f"{name} {value!r:.60} (accepted: names, at least one)")
        return tuple(value)

    def size_hw(self) -> tuple[int, int]:
        """Return ``height`` and ``width``, both at least 1."""
        size = self.integer("height"), self.integer("width")
        if min(size) < 1:
            raise ValueError(f"height and width {size!r} (accepted: at least 1)")
        return size


def read_json(path: Path) -> object:
    """Read a JSON file.

    Raises:
        ConfigError: If it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ConfigError([f"{path}: is no JSON: {error}"]) from error


def read_list(path: Path) -> list[Any]:
    """Read a JSON file that must hold a list. Raises ``ConfigError``."""
    value = read_json(path)
    if not isinstance(value, list):
        raise ConfigError([f"{path}: is no list"])
    return cast("list[Any]", value)


def read_object(path: Path, *, lists: tuple[str, ...] = ()) -> Item:
    """Read a JSON file that must hold an object with these lists. Raises ``ConfigError``."""
    try:
        content = Item.of(read_json(path))
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from error
    check_lists(content, path, lists)
    return content


def check_lists(content: Item, path: Path, lists: tuple[str, ...]) -> None:
    """Raise a ``ConfigError`` if the content of a file lacks one of these lists."""
    missing = [name for name in lists if not isinstance(content.fields.get(name), list)]
    if missing:
        raise ConfigError([f"{path}: has no list named {', '.join(missing)}"])


def each(
    values: list[Any], path: Path, kind: str, problems: Problems
) -> Iterator[tuple[int, Item]]:
    """Yield objects with their ``id``; those without one, or with one that was, are told of."""
    seen: set[int] = set()
    for place, value in enumerate(values):
        try:
            item = Item.of(value)
            number = item.integer("id")
        except ValueError as error:
            problems.add(path, f"{kind} at place {place}", str(error))
            continue
        if number in seen:
            problems.add(path, f"{kind} {number}", "its id was there before")
            continue
        seen.add(number)
        yield number, item


def numbered(content: Item, name: str) -> dict[int, Item]:
    """Return the objects of a list by their ``id``, as far as they are some; nothing is told."""
    found: dict[int, Item] = {}
    for value in content.items(name):
        with suppress(ValueError):
            item = Item.of(value)
            found.setdefault(item.integer("id"), item)
    return found


def check_listed(image_id: int, listed: Container[int]) -> None:
    """Raise a ``ValueError`` if no image has this id; one that was told of already is enough."""
    if image_id not in listed:
        raise ValueError(f"image_id {image_id!r} (accepted: the id of an image)")


def read_box(value: object, *, height: float, width: float, slack: float = _BOX_SLACK_PX) -> Box:
    """Read x, y, width and height; ``slack`` beyond the border is forgiven.

    Raises:
        ValueError: If it is no box, or is outside the picture.
    """
    numbers = cast("list[Any]", value) if isinstance(value, list) else []
    if len(numbers) != 4 or not all(isinstance(one, int | float) for one in numbers):
        raise ValueError(f"box {value!r:.60} (accepted: x, y, width, height)")
    left, top, box_width, box_height = (float(one) for one in numbers)
    is_inside = (
        left >= -slack
        and top >= -slack
        and left + box_width <= width + slack
        and top + box_height <= height + slack
    )
    if not is_inside or min(box_width, box_height) < 0:
        raise ValueError(f"box {value!r} is not within {width:g} x {height:g} px")
    return left, top, box_width, box_height


def read_phrases(
    content: Item, path: Path, problems: Problems, *, is_joined: bool = False
) -> dict[int, str]:
    """Return the name of each of a file's ``categories``; those without one are told of.

    Args:
        content: What the file holds.
        path: The file.
        problems: Learns what is wrong.
        is_joined: Whether ``_`` joins the words of a name.
    """
    phrases: dict[int, str] = {}
    for number, item in each(content.items("categories"), path, "category", problems):
        try:
            name = item.text("name")
            phrases[number] = name.replace("_", " ") if is_joined else name
        except ValueError as error:
            problems.add(path, f"category {number}", str(error))
    return phrases


def all_there(
    names: Sequence[str], root: Path | None, path: Path, item: str, problems: Problems
) -> bool:
    """Return whether all pictures are below ``root``, if there is one, and tell of those missing.

    Args:
        names: Of the pictures.
        root: Their folder.
        path: The file that names them.
        item: What it names them for.
        problems: Learns what is missing.
    """
    missing = [] if root is None else [name for name in names if not (root / name).is_file()]
    if missing:
        problems.add(path, item, f"{len(missing)} pictures missing, {missing[0]!r}")
    return not missing
