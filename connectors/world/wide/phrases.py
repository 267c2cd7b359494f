"""What may be asked of the wide world, and the whole truth about each phrase.

A phrase is a noun, one of its synonyms, or either with an attribute ("red car", "striped cat",
"runner in blue"). A noun may cover several concepts: "car" covers taxis, "bird" covers ducks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

import numpy as np

from connectors.world.compose import WorldObject
from connectors.world.config import Split
from connectors.world.wide.artwork import odd_looks_of
from connectors.world.wide.catalogue import (
    COATS,
    PERSON,
    WIDE_CONCEPTS,
    WideConcept,
    is_held_out_combination,
    wide_concept_named,
)

# A coat is asked for only where its marks are wide enough to be told from plain fur.
MIN_COAT_ROWS: Final = 20
# Kinds whose colour may be asked for; every concept they cover has a named colour or is unsure.
COLOURED_KINDS: Final = ("car", PERSON)

# Nouns for negative prompts: nothing in any scene, scenery included, may be called by them.
WIDE_ABSENT_PHRASES: Final[tuple[str, ...]] = (
    "lion",
    "wolf",
    "fox",
    "koala",
    "panda",
    "raccoon",
    "walrus",
    "ostrich",
    "pelican",
    "woodpecker",
    "starfish",
    "seahorse",
    "dragonfly",
    "refrigerator",
    "washing machine",
    "microwave oven",
    "piano",
    "harp",
    "xylophone",
    "bulldozer",
    "excavator",
    "forklift",
    "submarine",
    "snowplow",
    "cement mixer",
    "surfboard",
    "trampoline",
    "hammock",
    "chandelier",
    "vacuum cleaner",
    "hair dryer",
    "ironing board",
    "toaster",
    "sewing machine",
    "dartboard",
    "chessboard",
    "astronaut",
    "beekeeper",
    "windmill",
    "lighthouse",
    "elevator",
    "cannon",
    "stroller",
    "snowmobile",
    "broccoli",
    "cucumber",
    "spaghetti",
)


class Verdict(StrEnum):
    """Whether a phrase covers an object."""

    YES = "yes"
    NO = "no"
    UNSURE = "unsure"


class PhraseKind(StrEnum):
    """How a phrase is built."""

    NAME = "name"
    SYNONYM = "synonym"
    KIND = "kind"
    ATTRIBUTE = "attribute"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """One phrase and what it means.

    Attributes:
        text: What a model is given.
        noun: The concept's name or the kind that it speaks of, or a foreign noun.
        attribute: The colour or coat it asks for; empty if any will do.
        kind: How it is built.
    """

    text: str
    noun: str
    attribute: str = ""
    kind: PhraseKind = PhraseKind.NAME

    @property
    def meaning(self) -> tuple[str, str]:
        """What synonyms share: the noun and the attribute."""
        return self.noun, self.attribute

    def verdict(self, thing: WorldObject, *, is_night: bool = False) -> Verdict:
        """Return whether the phrase covers an object of the wide world.

        Args:
            thing: The object.
            is_night: Whether it is seen in infrared, which shows no colours.
        """
        concept = wide_concept_named(thing.concept)
        if self.noun in _unsure_nouns(concept):
            return Verdict.UNSURE
        if self.noun not in concept.nouns:
            return Verdict.NO
        if not self.attribute:
            return Verdict.YES
        is_coat = self.attribute in COATS
        if _rows(thing) < MIN_COAT_ROWS if is_coat else is_night:
            return Verdict.UNSURE
        if self.attribute in thing.attributes:
            return Verdict.YES
        # A look that a thing was given is labelled, even if its own would not be.
        is_labelled = concept.has_coats if is_coat else bool(concept.colours)
        is_given = any((look in COATS) == is_coat for look in thing.attributes)
        return Verdict.NO if is_labelled or is_given else Verdict.UNSURE


def _rows(thing: WorldObject) -> int:
    return int(np.count_nonzero(thing.visible_mask.any(axis=1)))


@lru_cache(maxsize=512)
def _unsure_nouns(concept: WideConcept) -> frozenset[str]:
    canonical = {text: phrase.noun for text, phrase in PHRASES.items()}
    return frozenset(canonical.get(noun, noun) for noun in concept.akin) - concept.nouns


@lru_cache(maxsize=512)
def nouns_about(name: str) -> frozenset[str]:
    """Return the nouns that cover a concept or may be said of it; any other is not about it."""
    concept = wide_concept_named(name)
    return concept.nouns | _unsure_nouns(concept)


def with_attribute(noun: str, attribute: str, *, is_person: bool = False) -> str:
    """Return the wording for a noun with an attribute: people wear their colour."""
    return f"{noun} in {attribute}" if is_person else f"{attribute} {noun}"


def _attributes_asked(concept: WideConcept) -> tuple[str, ...]:
    # Something that comes in one colour only is called by that colour by nobody.
    colours = concept.colours if len(concept.colours) > 1 else ()
    return colours + (COATS if concept.has_coats else ())


def _all_phrases() -> Iterable[Phrase]:
    kinds: dict[str, list[WideConcept]] = {}
    for concept in WIDE_CONCEPTS:
        for kind in concept.kinds:
            kinds.setdefault(kind, []).append(concept)
        for place, noun in enumerate((concept.name, *concept.synonyms)):
            how = PhraseKind.SYNONYM if place else PhraseKind.NAME
            yield Phrase(text=noun, noun=concept.name, kind=how)
            for attribute in _attributes_asked(concept):
                yield _look_phrase(concept, noun, attribute)
    names = {concept.name for concept in WIDE_CONCEPTS}
    for kind, covered in kinds.items():
        if kind not in names:
            yield Phrase(text=kind, noun=kind, kind=PhraseKind.KIND)
        if kind in COLOURED_KINDS and kind not in names:
            for colour in dict.fromkeys(c for concept in covered for c in concept.colours):
                yield Phrase(
                    text=with_attribute(kind, colour, is_person=kind == PERSON),
                    noun=kind,
                    attribute=colour,
                    kind=PhraseKind.ATTRIBUTE,
                )
    for noun in WIDE_ABSENT_PHRASES:
        yield Phrase(text=noun, noun=noun, kind=PhraseKind.ABSENT)


def _look_phrase(concept: WideConcept, noun: str, attribute: str) -> Phrase:
    return Phrase(
        text=with_attribute(noun, attribute, is_person=PERSON in concept.kinds),
        noun=concept.name,
        attribute=attribute,
        kind=PhraseKind.ATTRIBUTE,
    )


PHRASES: Final[dict[str, Phrase]] = {phrase.text: phrase for phrase in _all_phrases()}


@lru_cache(maxsize=4096)
def covered_concepts(noun: str) -> tuple[WideConcept, ...]:
    """Return the concepts that a noun covers, none for a foreign one."""
    return tuple(concept for concept in WIDE_CONCEPTS if noun in concept.nouns)


@lru_cache(maxsize=8192)
def is_held_out(phrase: Phrase) -> bool:
    """Return whether training must not hear the phrase.

    So it is if all it covers is held out, or if its combination is, for anything that it covers.
    """
    covered = covered_concepts(phrase.noun)
    if covered and all(concept.is_held_out for concept in covered):
        return True
    return bool(phrase.attribute) and any(
        is_held_out_combination(phrase.attribute, concept) for concept in covered
    )


@lru_cache(maxsize=1)
def odd_phrases() -> dict[str, Phrase]:
    """Return, by text, phrases that ask for odd looks, such as "purple goat".

    Training may ask for them of things that it shows so; none is held out.
    """
    odd = [
        phrase
        for concept in WIDE_CONCEPTS
        for noun in (concept.name, *concept.synonyms)
        for look in odd_looks_of(concept)
        if (phrase := _look_phrase(concept, noun, look)).text not in PHRASES
    ]
    return {phrase.text: phrase for phrase in odd if not is_held_out(phrase)}


def phrase_of(text: str) -> Phrase | None:
    """Return what a text asks for, odd looks included; ``None`` if the wide world knows it not."""
    return PHRASES.get(text) or odd_phrases().get(text)


@lru_cache(maxsize=4)
def phrases_of(split: Split) -> tuple[Phrase, ...]:
    """Return all phrases that may be asked in a split; the test splits also hold the trained."""
    if split is Split.TRAIN:
        return tuple(phrase for phrase in PHRASES.values() if not is_held_out(phrase))
    by_concept = split is Split.TEST_CONCEPTS
    return tuple(p for p in PHRASES.values() if not is_held_out(p) or _is_new(p) == by_concept)


def _is_new(phrase: Phrase) -> bool:
    return all(concept.is_held_out for concept in covered_concepts(phrase.noun))
