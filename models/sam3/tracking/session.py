"""Streaming concept tracking: SAM 3's detector and tracker for many streams and phrases at once.

The published video algorithm (SAM 3, section 3 and appendix) with a push interface, bounded memory,
time in seconds, and one batch for everything: one backbone pass for all frames, one detector pass
for all (frame, phrase) pairs, one tracker pass for all objects.

Shape legend:
    N frames of one step, B (frame, phrase) pairs, K objects, g tokens along a side.
"""

import math
from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from models.common.checks import check_integer, check_number, check_sequence, check_text
from models.common.concurrent_parts import ConcurrentParts
from models.protocols import (
    Concept,
    ConceptQuery,
    FrameInput,
    MaskletObservation,
    Prediction,
    StreamMemory,
)
from models.sam2.outputs import TrackerFeatures
from models.sam3.concept_search import Found, encode_exemplars, find, without_duplicates
from models.sam3.exemplar_matching import with_first_box
from models.sam3.masks import to_images
from models.sam3.network.model import Sam3, preprocess
from models.sam3.network.text import TextFeatures
from models.sam3.phrases import VISUAL_PHRASE, PhraseEncoder, plain_phrase
from models.sam3.prompts import Exemplar, check_exemplars, pack_exemplars
from models.sam3.tokenizer import Tokenizer
from models.sam3.tracking.device_errors import device_errors
from models.sam3.tracking.masklet import Masklet
from models.sam3.tracking.memory_update import update_memories
from models.sam3.tracking.observation import observe
from models.sam3.tracking.options import SessionOptions
from models.sam3.tracking.reconcile import Reconciler
from models.sam3.tracking.restoring import Restorer
from models.sam3.tracking.saved import SavedSam3Stream, TensorLayout
from models.sam3.tracking.stream import SURE_LOGIT, LastFrame, SearchedConcept, Stream, Tracked
from models.sam3.tracking.stream_concepts import (
    add_concept,
    begin_concepts,
    remove_concept,
    rename_concept,
)
from models.sam3.tracking.user_prompts import ObjectPrompt, choose_object

__all__ = ["Sam3Session", "SessionOptions"]


