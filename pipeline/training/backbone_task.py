"""Teaches backbone and text encoder what phrases look like, before there is a detector."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.sam3.model import Sam3, preprocess
from models.sam3.text import TextFeatures
from models.sam3.tokenizer import Tokenizer
from models.training.dense_losses import dense_logits, dense_losses
from models.training.initialise import initialise_detector
from pipeline.training.pictures import Batch, PictureSource, make_batch
from pipeline.training.recipe import Stage
from pipeline.training.tasks import Losses


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneTask:
    """Dense contrast of places with phrases; a step costs a third of the detector's.

    Attributes:
        source: Where the pictures come from.
        patch_size: Of the model, in px.
        learns: Beginnings of the names of the parameters that learn.
    """

    source: PictureSource
    patch_size: int
    learns: tuple[str, ...] = (
        "detector_model.vision_encoder.",
        "detector_model.text_encoder.",
        "detector_model.text_projection.",
    )

    def initialise(self, model: Sam3, stage: Stage, *, seed: int) -> None:
        """Set the starting weights of the detector, of which this learns a part."""
        del stage
        initialise_detector(model.detector_model, seed=seed)

    def draw(self, rng: np.random.Generator, stage: Stage) -> Batch:
        """Draw pictures and questions."""
        return make_batch(rng, self.source, stage, grid=stage.image_size // self.patch_size)

    def losses(
        self, model: Sam3, tokenizer: Tokenizer, batch: Batch, rng: np.random.Generator
    ) -> Losses:
        """Compare every place of every picture with every phrase that was asked of it."""
        del rng
        detector = model.detector_model
        vision = detector.vision_encoder(preprocess(batch.pixels, int(batch.pixels.shape[1])))
        unique = sorted(set(batch.phrases))
        text = detector.encode_text(tokenizer.encode(unique).to(batch.pixels.device))
        logits = dense_logits(vision.detector_pyramid[-1], pooled(text))
        cover, is_asked = _spread(batch, unique, logits)
        with torch.no_grad():
            there = cover.flatten(2).amax(-1) > 0.3
            found = logits.flatten(2).amax(-1) > 0
            accuracy = (found == there)[is_asked].float().mean()
        return Losses(
            terms=dense_losses(logits, cover, is_asked),
            figures={"presence_accuracy": float(accuracy)},
        )


def pooled(text: TextFeatures) -> Tensor:
    """Mean of a phrase's tokens, shape (P, D)."""
    weight = text.is_valid[..., None].to(text.tokens.dtype)
    return (text.tokens * weight).sum(1) / weight.sum(1).clamp(min=1)


def _spread(batch: Batch, unique: list[str], like: Tensor) -> tuple[Tensor, Tensor]:
    """Lay the truth of the questions out as (N, P, G, G), and say which were asked (N, P)."""
    cover = torch.zeros_like(like)
    is_asked = torch.zeros(like.shape[:2], dtype=torch.bool, device=like.device)
    start = 0
    for row, count in enumerate(batch.targets.counts):
        n, p = int(batch.image_index[row]), unique.index(batch.phrases[row])
        is_asked[n, p] = True
        if count:
            masks = batch.targets.masks[start : start + count].sum(0).clamp(max=1)
            cover[n, p] = F.adaptive_avg_pool2d(masks[None], (like.shape[-2], like.shape[-1]))[0]
        start += count
    return cover, is_asked
