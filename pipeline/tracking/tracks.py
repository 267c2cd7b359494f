"""From a model session's masklets to the pipeline's tracks: identity, state, life cycle.

Everything runs on capture time and is expressed in seconds, so the frame rate does not matter.
State is bounded by the masklets that the model keeps: a track's state goes with its masklet.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from models.common.masks import Box, CropMask
from models.protocols import MaskletObservation, Prediction
from pipeline.clock import format_time
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.identity import make_uid
from pipeline.tracking.states import TrackChangeKind, TrackState

_MAX_STEP_S = 1.0  # a longer gap between two frames proves nothing about what was in it
_MERGE_IOU = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKey:
    """What makes the tracks of one model session different from all others, ever.

    The same file replayed gives the same keys; a camera that is opened again does not.
    """

    deployment: str
    stream_id: str
    stream_epoch: int
    began_at: datetime
    first_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A track as it stands on one frame.

    Attributes:
        uid: Globally unique, never used again.
        no: Small number for people, from 1, unique in its stream.
        score: Of the last detection that matched, 0 to 1.
        best_score: The highest of them, 0 to 1.
        bbox: x, y, width, height, 0 to 1 of the frame, where it was last seen.
        area: Share of the frame covered, 0 while out of sight.
        is_visible: Whether any of it can be seen on this frame.
        last_mask: From when it was last visible.
        age_s: Seconds since it was first seen.
        visible_s: Seconds in which it was seen.
        unseen_s: Seconds since it was last seen; 0 while visible.
    """

    uid: str
    no: int
    concept: str
    concept_id: str
    state: TrackState
    score: float
    best_score: float
    presence_score: float
    occlusion_score: float
    bbox: Box
    area: float
    is_visible: bool
    last_mask: CropMask
    age_s: float
    visible_s: float
    unseen_s: float

    @property
    def mask(self) -> CropMask | None:
        """``None`` while out of sight."""
        return self.last_mask if self.is_visible else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackChange:
    """One step in a track's life, and the track as it stands after it."""

    kind: TrackChangeKind
    track: Track
    reason: str | None = None
    merged_into: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackUpdate:
    """What one frame did to a stream's tracks.

    Attributes:
        tracks: All living tracks, by number.
        changes: In the order in which they happened.
    """

    tracks: tuple[Track, ...]
    changes: tuple[TrackChange, ...]


def bbox_of(mask: CropMask) -> Box:
    """Return x, y, width, height (0 to 1), rounded, of a trimmed mask that is not empty."""
    x, y, width, height = mask.bbox
    return round(x, 5), round(y, 5), round(width, 5), round(height, 5)


@dataclass(slots=True, kw_only=True)
class _Life:
    """What is remembered of one masklet from frame to frame."""

    track: Track
    first_s: float
    seen_s: float
    matched_s: float = 0.0
    visible_s: float = 0.0
    num_matches: int = 0
    is_confirmed: bool = False
    is_expired: bool = False
    num_lives: int = 1


