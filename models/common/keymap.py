"""Names and tensors of one checkpoint layout into another, and back, from one table.

A table is a list of rules. A rule pairs name templates of the left layout with name templates of
the right one, and says what happens to the tensors. In a template ``{i}`` is a whole number,
``{i+1}`` the same number plus one, ``{3i+1}`` three times it plus one, and ``{*}`` any rest of the
name. The first rule that fits a name takes it. Tensors stay views of what was given, but for
:attr:`Change.PARTS` from right to left, so that mapping a memory-mapped file reads nothing of it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

_FIELD = re.compile(r"\{(?:\*|(\d*)([a-z])(?:\+(\d+))?)\}")


class Change(Enum):
    """What a rule does to tensors, read from left to right."""

    NONE = auto()
    PARTS = auto()
    """One is cut along its first dimension into as many equal parts as there are right names."""
    WHOLE = auto()
    """Several are joined along their first dimension."""
    TRANSPOSE = auto()
    """The two dimensions are swapped."""
    CUT_ROW = auto()
    """Row 0 of the second dimension falls away."""
    GROW_ROW = auto()
    """A row of zeros is put before the second dimension."""
    SHARE = auto()
    """Any of the left names will do; all right names get the same tensor."""
    DROP = auto()
    """Left names have no counterpart."""
    INVENT = auto()
    """Right names have no counterpart; they are left out."""


_REVERSED = {
    Change.PARTS: Change.WHOLE,
    Change.WHOLE: Change.PARTS,
    Change.CUT_ROW: Change.GROW_ROW,
    Change.GROW_ROW: Change.CUT_ROW,
    Change.DROP: Change.INVENT,
    Change.INVENT: Change.DROP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of a table; see the module."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    change: Change = Change.NONE

    def inverse(self) -> "Rule":
        """Return the rule from right to left."""
        return Rule(
            left=self.right, right=self.left, change=_REVERSED.get(self.change, self.change)
        )


def same(left: str, right: str) -> Rule:
    """Rename."""
    return Rule(left=(left,), right=(right,))


def parts(left: str, *right: str) -> Rule:
    """Cut a fused tensor, such as queries, keys and values, into equal parts."""
    return Rule(left=(left,), right=right, change=Change.PARTS)


def whole(*left: str, right: str) -> Rule:
    """Join tensors, such as four embeddings of one row, into one."""
    return Rule(left=left, right=(right,), change=Change.WHOLE)


def transposed(left: str, right: str) -> Rule:
    """Rename a matrix and swap its dimensions."""
    return Rule(left=(left,), right=(right,), change=Change.TRANSPOSE)


def without_first_row(left: str, right: str) -> Rule:
    """Rename a position embedding (1, N, C) and drop its class token."""
    return Rule(left=(left,), right=(right,), change=Change.CUT_ROW)


def shared(left: tuple[str, ...], right: tuple[str, ...]) -> Rule:
    """Let several names hold one tensor on either side; one of them is enough."""
    return Rule(left=left, right=right, change=Change.SHARE)


def dropped(left: str) -> Rule:
    """Leave out what the other layout computes itself."""
    return Rule(left=(left,), right=(), change=Change.DROP)


def under(left: str, right: str, rules: Iterable[Rule]) -> list[Rule]:
    """Put prefixes before all templates of a part of a table."""
    return [
        Rule(
            left=tuple(left + name for name in rule.left),
            right=tuple(right + name for name in rule.right),
            change=rule.change,
        )
        for rule in rules
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where one name of the new layout comes from.

    Attributes:
        sources: Names of the old layout, in the rule's order.
        change: What happens to their tensors.
        index: Which of the rule's results it is.
        count: How many results the rule has.
    """

    sources: tuple[str, ...]
    change: Change
    index: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """What a table makes of a set of names.

    Attributes:
        origins: Name of the new layout to where it comes from.
        unknown: Names that no rule takes.
        dropped: Names that the new layout does without.
        incomplete: Names that others need beside them, and that are not there.
    """

    origins: dict[str, Origin]
    unknown: tuple[str, ...]
    dropped: tuple[str, ...]
    incomplete: tuple[str, ...]


