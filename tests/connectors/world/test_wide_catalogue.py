from collections import Counter

import numpy as np
import pytest

from connectors.world.compose import WorldObject
from connectors.world.config import Split
from connectors.world.wide.artwork import PAINTS, WIDE_ATLAS_PATH, looks_of, wide_sprite
from connectors.world.wide.catalogue import (
    COATS,
    HELD_OUT_COMBINATIONS,
    WIDE_CONCEPTS,
    train_only,
    wide_concept_named,
)
from connectors.world.wide.phrases import (
    PHRASES,
    WIDE_ABSENT_PHRASES,
    PhraseKind,
    Verdict,
    covered_concepts,
    is_held_out,
    phrase_of,
    phrases_of,
)

NAMES = [concept.name for concept in WIDE_CONCEPTS]
# What the scenery shows.
SCENERY_WORDS = {
    "tree", "trunk", "bush", "hedge", "wall", "fence", "pole", "post", "rock", "boulder",
    "building", "house", "skyscraper", "window", "road", "street", "pavement", "grass",
    "meadow", "sand", "beach", "snow", "water", "sea", "lake", "sky", "cloud", "hill",
    "mountain", "floor", "room", "shadow", "rain", "fog", "brick", "plank",
}  # fmt: skip


def make_thing(concept, *attributes, rows=40):
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[:rows, :20] = True
    return WorldObject(
        object_id=0, concept=concept, full_mask=mask, visible_mask=mask, visibility=1.0,
        depth=0.5, attributes=attributes,
    )  # fmt: skip


def verdict(text, *thing, is_night=False, rows=40):
    return phrase_of(text).verdict(make_thing(*thing, rows=rows), is_night=is_night)


def test_catalogue_is_wide_and_part_of_it_is_held_out():
    assert len(set(NAMES)) == len(NAMES) >= 120
    assert len({concept.codepoint for concept in WIDE_CONCEPTS}) == len(NAMES)
    assert sum(concept.is_held_out for concept in WIDE_CONCEPTS) >= 10
    assert len(HELD_OUT_COMBINATIONS) >= 12
    assert WIDE_ATLAS_PATH.stat().st_size <= 1_500_000


def test_every_wording_means_one_thing():
    wordings = [w for c in WIDE_CONCEPTS for w in (c.name, *c.synonyms)] + [*WIDE_ABSENT_PHRASES]
    assert [word for word, count in Counter(wordings).items() if count > 1] == []
    kinds = {kind for concept in WIDE_CONCEPTS for kind in concept.kinds}
    synonyms = {word for concept in WIDE_CONCEPTS for word in concept.synonyms}
    assert not synonyms & kinds
    assert not set(WIDE_ABSENT_PHRASES) & kinds


def test_no_phrase_names_the_scenery():
    assert not set(PHRASES) & SCENERY_WORDS


def test_no_wording_holds_an_attribute_that_its_thing_may_lack():
    looks = {*PAINTS, *COATS}
    for concept in WIDE_CONCEPTS:
        for wording in (concept.name, *concept.synonyms):
            assert not looks & set(wording.split()), wording


@pytest.mark.parametrize("concept", WIDE_CONCEPTS, ids=NAMES)
def test_each_look_is_a_picture_of_its_own(concept):
    plain = wide_sprite(concept.name).levels[0]
    assert np.count_nonzero(plain[..., 3] > 127) > 300
    pictures = [wide_sprite(concept.name, (look,)).levels[0] for look in looks_of(concept)]
    for place, picture in enumerate(pictures):
        for other in pictures[:place]:
            changed = (np.abs(picture.astype(int) - other)[..., :3] > 24).any(axis=2)
            assert changed.mean() > 0.02


@pytest.mark.parametrize("concept", [c for c in WIDE_CONCEPTS if c.colours], ids=lambda c: c.name)
def test_training_keeps_a_colour_of_everything(concept):
    assert set(train_only(concept, concept.colours)) or concept.is_held_out
    assert set(concept.colours) <= PAINTS.keys()