class TrackBook:
    """The tracks of one model session of one stream.

    Args:
        key: Names the session.
        config: Thresholds in seconds.
        first_no: Number of the first track.
    """

    def __init__(self, key: SessionKey, config: TrackingConfig, *, first_no: int = 1) -> None:
        self._key = key
        self._config = config
        self._lives: dict[int, _Life] = {}
        self._time_s: float | None = None
        self.next_no = first_no

    def __len__(self) -> int:
        return len(self._lives)

    def apply(self, prediction: Prediction, *, time_s: float) -> TrackUpdate:
        """Take over the masklets of one frame.

        Args:
            prediction: The model's word on this frame.
            time_s: Capture time in seconds; must not run backwards.
        """
        step_s = 0.0 if self._time_s is None else min(time_s - self._time_s, _MAX_STEP_S)
        self._time_s = time_s
        changes: list[TrackChange] = []
        for seen in prediction.masklets:
            changes += self._observe(seen, time_s, step_s)
        living = {seen.masklet_id for seen in prediction.masklets}
        # A masklet that is neither listed nor announced as ended is gone all the same.
        gone = [number for number in self._lives if number not in living]
        changes += self._end(gone)
        tracks = sorted(
            (life.track for life in self._lives.values() if not life.is_expired),
            key=lambda track: track.no,
        )
        return TrackUpdate(tracks=tuple(tracks), changes=tuple(changes))

    def close(self, reason: str) -> TrackUpdate:
        """End all tracks: the stream ended, or the session cannot go on."""
        changes = tuple(
            TrackChange(kind=TrackChangeKind.ENDED, track=life.track, reason=reason)
            for life in self._lives.values()
            if not life.is_expired
        )
        self._lives.clear()
        return TrackUpdate(tracks=(), changes=changes)

    def _observe(self, seen: MaskletObservation, time_s: float, step_s: float) -> list[TrackChange]:
        is_visible = not seen.mask.is_empty
        life = self._lives.get(seen.masklet_id)
        if life is None or (life.is_expired and is_visible):
            if not is_visible:  # never seen yet: there is nothing to tell
                return []
            return self._begin(seen, time_s, 1 if life is None else life.num_lives + 1)
        if life.is_expired:
            return []
        if is_visible:
            life.seen_s = time_s
            life.visible_s += step_s
        if seen.is_matched:
            life.num_matches += 1
            life.matched_s += step_s
        return self._advance(life, seen, time_s, is_visible=is_visible)

    def _begin(self, seen: MaskletObservation, time_s: float, num_lives: int) -> list[TrackChange]:
        key = self._key
        uid = make_uid(
            "track",
            key.deployment,
            key.stream_id,
            key.stream_epoch,
            format_time(key.began_at),
            key.first_seq,
            seen.masklet_id,
            num_lives,
        )
        track = Track(
            uid=uid,
            no=self.next_no,
            concept=seen.concept,
            concept_id=seen.concept_id,
            state=TrackState.TENTATIVE,
            score=seen.score,
            best_score=seen.score,
            presence_score=seen.presence_score,
            occlusion_score=seen.occlusion_score,
            bbox=bbox_of(seen.mask),
            area=seen.mask.share,
            is_visible=True,
            last_mask=seen.mask,
            age_s=0.0,
            visible_s=0.0,
            unseen_s=0.0,
        )
        self.next_no += 1
        life = _Life(track=track, first_s=time_s, seen_s=time_s, num_lives=num_lives)
        life.num_matches = int(seen.is_matched)
        self._lives[seen.masklet_id] = life
        started = TrackChange(kind=TrackChangeKind.STARTED, track=track)
        return [started, *self._advance(life, seen, time_s, is_visible=True)]

    def _advance(
        self, life: _Life, seen: MaskletObservation, time_s: float, *, is_visible: bool
    ) -> list[TrackChange]:
        before = life.track
        unseen_s = 0.0 if is_visible else time_s - life.seen_s
        if life.num_matches and life.matched_s >= self._config.confirm_s - 1e-9:
            life.is_confirmed = True
        life.track = replace(
            before,
            state=self._state(life, unseen_s),
            score=seen.score,
            best_score=max(before.best_score, seen.score),
            presence_score=seen.presence_score,
            occlusion_score=seen.occlusion_score,
            bbox=bbox_of(seen.mask) if is_visible else before.bbox,
            area=seen.mask.share if is_visible else 0.0,
            is_visible=is_visible,
            last_mask=seen.mask if is_visible else before.last_mask,
            age_s=time_s - life.first_s,
            visible_s=life.visible_s,
            unseen_s=unseen_s,
        )
        if unseen_s >= self._config.expire_s:
            life.is_expired = True
            kind = TrackChangeKind.ENDED
            return [TrackChange(kind=kind, track=life.track, reason="expired")]
        return _changes_between(before.state, life.track)

    def _state(self, life: _Life, unseen_s: float) -> TrackState:
        if not life.is_confirmed:
            return TrackState.TENTATIVE
        if unseen_s <= 0.0 or unseen_s < self._config.occluded_s:
            return TrackState.CONFIRMED
        return TrackState.LOST if unseen_s >= self._config.lost_s else TrackState.OCCLUDED

    def _end(self, numbers: list[int]) -> list[TrackChange]:
        changes: list[TrackChange] = []
        for number in numbers:
            life = self._lives.pop(number)
            if life.is_expired:
                continue
            heir = self._heir(life)
            if heir is not None:
                kind = TrackChangeKind.MERGED
                changes.append(TrackChange(kind=kind, track=life.track, merged_into=heir))
            changes.append(
                TrackChange(
                    kind=TrackChangeKind.ENDED,
                    track=life.track,
                    reason="tracker" if heir is None else "merged",
                    merged_into=heir,
                )
            )
        return changes

    def _heir(self, ended: _Life) -> str | None:
        """Return the track that covers what the ended one covered a moment ago, if there is one."""
        if self._time_s is None or self._time_s - ended.seen_s > _MAX_STEP_S:
            return None
        for life in self._lives.values():
            mask = life.track.mask
            if mask is None or life.track.concept != ended.track.concept:
                continue
            if mask.iou(ended.track.last_mask) >= _MERGE_IOU:
                return life.track.uid
        return None


def _changes_between(before: TrackState, track: Track) -> list[TrackChange]:
    kinds: list[TrackChangeKind] = []
    away = (TrackState.OCCLUDED, TrackState.LOST)
    if before is TrackState.TENTATIVE and track.state is not TrackState.TENTATIVE:
        kinds.append(TrackChangeKind.CONFIRMED)
    if track.state in away and before not in away:
        kinds.append(TrackChangeKind.OCCLUDED)
    if track.state is TrackState.CONFIRMED and before in away:
        kinds.append(TrackChangeKind.RECOVERED)
    return [TrackChange(kind=kind, track=track) for kind in kinds]
