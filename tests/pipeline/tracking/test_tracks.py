"""Masklets to tracks: states, changes, identity."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import Moment
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.tracks import BookState, SessionKey, TrackBook
from tests.benchmarks.tracks import time_tracks
from tests.pipeline.fakes import START, make_observation, make_prediction, moment

CONFIG = TrackingConfig(confirm_s=0.5, occluded_s=0.2, lost_s=1.0, expire_s=3.0)
KEY = SessionKey(deployment="d", stream_id="cam", stream_epoch=0, began_at=START, first_seq=0)
BOX = (2, 3, 4, 5)


def play(frames, *, step_s=0.25, key=KEY, config=CONFIG):
    """Feed lists of masklets; return what changed per frame, and the book."""
    book, told = TrackBook(BookState.begin(key), config), []
    for number, masklets in enumerate(frames):
        prediction, now = make_prediction(*masklets), moment(number * step_s)
        update = book.apply(prediction, now=now, stream_epoch=key.stream_epoch)
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


def test_an_end_after_a_change_of_size_finds_the_heir_on_the_new_masks():
    _, _, book = play(seen(3))
    book.resize((48, 64))
    small = make_observation(2, box=BOX)
    large = replace(small, mask=small.mask.resized((48, 64)))
    update = book.apply(make_prediction(large), now=moment(0.75))
    ended = update.changes[-1]
    assert (ended.reason, ended.merged_into) == ("merged", update.tracks[0].uid)


def test_hiding_is_occluded_then_lost_then_recovered():
    told, _, _ = play([*seen(3), *seen(5, box=None), *seen(1)])
    assert told[2:] == [(3, "occluded"), (8, "recovered")]
    _, update, _ = play([*seen(3), *seen(5, box=None)])
    assert update.tracks[0].state == "lost"


@pytest.mark.parametrize(
    ("num_hidden", "state"), [(1, "occluded"), (3, "occluded"), (4, "lost"), (6, "lost")]
)
def test_what_is_hidden_is_lost_from_its_delay_on(num_hidden, state):
    _, update, _ = play([*seen(3), *seen(num_hidden, box=None)])
    assert [track.state.value for track in update.tracks] == [state]


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


@pytest.mark.parametrize("step_s", [0.1, 5.0])
def test_a_duplicate_is_merged_into_the_one_that_stays_whatever_the_pace(step_s):
    both = [make_observation(1), make_observation(2)]
    book = TrackBook(BookState.begin(KEY), CONFIG)
    first = book.apply(make_prediction(*both), now=moment(0.0))
    last = book.apply(make_prediction(both[0], ended=(2,)), now=moment(step_s))
    assert reasons(last)[-2:] == [("merged", None), ("ended", "merged")]
    assert {change.merged_into for change in last.changes[-2:]} == {first.tracks[0].uid}


def test_another_concept_in_the_same_place_is_no_heir():
    both = [make_observation(1), make_observation(2, concept="blue")]
    book = TrackBook(BookState.begin(KEY), CONFIG)
    book.apply(make_prediction(*both), now=moment(0.0))
    last = book.apply(make_prediction(both[0]), now=moment(0.1))
    assert reasons(last) == [("ended", "tracker")]


def test_a_track_is_called_what_its_concept_is_called_by_then():
    one = make_observation()
    _, update, _ = play([[one], [replace(one, concept="Emma")]])
    assert [(track.no, track.concept, track.concept_id) for track in update.tracks] == [
        (1, "Emma", "red")
    ]


@pytest.mark.parametrize(("unseen_s", "is_merged"), [(1.0, True), (1.1, False)])
def test_an_object_unseen_for_more_than_a_second_has_no_heir(unseen_s, is_merged):
    both = [make_observation(1), make_observation(2)]
    book = TrackBook(BookState.begin(KEY), CONFIG)
    book.apply(make_prediction(*both), now=moment(0.0))
    hidden = make_observation(2, box=None)
    book.apply(make_prediction(both[0], hidden), now=moment(unseen_s - 0.1))
    last = book.apply(make_prediction(both[0]), now=moment(unseen_s))
    assert reasons(last)[-1] == ("ended", "merged" if is_merged else "tracker")


def test_hiding_for_less_than_its_delay_is_nothing_to_tell():
    told, _, _ = play([*seen(6), *seen(1, box=None), *seen(1)], step_s=0.1)
    assert told == [(0, "started"), (5, "confirmed")]


def test_without_a_delay_what_is_seen_is_confirmed_and_what_is_hidden_occluded():
    config = replace_config(occluded_s=0.0)
    told, _, _ = play([*seen(4), *seen(1, box=None), *seen(1)], config=config)
    assert told[1:] == [(2, "confirmed"), (4, "occluded"), (5, "recovered")]


@pytest.mark.parametrize(
    ("num_frames", "is_complete", "is_confirmed"),
    [(1, True, True), (2, True, True), (1, False, False)],
)
def test_a_visit_too_short_to_confirm_anything_confirms_what_was_on_all_of_it(
    num_frames, is_complete, is_confirmed
):
    _, _, book = play(seen(num_frames), step_s=0.04)
    last = book.close("stream_ended", is_complete=is_complete)
    assert [track.state.value for track in last.tracks] == ["confirmed"] * is_confirmed
    assert reasons(last) == [("confirmed", None)] * is_confirmed + [("ended", "stream_ended")]


def reasons(update):
    return [(change.kind.value, change.reason) for change in update.changes]


@pytest.mark.parametrize(
    "change",
    [{"deployment": "e"}, {"stream_id": "b"}, {"stream_epoch": 1}, {"first_seq": 9},
     {"began_at": START.replace(year=2027)}],
)  # fmt: skip
def test_ids_are_repeatable_within_a_session_and_unique_between(change):
    uid = [play(seen(1), key=key)[1].tracks[0].uid for key in (KEY, KEY, replace(KEY, **change))]
    assert uid[0] == uid[1] != uid[2]


def test_ids_do_not_depend_on_the_number_that_people_see():
    books = [TrackBook(BookState.begin(KEY, first_no=number), CONFIG) for number in (1, 7)]
    tracks = [
        book.apply(make_prediction(make_observation()), now=moment(0.0)).tracks[0] for book in books
    ]
    assert [track.no for track in tracks] == [1, 7]
    assert tracks[0].uid == tracks[1].uid


def test_closing_ends_every_track_once():
    _, _, book = play([[make_observation(1), make_observation(2, box=(20, 10, 3, 3))]])
    ended = book.close("stream_ended").changes
    assert [(change.kind.value, change.reason) for change in ended] == [
        ("ended", "stream_ended")
    ] * 2
    assert book.close("stream_ended").changes == ()


def test_the_book_is_as_small_as_what_lives():
    book = TrackBook(BookState.begin(KEY), CONFIG)
    for number in range(500):
        book.apply(make_prediction(make_observation(number + 1)), now=moment(number * 0.1))
        assert len(book) == 1


def test_the_box_of_a_single_pixel():
    _, update, _ = play(seen(1, box=(31, 23, 1, 1)))
    assert update.tracks[0].bbox == (round(31 / 32, 5), round(23 / 24, 5), 1 / 32, round(1 / 24, 5))


def frames_at(masklets, times_s, *, same=()):
    """Feed lists of masklets at given seconds; return the kinds of change per frame."""
    book = TrackBook(BookState.begin(KEY), CONFIG)
    return [
        [
            change.kind.value
            for change in book.apply(
                make_prediction(*seen_now), now=moment(at_s), is_same_stamp=number in same
            ).changes
        ]
        for number, (seen_now, at_s) in enumerate(zip(masklets, times_s, strict=True))
    ]


def test_three_matched_frames_of_one_stamp_confirm():
    told = frames_at(seen(3), [0.0, 0.04, 0.08], same={1, 2})
    assert told == [["started"], [], ["confirmed"]]


@pytest.mark.parametrize(
    ("apart_s", "last"), [(0.26, ["confirmed"]), (0.25, []), (30.0, ["confirmed"])]
)
def test_three_matched_frames_confirm_if_they_lie_far_apart_though_little_was_observed(
    apart_s, last
):
    book, kinds = TrackBook(BookState.begin(KEY), CONFIG), []
    for number, masklets in enumerate(seen(3)):
        now = moment(number * apart_s, gap_s=number * (apart_s - 0.01))
        update = book.apply(make_prediction(*masklets), now=now)
        kinds.append([change.kind.value for change in update.changes])
    assert kinds == [["started"], [], last]


def test_unmatched_frames_do_not_count_among_the_three():
    masklets = [*seen(1), *seen(2, is_matched=False), *seen(1)]
    told = frames_at(masklets, [0.0, 0.04, 0.08, 0.12], same={1, 2, 3})
    assert told == [["started"], [], [], []]


def test_a_track_says_where_it_is_from_its_start_on():
    update = TrackBook(BookState.begin(KEY), CONFIG).apply(
        make_prediction(make_observation()), now=moment(0.0)
    )
    (started,) = update.changes
    for track in (started.track, *update.tracks):
        assert (track.is_visible, track.has_place) == (True, True)
        assert track.area == 20 / (24 * 32)
        assert track.mask.corners == (2, 3, 6, 8)


def test_tracks_are_listed_by_number():
    book = TrackBook(BookState.begin(KEY), CONFIG)
    book.apply(make_prediction(make_observation(7)), now=moment(0.0))
    update = book.apply(make_prediction(make_observation(3), make_observation(7)), now=moment(0.1))
    assert [track.no for track in update.tracks] == [1, 2]


def test_a_gap_counts_neither_as_seen_nor_as_unseen():
    book = TrackBook(BookState.begin(KEY), CONFIG)
    book.apply(make_prediction(make_observation()), now=moment(0.0))
    book.apply(make_prediction(make_observation(box=None)), now=moment(0.1))
    update = book.apply(make_prediction(make_observation()), now=moment(40.2, gap_s=40.0))
    (track,) = update.tracks
    assert (track.visible_us, track.age_us, track.unseen_us) == (100_000, 200_000, 0)


def test_an_object_unseen_for_long_has_no_place():
    config = replace_config(hidden_s=0.5)
    _, update, _ = play([*seen(3), *seen(2, box=None)], config=config)
    assert update.tracks[0].has_place
    _, update, _ = play([*seen(3), *seen(3, box=None)], config=config)
    assert not update.tracks[0].has_place


def test_a_masklet_that_comes_back_after_its_track_expired_gets_another_uid():
    book = TrackBook(BookState.begin(KEY), CONFIG)
    uids = []
    for number, masklets in enumerate([*seen(2), *seen(14, box=None), *seen(1)]):
        update = book.apply(make_prediction(*masklets), now=moment(number * 0.25))
        uids += [change.track.uid for change in update.changes if change.kind.value == "started"]
    assert len(set(uids)) == len(uids) == 2


def test_a_frame_that_raises_changes_nothing():
    book = TrackBook(BookState.begin(KEY), CONFIG)
    first = book.apply(make_prediction(make_observation(1)), now=moment(0.0))
    bad = replace(make_observation(2), mask=None)
    with pytest.raises(AttributeError):
        book.apply(make_prediction(make_observation(1), bad), now=moment(0.1))
    after = book.apply(make_prediction(make_observation(1)), now=moment(0.2))
    assert after.changes == ()
    assert after.tracks[0].uid == first.tracks[0].uid
    assert after.tracks[0].visible_us == 200_000


BOXES = st.none() | st.tuples(
    st.integers(0, 20), st.integers(0, 12), st.integers(1, 12), st.integers(1, 12)
)
STEPS = st.lists(
    st.tuples(
        st.integers(1, 2_000_000),
        st.dictionaries(st.integers(1, 5), st.tuples(BOXES, st.booleans()), max_size=5),
    ),
    max_size=30,
)


@given(STEPS)
def test_whatever_a_model_says_every_track_starts_once_and_ends_once(steps):
    book, now_us = TrackBook(BookState.begin(KEY), CONFIG), 0
    started, ended, living = [], [], set()
    for step_us, masklets in steps:
        now_us += step_us
        said = [
            make_observation(number, box=box, is_matched=is_matched)
            for number, (box, is_matched) in masklets.items()
        ]
        now = Moment(stream_us=now_us, observed_us=now_us)
        update = book.apply(make_prediction(*said), now=now)
        for change in update.changes:
            started += [change.track.uid] * (change.kind.value == "started")
            ended += [change.track.uid] * (change.kind.value == "ended")
        living = {track.uid for track in update.tracks}
        assert len(set(started)) == len(started)
        assert len(set(ended)) == len(ended)
        assert living == set(started) - set(ended)
        assert len(book) <= len(masklets)
        for track in update.tracks:
            assert 0 <= track.visible_us <= track.age_us
            assert (track.unseen_us == 0) or not track.is_visible
    assert {change.track.uid for change in book.close("stopped").changes} == living


def test_bookkeeping_of_many_objects_is_cheap():
    times = time_tracks(rounds=2)
    assert times.frame_ms <= 30
    assert times.ending_ms <= 50
