"""From a model session's masklets to the pipeline's tracks: identity, state, life cycle.

Everything runs on observed stream time in whole microseconds, so neither the frame rate nor a lost
connection matters. State is bounded by the masklets that the model keeps: a track's state goes with
its masklet. What a frame costs grows with its objects, not with their pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from models.common.masks import Box, CropMask
from models.protocols import MaskletObservation, Prediction
from pipeline.clock import Moment, format_time, seconds_to_us
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.identity import make_uid
from pipeline.tracking.merging import find_heirs
from pipeline.tracking.states import TrackChangeKind, TrackState
from pipeline.tracking.track import Track, TrackChange, TrackUpdate

CONCEPT_REMOVED = "concept_removed"
TRACK_END_REASONS = frozenset({"expired", "merged", "tracker", CONCEPT_REMOVED})
"""Why a track ends alone; all other reasons end its session."""
_NUM_CONFIRMING = 3  # matched frames that confirm where time does not tell: bursts, time lapses
_RECENT_US = 1_000_000  # an object unseen for longer may have gone anywhere: no merge is claimed


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
class Life:
    """What is remembered of one masklet from frame to frame.

    Attributes:
        matched_us: Observed time during which detections matched.
        num_matches: Matched frames.
        num_counted: Matched frames whose stamps are equal or far enough apart.
        counted: The last of them.
    """

    track: Track
    matched_us: int = 0
    num_matches: int = 0
    num_counted: int = 0
    counted: Moment | None = None
    is_confirmed: bool = False
    is_expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BookState:
    """What a :class:`TrackBook` knows.

    Attributes:
        key: Names the session.
        first_no: Number of its first track.
        next_no: Number of its next track.
        lives: By masklet; the mapping is never written to.
        first: Its first frame.
        last: Its last frame.
        num_frames: Frames so far.
    """

    key: SessionKey
    first_no: int
    next_no: int
    lives: Mapping[int, Life] = field(default_factory=dict[int, Life])
    first: Moment | None = None
    last: Moment | None = None
    num_frames: int = 0

    @classmethod
    def begin(cls, key: SessionKey, *, first_no: int = 1) -> Self:
        """Return what is known before the first frame."""
        return cls(key=key, first_no=first_no, next_no=first_no)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """One frame's time, and its stream's epoch."""

    now: Moment
    stream_epoch: int
    step_us: int
    is_same_stamp: bool


class TrackBook:
    """The tracks of one model session of one stream.

    Args:
        state: What is known of the session so far.
        config: Thresholds in seconds.
    """

    def __init__(self, state: BookState, config: TrackingConfig) -> None:
        self.state = state
        self._confirm_us = seconds_to_us(config.confirm_s)
        self._occluded_us = seconds_to_us(config.occluded_s)
        self._lost_us = seconds_to_us(config.lost_s)
        self._hidden_us = seconds_to_us(config.hidden_s)
        self._expire_us = seconds_to_us(config.expire_s)

    def __len__(self) -> int:
        return len(self.state.lives)

    def apply(
        self,
        prediction: Prediction,
        *,
        now: Moment,
        stream_epoch: int = 0,
        is_same_stamp: bool = False,
    ) -> TrackUpdate:
        """Take over the masklets of one frame; if this raises, nothing has changed.

        Args:
            prediction: The model's word on this frame.
            now: The frame's time; must not run backwards.
            stream_epoch: The frame's.
            is_same_stamp: The source gave this frame and the one before the same time.
        """
        before = self.state
        step_us = 0 if before.last is None else now.observed_us - before.last.observed_us
        turn = _Turn(
            now=now, stream_epoch=stream_epoch, step_us=step_us, is_same_stamp=is_same_stamp
        )
        lives: dict[int, Life] = {}
        changes: list[TrackChange] = []
        next_no = before.next_no
        for seen in prediction.masklets:
            life, steps = self._observe(seen, turn, next_no)
            changes += steps
            if life is not None:
                lives[seen.masklet_id] = life
                next_no = max(next_no, life.track.no + 1)
        tracks = [life.track for life in lives.values() if not life.is_expired]
        # A masklet that is neither listed nor announced as ended is gone all the same.
        gone = [
            life.track
            for number, life in before.lives.items()
            if number not in lives and not life.is_expired
        ]
        changes += _end(gone, tracks, turn)
        self.state = replace(
            before,
            lives=lives,
            next_no=next_no,
            first=before.first or now,
            last=now,
            num_frames=before.num_frames + 1,
        )
        tracks.sort(key=lambda track: track.no)
        return TrackUpdate(tracks=tuple(tracks), changes=tuple(changes))

    def resize(self, size_hw: tuple[int, int]) -> None:
        """Go on with frames of the same view and another height and width."""
        lives = {
            number: replace(
                life, track=replace(life.track, last_mask=life.track.last_mask.resized(size_hw))
            )
            for number, life in self.state.lives.items()
        }
        self.state = replace(self.state, lives=lives)

    def end_concept(self, concept_id: str) -> TrackUpdate:
        """End the tracks of a concept that is looked for no more; all others stay as they are."""
        lives, ended = dict[int, Life](), list[Track]()
        for number, life in self.state.lives.items():
            if life.track.concept_id != concept_id:
                lives[number] = life
            elif not life.is_expired:
                ended.append(life.track)
        self.state = replace(self.state, lives=lives)
        kind, reason = TrackChangeKind.ENDED, CONCEPT_REMOVED
        changes = (TrackChange(kind=kind, track=track, reason=reason) for track in ended)
        return TrackUpdate(tracks=(), changes=tuple(changes))

    def close(self, reason: str, *, is_complete: bool = False) -> TrackUpdate:
        """End all tracks: the stream ended, or the session cannot go on.

        Args:
            reason: Why.
            is_complete: The session has shown all that there was to see. If it was too short to
                confirm anything, a lone picture or a burst of two, what matched on each of its
                frames is confirmed now.
        """
        confirmed: list[Track] = []
        changes: list[TrackChange] = []
        confirms = is_complete and self._is_too_short()
        for life in self.state.lives.values():
            track = life.track
            if life.is_expired:
                continue
            if confirms and not life.is_confirmed and life.num_matches == self.state.num_frames:
                track = replace(track, state=TrackState.CONFIRMED)
                confirmed.append(track)
                changes.append(TrackChange(kind=TrackChangeKind.CONFIRMED, track=track))
            changes.append(TrackChange(kind=TrackChangeKind.ENDED, track=track, reason=reason))
        self.state = replace(self.state, lives={})
        return TrackUpdate(tracks=tuple(confirmed), changes=tuple(changes))

    def _is_too_short(self) -> bool:
        first, last = self.state.first, self.state.last
        if first is None or last is None:
            return False
        observed_us = last.observed_us - first.observed_us
        return self.state.num_frames < _NUM_CONFIRMING and observed_us < self._confirm_us

    def _observe(
        self, seen: MaskletObservation, turn: _Turn, no: int
    ) -> tuple[Life | None, list[TrackChange]]:
        """Return a masklet's life after this frame, if it has one, and what happened in it."""
        life = self.state.lives.get(seen.masklet_id)
        is_visible = not seen.mask.is_empty
        if life is None or (life.is_expired and is_visible):
            if not is_visible:  # never seen yet: there is nothing to tell
                return None, []
            life = Life(track=self._begin(seen, turn, no))
            started = [TrackChange(kind=TrackChangeKind.STARTED, track=life.track)]
            turn = replace(turn, step_us=0)
        elif life.is_expired:
            return life, []
        else:
            started = []
        life = self._count_match(life, turn) if seen.is_matched else life
        life, changes = self._advance(life, seen, turn, is_visible=is_visible)
        return life, started + changes

    def _begin(self, seen: MaskletObservation, turn: _Turn, no: int) -> Track:
        key = self.state.key
        uid = make_uid(
            "track",
            key.deployment,
            key.stream_id,
            # Not the session's: a live stream that goes on from an old snapshot may give a number
            # again, in an epoch that no frame before had.
            turn.stream_epoch,
            format_time(key.began_at),
            key.first_seq,
            no - self.state.first_no,
        )
        return Track(
            uid=uid,
            no=no,
            concept=seen.concept,
            concept_id=seen.concept_id,
            state=TrackState.TENTATIVE,
            score=seen.score,
            best_score=seen.score,
            presence_score=seen.presence_score,
            occlusion_score=seen.occlusion_score,
            bbox=_bbox_of(seen.mask),
            area=seen.mask.share,
            is_visible=True,
            has_place=True,
            last_mask=seen.mask,
            first_seen=turn.now,
            last_seen=turn.now,
            now=turn.now,
            visible_us=0,
        )

    def _count_match(self, life: Life, turn: _Turn) -> Life:
        """Take over a matched frame; three far apart or in one burst confirm."""
        matched_us = life.matched_us + turn.step_us
        apart_us = turn.now.stream_us - life.counted.stream_us if life.counted else 0
        counts = life.counted is None or turn.is_same_stamp or 2 * apart_us > self._confirm_us
        num_counted = life.num_counted + counts
        is_confirmed = matched_us >= self._confirm_us or num_counted >= _NUM_CONFIRMING
        return replace(
            life,
            matched_us=matched_us,
            num_matches=life.num_matches + 1,
            num_counted=num_counted,
            counted=turn.now if counts else life.counted,
            is_confirmed=life.is_confirmed or is_confirmed,
        )

    def _advance(
        self, life: Life, seen: MaskletObservation, turn: _Turn, *, is_visible: bool
    ) -> tuple[Life, list[TrackChange]]:
        before = life.track
        unseen_us = 0 if is_visible else turn.now.observed_us - before.last_seen.observed_us
        track = replace(
            before,
            concept=seen.concept,  # it may have been renamed
            state=self._state_after(unseen_us, is_confirmed=life.is_confirmed),
            score=seen.score,
            best_score=max(before.best_score, seen.score),
            presence_score=seen.presence_score,
            occlusion_score=seen.occlusion_score,
            bbox=_bbox_of(seen.mask) if is_visible else before.bbox,
            area=seen.mask.share if is_visible else 0.0,
            is_visible=is_visible,
            has_place=unseen_us <= self._hidden_us,
            last_mask=seen.mask if is_visible else before.last_mask,
            last_seen=turn.now if is_visible else before.last_seen,
            now=turn.now,
            visible_us=before.visible_us + (turn.step_us if is_visible else 0),
        )
        if unseen_us >= self._expire_us:
            ended = TrackChange(kind=TrackChangeKind.ENDED, track=track, reason="expired")
            return replace(life, track=track, is_expired=True), [ended]
        return replace(life, track=track), _changes_between(before.state, track)

    def _state_after(self, unseen_us: int, *, is_confirmed: bool) -> TrackState:
        if not is_confirmed:
            return TrackState.TENTATIVE
        if unseen_us == 0 or unseen_us < self._occluded_us:
            return TrackState.CONFIRMED
        return TrackState.LOST if unseen_us >= self._lost_us else TrackState.OCCLUDED


def _end(gone: Sequence[Track], living: Sequence[Track], turn: _Turn) -> list[TrackChange]:
    """Return the end of tracks whose masklets the model let go, merges first."""
    recent_us = turn.now.observed_us - max(_RECENT_US, turn.step_us)
    recent = [track for track in gone if track.last_seen.observed_us >= recent_us]
    heirs = find_heirs(recent, living)
    changes: list[TrackChange] = []
    for track in gone:
        heir = heirs.get(track.uid)
        if heir is not None:
            kind = TrackChangeKind.MERGED
            changes.append(TrackChange(kind=kind, track=track, merged_into=heir))
        reason = "tracker" if heir is None else "merged"
        changes.append(
            TrackChange(kind=TrackChangeKind.ENDED, track=track, reason=reason, merged_into=heir)
        )
    return changes


def _bbox_of(mask: CropMask) -> Box:
    x, y, width, height = mask.bbox
    return (round(x, 5), round(y, 5), round(width, 5), round(height, 5))


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
