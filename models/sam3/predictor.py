"""Concept prompts on single pictures: text, exemplars, or both (SAM 3, section 3).

Shape legend:
    D detections, H W the picture in px, s the side of the model's masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from models.common.boxes import cxcywh_to_xyxy
from models.common.checks import check_number, check_size
from models.common.image_predictor import ImagePredictor, MaskPrediction
from models.common.prompting import FloatArray, check_array
from models.protocols import ConceptQuery, ConceptResult, Detection, ExemplarBox, ExemplarPoint
from models.sam2.outputs import TrackerFeatures
from models.sam2.promptable import PromptableTracker
from models.sam3.concept_search import Found, find, without_duplicates
from models.sam3.masks import DrawnMasks, logits_at, to_images
from models.sam3.network.model import Sam3, preprocess
from models.sam3.network.vision import VisionFeatures
from models.sam3.phrases import PhraseEncoder
from models.sam3.picture_rules import PictureRules
from models.sam3.prompts import Exemplar, pack_exemplars, phrase_of, read_queries
from models.sam3.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptPrediction:
    """What one query finds on one picture, best first.

    Attributes:
        query: What was asked, with its boxes clipped to the picture.
        masks: Shape (D, H, W), bool, the picture's size.
        boxes_xyxy: Corners in px of the picture, shape (D, 4).
        scores: Query score times presence, shape (D,), 0 to 1.
        presence_score: Probability that the concept is on the picture at all, 0 to 1.
        drawn: The masks as the model draws them, on its grid and, if it refines them, beyond.
        semantic_logits: Dense map of the concept, shape (s, s).
    """

    query: ConceptQuery
    masks: NDArray[np.bool_]
    boxes_xyxy: FloatArray
    scores: FloatArray
    presence_score: float
    drawn: DrawnMasks
    semantic_logits: FloatArray

    @property
    def picture_hw(self) -> tuple[int, int]:
        """Height and width of the picture in px."""
        return self.drawn.picture_hw

    @property
    def logits(self) -> FloatArray:
        """Masks on the model's grid, shape (D, s, s)."""
        return self.drawn.logits.numpy()

    def mask_logits(self) -> FloatArray:
        """Return the masks' logits at the picture's size, shape (D, H, W); above 0 is mask."""
        return self.drawn.mask_logits().numpy()

    def semantic_map(self) -> FloatArray:
        """Return each pixel's probability to show the concept, shape (H, W), 0 to 1."""
        logits = torch.from_numpy(self.semantic_logits)[None]
        return logits_at(logits, self.picture_hw)[0].sigmoid().numpy()