def test_held_out_combinations_exist():
    for attribute, noun in HELD_OUT_COMBINATIONS:
        covered = covered_concepts(noun)
        assert any(attribute in looks_of(concept) for concept in covered), (attribute, noun)


@pytest.mark.parametrize(
    ("text", "thing", "expected"),
    [
        ("car", ("taxi", "yellow"), Verdict.YES),
        ("automobile", ("taxi", "yellow"), Verdict.YES),
        ("red car", ("car", "red"), Verdict.YES),
        ("red car", ("suv", "red"), Verdict.YES),
        ("red car", ("car", "blue"), Verdict.NO),
        ("red car", ("police car",), Verdict.UNSURE),
        ("red car", ("bus", "red"), Verdict.NO),
        ("truck", ("pickup", "red"), Verdict.UNSURE),
        ("bird", ("duck",), Verdict.YES),
        ("bird", ("bat",), Verdict.UNSURE),
        ("animal", ("spider",), Verdict.UNSURE),
        ("horse", ("jockey",), Verdict.UNSURE),
        ("striped cat", ("cat", "orange", "striped"), Verdict.YES),
        ("striped cat", ("cat", "orange"), Verdict.NO),
        ("orange cat", ("cat", "orange", "striped"), Verdict.YES),
        ("person in blue", ("runner", "blue"), Verdict.YES),
        ("person in blue", ("businessman", "black"), Verdict.NO),
        ("person in blue", ("cyclist",), Verdict.UNSURE),
        ("deer", ("cow",), Verdict.NO),
        ("lion", ("cat", "orange"), Verdict.NO),
    ],
)
def test_verdict_of_a_phrase(text, thing, expected):
    assert verdict(text, *thing) is expected


def test_infrared_shows_no_colours_but_coats():
    assert verdict("red car", "car", "red", is_night=True) is Verdict.UNSURE
    assert verdict("striped cat", "cat", "orange", "striped", is_night=True) is Verdict.YES


def test_a_coat_is_not_asked_of_what_is_too_small():
    assert verdict("striped cat", "cat", "orange", "striped", rows=12) is Verdict.UNSURE


@pytest.mark.parametrize("noun", ["car", "person", "bird", "animal", "vehicle", "ball"])
def test_a_kind_covers_all_of_its_kind(noun):
    covered = {c.name for c in WIDE_CONCEPTS if verdict(noun, c.name) is Verdict.YES}
    assert covered == {c.name for c in WIDE_CONCEPTS if noun in (c.name, *c.kinds)}
    assert len(covered) > 3


def test_a_phrase_with_an_attribute_is_never_wrong_about_what_has_no_such_label():
    for phrase in PHRASES.values():
        if phrase.attribute:
            for concept in covered_concepts(phrase.noun):
                is_labelled = concept.has_coats if phrase.attribute in COATS else concept.colours
                told = phrase.verdict(make_thing(concept.name))
                assert told is (Verdict.NO if is_labelled else Verdict.UNSURE)


def test_training_hears_nothing_that_is_held_out():
    heard = phrases_of(Split.TRAIN)
    assert not any(is_held_out(phrase) for phrase in heard)
    said = {phrase.text for phrase in heard}
    assert not said & {"leopard", "panther", "donkey", "blue car", "blue sedan", "striped stallion"}
    assert said >= {"car", "red car", "bird", "cat", "striped cat"}


def test_test_splits_ask_for_what_training_never_heard():
    combinations = {p.text for p in phrases_of(Split.TEST_COMBINATIONS) if is_held_out(p)}
    concepts = {p.text for p in phrases_of(Split.TEST_CONCEPTS) if is_held_out(p)}
    assert "blue car" in combinations - concepts
    assert "donkey" in concepts - combinations


def test_foreign_nouns_cover_nothing():
    foreign = [p for p in PHRASES.values() if p.kind is PhraseKind.ABSENT]
    assert len(foreign) == len(WIDE_ABSENT_PHRASES)
    assert all(covered_concepts(p.noun) == () for p in foreign)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown concept 'unicorn'"):
        wide_concept_named("unicorn")
    with pytest.raises(ValueError, match="does not come 'striped'"):
        wide_sprite("car", ("striped",))
