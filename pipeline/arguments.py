"""What the functions of :mod:`pipeline.library` accept, and one error for all that they do not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from reprlib import repr as short_repr
from typing import Annotated, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

from connectors.errors import redact_url
from pipeline.errors import ConfigError
from pipeline.segment.prompts import parse_phrase

_T = TypeVar("_T")


def _to_plain(value: object) -> object:
    """Return numpy's numbers and arrays as Python's."""
    if isinstance(value, np.ndarray | np.generic):
        return cast("NDArray[np.float64]", value).tolist()
    return value


def _to_number(value: object) -> object:
    plain = _to_plain(value)
    if not isinstance(plain, int | float):
        raise ValueError("a number")  # noqa: TRY004 - pydantic lets a TypeError through
    return plain


def _to_path(value: object) -> str:
    path: object = fspath(cast("PathLike[str]", value)) if _is_path(value) else value
    if not isinstance(path, str) or "\0" in path:
        raise ValueError("a path")
    return path


def _is_path(value: object) -> bool:
    return isinstance(value, str | PathLike)


def _to_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _to_pictures(value: object) -> list[object]:
    if _is_path(value) or hasattr(value, "shape"):
        return [value]
    if isinstance(value, bytes | Mapping) or not isinstance(value, Iterable):
        raise ValueError("pictures")  # noqa: TRY004 - as above
    return list(cast("Iterable[object]", value))


def _to_picture(value: object) -> Path | NDArray[np.uint8]:
    if isinstance(value, np.ndarray):
        return cast("NDArray[np.uint8]", value)
    return Path(_to_path(value))


_Number = Annotated[float, BeforeValidator(_to_number), Field(allow_inf_nan=False)]
_Length = Annotated[_Number, Field(gt=0)]
_Score = Annotated[_Number, Field(ge=0, le=1)]
_Xy = tuple[_Number, _Number]
_Points = Annotated[
    tuple[
        Annotated[_Xy | tuple[_Number, _Number, bool], BeforeValidator(_to_plain)],
        ...,
    ],
    BeforeValidator(_to_plain),
]
_Boxes = Annotated[
    tuple[
        Annotated[tuple[_Number, _Number, _Length, _Length], BeforeValidator(_to_plain)],
        ...,
    ],
    BeforeValidator(_to_plain),
]
_Phrase = Annotated[StrictStr, AfterValidator(parse_phrase)]
_Path = Annotated[str, BeforeValidator(_to_path)]
_Corners = Annotated[tuple[_Xy, ...], BeforeValidator(_to_plain)]
_Picture = Annotated[Path | NDArray[np.uint8], PlainValidator(_to_picture)]
_Pictures = Annotated[list[_Picture], BeforeValidator(_to_pictures)]


@dataclass(frozen=True, slots=True)
class Argument(Generic[_T]):
    """One kind of argument.

    Attributes:
        adapter: Tells what is one.
        accepted: The same for people.
    """

    adapter: TypeAdapter[_T]
    accepted: str

    def check(self, name: str, value: object) -> _T:
        """Return the value in its plain form.

        Raises:
            ConfigError: If it is not accepted; begins with ``name``, and the number of the item.
        """
        try:
            return self.adapter.validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]["loc"][:1]
            place = f"{name}[{first[0]!r}]" if first and isinstance(first[0], int) else name
            shown = redact_url(value) if isinstance(value, str) else value
            problem = f"{place}: bad value {short_repr(shown)} (accepted: {self.accepted})"
            raise ConfigError([problem]) from None


PATH = Argument(TypeAdapter(_Path), "a path: text or a pathlib.Path")
SOURCE = Argument(
    TypeAdapter(_Path), "rtsp://…, world://…, a file or folder, or a source's configuration"
)
FILE = Argument(TypeAdapter[str | None](_Path | None), "a path: text or a pathlib.Path, or None")
PHRASES = Argument(
    TypeAdapter[tuple[str, ...]](Annotated[tuple[_Phrase, ...], BeforeValidator(_to_tuple)]),
    "a noun phrase such as 'deer', or a list of them",
)
RULES = Argument(
    TypeAdapter[tuple[str | dict[str, object], ...] | None](
        tuple[StrictStr | dict[StrictStr, object], ...] | None
    ),
    "a list; each the type of a rule, such as 'appear', or a mapping as in a configuration",
)
ZONES = Argument(
    TypeAdapter[dict[str, tuple[tuple[float, float], ...]] | None](
        dict[StrictStr, _Corners] | None
    ),
    "a mapping of names to corners, such as {'left': [(0, 0), (0.5, 0), (0.5, 1), (0, 1)]}",
)
POINTS = Argument(
    TypeAdapter[tuple[tuple[float, float] | tuple[float, float, bool], ...]](_Points),
    "a list of (x, y) in px, or (x, y, False) for a point off the object",
)
BOXES = Argument(
    TypeAdapter[tuple[tuple[float, float, float, float], ...]](_Boxes),
    "a list of (x, y, width, height) in px; width and height above 0",
)
SCORE = Argument(
    TypeAdapter[float | None](_Score | None),
    "a number from 0 to 1, or None",
)
FLAG = Argument(TypeAdapter[bool](Annotated[bool, BeforeValidator(_to_plain)]), "True or False")
PICTURES = Argument(
    TypeAdapter(_Pictures),
    "a file, a folder, a pattern or an RGB array (H, W, 3), uint8; or a list of them",
)
CONFIG = Argument(TypeAdapter(_Path), "a configuration from load_config, or the path of one")
ENVIRON = Argument(
    TypeAdapter[dict[str, str] | None](dict[StrictStr, StrictStr] | None),
    "a mapping of names to text, or None",
)
