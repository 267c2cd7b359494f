"""From results to records."""

from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from connectors.frame import KafkaOrigin, MediaOrigin
from connectors.record import Record, Topic
from pipeline.records.schema import (
    EventRecord,
    MaskletsRecord,
    Subject,
    TrackRecord,
)
from pipeline.records.translate import Unencodable, encode_result, to_models, to_overlays
from pipeline.tracking.states import TrackState
from tests.benchmarks.records import time_records
from tests.pipeline.fakes import make_frame, make_track
from tests.pipeline.streams.player import SEEN, Player, red

DWELL = {"type": "dwell", "name": "stays", "zone": "all", "dwell_s": 0.4, "settle_s": 0.0,
         "update_every_s": 0.2}  # fmt: skip


def records(player, kind):
    return [one for result in player.results for one in to_models(result) if type(one) is kind]


def test_records_of_a_frame_carry_its_time():
    player = Player()
    player.play(*[red(i) for i in range(7)])
    player.end()
    for kind in (MaskletsRecord, TrackRecord, EventRecord):
        assert {(one.stream_time_us, one.frame_seq) for one in records(player, kind)} <= {
            (i * 100_000, i) for i in range(7)
        }
    assert [one.stream_time_us for one in records(player, MaskletsRecord)] == [
        i * 100_000 for i in range(7)
    ]


def test_an_event_keeps_its_id_and_start_and_the_next_one_has_another():
    away = [make_frame(i, blobs={"red": (26, 18)}) for i in range(8, 10)]
    zone = {"name": "all", "polygon": [(0, 0), (0.7, 0), (0.7, 1), (0, 1)]}
    player = Player(rules=[DWELL | {"accepts": "tentative"}], zone=zone)
    player.play(*[red(i) for i in range(8)], *away, *[red(i) for i in range(10, 16)])
    events = records(player, EventRecord)
    assert [event.phase.value for event in events] == ["new", "update", "end", "new"]
    assert len({event.event_id for event in events[:3]}) == 1
    assert len({event.start_time for event in events[:3]}) == 1
    assert events[3].event_id != events[0].event_id
    assert [event.sequence for event in events] == [0, 1, 2, 0]
    assert all(event.subjects == (Subject(type="track", id=event.track_uid),) for event in events)
    assert events[2].end_time > events[2].start_time


@pytest.mark.parametrize(
    ("found", "written"), [(0.123456, 0.1235), (-1e-9, 0.0), (1 + 1e-9, 1.0), (0.5, 0.5)]
)
def test_scores_are_rounded_and_never_a_hair_beyond_their_range(found, written):
    player = Player()
    result = player.play(red(0))
    scene = replace(result.scene, tracks=(replace(result.tracks[0], score=found),))
    found = to_models(replace(result, scene=scene))
    (record,) = (one for one in found if isinstance(one, MaskletsRecord))
    assert record.objects[0].score == written


def test_ages_are_written_in_seconds():
    player = Player()
    player.play(*[red(i) for i in range(8)], *[make_frame(i) for i in range(8, 11)])
    player.end()
    things = [one.objects[0] for one in records(player, MaskletsRecord)]
    assert [thing.age_s for thing in things] == [i / 10 for i in range(11)]
    assert [thing.last_seen_s for thing in things] == [0.0] * 8 + [0.1, 0.2, 0.3]
    last = records(player, TrackRecord)[-1]
    assert (last.kind.value, last.age_s, last.visible_s) == ("ended", 1.0, 0.7)


def test_time_that_was_not_observed_is_stated():
    player = Player(rules=[DWELL])
    player.play(*[red(i) for i in range(10)], red(10, at_s=31.05), red(11, at_s=31.2))
    events = records(player, EventRecord)
    assert events[0].gap_s is None
    assert events[-1].gap_s == 30.05
    assert events[-1].value == {"dwell_s": 0.65}


def test_an_object_unseen_for_long_is_in_no_zone():
    player = Player(hidden_s=0.5)
    player.play(*[red(i) for i in range(8)], *[make_frame(i) for i in range(8, 16)])
    things = [one.objects[0] for one in records(player, MaskletsRecord)]
    assert [thing.zones for thing in things] == [("all",)] * 13 + [()] * 3
    sights = ["visible"] * 8 + ["hidden"] * 5 + ["unknown"] * 3
    assert [str(thing.sight) for thing in things] == sights


@pytest.mark.parametrize(
    ("origin", "ref"),
    [
        (None, None),
        (
            KafkaOrigin(topic="frames", partition=2, offset=7),
            {"topic": "frames", "partition": 2, "offset": 7},
        ),
        (MediaOrigin(media="a.mp4", frame_index=3), {"media": "a.mp4", "frame_index": 3}),
    ],
)
def test_records_name_the_input_that_a_frame_was(origin, ref):
    player = Player()
    player.play(replace(red(0), origin=origin))
    refs = [one.source_ref for one in to_models(player.results[-1])]
    assert len(refs) >= 2
    assert [one and one.model_dump(exclude_none=True) for one in refs] == [ref] * len(refs)


def test_a_record_that_cannot_be_made_harms_no_other():
    player = Player(rules=[SEEN | {"accepts": "tentative"}])
    result = player.play(red(0))
    track = replace(result.tracks[0], bbox=(float("nan"), 0, 0, 0))
    scene = replace(result.scene, tracks=(track,))
    encoded = list(encode_result(replace(result, scene=scene), deployment="d"))
    assert [type(one) for one in encoded] == [Unencodable, Record, Record]
    assert [one.topic for one in encoded[1:]] == [Topic.TRACKS, Topic.EVENTS]
    assert (encoded[0].stream_id, encoded[0].thing) == ("cam", (track,))
    assert "finite number" in str(encoded[0].error)


# pycocotools' decoder is older than numpy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_are_what_other_programs_read():
    player = Player()
    player.play(red(0))
    (thing,) = records(player, MaskletsRecord)[0].objects
    rle = {"size": list(thing.mask.size), "counts": thing.mask.counts}
    expected = np.zeros((24, 32), np.uint8)
    expected[8:14, 8:14] = 1
    assert np.array_equal(coco_mask.decode(rle), expected)


def test_writing_a_frame_down_is_cheap():
    assert time_records() <= 3.0  # 1.1 ms on an idle core


def test_all_tracks_but_those_out_of_sight_for_long_are_drawn():
    seen = make_track(1)
    hidden = make_track(2, state=TrackState.OCCLUDED, unseen_s=1.0)
    lost = make_track(3, state=TrackState.LOST, unseen_s=9.0)
    drawn = to_overlays([seen, hidden, lost])
    assert [(one.number, one.is_occluded) for one in drawn] == [(1, False), (2, True)]
