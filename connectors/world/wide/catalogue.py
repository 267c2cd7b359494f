"""What the wide world holds, read from ``concepts.csv``, and which parts are held out of training.

One row is one concept: its artwork, what it may be called, how it moves and in which looks it
comes. Lists in a cell are separated by semicolons.
"""

import csv
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

_TABLE = Path(__file__).with_name("concepts.csv")
COATS: Final = ("striped", "spotted")
PLAIN_COAT: Final = "plain"
PERSON: Final = "person"


class Manner(StrEnum):
    """How a thing behaves, which also says where it may be."""

    WALK = "walk"
    ROLL = "roll"
    STAND = "stand"
    FLY = "fly"
    HOVER = "hover"
    SWIM = "swim"
    FLOAT = "float"


# Compared and hashed by identity: there is one of each, and they are looked up very often.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WideConcept:
    """One kind of thing of the wide world.

    Attributes:
        name: The noun phrase that names it in truth and prompts.
        codepoint: The emoji its artwork was baked from.
        group: Things of one group look alike, or are mistaken for each other.
        manner: How it behaves.
        stature: Height against the tallest concept seen from the same distance, in (0, 1].
        synonyms: Other phrases for the same thing; none names another concept.
        kinds: Nouns that cover it along with others, such as "bird".
        akin: Nouns of which nobody can say whether they cover it, such as "animal" for a spider.
        colours: The colours it comes in, that of the artwork first. Empty: its colour has no name.
        has_coats: Whether it comes plain, striped and spotted.
        is_held_out: Whether training never sees nor names it.
    """

    name: str
    codepoint: int
    group: str
    manner: Manner
    stature: float
    synonyms: tuple[str, ...]
    kinds: tuple[str, ...]
    akin: tuple[str, ...]
    colours: tuple[str, ...]
    has_coats: bool
    is_held_out: bool

    @property
    def nouns(self) -> frozenset[str]:
        """The nouns that cover it: its name and its kinds."""
        return _nouns(self)


@cache
def _nouns(concept: WideConcept) -> frozenset[str]:
    return frozenset((concept.name, *concept.kinds))


def _parts(cell: str) -> tuple[str, ...]:
    return tuple(part for part in cell.split(";") if part)


@lru_cache(maxsize=1)
def _read_table() -> tuple[WideConcept, ...]:
    with _TABLE.open(encoding="utf-8", newline="") as table:
        return tuple(
            WideConcept(
                name=row["name"],
                codepoint=int(row["emoji"], 16),
                group=row["group"],
                manner=Manner(row["manner"]),
                stature=float(row["stature"]),
                synonyms=_parts(row["synonyms"]),
                kinds=_parts(row["kinds"]),
                akin=_parts(row["akin"]),
                colours=_parts(row["colours"]),
                has_coats=row["coats"] == "yes",
                is_held_out=row["held_out"] == "yes",
            )
            for row in csv.DictReader(table)
        )


WIDE_CONCEPTS: Final[tuple[WideConcept, ...]] = _read_table()
_BY_NAME: Final = {concept.name: concept for concept in WIDE_CONCEPTS}

# Attributes that training never sees together with the noun, nor asks for, in any wording; a noun
# stands for all that it covers. Things that are only akin may come so (a blue van beside cars).
HELD_OUT_COMBINATIONS: Final[frozenset[tuple[str, str]]] = frozenset(
    {
        ("blue", "car"),
        ("green", "bus"),
        ("yellow", "van"),
        ("black", "pickup"),
        ("red", "tractor"),
        ("purple", "bicycle"),
        ("green", "motorcycle"),
        ("white", "horse"),
        ("grey", "cat"),
        ("brown", "rabbit"),
        ("black", "pig"),
        ("red", "fish"),
        ("purple", "butterfly"),
        ("green", "umbrella"),
        ("yellow", "backpack"),
        ("black", "guitar"),
        ("blue", "telephone"),
        ("purple", "balloon"),
        ("white", "chair"),
        ("yellow", "bucket"),
        ("orange", "book"),
        ("purple", "sneaker"),
        ("green", "dress"),
        ("red", "pedestrian"),
        ("blue", "runner"),
        ("green", "tent"),
        ("spotted", "elephant"),
        ("striped", "horse"),
        ("spotted", "cat"),
        ("striped", "pig"),
        ("striped", "rhinoceros"),
        ("spotted", "deer"),
    }
)


def wide_concept_named(name: str) -> WideConcept:
    """Return the concept of the wide world called ``name``.

    Raises:
        ValueError: If it knows no such concept.
    """
    if (found := _BY_NAME.get(name)) is None:
        raise ValueError(
            f"unknown concept {name!r} of the wide world; known: {', '.join(sorted(_BY_NAME))}"
        )
    return found


def is_held_out_combination(attribute: str, concept: WideConcept) -> bool:
    """Return whether training never shows this concept with this attribute."""
    return any((attribute, noun) in HELD_OUT_COMBINATIONS for noun in concept.nouns)


def is_near_held_out_combination(attribute: str, concept: WideConcept) -> bool:
    """Return whether the attribute is held out for what may be taken for the concept, or it itself.

    That is what nobody can tell whether its noun covers it, and what its wordings speak of, as "bus
    stop" does of a bus.
    """
    nouns = concept.nouns | _nouns_near(concept)
    return any((attribute, noun) in HELD_OUT_COMBINATIONS for noun in nouns)


@cache
def _nouns_near(concept: WideConcept) -> frozenset[str]:
    own = [f" {wording} " for wording in (concept.name, *concept.synonyms)]
    return frozenset(
        other.name
        for other in WIDE_CONCEPTS
        for wording in (other.name, *other.synonyms)
        if wording in concept.akin or any(f" {wording} " in said for said in own)
    )


def train_only(concept: WideConcept, attributes: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the attributes that training may show this concept with."""
    return tuple(a for a in attributes if not is_held_out_combination(a, concept))
