from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from connectors.world.config import Split
from connectors.world.wide.artwork import PAINTS, looks_of, odd_looks_of, wide_sprite
from connectors.world.wide.casting import WideContent
from connectors.world.wide.catalogue import (
    COATS,
    HELD_OUT_COMBINATIONS,
    WIDE_CONCEPTS,
    is_held_out_combination,
    wide_concept_named,
)
from connectors.world.wide.phrases import (
    PHRASES,
    PhraseKind,
    Verdict,
    is_held_out,
    odd_phrases,
)
from connectors.world.wide.questions import Asked
from tests.connectors.world.test_wide import ask_training, make_still
from tests.connectors.world.test_wide_catalogue import verdict

WITH_ODD_LOOKS = [concept for concept in WIDE_CONCEPTS if odd_looks_of(concept)]
NEWLY_PAINTED = [
    concept
    for concept in WITH_ODD_LOOKS
    if not concept.colours and set(odd_looks_of(concept)) & set(PAINTS)
]


def test_most_things_can_be_given_odd_looks():
    assert len(WITH_ODD_LOOKS) > 160
    counts = Counter(look for concept in WITH_ODD_LOOKS for look in odd_looks_of(concept))
    assert counts.keys() == {*PAINTS, *COATS}
    assert min(counts.values()) > 30


@pytest.mark.parametrize("concept", WITH_ODD_LOOKS, ids=lambda concept: concept.name)
def test_an_odd_look_is_neither_a_look_nor_held_out(concept):
    odd = odd_looks_of(concept)
    assert not set(odd) & set(looks_of(concept))
    assert not any(is_held_out_combination(look, concept) for look in odd)


@pytest.mark.parametrize("concept", NEWLY_PAINTED, ids=lambda concept: concept.name)
def test_odd_paint_is_what_shows_most(concept):
    plain = wide_sprite(concept.name).levels[0].astype(int)
    solid = plain[..., 3] > 200
    for look in set(odd_looks_of(concept)) & set(PAINTS):
        painted = wide_sprite(concept.name, (look,)).levels[0].astype(int)
        near = np.abs(painted[..., :3] - PAINTS[look]).max(axis=2) < 110
        assert near[solid].mean() > 0.5, look


@pytest.mark.parametrize("concept", WITH_ODD_LOOKS[::4], ids=lambda concept: concept.name)
def test_each_odd_look_is_a_picture_of_its_own(concept):
    pictures = [wide_sprite(concept.name, (look,)).levels[0] for look in odd_looks_of(concept)]
    for place, picture in enumerate(pictures):
        for other in pictures[:place]:
            changed = (np.abs(picture.astype(int) - other)[..., :3] > 16).any(axis=2)
            assert changed.mean() > 0.02


def test_people_without_coloured_clothes_get_none():
    assert odd_looks_of(wide_concept_named("cyclist")) == ()
    assert odd_looks_of(wide_concept_named("businessman")) == ()
    assert "pink" in odd_looks_of(wide_concept_named("pedestrian"))
    assert "red" not in odd_looks_of(wide_concept_named("pedestrian"))


def test_odd_phrases_are_new_and_not_held_out():
    odd = odd_phrases()
    assert not odd.keys() & PHRASES.keys()
    assert not any(is_held_out(phrase) for phrase in odd.values())
    assert odd.keys() >= {"purple goat", "striped goat", "pink bunny", "pink car", "jogger in pink"}
    assert not odd.keys() & {"blue taxi", "red angelfish", "purple leopard", "grey tiger"}


def test_no_odd_phrase_holds_a_held_out_one():
    wordings = {
        noun: (noun, *wide_concept_named(noun).synonyms) for _, noun in HELD_OUT_COMBINATIONS
    }
    held_out = {f" {a} {text} " for a, noun in HELD_OUT_COMBINATIONS for text in wordings[noun]}
    said = [f" {text} " for text in odd_phrases()]
    assert not [(text, one) for text in said for one in held_out if one in text]
    for text in ("green bus stop", "blue car ferry", "white carousel horse"):
        assert text not in odd_phrases()


@pytest.mark.parametrize(
    ("text", "thing", "expected"),
    [
        ("purple goat", ("goat", "purple"), Verdict.YES),
        ("purple goat", ("goat", "red"), Verdict.NO),
        ("purple goat", ("goat",), Verdict.UNSURE),
        ("purple goat", ("horse", "purple"), Verdict.NO),
        ("pink car", ("taxi", "pink"), Verdict.YES),
        ("pink car", ("car", "red"), Verdict.NO),
        ("striped goat", ("goat", "striped"), Verdict.YES),
        ("striped goat", ("goat", "spotted"), Verdict.NO),
        ("striped goat", ("goat",), Verdict.UNSURE),
    ],
)
def test_verdict_of_an_odd_phrase(text, thing, expected):
    assert text in odd_phrases()
    assert verdict(text, *thing) is expected


def test_odd_colours_do_not_show_in_infrared_nor_odd_coats_from_afar():
    assert verdict("purple goat", "goat", "purple", is_night=True) is Verdict.UNSURE
    assert verdict("striped goat", "goat", "striped", rows=12) is Verdict.UNSURE


def test_things_get_odd_looks_as_often_as_asked():
    def shares(odd_looks):
        things = [t for s in range(40) for t in make_still(s, odd_looks=odd_looks).objects]
        return np.mean(
            [bool(set(t.attributes) - {*looks_of(wide_concept_named(t.concept))}) for t in things]
        )

    assert shares(0.0) == 0
    assert 0.2 < shares(0.4) < 0.5
    assert shares(1.0) > 0.7


def test_odd_things_make_one_ask_for_odd_looks():
    asked = ask_training(np.random.default_rng(0), 60, odd_looks=0.6, night_probability=0.0)
    why = Counter(question.asked for question in asked if question.phrase.text in odd_phrases())
    assert min(why[Asked.PRESENT], why[Asked.WRONG_LOOK], why[Asked.LOOK_ALIKE]) > 5
    assert {q.phrase.kind for q in asked} == {*PhraseKind}


def test_held_out_scenes_show_things_as_they_come():
    for split in (Split.TEST_COMBINATIONS, Split.TEST_CONCEPTS):
        with pytest.raises(ValueError, match=r"odd_looks 0\.2 in split"):
            replace(WideContent(), split=split, odd_looks=0.2)