class KeyMap:
    """A table of rules, read from left to right."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        """Take the rules; the first that fits a name wins."""
        self.rules = tuple(rules)

    def inverse(self) -> "KeyMap":
        """Return the table read from right to left."""
        return KeyMap(rule.inverse() for rule in self.rules)

    def translate(self, names: Iterable[str]) -> Translation:
        """Find out what becomes of names.

        Raises:
            ValueError: If two names would become the same one.
        """
        present = set(names)
        origins: dict[str, Origin] = {}
        unknown: list[str] = []
        left_out: list[str] = []
        incomplete: list[str] = []
        done: set[tuple[str, ...]] = set()
        for name in sorted(present):
            found = self._find(name)
            if found is None:
                unknown.append(name)
                continue
            rule, fields = found
            sources = tuple(_fill(template, fields) for template in rule.left)
            if rule.change is Change.DROP:
                left_out.append(name)
                continue
            if sources in done:
                continue
            done.add(sources)
            missing = [source for source in sources if source not in present]
            if rule.change is Change.SHARE:
                sources = tuple(source for source in sources if source in present)
            elif missing:
                incomplete.extend(missing)
                continue
            for index, template in enumerate(rule.right):
                target = _fill(template, fields)
                if target in origins:
                    raise ValueError(
                        f"both {origins[target].sources} and {sources} are called {target!r}; "
                        "expected one of them"
                    )
                origins[target] = Origin(
                    sources=sources, change=rule.change, index=index, count=len(rule.right)
                )
        return Translation(
            origins=origins,
            unknown=tuple(unknown),
            dropped=tuple(left_out),
            incomplete=tuple(incomplete),
        )

    def apply(self, state: Mapping[str, Tensor]) -> "MappedState":
        """View weights in the new layout; see :class:`MappedState`."""
        return MappedState(state, self.translate(state))

    def _find(self, name: str) -> tuple[Rule, dict[str, str]] | None:
        for rule in self.rules:
            for template in rule.left:
                fields = _read(template, name)
                if fields is not None:
                    return rule, fields
        return None


class MappedState(Mapping[str, Tensor]):
    """Weights in another layout. Each tensor is made when it is asked for, and is not kept."""

    def __init__(self, state: Mapping[str, Tensor], translation: Translation) -> None:
        """View ``state`` through a translation of its names."""
        self._state = state
        self.translation = translation

    @override
    def __getitem__(self, name: str) -> Tensor:
        origin = self.translation.origins[name]
        tensors = [self._state[source] for source in origin.sources]
        try:
            return _change(tensors, origin)
        except (RuntimeError, IndexError, TypeError) as error:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
            raise ValueError(
                f"cannot make {name!r} of {' + '.join(origin.sources)} with shape {shapes}; "
                f"expected what {origin.change.name.lower()} can be done to"
            ) from error

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self.translation.origins)

    @override
    def __len__(self) -> int:
        return len(self.translation.origins)


def _change(tensors: list[Tensor], origin: Origin) -> Tensor:
    first = tensors[0]
    match origin.change:
        case Change.PARTS:
            if len(first) % origin.count:
                raise ValueError(
                    f"{origin.sources[0]!r} has {len(first)} rows; "
                    f"expected a multiple of {origin.count}"
                )
            return first.chunk(origin.count)[origin.index]
        case Change.WHOLE:
            return torch.cat(tensors)
        case Change.TRANSPOSE:
            return first.t()
        case Change.CUT_ROW:
            return first[:, 1:]
        case Change.GROW_ROW:
            return F.pad(first, (0, 0, 1, 0))
        case _:
            return first


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """Turn a template into a pattern that captures its fields, named or numbered by place."""
    pieces: list[str] = []
    end = 0
    for number, field in enumerate(_FIELD.finditer(template)):
        pieces.append(re.escape(template[end : field.start()]))
        kind = r".+" if field[0] == "{*}" else r"\d+"
        pieces.append(f"(?P<f{number}>{kind})")
        end = field.end()
    pieces.append(re.escape(template[end:]))
    return re.compile("".join(pieces))


def _read(template: str, name: str) -> dict[str, str] | None:
    """Return the fields of a name, or ``None`` if it does not fit the template."""
    found = _pattern(template).fullmatch(name)
    if found is None:
        return None
    fields: dict[str, str] = {}
    for number, field in enumerate(_FIELD.finditer(template)):
        text = found[f"f{number}"]
        letter = field[2] or "*"
        if letter != "*":
            value, remainder = divmod(int(text) - int(field[3] or 0), int(field[1] or 1))
            if remainder or value < 0:
                return None
            text = str(value)
        if fields.setdefault(letter, text) != text:
            return None
    return fields


def _fill(template: str, fields: Mapping[str, str]) -> str:
    def one(field: re.Match[str]) -> str:
        if field[0] == "{*}":
            return fields["*"]
        return str(int(fields[field[2]]) * int(field[1] or 1) + int(field[3] or 0))

    return _FIELD.sub(one, template)


__all__ = [
    "Change",
    "KeyMap",
    "MappedState",
    "Origin",
    "Rule",
    "Translation",
    "dropped",
    "parts",
    "same",
    "shared",
    "transposed",
    "under",
    "whole",
    "without_first_row",
]
