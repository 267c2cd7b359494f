"""Keeps what a tracker said about one clip: overlaps, areas, identities, and the masks."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from connectors.world.compose import WorldFrame, WorldObject
from models.common.masks import CropMask
from pipeline.lab.evaluation.held_out import is_counted, rest_on_ignored
from pipeline.lab.metrics.hota import FrameOverlap
from pipeline.lab.metrics.overlap import (
    SCORE_THRESHOLD,
    Floats,
    Mask,
    assign,
    iou_from_counts,
    iou_matrix,
    overlap_counts,
)
from pipeline.lab.metrics.recovery import AWAY, Moment, Recovery, find_recoveries, showing_of
from pipeline.lab.metrics.teta import CategoryClip
from pipeline.tracking.track import Track

_SAME_IOU = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskCounts:
    """What went right and wrong frame by frame, at overlap 0.5 (CLEAR MOT, on masks).

    Attributes:
        truth_masks: Counted objects, summed over frames.
        missed_masks: Those without a track of their concept on them.
        false_masks: Tracks without an object of their concept, ignored objects included.
        id_switches: Times an object was found by another track than the last time.
        tracks: Those seen on enough frames to count.
        false_tracks: Tracks that were on no object of their concept on any frame.
    """

    truth_masks: int = 0
    missed_masks: int = 0
    false_masks: int = 0
    id_switches: int = 0
    tracks: int = 0
    false_tracks: int = 0

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """Add counts up."""
        listed = list(parts)
        return cls(
            **{
                field.name: sum(int(getattr(part, field.name)) for part in listed)
                for field in fields(cls)
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptVolume:
    """Tracks and objects of one concept over a whole clip.

    Attributes:
        track_nos: Rows: every track that ever showed, P.
        object_ids: Columns: objects counted on at least one frame, T.
        ious: Volume IoU, sum of intersections over sum of unions, shape (P, T).
        judged_ious: The rows of ``ious`` that answer the question: tracks whose best score
            reached the threshold and that do not rest on an object that never counts.
    """

    track_nos: tuple[int, ...]
    object_ids: tuple[int, ...]
    ious: Floats
    judged_ious: Floats


class ClipLedger:
    """Entries of one clip, frame after frame; memory grows by a byte per pixel of the masks' boxes.

    Every track's concept must be among the phrases given at the start.
    """

    def __init__(self, concept_of_phrase: Mapping[str, str]) -> None:
        self._concept_of_phrase = dict(concept_of_phrase)
        self._masks: list[dict[int, CropMask]] = []
        self._shared: Counter[tuple[int, int]] = Counter()
        self._track_area: Counter[int] = Counter()
        self._object_area: Counter[int] = Counter()
        self._frames_seen: Counter[int] = Counter()
        self._best_score: dict[int, float] = {}
        self._tracks: dict[str, set[int]] = defaultdict(set)
        self._objects: dict[str, set[int]] = defaultdict(set)
        self._counted: set[int] = set()
        self._last_track: dict[int, int] = {}
        self._true_tracks: set[int] = set()
        self._tally: Counter[str] = Counter()
        self._overlaps: list[FrameOverlap] = []
        self._concept_of_object: dict[int, str] = {}
        self._moments: dict[int, list[Moment]] = {}

    @property
    def phrases(self) -> tuple[str, ...]:
        """What the tracker is to look for."""
        return tuple(self._concept_of_phrase)

    @property
    def concepts(self) -> tuple[str, ...]:
        """What the phrases name."""
        return tuple(self._concept_of_phrase.values())

    def add(self, frame: WorldFrame, tracks: Sequence[Track]) -> None:
        """Enter the next frame's truth and tracks."""
        shown = [seen for seen in tracks if seen.is_visible]
        self._masks.append({seen.no: seen.last_mask for seen in shown})
        neutral: set[int] = set()
        found: dict[int, int] = {}
        for concept in self._concept_of_phrase.values():
            mine = [seen for seen in shown if self._concept_of_phrase[seen.concept] == concept]
            things = [thing for thing in frame.objects if thing.concept == concept]
            self._add_volume(concept, mine, things)
            neutral |= self._add_identities(mine, things, found)
        self._add_moments(frame.objects, found)
        self._add_overlap([seen for seen in shown if seen.no not in neutral], frame)

    def mask(self, index: int, track_no: int) -> Mask | None:
        """Return a track's mask on frame ``index``, shape (H, W), if it showed there."""
        mask = self._masks[index].get(track_no)
        return None if mask is None else mask.full()

    def volume_of(self, concept: str, *, confirm_frames: int) -> ConceptVolume:
        """Sum a concept's overlaps up over the frames entered so far."""
        rows = sorted(self._tracks[concept])
        counted = sorted(self._objects[concept] & self._counted)
        ignored = sorted(self._objects[concept] - self._counted)
        ious = self._volume_ious(rows, counted)
        on_counted = ious.max(1, initial=0.0)
        on_ignored = self._volume_ious(rows, ignored).max(1, initial=0.0)
        is_judged = [
            self._is_track(row, confirm_frames)
            and self._best_score[row] >= SCORE_THRESHOLD
            and not (on_ignored[place] >= _SAME_IOU and on_ignored[place] > on_counted[place])
            for place, row in enumerate(rows)
        ]
        return ConceptVolume(
            track_nos=tuple(rows),
            object_ids=tuple(counted),
            ious=ious,
            judged_ious=ious[np.array(is_judged, dtype=np.bool_)],
        )

    def category_clip(self, *, confirm_frames: int) -> CategoryClip:
        """Return all overlaps so far, of tracks that answer; a concept is a category by its place.

        Tracks that rest on an ignored object are neither right nor wrong on that frame.
        """
        places = {name: place for place, name in enumerate(self.concepts)}
        tracks = {
            row: place
            for concept, place in places.items()
            for row in self._tracks[concept]
            if self._is_track(row, confirm_frames) and self._best_score[row] >= SCORE_THRESHOLD
        }
        return CategoryClip(
            frames=[
                frame.only(predicted=np.isin(frame.predicted, list(tracks)))
                for frame in self._overlaps
            ],
            predicted_categories=tracks,
            truth_categories={thing: places[c] for thing, c in self._concept_of_object.items()},
        )

    def counts(self, *, confirm_frames: int) -> MaskCounts:
        """Return the counts of the frames entered so far."""
        tracks = {row for row in self._frames_seen if self._is_track(row, confirm_frames)}
        return MaskCounts(
            truth_masks=self._tally["truth"],
            missed_masks=self._tally["missed"],
            false_masks=self._tally["false"],
            id_switches=self._tally["switch"],
            tracks=len(tracks),
            false_tracks=len(tracks - self._true_tracks),
        )

    def recoveries(self, *, fps: float, clip: int) -> list[Recovery]:
        """Return every time so far that an object was hidden whole and showed again."""
        return [
            event
            for object_id, moments in sorted(self._moments.items())
            for event in find_recoveries(moments, fps=fps, clip=clip, object_id=object_id)
        ]

    def _is_track(self, track_no: int, confirm_frames: int) -> bool:
        return self._frames_seen[track_no] >= confirm_frames

    def _add_overlap(self, shown: Sequence[Track], frame: WorldFrame) -> None:
        counted = [
            thing for thing in frame.objects if is_counted(thing) and thing.concept in self.concepts
        ]
        self._concept_of_object |= {thing.object_id: thing.concept for thing in counted}
        self._overlaps.append(
            FrameOverlap(
                predicted=np.array([seen.no for seen in shown], dtype=np.int64),
                truth=np.array([thing.object_id for thing in counted], dtype=np.int64),
                ious=iou_matrix(
                    [seen.last_mask.full() for seen in shown],
                    [thing.visible_mask for thing in counted],
                ),
            )
        )

    def _volume_ious(self, rows: Sequence[int], columns: Sequence[int]) -> Floats:
        shared = [[self._shared[row, column] for column in columns] for row in rows]
        return iou_from_counts(
            np.array(shared, dtype=np.float64).reshape(len(rows), len(columns)),
            np.array([self._track_area[row] for row in rows], dtype=np.float64),
            np.array([self._object_area[column] for column in columns], dtype=np.float64),
        )

    def _add_volume(
        self, concept: str, mine: Sequence[Track], things: Sequence[WorldObject]
    ) -> None:
        shared, areas, true_areas = overlap_counts(
            [seen.last_mask.full() for seen in mine], [thing.visible_mask for thing in things]
        )
        for row, seen in enumerate(mine):
            best = self._best_score.get(seen.no, 0.0)
            self._best_score[seen.no] = max(best, seen.score)
            self._tracks[concept].add(seen.no)
            self._track_area[seen.no] += int(areas[row])
            self._frames_seen[seen.no] += 1
            for column, thing in enumerate(things):
                self._shared[seen.no, thing.object_id] += int(shared[row, column])
        for column, thing in enumerate(things):
            self._objects[concept].add(thing.object_id)
            self._object_area[thing.object_id] += int(true_areas[column])
            if is_counted(thing):
                self._counted.add(thing.object_id)

    def _add_moments(self, things: Sequence[WorldObject], found: Mapping[int, int]) -> None:
        """Enter what shows of each object, and who is on it."""
        known = {thing.object_id: thing for thing in things if thing.concept in self.concepts}
        for object_id in known.keys() - self._moments.keys():
            self._moments[object_id] = [AWAY] * (len(self._masks) - 1)
        for object_id, moments in self._moments.items():
            thing = known.get(object_id)
            moments.append(
                AWAY
                if thing is None
                else Moment(showing=showing_of(thing), track_no=found.get(object_id))
            )

    def _add_identities(
        self,
        mine: Sequence[Track],
        things: Sequence[WorldObject],
        found: dict[int, int],
    ) -> set[int]:
        """Enter one concept's masks; returns the tracks that rest on an ignored object.

        Who is on which object goes into ``found``, by object.
        """
        counted = [thing for thing in things if is_counted(thing)]
        masks, truth = (
            [seen.last_mask.full() for seen in mine],
            [thing.visible_mask for thing in counted],
        )
        ious = iou_matrix(masks, truth)
        worth = np.where(ious >= _SAME_IOU, ious, 0.0)
        for column, thing in enumerate(counted):
            for row, seen in enumerate(mine):
                # An object keeps its track as long as that fits: CLEAR MOT's continuity.
                if worth[row, column] and self._last_track.get(thing.object_id) == seen.no:
                    worth[row, column] += len(counted) + 1
        pairs = [(row, column) for row, column in assign(worth) if worth[row, column]]
        for row, column in pairs:
            track_no, thing = mine[row].no, counted[column].object_id
            self._tally["switch"] += self._last_track.get(thing, track_no) != track_no
            self._last_track[thing] = found[thing] = track_no
            self._true_tracks.add(track_no)
        ignored = [thing for thing in things if not is_counted(thing)]
        neutral = rest_on_ignored(masks, counted=truth, ignored=ignored)
        matched = {row for row, _ in pairs}
        for row, seen in enumerate(mine):
            if neutral[row]:
                self._true_tracks.add(seen.no)
            elif row not in matched:
                self._tally["false"] += 1
        self._tally["truth"] += len(counted)
        self._tally["missed"] += len(counted) - len(pairs)
        return {seen.no for seen, rests in zip(mine, neutral, strict=True) if rests}
