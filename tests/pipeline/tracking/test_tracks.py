"""Masklets to tracks: states, changes, identity."""

from dataclasses import replace

import pytest

from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.tracks import SessionKey, TrackBook
from tests.pipeline.fakes import START, make_observation, make_prediction, moment

CONFIG = TrackingConfig(confirm_s=0.5, occluded_s=0.2, lost_s=1.0, expire_s=3.0)
KEY = SessionKey(deployment="d", stream_id="cam", stream_epoch=0, began_at=START, first_seq=0)
BOX = (2, 3, 4, 5)


def play(frames, *, step_s=0.25, key=KEY, config=CONFIG):
    """Feed lists of masklets; return what changed per frame, and the book."""
    book, told = TrackBook(key, config), []
    for number, masklets in enumerate(frames):
        update = book.apply(make_prediction(*masklets), now=moment(number * step_s))
        told += [(number, change.kind.value) for change in update.changes]
    return told, update, book


def seen(count, *, number=1, box=BOX, **fields):
    return [[make_observation(number, box=box, **fields)] for _ in range(count)]


def test_a_track_is_tentative_then_confirmed_after_its_delay():
    told, update, _ = play(seen(4))
    assert told == [(0, "started"), (2, "confirmed")]
    assert update.tracks[0].state == "confirmed"


def test_unmatched_frames_do_not_count_towards_confirmation():
    told, update, _ = play(seen(6, is_matched=False))
    assert told == [(0, "started")]
    assert update.tracks[0].state == "tentative"


def test_no_delay_confirms_at_once():
    told, _, _ = play(seen(1), config=replace_config(confirm_s=0.0))
    assert told == [(0, "started"), (0, "confirmed")]


def replace_config(**fields):
    return CONFIG.model_copy(update=fields)


def test_hiding_is_occluded_then_lost_then_recovered():
    told, _, _ = play([*seen(3), *seen(5, box=None), *seen(1)])
    assert told[2:] == [(3, "occluded"), (8, "recovered")]
    _, update, _ = play([*seen(3), *seen(5, box=None)])
    assert update.tracks[0].state == "lost"


def test_while_hidden_the_box_stays_and_the_mask_goes():
    _, update, _ = play([*seen(3), *seen(1, box=None)])
    track = update.tracks[0]
    assert (track.mask, track.area, track.unseen_us) == (None, 0.0, 250_000)
    assert track.bbox == (2 / 32, 3 / 24, 4 / 32, round(5 / 24, 5))


def test_a_long_absence_ends_the_track_and_a_return_is_a_new_one():
    told, update, book = play([*seen(3), *seen(14, box=None), *seen(1)])
    assert told[-2:] == [(14, "ended"), (17, "started")]
    assert update.tracks[0].no == 2
    assert len(book) == 1


def test_a_masklet_that_the_model_lets_go_ends_its_track():
    told, _, book = play([*seen(3), []])
    assert told[-1] == (3, "ended")
    assert len(book) == 0


def test_a_duplicate_is_merged_into_the_one_that_stays():
    both = [make_observation(1), make_observation(2)]
    book = TrackBook(KEY, CONFIG)
    first = book.apply(make_prediction(*both), now=moment(0.0))
    last = book.apply(make_prediction(both[0], ended=(2,)), now=moment(0.1))
    assert [change.kind.value for change in last.changes] == ["merged", "ended"]
    assert last.changes[0].merged_into == first.tracks[0].uid


def test_another_concept_in_the_same_place_is_no_heir():
    both = [make_observation(1), make_observation(2, concept="blue")]
    book = TrackBook(KEY, CONFIG)
    book.apply(make_prediction(*both), now=moment(0.0))
    last = book.apply(make_prediction(both[0]), now=moment(0.1))
    assert [change.kind.value for change in last.changes] == ["ended"]


@pytest.mark.parametrize(
    "change",
    [{"deployment": "e"}, {"stream_id": "b"}, {"stream_epoch": 1}, {"first_seq": 9},
     {"began_at": START.replace(year=2027)}],
)  # fmt: skip
def test_ids_are_repeatable_within_a_session_and_unique_between(change):
    uid = [play(seen(1), key=key)[1].tracks[0].uid for key in (KEY, KEY, replace(KEY, **change))]
    assert uid[0] == uid[1] != uid[2]


def test_closing_ends_every_track_once():
    _, _, book = play([[make_observation(1), make_observation(2, box=(20, 10, 3, 3))]])
    ended = book.close("stream_ended").changes
    assert [(change.kind.value, change.reason) for change in ended] == [
        ("ended", "stream_ended")
    ] * 2
    assert book.close("stream_ended").changes == ()


def test_the_book_is_as_small_as_what_lives():
    book = TrackBook(KEY, CONFIG)
    for number in range(500):
        book.apply(make_prediction(make_observation(number + 1)), now=moment(number * 0.1))
        assert len(book) == 1


def test_the_box_of_a_single_pixel():
    _, update, _ = play(seen(1, box=(31, 23, 1, 1)))
    assert update.tracks[0].bbox == (round(31 / 32, 5), round(23 / 24, 5), 1 / 32, round(1 / 24, 5))
