"""Draws what to ask of a picture or a clip of the wide world, and what the right answer is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np

from connectors.world.compose import WorldObject
from connectors.world.config import Split
from connectors.world.wide.artwork import looks_of
from connectors.world.wide.catalogue import wide_concept_named
from connectors.world.wide.phrases import (
    PHRASES,
    Phrase,
    PhraseKind,
    Verdict,
    is_held_out,
    odd_phrases,
    phrases_of,
)

# How often a test split asks for what training never heard, where it can.
_HELD_OUT_SHARE = 0.7
_MOST_TRIES = 40
# Of the negatives: the right noun in the wrong look, a look-alike (of a thing in an odd look also
# any other thing in that look), anything else, a foreign noun.
_NEGATIVES = (0.35, 0.25, 0.25, 0.15)
# How often a thing in an odd look makes one ask for another in that look.
_ODD_SHARE = 0.5


class Asked(StrEnum):
    """Why a question is asked."""

    PRESENT = "present"
    WRONG_LOOK = "wrong_look"
    LOOK_ALIKE = "look_alike"
    OTHER = "other"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class WideQuestion:
    """One phrase asked of one picture or clip.

    Attributes:
        phrase: What is asked.
        asked: Why; all but ``PRESENT`` are answered by nothing.
        object_ids: All objects that the phrase covers.
    """

    phrase: Phrase
    asked: Asked
    object_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is to be seen, as far as questions go.

    Attributes:
        present: Objects that show enough to be asked for.
        seen: All objects that show at all, the present ones included; a phrase that covers any of
            the others is not asked, as neither answer would be wrong.
        is_night: Whether it is infrared, which shows no colours.
    """

    present: Sequence[WorldObject]
    seen: Sequence[WorldObject]
    is_night: bool = False

    def covered(self, phrase: Phrase) -> tuple[int, ...] | None:
        """Return the ids of all objects that a phrase covers; ``None`` if that is unclear."""
        present = {thing.object_id for thing in self.present}
        covered: list[int] = []
        for thing in self.seen:
            verdict = phrase.verdict(thing, is_night=self.is_night)
            is_hidden = verdict is Verdict.YES and thing.object_id not in present
            if verdict is Verdict.UNSURE or is_hidden:
                return None
            if verdict is Verdict.YES:
                covered.append(thing.object_id)
        return tuple(covered)


@lru_cache(maxsize=8)
def _by_noun(split: Split) -> dict[str, tuple[Phrase, ...]]:
    return _grouped(phrases_of(split))


def _grouped(phrases: Iterable[Phrase]) -> dict[str, tuple[Phrase, ...]]:
    found: dict[str, list[Phrase]] = {}
    for phrase in phrases:
        found.setdefault(phrase.noun, []).append(phrase)
    return {noun: tuple(same) for noun, same in found.items()}


@lru_cache(maxsize=1)
def _odd_by_noun() -> dict[str, tuple[Phrase, ...]]:
    return _grouped(odd_phrases().values())


@lru_cache(maxsize=32)
def _by_look(split: Split, look: str) -> tuple[Phrase, ...]:
    phrases = (*phrases_of(split), *odd_phrases().values())
    return tuple(phrase for phrase in phrases if phrase.attribute == look)


def _odd_look(thing: WorldObject) -> str:
    """Return the look of a thing that the catalogue does not list for it, empty if it has none."""
    known = looks_of(wide_concept_named(thing.concept))
    return next((look for look in thing.attributes if look not in known), "")


def _phrases_about(thing: WorldObject, split: Split) -> list[Phrase]:
    nouns = sorted(wide_concept_named(thing.concept).nouns)
    phrases = [phrase for noun in nouns for phrase in _by_noun(split).get(noun, ())]
    if _odd_look(thing):
        phrases += [phrase for noun in nouns for phrase in _odd_by_noun().get(noun, ())]
    return phrases


@lru_cache(maxsize=64)
def _by_group(split: Split, group: str) -> tuple[Phrase, ...]:
    return tuple(
        phrase
        for phrase in phrases_of(split)
        if phrase.kind is PhraseKind.NAME and wide_concept_named(phrase.noun).group == group
    )


