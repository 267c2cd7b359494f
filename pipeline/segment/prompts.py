"""What is asked of the pictures: the flags of ``segment``, parsed and checked.

Coordinates are px of the upright picture, origin at its top left corner, x to the right.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self, TypeVar

from pipeline.errors import ConfigError

_Parsed = TypeVar("_Parsed")
_SIGNS = {"pos": True, "neg": False}


class PromptKind(StrEnum):
    """The three ways of asking; each call asks in one of them.

    Attributes:
        CONCEPT: All instances of phrases, exemplars or both (SAM 3, section 3).
        OBJECT: One object per prompt of points, boxes or a mask (SAM, section 3).
        EVERYTHING: Whatever there is (SAM, section 3, "segment everything").
    """

    CONCEPT = "concept"
    OBJECT = "object"
    EVERYTHING = "everything"


FLAGS_OF_KIND = {
    PromptKind.CONCEPT: "--concept and --exemplar",
    PromptKind.OBJECT: "--point, --box and --mask",
    PromptKind.EVERYTHING: "--everything",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PointPrompt:
    """A point on the object, or with ``is_positive`` false off it."""

    x: float
    y: float
    is_positive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxPrompt:
    """A box with its upper left corner at ``x``, ``y``; as an exemplar it may be negative."""

    x: float
    y: float
    width: float
    height: float
    is_positive: bool = True

    @classmethod
    def of(cls, xywh: tuple[float, float, float, float], *, is_positive: bool = True) -> Self:
        """Return the box of x, y, width, height.

        Raises:
            ValueError: If it has no area.
        """
        x, y, width, height = xywh
        if width <= 0 or height <= 0:
            raise ValueError(f"box {xywh!r} (accepted: x, y, w, h; width and height above 0)")
        return cls(x=x, y=y, width=width, height=height, is_positive=is_positive)

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """The corners x0, y0, x1, y1."""
        return self.x, self.y, self.x + self.width, self.y + self.height


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """Everything asked of each picture.

    Attributes:
        concepts: Phrases; each finds all its instances.
        exemplars: Boxes around things that are meant, or not; they go with the one phrase.
        points: All on, or off, one object.
        boxes: Each around one object; the points, if any, are about the only one.
        mask: A picture file whose bright pixels roughly are the object.
        is_everything: Whether all there is is wanted.
    """

    concepts: tuple[str, ...] = ()
    exemplars: tuple[BoxPrompt, ...] = ()
    points: tuple[PointPrompt, ...] = ()
    boxes: tuple[BoxPrompt, ...] = ()
    mask: Path | None = None
    is_everything: bool = False

    @property
    def kind(self) -> PromptKind:
        """How is asked. Meaningful for checked prompts only."""
        if self.is_everything:
            return PromptKind.EVERYTHING
        return PromptKind.CONCEPT if self.concepts or self.exemplars else PromptKind.OBJECT


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFlags:
    """The flags as typed; see :class:`Prompts`."""

    concepts: Sequence[str] = ()
    exemplars: Sequence[str] = ()
    points: Sequence[str] = ()
    boxes: Sequence[str] = ()
    mask: Path | None = None
    is_everything: bool = False


def parse_prompts(flags: PromptFlags) -> Prompts:
    """Return what the flags ask.

    Raises:
        ConfigError: With one line for each flag that is malformed, or about prompts that cannot
            stand together; says what would be accepted.
    """
    problems: list[str] = []
    prompts = Prompts(
        concepts=_distinct(_parsed("--concept", parse_phrase, flags.concepts, problems)),
        exemplars=_parsed("--exemplar", parse_exemplar, flags.exemplars, problems),
        points=_parsed("--point", parse_point, flags.points, problems),
        boxes=_parsed("--box", parse_box, flags.boxes, problems),
        mask=flags.mask,
        is_everything=flags.is_everything,
    )
    if problems:
        raise ConfigError(problems)
    check_prompts(prompts)
    return prompts


def check_prompts(prompts: Prompts) -> None:
    """Raise a ``ConfigError`` if well-formed prompts cannot stand together."""
    problems = _misfits(prompts)
    if problems:
        raise ConfigError(problems)


def _distinct(phrases: Iterable[str]) -> tuple[str, ...]:
    """Return each phrase once, as first written; the model reads capitals as small letters."""
    found: dict[str, str] = {}
    for phrase in phrases:
        found.setdefault(phrase.casefold(), phrase)
    return tuple(found.values())


def parse_phrase(text: str) -> str:
    """Return a phrase without spaces around it. Raises ``ValueError`` if it is empty."""
    phrase = " ".join(text.split())
    if not phrase:
        raise ValueError("a noun phrase, such as deer")
    return phrase


def parse_point(text: str) -> PointPrompt:
    """Return the point in ``x,y`` or ``x,y,neg``. Raises ``ValueError`` with what is accepted."""
    accepted = "x,y in px, such as 120,80, or 120,80,neg for a point off the object"
    numbers, is_positive = _numbers(text, 2, accepted, is_signed=True)
    return PointPrompt(x=numbers[0], y=numbers[1], is_positive=is_positive)


def parse_box(text: str) -> BoxPrompt:
    """Return the box in ``x,y,w,h``. Raises ``ValueError`` with what is accepted."""
    return _box(text, "x,y,w,h in px, such as 100,60,40,50", is_signed=False)


def parse_exemplar(text: str) -> BoxPrompt:
    """Return the box in ``x,y,w,h`` or ``x,y,w,h,neg``; errors as for :func:`parse_box`."""
    accepted = "x,y,w,h in px, such as 100,60,40,50, or 100,60,40,50,neg for what is not meant"
    return _box(text, accepted, is_signed=True)


def _box(text: str, accepted: str, *, is_signed: bool) -> BoxPrompt:
    numbers, is_positive = _numbers(text, 4, accepted, is_signed=is_signed)
    x, y, width, height = numbers
    if width <= 0 or height <= 0:
        raise ValueError(f"{accepted}; width and height above 0")
    return BoxPrompt(x=x, y=y, width=width, height=height, is_positive=is_positive)


def _numbers(
    text: str, count: int, accepted: str, *, is_signed: bool
) -> tuple[tuple[float, ...], bool]:
    words = [word.strip().lower() for word in text.split(",")]
    sign = words.pop() if is_signed and words[-1] in _SIGNS else "pos"
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(accepted)
    return numbers, _SIGNS[sign]


def _parsed(
    flag: str, parse: Callable[[str], _Parsed], texts: Sequence[str], problems: list[str]
) -> tuple[_Parsed, ...]:
    """Return what can be parsed; what cannot is added to ``problems``."""
    parsed: list[_Parsed] = []
    for text in texts:
        try:
            parsed.append(parse(text))
        except ValueError as error:
            problems.append(f"{flag}: bad value {text!r} (accepted: {error})")
    return tuple(parsed)


def _misfits(prompts: Prompts) -> list[str]:
    """Return what is wrong with well-formed prompts taken together."""
    given = {
        PromptKind.CONCEPT: bool(prompts.concepts or prompts.exemplars),
        PromptKind.OBJECT: bool(prompts.points or prompts.boxes or prompts.mask is not None),
        PromptKind.EVERYTHING: prompts.is_everything,
    }
    ways = ", or ".join(FLAGS_OF_KIND.values())
    if sum(given.values()) == 0:
        return [f"nothing is asked (accepted: {ways})"]
    if sum(given.values()) > 1:
        mixed = " together with ".join(FLAGS_OF_KIND[kind] for kind in given if given[kind])
        return [f"{mixed}: cannot be answered at once (accepted: {ways})"]
    problems: list[str] = []
    if len(prompts.concepts) > 1 and prompts.exemplars:
        problems.append(
            f"--exemplar: is given with {len(prompts.concepts)} phrases, and could mean any "
            "(accepted: one --concept with exemplars, or none)"
        )
    if (
        prompts.exemplars
        and not prompts.concepts
        and not any(exemplar.is_positive for exemplar in prompts.exemplars)
    ):
        problems.append(
            "--exemplar: only says what is not meant (accepted: a --concept with it, or one "
            "without ,neg)"
        )
    if len(prompts.boxes) > 1 and (prompts.points or prompts.mask is not None):
        problems.append(
            f"--box: {len(prompts.boxes)} boxes are as many objects, but --point and --mask are "
            "about one (accepted: one --box with them, or boxes alone)"
        )
    return problems
