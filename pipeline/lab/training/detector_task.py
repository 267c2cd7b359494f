"""Teaches the detector to find every instance of a phrase (SAM 3, section 4 and appendix)."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from models.sam3.network.detector import Detector, DetectorOutput
from models.sam3.network.model import Sam3, preprocess
from models.sam3.network.text import TextFeatures
from models.sam3.tokenizer import Tokenizer
from models.training.detector_losses import (
    DetectorLossWeights,
    DetectorTargets,
    detector_losses,
    enlarge,
)
from models.training.initialise import initialise_detector
from pipeline.lab.training.backbone_task import contrast, look
from pipeline.lab.training.pictures import Batch, PictureSource, make_batch
from pipeline.lab.training.recipe import Stage
from pipeline.lab.training.tasks import Losses

# Tokens along a side of a close-up that a detector stage rehearses with: one window of sam3-nano.
CLOSE_UP_PLACES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorTask:
    """Boxes, masks, scores and presence of all instances.

    Attributes:
        source: Where the pictures come from.
        patch_size: Of the model, in px.
        weights: Of the terms of the loss.
        learns: Beginnings of the names of the parameters that learn.
    """

    source: PictureSource
    patch_size: int
    weights: DetectorLossWeights = field(default_factory=DetectorLossWeights)
    learns: tuple[str, ...] = ("detector_model.",)

    def initialise(self, model: Sam3, stage: Stage, *, seed: int) -> None:
        """Set starting weights with which little training goes far."""
        del stage
        initialise_detector(model.detector_model, seed=seed)

    def draw(self, rng: np.random.Generator, stage: Stage) -> Batch:
        """Draw pictures and questions, and close-ups to rehearse with."""
        places = stage.image_size // self.patch_size
        batch = make_batch(rng, self.source, stage, places=places)
        if not stage.rehearse:
            return batch
        from_nearby = stage.model_copy(
            update={
                "images": stage.rehearse,
                "image_size": CLOSE_UP_PLACES * self.patch_size,
                "close_ups": 1.0,
                "exemplar_probability": 0.0,
            }
        )
        close_ups = make_batch(rng, self.source, from_nearby, places=CLOSE_UP_PLACES)
        return replace(batch, close_ups=close_ups)

    def losses(
        self, model: Sam3, tokenizer: Tokenizer, batch: Batch, rng: np.random.Generator
    ) -> Losses:
        """Answer the questions and judge the answers."""
        del rng
        detector, weight = model.detector_model, batch.contrast_weight
        output, places, text = answer(detector, tokenizer, batch)
        weights = self.weights.times(masks=batch.mask_weight, present=batch.present_weight)
        terms = detector_losses(detector, output, batch.targets, weights)
        figures = answer_quality(detector, output, batch.targets)
        if weight:
            likeness = contrast(places, text, batch.contrast)
            terms |= {name: weight * term for name, term in likeness.terms.items()}
            figures |= likeness.figures
        if weight and batch.close_ups is not None:
            rehearsed = look(model, tokenizer, batch.close_ups)
            terms |= {f"close_{name}": weight * term for name, term in rehearsed.terms.items()}
            figures |= {f"close_{name}": figure for name, figure in rehearsed.figures.items()}
        return Losses(terms=terms, figures=figures)


def answer(
    detector: Detector, tokenizer: Tokenizer, batch: Batch, *, size: int | None = None
) -> tuple[DetectorOutput, Tensor, TextFeatures]:
    """Run the detector on a batch; frozen parts take no gradient and keep no activations.

    Args:
        detector: The model.
        tokenizer: Its vocabulary.
        batch: Pictures and questions.
        size: Side that the pictures are brought to; as they are when left out.

    Returns:
        The answers, the places of the pictures and the phrases of the contrast.
    """
    unique = sorted({*batch.phrases, *batch.contrast.phrases})
    device = batch.pixels.device
    with torch.set_grad_enabled(_any_learns(detector.text_encoder)):
        text_tokens = tokenizer.encode(unique).to(device)
        encoded = detector.encode_text(text_tokens)
    with torch.set_grad_enabled(_any_learns(detector.vision_encoder.backbone)):
        trunk = detector.vision_encoder.backbone(
            preprocess(batch.pixels, size or int(batch.pixels.shape[1]))
        )
    vision = detector.vision_encoder.from_trunk(trunk)
    rows = torch.tensor([unique.index(phrase) for phrase in batch.phrases], device=device)
    exemplars = batch.exemplars if batch.exemplars.is_valid.any() else None
    held = torch.tensor([unique.index(p) for p in batch.contrast.phrases], device=device)
    output = detector(vision, batch.image_index, encoded.select(rows), exemplars)
    return output, vision.detector_pyramid[-1], encoded.select(held)


def _any_learns(module: torch.nn.Module) -> bool:
    return torch.is_grad_enabled() and any(p.requires_grad for p in module.parameters())


@torch.no_grad()
def answer_quality(
    detector: Detector, output: DetectorOutput, targets: DetectorTargets
) -> dict[str, float]:
    """Presence accuracy, and of present pairs the best-scored query's IoU with its best object."""
    device = output.logits.device
    is_present = torch.tensor([count > 0 for count in targets.counts], device=device)
    accuracy = ((output.presence_logits[-1] > 0) == is_present).float().mean()
    best = output.logits[-1].argmax(1)
    pairs = torch.arange(len(best), device=device)
    logits = detector.masks(output, output.queries[-1][pairs, best][:, None])[:, 0]
    masks = enlarge(logits, targets.masks.shape[-1]) > 0
    overlaps: list[Tensor] = []
    start = 0
    for pair, count in enumerate(targets.counts):
        if count:
            truth = targets.masks[start : start + count]
            inter = (truth & masks[pair]).sum((1, 2))
            overlaps.append((inter / (truth | masks[pair]).sum((1, 2)).clamp(min=1)).max())
        start += count
    return {
        "presence_accuracy": float(accuracy),
        "top_mask_iou": float(torch.stack(overlaps).mean()) if overlaps else 0.0,
        "top_score": float(output.logits[-1][is_present].sigmoid().amax(1).mean())
        if is_present.any()
        else 0.0,
    }
