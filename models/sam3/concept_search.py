"""Looks for concepts on pictures: the detector, and masks for what is worth one (section 3).

Shape legend:
    B (picture, concept) pairs, D kept detections of one, g tokens along a side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.common.boxes import cxcywh_to_xyxy
from models.common.positional import sine_grid
from models.sam3.exemplar_matching import answers_to, end_at_boxes, shown_boxes, with_first_box
from models.sam3.masks import mask_iou
from models.sam3.network.detector import Detector
from models.sam3.network.exemplars import Exemplars
from models.sam3.network.text import TextFeatures
from models.sam3.network.vision import VisionFeatures

# Pairs in one pass: bounds the memory of many concepts; more would hardly be faster.
MAX_PAIRS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the detector finds of one concept on one picture, in the order of its queries.

    Attributes:
        scores: Query score times presence, shape (D,), 0 to 1.
        boxes_cxcywh: Shape (D, 4), normalised.
        mask_logits: Shape (D, 4g, 4g).
        semantic_logits: Dense map of the concept, shape (4g, 4g).
        presence: Probability that the concept is there at all.
    """

    scores: NDArray[np.float32]
    boxes_cxcywh: Tensor
    mask_logits: Tensor
    semantic_logits: Tensor
    presence: float

    def select(self, index: NDArray[np.int64]) -> "Found":
        """Choose or reorder detections."""
        rows = torch.from_numpy(index).to(self.mask_logits.device)
        return Found(
            scores=self.scores[index],
            boxes_cxcywh=self.boxes_cxcywh[rows],
            mask_logits=self.mask_logits[rows],
            semantic_logits=self.semantic_logits,
            presence=self.presence,
        )


def find(
    detector: Detector,
    vision: VisionFeatures,
    image_index: Tensor,
    texts: Sequence[TextFeatures],
    exemplars: Exemplars | None,
    *,
    min_score: float,
    answer_shown: bool = False,
) -> list[Found]:
    """Look for B concepts, and return what is found of each.

    Args:
        detector: The model.
        vision: Features of the pictures.
        image_index: Picture of each pair, shape (B,).
        texts: Features of each of B phrases.
        exemplars: Exemplars of each pair, or none at all.
        min_score: Detections with a joint score above it are kept.
        answer_shown: Whether what positive boxes show is found, as surely as the concept is there,
            and the first of them alone is read; see :mod:`models.sam3.exemplar_matching`.
    """
    found: dict[int, Found] = {}
    for rows, illustrated in _batches(texts, exemplars):
        pairs = torch.tensor(rows, device=image_index.device)
        output = detector(
            vision,
            image_index[pairs],
            TextFeatures.join([texts[row] for row in rows]),
            with_first_box(illustrated) if illustrated and answer_shown else illustrated,
        )
        scores = output.joint_scores().float().numpy(force=True)
        presence = output.presence().float().tolist()
        for pair, score in enumerate(scores):
            shown = shown_boxes(illustrated, pair if answer_shown else None)
            answers = answers_to(cxcywh_to_xyxy(output.boxes_cxcywh[-1][pair]), score, shown)
            score[answers >= 0] = presence[pair]
            kept = np.flatnonzero(score > min_score)
            queries = torch.from_numpy(kept).to(image_index.device)
            # Only kept queries get masks: most of the mask head's output would be thrown away.
            masks = detector.mask_decoder.masks(
                output.queries[-1][pair, queries][None], output.pixel_embedding[pair][None]
            )[0]
            found[rows[pair]] = Found(
                scores=score[kept],
                boxes_cxcywh=output.boxes_cxcywh[-1][pair, queries],
                mask_logits=end_at_boxes(masks, shown, answers[kept]),
                semantic_logits=output.semantic_logits[pair],
                presence=presence[pair],
            )
    return [found[row] for row in range(len(texts))]


def _batches(
    texts: Sequence[TextFeatures], exemplars: Exemplars | None
) -> Iterator[tuple[list[int], Exemplars | None]]:
    """Put pairs into batches, with their exemplars if they have any.

    On a CPU a pair is batched with such alone as have prompts of its length: padding would change
    its last bits with what other concepts have been shown.
    """
    on_cpu = texts[0].tokens.device.type == "cpu"
    has_exemplars = [exemplars is not None] * len(texts)
    if exemplars is not None and on_cpu:
        has_exemplars = exemplars.are_given.tolist()
    like: dict[tuple[int, bool], list[int]] = {}
    for row, (text, is_illustrated) in enumerate(zip(texts, has_exemplars, strict=True)):
        length = text.tokens.shape[1] if on_cpu else 0
        like.setdefault((length, is_illustrated), []).append(row)
    for (_, is_illustrated), rows in like.items():
        for first in range(0, len(rows), MAX_PAIRS):
            part = rows[first : first + MAX_PAIRS]
            given = exemplars if is_illustrated else None
            if given is not None and len(part) < len(texts):
                given = given.select(torch.tensor(part, device=given.is_valid.device))
            yield part, given


def without_duplicates(found: Found, nms_iou: float) -> Found:
    """Drop detections that overlap a better one of the same concept; the best come first."""
    masks = found.mask_logits > 0
    return found.select(suppress_overlaps(mask_iou(masks, masks), found.scores, nms_iou))


def suppress_overlaps(
    iou: NDArray[np.float32], scores: NDArray[np.float32], threshold: float
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: indices kept, by falling score.

    Args:
        iou: Overlap among the candidates, shape (D, D).
        scores: Shape (D,).
        threshold: A candidate that overlaps a kept one more than this is dropped.
    """
    kept: list[int] = []
    for candidate in np.argsort(-scores, kind="stable"):
        if all(iou[candidate, other] <= threshold for other in kept):
            kept.append(int(candidate))
    return np.array(kept, dtype=np.int64)


def encode_exemplars(detector: Detector, coarse: Tensor, exemplars: Exemplars) -> TextFeatures:
    """Return the prompt tokens of exemplars as their pictures show them, without the picture token.

    They can go with a phrase to other pictures, by ``TextFeatures.extend``.

    Args:
        detector: The model.
        coarse: Coarsest level of the detector's pyramid for each of B queries, shape (B, D, G, G).
        exemplars: Exemplars of the B queries.
    """
    rows, columns = coarse.shape[-2:]
    place = sine_grid(rows, columns, coarse.shape[1], coarse.device).to(coarse.dtype)
    tokens, is_valid = detector.geometry_encoder(exemplars, coarse, place)
    return TextFeatures(tokens=tokens[:, :-1], is_valid=is_valid[:, :-1])
