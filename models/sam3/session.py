"""Streaming concept tracking: SAM 3's detector and tracker for many streams and phrases at once.

The published video algorithm (SAM 3, section 3 and appendix) with a push interface, bounded memory,
time in seconds, and one batch for everything: one backbone pass for all frames, one detector pass
for all (frame, phrase) pairs, one tracker pass for all objects.

Shape legend:
    N frames of one step, B (frame, phrase) pairs, K objects, g tokens along a side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.protocols import FrameInput, MaskletObservation, Prediction
from models.sam2.memory_bank import MemoryBank
from models.sam2.outputs import TrackerFeatures
from models.sam3.association import (
    AssociationRules,
    associate,
    suppress_overlaps,
    suppress_recently_occluded,
)
from models.sam3.masklet import LifeRules, Masklet, nearest_hidden
from models.sam3.masks import frame_masks, mask_centre, mask_iou, stack_masks, to_images
from models.sam3.model import Sam3, preprocess
from models.sam3.text import TextFeatures
from models.sam3.tokenizer import Tokenizer
from models.sam3.vision import VisionFeatures

SURE_LOGIT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a session decides.

    Attributes:
        detection_score: Least joint score of a detection that is kept.
        nms_iou: Kept detections of one phrase overlap at most this much.
        one_place_iou: Two masklets overlapping this much cannot both be right.
        least_kept_area: A masklet that other masklets cover but for this share is not remembered
            as it is.
        recondition_logit: Least object score logit of a masklet that may be re-prompted.
        max_masklets: Most living masklets of a stream; the best-scored detections begin first.
        association: Thresholds for matching detections with masklets.
        life: When masklets end.
    """

    detection_score: float = 0.5
    nms_iou: float = 0.1
    one_place_iou: float = 0.7
    least_kept_area: float = 0.3
    recondition_logit: float = 0.8
    max_masklets: int = 64
    association: AssociationRules = field(default_factory=AssociationRules)
    life: LifeRules = field(default_factory=LifeRules)


@dataclass(slots=True, kw_only=True)
class _Stream:
    stream_id: str
    concepts: tuple[str, ...]
    text: TextFeatures
    masklets: list[Masklet] = field(default_factory=list)
    next_id: int = 1
    frame_index: int = -1
    time_s: float = -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class _Detections:
    """Kept detections of one (frame, phrase) pair.

    Scores are of shape (D,), mask logits (D, 4g, 4g); presence is the phrase's.
    """

    scores: NDArray[np.float32]
    mask_logits: Tensor
    presence: float


@dataclass(slots=True, kw_only=True)
class _Tracked:
    """A masklet on this frame: its logits as decided so far, and what the tracker said."""

    masklet: Masklet
    mask_logits: Tensor
    object_logit: float
    pointer: Tensor
    quality: float
    is_matched: bool = False
    is_new: bool = False
    is_prompted: bool = False


