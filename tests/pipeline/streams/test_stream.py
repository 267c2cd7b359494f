"""One stream from frames and predictions to results, without an engine."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.events.rules import machine
from pipeline.events.rules.catalogue import kind_of
from pipeline.events.rules.disappear import DISAPPEAR
from tests.pipeline.fakes import START, make_frame
from tests.pipeline.streams.player import NOW, SEEN, Player, red


def phases(player):
    return [event.phase.value for event in player.events]


@pytest.mark.parametrize("is_live", [False, True])
def test_a_new_connection_within_the_gap_ends_nothing_and_raises_nothing(is_live):
    player = Player(is_live=is_live)
    player.play(*[red(i) for i in range(10)])
    player.play(*[red(10 + i, epoch=1, at_s=46 + i / 10) for i in range(10)])
    assert player.changes == [("started", None), ("confirmed", None)]
    assert phases(player) == ["new"]
    (track,) = player.results[-1].scene.tracks
    assert track.age_us == 1_900_000 + 100_000 - 100_000
    assert (track.now.stream_us, track.now.gap_us_since(track.first_seen)) == (
        46_900_000,
        45_000_000,
    )


@pytest.mark.parametrize("is_live", [False, True])
def test_a_gap_above_the_limit_ends_the_session_at_its_last_frame(is_live):
    player = Player(is_live=is_live, session_gap_s=20)
    player.play(*[red(i) for i in range(10)])
    player.play(*[red(10 + i, at_s=3600 + i / 10) for i in range(10)])
    ended = player.results[10]
    assert ended.scene is None
    assert (ended.stamp.frame_seq, ended.position) == (9, None)
    assert player.changes == [
        ("started", None), ("confirmed", None), ("ended", "discontinuity"),
        ("started", None), ("confirmed", None),
    ]  # fmt: skip
    end = next(event for event in player.events if event.phase.value == "end")
    assert end.ended_at == START + timedelta(seconds=0.9)
    assert end.gap_us == 0
    assert [track.no for track in player.results[-1].scene.tracks] == [2]
    assert player.events[-1].started_at == START + timedelta(hours=1, seconds=0.5)


@pytest.mark.parametrize("size", [(20, 40), (32, 24), (24, 33)])
def test_another_aspect_ratio_begins_a_session(size):
    player = Player()
    player.play(red(0), red(1))
    assert not player.admit(red(2)).begins_session
    assert player.admit(red(3, size=size)).begins_session
    assert player.results[-1].changes[-1].reason == "discontinuity"


@pytest.mark.parametrize("size", [(48, 64), (47, 64), (12, 16)])
def test_another_size_of_the_same_view_rescales_masks_and_ends_nothing(size):
    player = Player()
    player.play(*[red(i) for i in range(10)])
    assert not player.admit(red(10, size=size)).begins_session
    ((_, life),) = player.stream.snapshot().session.book.lives.items()
    assert life.track.last_mask.size_hw == size
    assert life.track.last_mask.bbox == pytest.approx(life.track.bbox, abs=0.06)
    player.play(red(11, size=size), red(12))
    assert player.changes == [("started", None), ("confirmed", None)]
    assert phases(player) == ["new"]
    assert [one.stream_time_us for one in (r.stamp for r in player.results)][-1] == 1_200_000


def test_a_gap_ends_the_session_whatever_the_size_is_behind_it():
    player = Player(session_gap_s=20)
    player.play(*[red(i) for i in range(10)])
    player.play(red(10, at_s=3600, size=(48, 64)))
    ended = player.results[10].changes[-1]
    assert (ended.reason, ended.track.last_mask.size_hw) == ("discontinuity", (24, 32))


def test_a_session_that_was_ended_begins_anew_with_the_next_frame():
    player = Player()
    player.play(*[red(i) for i in range(8)])
    first = player.results[-1].scene.tracks[0]
    ended = player.end("model_error")
    assert [change.reason for change in ended.changes] == ["model_error"]
    assert player.end("model_error") is None
    assert player.admit(red(8)).begins_session
    second = player.play(red(9)).scene.tracks[0]
    assert second.uid != first.uid
    assert (second.no, player.stream.last_stamp.frame_seq) == (2, 9)


def test_a_result_says_which_frame_it_is_about():
    player = Player()
    result = player.play(red(0), replace(red(1), position={"index": 2}, pts_us=77))
    assert result.position == {"index": 2}
    assert (result.stamp.stream_time_us, result.stamp.pts_us) == (100_000, 77)
    assert (result.model, result.result_time) == ("blobs", NOW)


def test_a_result_bears_its_frame_but_none_at_the_end_of_a_session():
    player, frame = Player(), red(0)
    assert player.play(frame).frame is frame
    ended = player.end()
    assert (ended.frame, ended.tracks) == (None, ())


def test_a_frame_without_a_session_is_refused():
    player = Player()
    admission = player.admit(red(0))
    player.end("stopped")
    (prediction,) = player.tracker.step([admission.model_input])
    with pytest.raises(RuntimeError, match="no session"):
        player.stream.apply(admission, prediction, now=NOW, dropped_since_last=0)


def test_the_model_gets_observed_time():
    player = Player()
    player.play(*[red(i) for i in range(5)])
    admission = player.admit(red(5, at_s=40.4))
    assert admission.tick.gap_us == 39_900_000
    assert admission.model_input.time_s == 0.5


def test_numbers_go_on_from_the_first_over_all_sessions_and_do_not_change_ids():
    tracks = []
    for first_no in (1, 7):
        player = Player(first_no=first_no, session_gap_s=10)
        player.play(red(0, at_s=0), red(1, at_s=60))
        tracks.append([track for result in player.results for track in result.tracks])
    assert [track.no for track in tracks[1]] == [7, 8]
    assert [track.uid for track in tracks[1]] == [track.uid for track in tracks[0]]


def test_a_rule_that_raises_at_the_end_of_a_session_costs_its_own_events_alone(monkeypatch):
    def no_last_word(_track, _reason):
        raise ZeroDivisionError("a bug")

    odd = replace(DISAPPEAR, begins_when_ended=no_last_word)
    monkeypatch.setattr(
        machine, "kind_of", lambda config: odd if config.name == "odd" else kind_of(config)
    )
    player = Player(rules=({"type": "disappear", "name": "odd", "after_s": 60}, SEEN), confirm_s=0)
    player.play(red(0), red(1))
    ended = player.end("removed")
    assert [failure.rule for failure in ended.rule_failures] == ["odd"]
    assert [(event.rule, event.phase.value) for event in ended.events] == [("seen", "end")]
    assert [change.reason for change in ended.changes] == ["removed"]


def test_captions_stay_for_three_seconds_and_go_with_the_session():
    player = Player(occluded_s=0)
    player.play(*[red(i) for i in range(6)])
    assert player.results[-1].scene.captions == ("appear: red #1",)
    assert player.play(*[red(i) for i in range(6, 36)]).scene.captions == ("appear: red #1",)
    assert player.play(red(36)).scene.captions == ()


def test_captions_of_a_session_are_not_on_the_pictures_of_the_next():
    player = Player()
    player.play(*[red(i) for i in range(6)])
    assert player.results[-1].scene.captions == ("appear: red #1",)
    player.end()
    assert player.play(red(6)).scene.captions == ()


def test_three_pictures_of_one_second_confirm_what_is_on_all_of_them():
    player = Player()
    player.play(*[red(i, at_s=0) for i in range(3)])
    assert player.changes == [("started", None), ("confirmed", None)]
    assert phases(player) == ["new"]


@pytest.mark.parametrize(
    ("reason", "num_frames", "is_confirmed"),
    [("stream_ended", 1, True), ("stream_ended", 2, True), ("stopped", 1, False),
     ("model_error", 1, False)],
)  # fmt: skip
def test_a_visit_of_one_or_two_pictures_is_told_when_it_is_over(reason, num_frames, is_confirmed):
    player = Player()
    player.play(*[red(i, at_s=0) for i in range(num_frames)])
    player.end(reason)
    assert (("confirmed", None) in player.changes) is is_confirmed
    assert phases(player) == (["new", "end"] if is_confirmed else [])
    assert player.changes[-1] == ("ended", reason)


def test_what_is_missing_on_one_of_two_pictures_is_not_confirmed_at_the_end():
    player = Player()
    player.play(red(0, at_s=0), make_frame(1))
    player.end()
    assert ("confirmed", None) not in player.changes


@pytest.mark.parametrize("fps", [10, 25, 30])
def test_a_delay_ends_on_the_same_frame_at_98_times_of_the_epoch(fps):
    rule = {"type": "enter", "name": "in", "zone": "all", "settle_s": 0.3, "accepts": "tentative"}
    first = set()
    for number in range(98):
        player = Player(rules=[rule])
        began_s = number * 86_399.7
        player.play(*[red(i, at_s=began_s + i / fps) for i in range(12)])
        first.add(next(i for i, result in enumerate(player.results) if result.events))
    assert first == {{10: 3, 25: 8, 30: 9}[fps]}