class Sam3ImageDetector:
    """Finds all instances of concepts; see :class:`models.protocols.ConceptDetector`."""

    def __init__(
        self,
        model: Sam3,
        tokenizer: Tokenizer,
        *,
        min_score: float = 0.5,
        rules: PictureRules = PictureRules(),
        phrases: PhraseEncoder | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            model: The model.
            tokenizer: Its vocabulary.
            min_score: Detections with a joint score of at most this are dropped.
            rules: How to decide, as suits the model's size; as published when left out.
            phrases: Encoder to share with others that ask this model; a new one when left out.

        Raises:
            ValueError: If ``min_score`` is not from 0 to 1.
        """
        self.model = model.eval()
        if phrases is None:
            phrases = PhraseEncoder(model.detector_model, tokenizer)
        self.phrases = phrases
        self.min_score = check_number("min_score", min_score, least=0, most=1)
        self.rules = rules

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(self.model.parameters()).device

    @property
    def takes_points(self) -> bool:
        """Whether points may be exemplars: only official checkpoints hold the weights for it."""
        return self.model.config.detector.point_exemplars

    @torch.inference_mode()
    def encode(self, pictures: Sequence[NDArray[np.uint8]]) -> VisionFeatures:
        """Embed RGB pictures (H, W, 3), uint8, of any sizes, for :meth:`search`.

        Raises:
            ValueError: If there is none, or one has another shape or type.
        """
        if not len(pictures):
            raise ValueError("pictures is empty; accepted: at least one")
        size = self.model.config.vision.image_size
        held = [to_images(pixels, self.device) for pixels in pictures]
        images = torch.cat([preprocess(picture, size) for picture in held])
        vision = self.model.detector_model.vision_encoder(images)
        if self.model.mask_refiner is None:
            return vision
        # Copies: a caller may write to its own before it asks.
        return replace(vision, pictures=tuple(picture[0].clone() for picture in held))

    @torch.inference_mode()
    def search(
        self,
        vision: VisionFeatures,
        sizes_hw: Sequence[tuple[int, int]],
        queries: Sequence[Sequence[str | ConceptQuery]],
    ) -> list[list[ConceptPrediction]]:
        """Ask each picture its own queries, all (picture, query) pairs in one batch.

        Args:
            vision: What :meth:`encode` made of the pictures.
            sizes_hw: Height and width of each picture in px.
            queries: Queries of each picture; none is an ordinary question.

        Raises:
            ValueError: If a query says nothing, an exemplar is not on the picture, the rows are
                not as many as the pictures, or a picture to look at again has another size.
        """
        count = len(vision.trunk)
        if not len(sizes_hw) == len(queries) == count:
            raise ValueError(
                f"sizes_hw has {len(sizes_hw)} and queries {len(queries)} rows; "
                f"accepted: {count}, one for each picture"
            )
        sizes_hw = [check_size("sizes_hw", size) for size in sizes_hw]
        for picture, size in zip(vision.pictures, sizes_hw, strict=False):
            if picture.shape[:2] != size:
                raise ValueError(f"sizes_hw has {size!r}; accepted: {tuple(picture.shape[:2])}")
        asked = [read_queries(row, takes_points=self.takes_points) for row in queries]
        owners = [n for n, row in enumerate(asked) for _ in row]
        if not owners:
            return [[] for _ in asked]
        flat = [query for row in asked for query in row]
        found = find(
            self.model.detector_model,
            vision,
            torch.tensor(owners, device=self.device),
            self.phrases.encode([phrase_of(query) for query in flat]),
            pack_exemplars([query.exemplars for query in flat], self.device),
            min_score=self.min_score,
            answer_shown=self.rules.answer_shown,
        )
        if self.rules.nms_iou < 1:
            found = [without_duplicates(one, self.rules.nms_iou) for one in found]
        pictures = vision.pictures or [None] * count
        answers = iter(
            self._prediction(query, one, sizes_hw[n], pictures[n])
            for n, query, one in zip(owners, flat, found, strict=True)
        )
        return [[next(answers) for _ in row] for row in asked]

    def _prediction(
        self,
        query: ConceptQuery,
        found: Found,
        picture_hw: tuple[int, int],
        pixels: Tensor | None,
    ) -> ConceptPrediction:
        found = found.select(np.argsort(-found.scores, kind="stable"))
        height, width = picture_hw
        corners = cxcywh_to_xyxy(found.boxes_cxcywh.float()).clamp(0, 1)
        drawn = DrawnMasks.draw(
            found.mask_logits, picture_hw, refiner=self.model.mask_refiner, pixels=pixels
        )
        return ConceptPrediction(
            query=query,
            masks=drawn.masks(),
            boxes_xyxy=corners.numpy(force=True) * np.array([width, height] * 2, np.float32),
            scores=found.scores,
            presence_score=found.presence,
            drawn=drawn.cpu(),
            semantic_logits=found.semantic_logits.float().numpy(force=True),
        )

    def detect(
        self,
        pixels: NDArray[np.uint8],
        queries: Sequence[str | ConceptQuery],
        *,
        with_semantic_map: bool = False,
    ) -> list[ConceptResult]:
        """Look for concepts on one picture.

        Args:
            pixels: RGB, shape (H, W, 3), uint8.
            queries: Phrases, or queries with exemplars on this picture.
            with_semantic_map: Whether to give the dense map of each concept, too.

        Returns:
            One result per query, in order.

        Raises:
            ValueError: If the picture has another shape or type, or as for :meth:`search`.
        """
        vision = self.encode([pixels])
        (found,) = self.search(vision, [(pixels.shape[0], pixels.shape[1])], [queries])
        return [_result(one, with_semantic_map=with_semantic_map) for one in found]


class Sam3ImagePredictor:
    """Asks one picture many things; it is embedded once (SAM 3, section 3).

    Concept prompts (:meth:`set_text_prompt`, :meth:`add_geometric_prompt`, :meth:`add_exemplar`)
    add up to one query for all instances of a concept. Visual prompts (:meth:`predict`) ask for one
    object each and leave the query alone. Not thread-safe.
    """

    def __init__(
        self,
        model: Sam3,
        tokenizer: Tokenizer,
        *,
        confidence_threshold: float = 0.5,
        rules: PictureRules = PictureRules(),
        phrases: PhraseEncoder | None = None,
    ) -> None:
        """Wrap a model; arguments as for :class:`Sam3ImageDetector`.

        Raises:
            ValueError: If ``confidence_threshold`` is not from 0 to 1.
        """
        self._detector = Sam3ImageDetector(model, tokenizer, rules=rules, phrases=phrases)
        self._visual = ImagePredictor(PromptableTracker(model.tracker_model, model.encode_pixels))
        self._vision: VisionFeatures | None = None
        self._hw = (0, 0)
        self._query = ConceptQuery()
        self.set_confidence_threshold(confidence_threshold)

    @property
    def rules(self) -> PictureRules:
        """How it decides."""
        return self._detector.rules

    @property
    def is_image_set(self) -> bool:
        """Whether there is a picture to ask about."""
        return self._vision is not None

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the picture in px. Raises ``ValueError`` if none is set."""
        self._embedded()
        return self._hw

    @property
    def query(self) -> ConceptQuery:
        """The concept prompts given so far."""
        return self._query

    @torch.inference_mode()
    def set_image(self, pixels: NDArray[np.uint8]) -> None:
        """Embed an RGB picture (H, W, 3), uint8, and forget all prompts.

        Raises:
            ValueError: If the picture has another shape or type; the one before is kept then.
        """
        self._vision = self._detector.encode([pixels])
        self._hw = (pixels.shape[0], pixels.shape[1])
        self._visual.reset()
        self.reset_all_prompts()

    def reset_all_prompts(self) -> None:
        """Forget phrase and exemplars, and keep the picture."""
        self._query = ConceptQuery()

    def set_confidence_threshold(self, threshold: float) -> None:
        """Drop detections with a joint score of at most ``threshold`` from now on.

        Raises:
            ValueError: If it is not from 0 to 1.
        """
        self._detector.min_score = check_number("threshold", threshold, least=0, most=1)

    def set_text_prompt(self, phrase: str) -> ConceptPrediction:
        """Set the phrase in place of the one before, and ask.

        Raises:
            ValueError: If no picture is set or the phrase is empty; nothing has changed then.
        """
        return self._ask(replace(self._query, phrase=phrase))

    def add_geometric_prompt(self, box: ArrayLike, label: bool = True) -> ConceptPrediction:  # noqa: FBT001, FBT002 - the call that users of SAM 3 know
        """Add an exemplar box, and ask.

        Args:
            box: Centre x and y, width and height, as shares of the picture's width and height.
            label: Whether it shows what is meant, or what is not.

        Raises:
            ValueError: As for :meth:`add_exemplar`.
        """
        x, y, width, height = check_array("box", box, (4,)).tolist()
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return self._ask_with(ExemplarBox(box_xyxy=corners, is_positive=label))

    def add_exemplar(
        self,
        *,
        box: ArrayLike | None = None,
        point: ArrayLike | None = None,
        is_positive: bool = True,
    ) -> ConceptPrediction:
        """Add an exemplar in px of the picture, and ask.

        Args:
            box: x0, y0, x1, y1; what lies outside the picture is cut off.
            point: x, y, in place of a box; only official checkpoints know points.
            is_positive: Whether it shows what is meant, or what is not.

        Raises:
            ValueError: If no picture is set, not one of ``box`` and ``point`` is given, or it is
                not on the picture; nothing has changed then.
        """
        if (box is None) == (point is None):
            raise ValueError(f"box is {box!r}, point is {point!r}; accepted: one of them")
        height, width = self.image_hw
        if point is not None:
            x, y = check_array("point", point, (2,)).tolist()
            place = (x / width, y / height)
            return self._ask_with(ExemplarPoint(point_xy=place, is_positive=is_positive))
        x0, y0, x1, y1 = check_array("box", box, (4,)).tolist()
        corners = (x0 / width, y0 / height, x1 / width, y1 / height)
        return self._ask_with(ExemplarBox(box_xyxy=corners, is_positive=is_positive))

    def ask(self) -> ConceptPrediction:
        """Ask for the concept as prompted so far.

        Raises:
            ValueError: If no picture is set or no prompt was given.
        """
        return self._ask(self._query)

    @property
    @torch.inference_mode()
    def visual(self) -> ImagePredictor[TrackerFeatures]:
        """The predictor for visual prompts, on the same embedding of the picture.

        Raises ``ValueError`` if no picture is set.
        """
        vision = self._embedded()
        if not self._visual.is_image_set:
            # Only now, because the tracker's neck costs something and concepts do not need it.
            self._visual.set_embedding(
                self._detector.model.tracker_features(vision.trunk), self._hw
            )
        return self._visual

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        *,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> MaskPrediction:
        """Segment one object by points, a box or a mask.

        Arguments, result and errors are those of
        :meth:`models.common.image_predictor.ImagePredictor.predict`.
        """
        return self.visual.predict(
            point_coords,
            point_labels,
            box,
            mask_input,
            multimask_output=multimask_output,
            return_logits=return_logits,
        )

    def _ask_with(self, exemplar: Exemplar) -> ConceptPrediction:
        return self._ask(replace(self._query, exemplars=(*self._query.exemplars, exemplar)))

    def _ask(self, query: ConceptQuery) -> ConceptPrediction:
        ((found,),) = self._detector.search(self._embedded(), [self._hw], [[query]])
        self._query = found.query
        return found

    def _embedded(self) -> VisionFeatures:
        if self._vision is None:
            raise ValueError("no picture is set; call set_image first")
        return self._vision


def _result(found: ConceptPrediction, *, with_semantic_map: bool) -> ConceptResult:
    height, width = found.picture_hw
    shares = (found.boxes_xyxy / np.array([width, height] * 2, np.float32)).tolist()
    return ConceptResult(
        phrase=phrase_of(found.query),
        presence_score=found.presence_score,
        detections=tuple(
            Detection(
                score=score,
                presence_score=found.presence_score,
                box_xyxy=(x0, y0, x1, y1),
                mask=mask,
            )
            for score, (x0, y0, x1, y1), mask in zip(
                found.scores.tolist(), shares, found.masks, strict=True
            )
        ),
        semantic_map=found.semantic_map() if with_semantic_map else None,
    )