def draw_wide_questions(
    rng: np.random.Generator, view: View, *, split: Split, number: int
) -> list[WideQuestion]:
    """Ask for what is there and for as much that is not, in random wordings.

    Args:
        rng: Source of the choices.
        view: What is to be seen.
        split: Which phrases may be used.
        number: How many questions, at least 1; about half of them about what is there, if
            anything is. Nothing is asked twice, in other words neither.
    """
    if number < 1:
        raise ValueError(f"number of questions must be at least 1, got {number!r}")
    questions: dict[tuple[str, str], WideQuestion] = {}
    wanted = (number + int(rng.integers(2))) // 2 if view.present else 0
    for _ in range(_MOST_TRIES):
        if len(questions) >= wanted:
            break
        question = _ask_for_something(rng, view, split)
        if question is not None:
            questions.setdefault(question.phrase.meaning, question)
    for _ in range(_MOST_TRIES * number):
        if len(questions) >= number:
            break
        question = _ask_in_vain(rng, view, split)
        if question is not None:
            questions.setdefault(question.phrase.meaning, question)
    return list(questions.values())


def _pick(rng: np.random.Generator, phrases: Sequence[Phrase], split: Split) -> Phrase | None:
    if split is not Split.TRAIN and rng.random() < _HELD_OUT_SHARE:
        phrases = [phrase for phrase in phrases if phrase.text in _held_out_texts()] or phrases
    return phrases[int(rng.integers(len(phrases)))] if phrases else None


@lru_cache(maxsize=1)
def _held_out_texts() -> frozenset[str]:
    return frozenset(phrase.text for phrase in PHRASES.values() if is_held_out(phrase))


def _ask_for_something(rng: np.random.Generator, view: View, split: Split) -> WideQuestion | None:
    thing = view.present[int(rng.integers(len(view.present)))]
    phrases = _phrases_about(thing, split)
    kinds = (PhraseKind.NAME, PhraseKind.SYNONYM, PhraseKind.KIND, PhraseKind.ATTRIBUTE)
    kind = kinds[int(rng.choice(4, p=(0.35, 0.15, 0.15, 0.35)))]
    fitting = [
        phrase
        for phrase in phrases
        if phrase.kind is kind and (not phrase.attribute or phrase.attribute in thing.attributes)
    ]
    phrase = _pick(rng, fitting, split)
    covered = view.covered(phrase) if phrase is not None else None
    if phrase is None or not covered:
        return None
    return WideQuestion(phrase=phrase, asked=Asked.PRESENT, object_ids=covered)


def _ask_in_vain(rng: np.random.Generator, view: View, split: Split) -> WideQuestion | None:
    asked = tuple(Asked)[1 + int(rng.choice(4, p=_NEGATIVES))]
    phrases: Sequence[Phrase] = phrases_of(split)
    if asked in {Asked.WRONG_LOOK, Asked.LOOK_ALIKE}:
        if not view.present:
            return None
        # Whatever has a look can be asked for in another one.
        things = [thing for thing in view.present if thing.attributes]
        things = things if things and asked is Asked.WRONG_LOOK else view.present
        thing = things[int(rng.integers(len(things)))]
        if asked is Asked.WRONG_LOOK:
            phrases = [phrase for phrase in _phrases_about(thing, split) if phrase.attribute]
        elif (look := _odd_look(thing)) and rng.random() < _ODD_SHARE:
            phrases = _by_look(split, look)
        else:
            phrases = _by_group(split, wide_concept_named(thing.concept).group)
    elif asked is Asked.FOREIGN:
        phrases = _foreign()
    phrase = _pick(rng, phrases, split)
    if phrase is None or view.covered(phrase) != ():
        return None
    return WideQuestion(phrase=phrase, asked=asked)


@lru_cache(maxsize=1)
def _foreign() -> tuple[Phrase, ...]:
    return tuple(phrase for phrase in PHRASES.values() if phrase.kind is PhraseKind.ABSENT)
