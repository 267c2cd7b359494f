"""Rules on tracks, without an engine."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.events.rules import machine
from pipeline.events.rules.appear import APPEAR, AppearRule
from pipeline.events.rules.catalogue import RULES
from pipeline.events.rules.disappear import DISAPPEAR, DisappearRule
from pipeline.events.rules.dwell import DwellRule
from pipeline.events.rules.enter import EnterRule
from pipeline.events.rules.leave import LeaveRule
from pipeline.events.rules.machine import RuleBook
from pipeline.events.zones import ZoneConfig
from pipeline.streams.clock import WallTime, to_us
from pipeline.tracking.states import TrackChangeKind, TrackState
from pipeline.tracking.track import TrackChange, TrackUpdate
from tests.pipeline.fakes import START, make_track, moment

RIGHT = ZoneConfig(name="right", polygon=((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))
LEFT_SIDE, RIGHT_SIDE = (0.2, 0.5), (0.8, 0.5)


def play(rule, steps, *, step_s=0.5, reason="expired"):
    """Run a rule over tracks, one step each; a list holds several, ``None`` ends the last one."""
    book, said, last = RuleBook([rule], [RIGHT]), [], None
    for number, step in enumerate(steps):
        changes = ()
        if step is None:
            ended = TrackChange(kind=TrackChangeKind.ENDED, track=last, reason=reason)
            changes, tracks = (ended,), ()
        else:
            tracks, last = (step,), step
        update = TrackUpdate(tracks=tracks, changes=changes)
        events = book.apply(update, now=moment(number * step_s), utc_of=utc_of).events
        said += [(number, event.phase.value, event.end_reason) for event in events]
    return said, book


def utc_of(stream_us):
    return START + timedelta(microseconds=stream_us)


def at(*centers):
    return [make_track(center=center) for center in centers]


def test_appear_begins_updates_and_ends_with_its_track():
    rule = AppearRule(type="appear", name="r", update_every_s=1.0)
    said, book = play(rule, [*at(*[LEFT_SIDE] * 4), None])
    assert said == [(0, "new", None), (2, "update", None), (4, "end", "expired")]
    assert len(book) == 0


@pytest.mark.parametrize(("accepts", "first"), [("tentative", 0), ("confirmed", 2)])
def test_a_rule_chooses_from_which_state_on_it_believes(accepts, first):
    rule = AppearRule(type="appear", name="r", accepts=accepts)
    tentative = [make_track(state=TrackState.TENTATIVE)] * 2
    said, _ = play(rule, [*tentative, make_track()])
    assert said[0] == (first, "new", None)


def test_a_rule_leaves_other_concepts_alone():
    rule = AppearRule(type="appear", name="r", concepts=("cow",))
    assert play(rule, [make_track(concept="deer")])[0] == []


def test_disappear_waits_and_ends_when_seen_again():
    rule = DisappearRule(type="disappear", name="r", after_s=1.0)
    hidden = make_track(unseen_s=0.1, state=TrackState.OCCLUDED)
    said, _ = play(rule, [make_track(), hidden, hidden, hidden, make_track()])
    assert said == [(3, "new", None), (4, "end", "seen_again")]


def test_disappear_tells_of_a_track_that_ended_before_the_wait_was_over():
    rule = DisappearRule(type="disappear", name="r", after_s=60.0)
    said, _ = play(rule, [make_track(), None])
    assert said == [(1, "new", None), (1, "end", "expired")]


@pytest.mark.parametrize(
    ("reason", "is_told"),
    [
        ("tracker", True),
        ("merged", False),
        ("discontinuity", False),
        ("stream_ended", False),
        ("stopped", False),
        ("model_error", False),
    ],
)
def test_a_visible_track_disappears_only_if_its_object_went(reason, is_told):
    rule = DisappearRule(type="disappear", name="r", after_s=60.0)
    said, book = play(rule, [make_track(), None], reason=reason)
    assert said == ([(1, "new", None), (1, "end", reason)] if is_told else [])
    assert len(book) == 0
    hidden = make_track(unseen_s=0.1, state=TrackState.OCCLUDED)
    said, _ = play(rule, [make_track(), hidden, None], reason=reason)
    assert said == ([(2, "new", None), (2, "end", reason)] if is_told else [])


def test_enter_believes_a_crossing_after_settling():
    rule = EnterRule(type="enter", name="r", zone="right", settle_s=1.0, update_every_s=0)
    steps = at(LEFT_SIDE, RIGHT_SIDE, LEFT_SIDE, *[RIGHT_SIDE] * 3, LEFT_SIDE, *[LEFT_SIDE] * 2)
    said, _ = play(rule, steps)
    assert said == [(5, "new", None), (8, "end", "left_zone")]


def test_enter_is_not_fooled_by_hiding():
    rule = EnterRule(type="enter", name="r", zone="right", settle_s=0.0, update_every_s=0)
    hidden = make_track(center=LEFT_SIDE, unseen_s=0.5)
    said, _ = play(rule, [*at(LEFT_SIDE, RIGHT_SIDE), hidden, hidden, *at(RIGHT_SIDE)])
    assert said == [(1, "new", None)]


def test_leave_needs_to_have_been_inside():
    rule = LeaveRule(type="leave", name="r", zone="right", settle_s=0.0)
    assert play(rule, at(*[LEFT_SIDE] * 5))[0] == []
    said, _ = play(rule, at(LEFT_SIDE, RIGHT_SIDE, LEFT_SIDE, LEFT_SIDE, RIGHT_SIDE))
    assert said == [(2, "new", None), (4, "end", "came_back")]


def test_dwell_speaks_only_after_its_time():
    rule = DwellRule(type="dwell", name="r", zone="right", dwell_s=1.5, settle_s=0.0)
    assert play(rule, at(*[RIGHT_SIDE] * 3, LEFT_SIDE))[0] == []
    said, _ = play(rule, at(*[RIGHT_SIDE] * 5, LEFT_SIDE))
    assert said == [(3, "new", None), (5, "end", "left_zone")]


def test_the_first_event_says_since_when():
    rule = DwellRule(type="dwell", name="r", zone="right", dwell_s=1.0)
    book = RuleBook([rule], [RIGHT])
    track = make_track(center=RIGHT_SIDE)
    for time_s in (10.0, 10.5, 11.0):
        update = TrackUpdate(tracks=(track,), changes=())
        events = book.apply(update, now=moment(time_s), utc_of=utc_of).events
    assert (events[0].start, events[0].value) == (moment(10.0), {"dwell_s": 1.0})


def test_state_goes_with_its_track():
    rules = [AppearRule(type="appear", name="a"), EnterRule(type="enter", name="b", zone="right")]
    book = RuleBook(rules, [RIGHT])
    for number in range(200):
        track = make_track(number)
        update = TrackUpdate(tracks=(track,), changes=())
        book.apply(update, now=moment(number), utc_of=utc_of)
        ended = TrackChange(kind=TrackChangeKind.ENDED, track=track)
        update = TrackUpdate(tracks=(), changes=(ended,))
        book.apply(update, now=moment(number + 0.5), utc_of=utc_of)
        assert len(book) == 0


def watch(rule, steps, *, late_us=0):
    """Run a rule over (moment, track) steps; the wall clock is set by ``late_us`` after the first.

    Returns all updates of the rules.
    """
    book, updates = RuleBook([rule], [RIGHT]), []
    for number, (now, track) in enumerate(steps):
        zero = START + timedelta(microseconds=late_us if number else 0)
        update = TrackUpdate(tracks=(track,), changes=())
        updates.append(book.apply(update, now=now, utc_of=WallTime(zero_us=to_us(zero)).utc_of))
    return updates


def test_leave_is_armed_only_by_a_stay_in_one_piece():
    rule = LeaveRule(type="leave", name="r", zone="right", settle_s=1.0)
    pieces = at(RIGHT_SIDE, LEFT_SIDE, RIGHT_SIDE, RIGHT_SIDE, *[LEFT_SIDE] * 5)
    assert play(rule, pieces)[0] == []
    whole = at(*[RIGHT_SIDE] * 3, *[LEFT_SIDE] * 3)
    assert play(rule, whole)[0] == [(5, "new", None)]


def test_delays_and_durations_count_observed_time_and_gaps_are_stated():
    rule = DwellRule(type="dwell", name="r", zone="right", dwell_s=1.0, update_every_s=0.5)
    track = make_track(center=RIGHT_SIDE)
    steps = [moment(0.0), moment(0.5), moment(45.9, gap_s=45.0), moment(46.0, gap_s=45.0),
             moment(46.5, gap_s=45.0)]  # fmt: skip
    said = [update.events for update in watch(rule, [(now, track) for now in steps])]
    assert [len(events) for events in said] == [0, 0, 0, 1, 1]
    (new,), (update,) = said[3:]
    assert (new.value, new.gap_us, new.start) == ({"dwell_s": 1.0}, 45_000_000, moment(0.0))
    assert (update.value, update.phase.value) == ({"dwell_s": 1.5}, "update")


def test_start_time_is_the_same_in_all_phases_and_no_event_ends_before_it():
    rule = EnterRule(type="enter", name="r", zone="right", settle_s=0.0, update_every_s=0.1)
    places = [RIGHT_SIDE, RIGHT_SIDE, LEFT_SIDE]
    steps = [(moment(number), make_track(center=place)) for number, place in enumerate(places)]
    # The source's clock is set back by an hour after the first frame.
    said = watch(rule, steps, late_us=-3_600_000_000)
    events = [event for update in said for event in update.events]
    assert [event.phase.value for event in events] == ["new", "update", "end"]
    assert {event.started_at for event in events} == {START}
    assert [event.ended_at for event in events] == [None, None, START]


def test_events_of_one_track_are_numbered():
    rule = EnterRule(type="enter", name="r", zone="right", settle_s=0.0, update_every_s=0)
    places = [RIGHT_SIDE, LEFT_SIDE, RIGHT_SIDE, LEFT_SIDE]
    steps = [(moment(number), make_track(center=place)) for number, place in enumerate(places)]
    events = [event for update in watch(rule, steps) for event in update.events]
    assert [event.ordinal for event in events] == [1, 1, 2, 2]


def test_a_condition_that_raises_costs_its_own_events_of_that_track_and_frame(monkeypatch):
    def ask(track):
        if track.no >= 13:
            raise ZeroDivisionError("thirteen" if track.no == 13 else "more")
        return True

    odd = replace(APPEAR, condition=lambda _config, _zones: ask)
    monkeypatch.setattr(machine, "kind_of", lambda config: {
        "odd": odd, "good": APPEAR}[config.name])  # fmt: skip
    rules = [AppearRule(type="appear", name=name) for name in ("odd", "good")]
    book = RuleBook(rules, [])

    def step(number, *tracks):
        update = TrackUpdate(tracks=tracks, changes=())
        return book.apply(update, now=moment(number), utc_of=utc_of)

    first = step(0, make_track(1), make_track(13), make_track(2), make_track(14))
    assert [(event.rule, event.track.no) for event in first.events] == [
        ("odd", 1), ("odd", 2), ("good", 1), ("good", 13), ("good", 2), ("good", 14),
    ]  # fmt: skip
    (failure,) = first.failures
    assert (failure.rule, str(failure.error)) == ("odd", "thirteen")
    second = step(1, make_track(1))
    assert (second.events, second.failures) == ((), ())
    ended = TrackChange(kind=TrackChangeKind.ENDED, track=make_track(13), reason="expired")
    last = book.apply(TrackUpdate(tracks=(), changes=(ended,)), now=moment(2), utc_of=utc_of)
    assert [(event.rule, event.phase.value) for event in last.events] == [("good", "end")]


def test_a_rule_that_raises_at_the_end_of_a_track_costs_its_own_events_of_it_alone(monkeypatch):
    def last_word(track, _reason):
        if track.no == 13:
            raise ZeroDivisionError("thirteen")
        return track.last_seen

    kind = replace(DISAPPEAR, begins_when_ended=last_word)
    monkeypatch.setattr(machine, "kind_of", lambda config: {
        "odd": kind, "good": DISAPPEAR}[config.name])  # fmt: skip
    rules = [DisappearRule(type="disappear", name=name, after_s=60.0) for name in ("odd", "good")]
    book, tracks = RuleBook(rules, []), [make_track(no) for no in (13, 2)]
    book.apply(TrackUpdate(tracks=tuple(tracks), changes=()), now=moment(0), utc_of=utc_of)
    ended = tuple(
        TrackChange(kind=TrackChangeKind.ENDED, track=track, reason="expired") for track in tracks
    )
    last = book.apply(TrackUpdate(tracks=(), changes=ended), now=moment(1), utc_of=utc_of)
    assert [(event.rule, event.track.no, event.phase.value) for event in last.events] == [
        ("odd", 2, "new"), ("odd", 2, "end"),
        ("good", 13, "new"), ("good", 13, "end"), ("good", 2, "new"), ("good", 2, "end"),
    ]  # fmt: skip
    (failure,) = last.failures
    assert (failure.rule, str(failure.error)) == ("odd", "thirteen")
    assert len(book) == 0


def test_every_rule_has_a_name_of_its_own():
    names = [kind.name for kind in RULES]
    assert len(set(names)) == len(names)
    assert names == ["appear", "disappear", "enter", "leave", "dwell"]


def test_rules_that_change_often_leave_one_entry_a_name_and_no_number_twice():
    """A track that stands for long sees many changes."""
    book, seen = RuleBook([AppearRule(type="appear", name="r")], [RIGHT]), []
    track = make_track()
    for number in range(50):
        update = TrackUpdate(tracks=(track,), changes=())
        found = book.apply(update, now=moment(number), utc_of=utc_of).events
        seen += [(event.phase.value, event.ordinal) for event in found]
        rule = AppearRule(type="appear", name="r", update_every_s=float(number))
        book = RuleBook([rule], [RIGHT], book.state)
        assert len(book.state.former) <= 2
    begun = [ordinal for phase, ordinal in seen if phase == "new"]
    assert begun == list(range(1, 51))
    assert [ordinal for phase, ordinal in seen if phase == "end"] == begun[:-1]


def test_a_rule_that_comes_back_goes_on_with_its_numbers():
    rule = AppearRule(type="appear", name="r")
    update, ordinals = TrackUpdate(tracks=(make_track(),), changes=()), []
    book = RuleBook([rule], [RIGHT])
    for number, rules in enumerate(([], [], [rule], [])):
        found = book.apply(update, now=moment(number), utc_of=utc_of).events
        ordinals += [event.ordinal for event in found if event.phase.value == "new"]
        book = RuleBook(rules, [RIGHT], book.state)
    assert ordinals == [1, 2]
