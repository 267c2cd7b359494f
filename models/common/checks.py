"""Checks of what a caller gives; each names the argument, what it is and what is accepted.

One type of error, ``ValueError``, for wrong types and wrong values alike.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np


def check_integer(
    name: str, value: object, *, least: int | None = None, most: int | None = None
) -> int:
    """Return ``value`` as an int if it is a whole number from ``least`` to ``most``.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} is {value!r}; accepted: an integer")  # noqa: TRY004 - as all here
    number = int(value)
    if least is not None and number < least:
        raise ValueError(f"{name} is {value!r}; accepted: at least {least}")
    if most is not None and number > most:
        raise ValueError(f"{name} is {value!r}; accepted: at most {most}")
    return number


def check_number(
    name: str, value: object, *, least: float = -math.inf, most: float = math.inf
) -> float:
    """Return ``value`` as a float if it is a finite number from ``least`` to ``most``.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}; accepted: a finite number")
    number = float(value)
    if number < least and most == math.inf:
        raise ValueError(f"{name} is {value!r}; accepted: at least {least:g}")
    if not least <= number <= most:
        raise ValueError(f"{name} is {value!r}; accepted: {least:g} to {most:g}")
    return number


def check_bool(name: str, value: object) -> bool:
    """Return ``value`` as a bool if it is one, Python's or numpy's.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} is {value!r}; accepted: True or False")  # noqa: TRY004 - as all here
    return bool(value)


def check_text(name: str, value: object) -> str:
    """Return ``value`` if it is a string that can be written as UTF-8.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - as all here
            f"{name} {value!r} is a {type(value).__name__}; accepted: a string"
        )
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{name} {value!r} has half a character; accepted: whole Unicode text")
    return value


def check_sequence(name: str, value: object, *, of: str) -> Sequence[object]:
    """Return ``value`` if it is a sequence, and no lone string.

    Raises:
        ValueError: If it is not; says that one ``of`` such things is accepted.
    """
    if isinstance(value, str | bytes):
        raise ValueError(f"{name} is {value!r}; accepted: a sequence of {of}")  # noqa: TRY004 - as all here
    if not isinstance(value, Sequence):
        # Its type alone: it may be a picture.
        raise ValueError(  # noqa: TRY004 - as all here
            f"{name} is a {type(value).__name__}; accepted: a sequence of {of}"
        )
    return value


def check_size(name: str, value: object) -> tuple[int, int]:
    """Return the height and width of a picture in px, both at least 1.

    Raises:
        ValueError: If they are not.
    """
    sides = check_sequence(name, value, of="height and width in px")
    if len(sides) != 2:
        raise ValueError(f"{name} is {value!r}; accepted: height and width in px")
    height, width = (check_integer(name, side, least=1) for side in sides)
    return height, width