class Sam3Session:
    """Tracks concepts on streams; see :class:`models.protocols.ConceptTracker`. Not thread-safe."""

    def __init__(
        self, model: Sam3, tokenizer: Tokenizer, options: SessionOptions | None = None
    ) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._options = options or SessionOptions()
        self._streams: dict[str, _Stream] = {}

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(self._model.parameters()).device

    @property
    def num_memory_bytes(self) -> int:
        """Bytes of all memories of all streams."""
        return sum(m.bank.num_bytes for stream in self._streams.values() for m in stream.masklets)

    @torch.inference_mode()
    def open_stream(self, stream_id: str, concepts: Sequence[str]) -> None:
        """Begin a stream with phrases to look for.

        Raises:
            ValueError: If it is open already, or there is no phrase, or one is empty or given
                twice.
        """
        if stream_id in self._streams:
            raise ValueError(f"stream {stream_id!r} is open already")
        if not concepts or len({" ".join(c.lower().split()) for c in concepts}) != len(concepts):
            raise ValueError(
                f"stream {stream_id!r} has concepts {list(concepts)!r}; "
                "expected one or more, all different"
            )
        text = self._model.detector_model.encode_text(
            self._tokenizer.encode(concepts).to(self.device)
        )
        self._streams[stream_id] = _Stream(stream_id=stream_id, concepts=tuple(concepts), text=text)

    def close_stream(self, stream_id: str) -> None:
        """Forget a stream. Raises ``KeyError`` if it is not open."""
        del self._streams[stream_id]

    @torch.inference_mode()
    def step(self, inputs: Sequence[FrameInput]) -> list[Prediction]:
        """Track one frame of each given stream.

        Raises:
            ValueError: If a stream is given twice, is not open, or its time runs backwards.
        """
        # All checks come first: a refused step leaves every stream as it was.
        streams = [self._stream_of(item) for item in inputs]
        if len({stream.stream_id for stream in streams}) != len(streams):
            raise ValueError("a stream may have one frame per step")
        if not streams:
            return []
        size = self._model.config.vision.image_size
        images = torch.cat(
            [preprocess(to_images(item.pixels, self.device), size) for item in inputs]
        )
        for stream in streams:
            stream.frame_index += 1
        vision = self._model.encode_image(images)
        first, second, third = vision.tracker_pyramid
        features = self._model.tracker_model.prepare_features((first, second, third))
        detections = self._detect(streams, vision)
        tracked = self._propagate(streams, features)
        ended: list[tuple[int, ...]] = []
        for n, stream in enumerate(streams):
            elapsed_s = (
                max(inputs[n].time_s - stream.time_s, 0.0) if math.isfinite(stream.time_s) else 0.0
            )
            stream.time_s = inputs[n].time_s
            for concept in range(len(stream.concepts)):
                self._reconcile(stream, tracked[n], concept, detections[n][concept], elapsed_s)
            ended.append(self._let_go(stream, tracked[n]))
        self._remember(streams, tracked, features)
        return [
            self._predict(stream, tracked[n], detections[n], ended[n], inputs[n].pixels.shape[:2])
            for n, stream in enumerate(streams)
        ]

    def _stream_of(self, item: FrameInput) -> _Stream:
        stream = self._streams.get(item.stream_id)
        if stream is None:
            raise ValueError(
                f"stream {item.stream_id!r} is not open; open: {sorted(self._streams)!r}"
            )
        if item.time_s < stream.time_s:
            raise ValueError(
                f"stream {item.stream_id!r} went from {stream.time_s!r} s back to {item.time_s!r} s"
            )
        return stream

    def _detect(self, streams: list[_Stream], vision: VisionFeatures) -> list[list[_Detections]]:
        """Look for every phrase of every stream on its frame, in one pass."""
        detector = self._model.detector_model
        text = TextFeatures(
            tokens=torch.cat([stream.text.tokens for stream in streams]),
            is_valid=torch.cat([stream.text.is_valid for stream in streams]),
        )
        frame = torch.tensor(
            [n for n, stream in enumerate(streams) for _ in stream.concepts], device=self.device
        )
        output = detector(vision, frame, text)
        scores = output.joint_scores().float().numpy(force=True)
        presence = output.presence_logits[-1].sigmoid().float().numpy(force=True)
        found: list[_Detections] = []
        for pair in range(len(scores)):
            kept = np.flatnonzero(scores[pair] > self._options.detection_score)
            # Only kept queries get masks: most of the mask head's output would be thrown away.
            queries = output.queries[-1][pair, torch.from_numpy(kept).to(self.device)]
            masks = detector.mask_decoder.masks(queries[None], output.pixel_embedding[pair][None])[
                0
            ]
            chosen = suppress_overlaps(
                mask_iou(masks > 0, masks > 0), scores[pair][kept], self._options.nms_iou
            )
            found.append(
                _Detections(
                    scores=scores[pair][kept][chosen],
                    mask_logits=masks[torch.from_numpy(chosen).to(self.device)],
                    presence=float(presence[pair]),
                )
            )
        pairs = iter(found)
        return [[next(pairs) for _ in stream.concepts] for stream in streams]

    def _propagate(self, streams: list[_Stream], features: TrackerFeatures) -> list[list[_Tracked]]:
        """Carry every masklet of every stream into its frame, in one pass."""
        owners = [n for n, stream in enumerate(streams) for _ in stream.masklets]
        tracked: list[list[_Tracked]] = [[] for _ in streams]
        if not owners:
            return tracked
        masklets = [masklet for stream in streams for masklet in stream.masklets]
        output = self._model.tracker_model.track(
            features,
            torch.tensor(owners, device=self.device),
            [masklet.bank for masklet in masklets],
            times=[streams[n].frame_index for n in owners],
        )
        quality = output.quality.float().tolist()
        logits = output.object_score_logits[:, 0].float().tolist()
        for k, (n, masklet) in enumerate(zip(owners, masklets, strict=True)):
            tracked[n].append(
                _Tracked(
                    masklet=masklet,
                    mask_logits=output.mask_logits[k, 0],
                    object_logit=logits[k],
                    pointer=output.pointer[k],
                    quality=quality[k],
                )
            )
        return tracked

    def _reconcile(
        self,
        stream: _Stream,
        tracked: list[_Tracked],
        concept: int,
        found: _Detections,
        elapsed_s: float,
    ) -> None:
        """Match one phrase's detections with its masklets; begin new masklets."""
        options, now_s = self._options, stream.time_s
        mine = [item for item in tracked if item.masklet.concept == concept and not item.is_new]
        masks = stack_masks([item.mask_logits for item in mine], found.mask_logits)
        visible = (masks > 0).flatten(1).any(1).numpy(force=True)
        plan = associate(
            mask_iou(found.mask_logits > 0, masks > 0), found.scores, visible, options.association
        )
        for t, item in enumerate(mine):
            if plan.best_detection[t] >= 0:
                item.is_matched = True
                item.masklet.on_matched(now_s, float(found.scores[plan.best_detection[t]]))
            elif plan.is_unmatched[t]:
                item.masklet.on_unmatched(elapsed_s)
            if plan.trusted[t] >= 0:
                item.mask_logits = found.mask_logits[plan.trusted[t]]
            chosen = int(plan.recondition[t])
            is_due = now_s - item.masklet.last_conditioned_s >= options.life.recondition_s
            if chosen >= 0 and is_due and item.object_logit > options.recondition_logit:
                item.masklet.last_conditioned_s = now_s
                item.mask_logits = found.mask_logits[chosen]
                item.is_prompted = True
        for sharers in plan.supports:
            together = np.flatnonzero(sharers)
            for t in together[1:]:
                mine[t].masklet.on_shared(mine[together[0]].masklet.masklet_id, elapsed_s)
        hidden = self._hide(mine, now_s)
        for d in plan.new:
            if not self._revive(hidden, found, d, now_s) and len(tracked) < options.max_masklets:
                begun = self._begin(stream, concept, float(found.scores[d]), found.mask_logits[d])
                tracked.append(begun)

    def _hide(self, mine: list[_Tracked], now_s: float) -> list[_Tracked]:
        """Blank masklets that no detection has matched for long; return all that are hidden."""
        for item in mine:
            if now_s - item.masklet.last_matched_s > self._options.life.suppress_s:
                item.mask_logits = torch.full_like(item.mask_logits, -SURE_LOGIT)
        return [item for item in mine if not item.is_matched and _is_empty(item.mask_logits)]

    def _revive(
        self, hidden: list[_Tracked], found: _Detections, detection: int, now_s: float
    ) -> bool:
        """Give a detection that no masklet explains to the hidden one that is due there, if any."""
        mask_logits = found.mask_logits[detection]
        if not hidden or _is_empty(mask_logits):
            return False
        x, y = mask_centre(mask_logits)
        chosen = nearest_hidden(
            [item.masklet for item in hidden],
            x=x,
            y=y,
            now_s=now_s,
            reach=self._options.life.revive_reach,
        )
        if chosen is None:
            return False
        item = hidden.pop(chosen)
        item.mask_logits, item.object_logit = mask_logits, SURE_LOGIT
        item.is_matched = item.is_prompted = True
        item.masklet.last_conditioned_s = now_s
        item.masklet.on_matched(now_s, float(found.scores[detection]))
        return True

    def _begin(self, stream: _Stream, concept: int, score: float, mask_logits: Tensor) -> _Tracked:
        now_s = stream.time_s
        masklet = Masklet(
            masklet_id=stream.next_id,
            concept=concept,
            bank=MemoryBank(self._model.config.tracker),
            score=score,
            first_seen_s=now_s,
            last_seen_s=now_s,
            last_matched_s=now_s,
            last_conditioned_s=now_s,
        )
        stream.next_id += 1
        stream.masklets.append(masklet)
        return _Tracked(
            masklet=masklet,
            mask_logits=mask_logits,
            object_logit=SURE_LOGIT,
            pointer=mask_logits.new_zeros(0),
            quality=1.0,
            is_matched=True,
            is_new=True,
            is_prompted=True,
        )

    def _let_go(self, stream: _Stream, tracked: list[_Tracked]) -> tuple[int, ...]:
        """Hide masklets that sit on another's place, end those whose time is over."""
        for concept in range(len(stream.concepts)):
            mine = [item for item in tracked if item.masklet.concept == concept]
            if len(mine) > 1:
                masks = torch.stack([item.mask_logits for item in mine]) > 0
                occluded = np.array([item.masklet.last_occluded_s for item in mine])
                for hidden, item in zip(
                    suppress_recently_occluded(
                        mask_iou(masks, masks), occluded, self._options.one_place_iou
                    ),
                    mine,
                    strict=True,
                ):
                    if hidden:
                        item.mask_logits = torch.full_like(item.mask_logits, -SURE_LOGIT)
        for item in tracked:
            if _is_empty(item.mask_logits):
                item.masklet.last_occluded_s = stream.time_s
                continue
            item.masklet.last_seen_s = stream.time_s
            if item.is_matched:
                item.masklet.on_seen(*mask_centre(item.mask_logits), stream.time_s)
        ending = {
            item.masklet.masklet_id
            for item in tracked
            if item.masklet.should_end(stream.time_s, self._options.life)
        }
        stream.masklets = [
            masklet for masklet in stream.masklets if masklet.masklet_id not in ending
        ]
        tracked[:] = [item for item in tracked if item.masklet.masklet_id not in ending]
        return tuple(sorted(ending))

    def _remember(
        self, streams: list[_Stream], tracked: list[list[_Tracked]], features: TrackerFeatures
    ) -> None:
        """Encode this frame into every masklet's memory, in one pass."""
        rows = [(n, item) for n, items in enumerate(tracked) for item in items]
        if not rows:
            return
        tracker = self._model.tracker_model
        frame = torch.tensor([n for n, _ in rows], device=self.device)
        logits = torch.stack([item.mask_logits for _, item in rows])[:, None]
        prompted = [item.is_prompted for _, item in rows]
        pointers = torch.stack(
            [
                item.pointer
                if item.pointer.numel()
                else item.pointer.new_zeros(self._model.config.tracker.hidden_dim)
                for _, item in rows
            ]
        )
        is_prompted = torch.tensor(prompted, device=self.device)
        if any(prompted):
            given = F.interpolate(logits[is_prompted], scale_factor=4, mode="bilinear") > 0
            pointers[is_prompted] = tracker.condition_on_mask(
                features, frame[is_prompted], given
            ).pointer
        remembered = self._limit_overlap(logits, frame)
        sureness = torch.where((remembered > 0).flatten(1).any(1), SURE_LOGIT, -SURE_LOGIT)[:, None]
        spatial = tracker.encode_memory(features, frame, remembered, sureness, binarize=is_prompted)
        for k, (n, item) in enumerate(rows):
            index = streams[n].frame_index
            if prompted[k]:
                item.masklet.bank.write_conditioning(index, spatial[k], pointers[k])
            else:
                item.masklet.bank.write(index, spatial[k], pointers[k], item.quality)

    def _limit_overlap(self, logits: Tensor, frame: Tensor) -> Tensor:
        """Blank masks that others cover almost wholly: remembering them would merge two objects."""
        limited = logits
        for n in frame.unique().tolist():
            rows = (frame == n).nonzero()[:, 0]
            if len(rows) < 2:
                continue
            masks = logits[rows, 0]
            winner = masks.argmax(0)
            own = (masks > 0) & (
                winner[None] == torch.arange(len(rows), device=masks.device)[:, None, None]
            )
            area = (masks > 0).flatten(1).sum(1).clamp(min=1)
            is_covered = own.flatten(1).sum(1) / area < self._options.least_kept_area
            blank = masks.clamp(max=-SURE_LOGIT)
            limited = limited.clone() if limited is logits else limited
            limited[rows, 0] = torch.where(is_covered[:, None, None], blank, masks)
        return limited

    def _predict(
        self,
        stream: _Stream,
        tracked: list[_Tracked],
        detections: list[_Detections],
        ended: tuple[int, ...],
        frame_hw: tuple[int, int],
    ) -> Prediction:
        presence = {
            phrase: found.presence
            for phrase, found in zip(stream.concepts, detections, strict=True)
        }
        masks = frame_masks(
            stack_masks([item.mask_logits for item in tracked], detections[0].mask_logits),
            groups=[item.masklet.concept for item in tracked],
            sureness=[item.object_logit for item in tracked],
            frame_hw=frame_hw,
            one_place_iou=self._options.one_place_iou,
        )
        observations = [
            MaskletObservation(
                masklet_id=item.masklet.masklet_id,
                concept=stream.concepts[item.masklet.concept],
                score=item.masklet.score,
                presence_score=detections[item.masklet.concept].presence,
                occlusion_score=1 / (1 + math.exp(-max(min(item.object_logit, 30.0), -30.0))),
                is_matched=item.is_matched,
                first_seen_s=item.masklet.first_seen_s,
                last_seen_s=item.masklet.last_seen_s,
                mask=mask,
            )
            for item, mask in zip(tracked, masks, strict=True)
        ]
        return Prediction(
            stream_id=stream.stream_id,
            masklets=tuple(sorted(observations, key=lambda seen: seen.masklet_id)),
            ended=ended,
            presence=presence,
        )


def _is_empty(mask_logits: Tensor) -> bool:
    return not bool((mask_logits > 0).any())