class Sam3Session:
    """Tracks concepts on streams; see :class:`models.protocols.ConceptTracker`. Not thread-safe."""

    def __init__(
        self,
        model: Sam3,
        tokenizer: Tokenizer,
        options: SessionOptions | None = None,
        *,
        phrases: PhraseEncoder | None = None,
    ) -> None:
        """Begin without streams.

        Args:
            model: The model.
            tokenizer: Its vocabulary.
            options: How to decide.
            phrases: Encoder to share with others that ask this model; a new one when left out.

        Raises:
            ValueError: If the options ask for more memories than the model has positions for.
        """
        self._model = model.eval()
        if phrases is None:
            phrases = PhraseEncoder(model.detector_model, tokenizer)
        self._phrases = phrases
        self._options = options or SessionOptions()
        check_integer(
            "memory_maps", self._options.memory_maps, most=model.config.tracker.num_maskmem
        )
        self._reconciler = Reconciler(self._options, model.config.tracker)
        self._streams: dict[str, Stream] = {}
        self._parts = ConcurrentParts(self.device)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(self._model.parameters()).device

    @property
    def num_memory_bytes(self) -> int:
        """Bytes of all memories of all streams."""
        return sum(m.bank.num_bytes for stream in self._streams.values() for m in stream.masklets)

    def open_stream(self, stream_id: str, concepts: Sequence[str | Concept | ConceptQuery]) -> None:
        """Begin a stream with concepts to look for.

        Exemplars of a query illustrate it on the first frame; see :meth:`add_exemplars`.

        Raises:
            ValueError: If it is open already, or a concept says nothing or is given twice.
            DeviceLostError: If the accelerator failed for good.
        """
        if check_text("stream_id", stream_id) in self._streams:
            raise ValueError(f"stream {stream_id!r} is open already")
        takes_points = self._model.config.detector.point_exemplars
        with device_errors():
            searched = begin_concepts(stream_id, concepts, self._phrases, takes_points=takes_points)
        self._streams[stream_id] = Stream(stream_id=stream_id, concepts=searched)

    def save_stream(self, stream_id: str) -> SavedSam3Stream:
        """Return what is known of a stream; see :class:`models.protocols.ResumableTracker`.

        The last frame itself is left out: nothing can be chosen on it afterwards.
        """
        return SavedSam3Stream(self._open(stream_id).draft(), TensorLayout.of(self._model.config))

    @torch.inference_mode()
    def restore_stream(
        self,
        stream_id: str,
        concepts: Sequence[str | Concept | ConceptQuery],
        memory: StreamMemory,
    ) -> tuple[str, ...]:
        """Begin a stream with what is known of it; see :class:`models.protocols.ResumableTracker`.

        Exemplars that a query brings are left out if its concept is known already.

        Raises:
            SavedStateError: If the memory does not fit; the stream is not open then.
            ValueError: As :meth:`open_stream` does.
            DeviceLostError: If the accelerator failed for good.
        """
        self.open_stream(stream_id, concepts)
        try:
            with device_errors():
                restorer = Restorer(self._model, memory, num_maps=self._options.memory_maps)
                return restorer.restore(self._streams[stream_id])
        except BaseException:
            self.close_stream(stream_id)
            raise

    def close_stream(self, stream_id: str) -> None:
        """Forget a stream. Raises ``ValueError`` if it is not open."""
        del self._streams[self._open(stream_id).stream_id]

    def add_concept(self, stream_id: str, concept: str, *, concept_id: str) -> None:
        """Look for one concept more; see :class:`models.protocols.EditableTracker`."""
        added = Concept(concept_id=concept_id, phrase=concept, name=concept)
        with device_errors():
            add_concept(self._open(stream_id), added, self._phrases)

    def rename_concept(self, stream_id: str, concept_id: str, name: str) -> None:
        """Call a concept otherwise; see :class:`models.protocols.EditableTracker`."""
        rename_concept(self._open(stream_id), concept_id, name)

    def remove_concept(self, stream_id: str, concept_id: str) -> None:
        """Look for a concept no more; see :class:`models.protocols.EditableTracker`."""
        remove_concept(self._open(stream_id), concept_id)

    @torch.inference_mode()
    def add_exemplars(
        self,
        stream_id: str,
        exemplars: Sequence[Exemplar],
        *,
        concept: str = VISUAL_PHRASE,
        on_last_frame: bool = False,
    ) -> None:
        """Illustrate a concept of a stream for its next frame.

        As published, exemplars are read on one frame alone: what is found there is then tracked.
        With ``SessionOptions.keep_exemplars`` what they show goes on saying what is meant.

        Args:
            stream_id: An open stream.
            exemplars: Boxes and points.
            concept: A phrase that the stream was opened with; one that was opened with exemplars
                alone is called "visual".
            on_last_frame: Whether they lie on the newest frame that the stream has had, as those
                do that a person draws on a live picture, and not on the next one, as published.

        Raises:
            ValueError: If the stream is not open, has had no frame to draw on or has no such
                concept, or an exemplar is not on the picture; the stream stays as it was then.
            DeviceLostError: If the accelerator failed for good.
        """
        stream, searched = self._open(stream_id), self._concept_of(stream_id, concept)
        waiting = () if on_last_frame else searched.pending
        checked = check_exemplars(
            (*waiting, *exemplars), takes_points=self._model.config.detector.point_exemplars
        )
        if not on_last_frame:
            searched.pending = checked
            return
        if stream.last is None:
            raise ValueError(f"stream {stream_id!r} has had no frame; step one first")
        with device_errors():
            searched.shown = self._shown(searched, stream.last.coarse, checked)

    def clear_exemplars(self, stream_id: str, *, concept: str = VISUAL_PHRASE) -> None:
        """Forget all exemplars of a concept, kept ones and those for the next frame.

        Raises:
            ValueError: If the stream is not open or has no such concept.
        """
        searched = self._concept_of(stream_id, concept)
        searched.pending, searched.shown, searched.kept = (), None, None

    @torch.inference_mode()
    def add_object(
        self,
        stream_id: str,
        *,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        label: str = VISUAL_PHRASE,
    ) -> MaskletObservation:
        """Choose an object on the newest frame of a stream, to be tracked from there on.

        No detection is asked about it: it stays until :meth:`remove_object` (SAM 3, section 3,
        visual prompts).

        Args:
            stream_id: An open stream that has had a frame.
            points: Shape (P, 2), x and y in px of that frame.
            labels: Shape (P,): 1 on the object, 0 off it. All 1 when left out.
            box: Shape (4,), x0, y0, x1, y1 in px of that frame; alone or with points.
            mask: Shape (H, W) of that frame, bool; alone.
            label: What to call it.

        Returns:
            The object on that frame.

        Raises:
            ValueError: If the stream is not open, has had no frame yet or is full, or the prompt
                says nothing or has a wrong shape.
            DeviceLostError: If the accelerator failed for good.
        """
        stream = self._open(stream_id).draft()
        check_text("label", label)
        if len(stream.masklets) >= self._options.max_masklets:
            raise ValueError(
                f"stream {stream_id!r} has {len(stream.masklets)} masklets; "
                f"accepted: at most {self._options.max_masklets} (max_masklets)"
            )
        prompt = ObjectPrompt(points=points, labels=labels, box=box, mask=mask)
        # A mask that a person gave is not drawn better than by that person.
        refiner = self._model.mask_refiner if mask is None else None
        with device_errors():
            item, frame = choose_object(
                self._model.tracker_model, stream, prompt, label, num_maps=self._options.memory_maps
            )
            (seen,) = observe(stream, [item], frame, self._options, refiner=refiner)
        self._streams[stream_id] = stream
        return seen

    def remove_object(self, stream_id: str, masklet_id: int) -> None:
        """End a masklet, whoever found it.

        Raises:
            ValueError: If the stream is not open or has no such masklet.
        """
        stream = self._open(stream_id)
        ids = [masklet.masklet_id for masklet in stream.masklets]
        if check_integer("masklet_id", masklet_id) not in ids:
            raise ValueError(f"stream {stream_id!r} has no masklet {masklet_id!r}; living: {ids!r}")
        del stream.masklets[ids.index(masklet_id)]

    @torch.inference_mode()
    def step(self, inputs: Sequence[FrameInput]) -> list[Prediction]:
        """Track one frame of each given stream.

        Raises:
            ValueError: If a stream is given twice, is not open, or its time runs backwards or is
                not finite, or a frame has another shape or type.
            DeviceLostError: If the accelerator failed for good.
        """
        given = check_sequence("inputs", inputs, of="FrameInput")
        streams = [self._stream_of(item) for item in given]
        if len({stream.stream_id for stream in streams}) != len(streams):
            raise ValueError("a stream may have one frame per step")
        if not streams:
            return []
        drafts = [stream.draft() for stream in streams]
        with device_errors():
            predictions = self._advance(drafts, inputs)
        # Only now: whatever raised until here has changed no stream.
        self._streams |= {draft.stream_id: draft for draft in drafts}
        return predictions

    def _advance(self, streams: list[Stream], inputs: Sequence[FrameInput]) -> list[Prediction]:
        """Take streams one frame further, in place."""
        size = self._model.config.vision.image_size
        frames = [to_images(item.pixels, self.device) for item in inputs]
        images = torch.cat([preprocess(frame, size) for frame in frames])
        for stream in streams:
            stream.frame_index += 1
        trunk = self._model.detector_model.vision_encoder.backbone(images)
        # Each has its own neck; the detector knows nothing of the tracker, nor it of the detector.
        (coarse, found), (features, tracked) = self._parts.run(
            lambda: self._detect(streams, trunk), lambda: self._propagate(streams, trunk)
        )
        ended = [
            self._reconcile(stream, item.time_s, tracked[n], found[n])
            for n, (stream, item) in enumerate(zip(streams, inputs, strict=True))
        ]
        refines = self._model.mask_refiner is not None
        newest = [
            LastFrame.of(features, coarse, n, frame[0], refines=refines)
            for n, frame in enumerate(frames)
        ]
        for stream, last in zip(streams, newest, strict=True):
            stream.last = last
        observed, _ = self._parts.run(
            lambda: [
                observe(
                    stream, tracked[n], newest[n], self._options, refiner=self._model.mask_refiner
                )
                for n, stream in enumerate(streams)
            ],
            lambda: update_memories(
                self._model.tracker_model,
                features,
                [stream.frame_index for stream in streams],
                tracked,
                least_kept_area=self._options.least_kept_area,
            ),
        )
        return [
            Prediction(
                stream_id=stream.stream_id,
                masklets=tuple(sorted(observed[n], key=lambda seen: seen.masklet_id)),
                ended=ended[n],
                presence={concept.name: concept.presence for concept in stream.concepts},
            )
            for n, stream in enumerate(streams)
        ]

    def _reconcile(
        self, stream: Stream, time_s: float, tracked: list[Tracked], found: list[Found | None]
    ) -> tuple[int, ...]:
        """Let the detections of a frame decide about a stream's masklets; return those that end."""
        elapsed_s = max(time_s - stream.time_s, 0.0) if math.isfinite(stream.time_s) else 0.0
        if stream.is_resumed:
            for masklet in stream.masklets:
                masklet.on_missed(elapsed_s)
            elapsed_s = 0.0
        stream.time_s = time_s
        for concept, detections in zip(stream.concepts, found, strict=True):
            self._reconciler.match(stream, tracked, concept.concept_id, detections, elapsed_s)
        stream.is_resumed = False
        return self._reconciler.expire(stream, tracked)

    def _open(self, stream_id: str) -> Stream:
        stream = self._streams.get(check_text("stream_id", stream_id))
        if stream is None:
            raise ValueError(f"stream {stream_id!r} is not open; open: {sorted(self._streams)!r}")
        return stream

    def _concept_of(self, stream_id: str, concept: str) -> SearchedConcept:
        concepts = self._open(stream_id).concepts
        for searched in concepts:
            if plain_phrase(searched.concept.phrase) == plain_phrase(
                check_text("concept", concept)
            ):
                return searched
        phrases = [searched.concept.phrase for searched in concepts]
        raise ValueError(f"stream {stream_id!r} has no concept {concept!r}; it has {phrases!r}")

    def _stream_of(self, item: object) -> Stream:
        if not isinstance(item, FrameInput):
            raise ValueError(  # noqa: TRY004 - one type of error for whatever a caller got wrong
                f"inputs holds a {type(item).__name__}; accepted: FrameInput"
            )
        stream = self._open(item.stream_id)
        if check_number("time_s", item.time_s) < stream.time_s:
            raise ValueError(
                f"stream {item.stream_id!r} went from {stream.time_s!r} s back to {item.time_s!r} s"
            )
        return stream

    def _detect(
        self, streams: list[Stream], trunk: Tensor
    ) -> tuple[Tensor, list[list[Found | None]]]:
        """Look for every concept of every stream on its frame, in one pass.

        Returns:
            The detector's coarse features of the frames, and what was found.
        """
        vision = self._model.detector_model.vision_encoder.from_trunk(trunk)
        coarse = vision.detector_pyramid[-1]
        answers: list[list[Found | None]] = [[None] * len(stream.concepts) for stream in streams]
        due = [
            (n, place, concept)
            for n, stream in enumerate(streams)
            for place, concept in enumerate(stream.concepts)
            if concept.is_due
        ]
        if not due:
            return coarse, answers
        found = find(
            self._model.detector_model,
            vision,
            torch.tensor([n for n, _, _ in due], device=self.device),
            [concept.prompt for _, _, concept in due],
            pack_exemplars([concept.pending for _, _, concept in due], self.device),
            min_score=self._options.detection_score,
            answer_shown=self._options.answer_shown,
        )
        for (n, place, concept), one in zip(due, found, strict=True):
            self._keep_exemplars(concept, coarse[n : n + 1])
            concept.presence = one.presence
            answers[n][place] = without_duplicates(one, self._options.nms_iou)
        return coarse, answers

    def _keep_exemplars(self, concept: SearchedConcept, coarse: Tensor) -> None:
        """Drop the exemplars of this frame, or keep what they show."""
        shown = None
        if self._options.keep_exemplars:
            shown = self._shown(concept, coarse, concept.pending)
        concept.pending, concept.shown = (), None
        if shown is not None:
            kept = shown if concept.kept is None else concept.kept.extend(shown)
            concept.kept = kept.newest(self._options.max_kept_exemplars)

    def _shown(
        self, concept: SearchedConcept, coarse: Tensor, exemplars: Sequence[Exemplar]
    ) -> TextFeatures | None:
        """Return what has been shown of a concept, with exemplars on one more frame."""
        packed = pack_exemplars([exemplars], self.device)
        if packed is None:
            return concept.shown
        if self._options.answer_shown:
            packed = with_first_box(packed)
        tokens = encode_exemplars(self._model.detector_model, coarse, packed)
        return tokens if concept.shown is None else concept.shown.extend(tokens)

    def _propagate(
        self, streams: list[Stream], trunk: Tensor
    ) -> tuple[TrackerFeatures, list[list[Tracked]]]:
        """Carry every masklet of every stream that is not dormant into its frame, in one pass."""
        features = self._model.tracker_features(trunk)
        blank = features.top.new_full((4 * features.grid,) * 2, -SURE_LOGIT)
        tracked: list[list[Tracked]] = [[] for _ in streams]
        owners: list[int] = []
        masklets: list[Masklet] = []
        for n, stream in enumerate(streams):
            for masklet in stream.masklets:
                if masklet.is_dormant(stream.time_s, self._options.life):
                    tracked[n].append(Tracked.dormant(masklet, blank))
                else:
                    owners.append(n)
                    masklets.append(masklet)
        if not owners:
            return features, tracked
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
                Tracked(
                    masklet=masklet,
                    mask_logits=output.mask_logits[k, 0],
                    object_logit=logits[k],
                    pointer=output.pointer[k],
                    quality=quality[k],
                )
            )
        return features, tracked
