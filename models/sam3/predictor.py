"""Concept detection on single pictures (SAM 3, section 3), for evaluation and stills."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.common.boxes import cxcywh_to_xyxy
from models.protocols import ConceptResult, Detection
from models.sam3.detector import DetectorOutput
from models.sam3.masks import to_images
from models.sam3.model import Sam3, preprocess
from models.sam3.tokenizer import Tokenizer


class Sam3ImageDetector:
    """Detects phrases on pictures; see :class:`models.protocols.ConceptDetector`."""

    def __init__(self, model: Sam3, tokenizer: Tokenizer, *, min_score: float = 0.5) -> None:
        """Wrap a model; detections with a joint score of at most ``min_score`` are dropped."""
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._min_score = min_score

    @torch.inference_mode()
    def detect(self, pixels: NDArray[np.uint8], phrases: Sequence[str]) -> list[ConceptResult]:
        """Look for phrases on an RGB picture (H, W, 3), uint8; one result per phrase, in order."""
        detector = self._model.detector_model
        device = next(self._model.parameters()).device
        picture = to_images(pixels, device)
        vision = detector.vision_encoder(preprocess(picture, self._model.config.vision.image_size))
        text = detector.encode_text(self._tokenizer.encode(phrases).to(device))
        output = detector(vision, torch.zeros(len(phrases), dtype=torch.int64, device=device), text)
        scores, presence = output.joint_scores(), output.presence_logits[-1].sigmoid()
        boxes = cxcywh_to_xyxy(output.boxes_cxcywh[-1]).clamp(0, 1)
        results: list[ConceptResult] = []
        for row, phrase in enumerate(phrases):
            kept = (scores[row] > self._min_score).nonzero()[:, 0]
            kept = kept[scores[row, kept].argsort(descending=True)]
            masks = self._masks(output, row, kept, pixels.shape[:2])
            results.append(
                ConceptResult(
                    phrase=phrase,
                    presence_score=float(presence[row]),
                    detections=tuple(
                        Detection(
                            score=float(scores[row, query]),
                            presence_score=float(presence[row]),
                            box_xyxy=_corners(boxes[row, query].tolist()),
                            mask=mask.numpy(force=True),
                        )
                        for query, mask in zip(kept.tolist(), masks, strict=True)
                    ),
                )
            )
        return results

    def _masks(
        self, output: DetectorOutput, row: int, queries: Tensor, frame_hw: tuple[int, int]
    ) -> Tensor:
        """Masks (D, H, W) of one pair's chosen queries; none is an ordinary answer."""
        if not len(queries):
            return torch.zeros(0, *frame_hw, dtype=torch.bool)
        logits = self._model.detector_model.mask_decoder.masks(
            output.queries[-1][row, queries][None], output.pixel_embedding[row][None]
        )
        return F.interpolate(logits, size=frame_hw, mode="bilinear")[0] > 0


def _corners(values: list[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = values
    return x0, y0, x1, y1
