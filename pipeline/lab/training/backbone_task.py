"""Teaches backbone and text encoder what phrases look like, before there is a detector."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.sam3.network.model import Sam3, preprocess
from models.sam3.network.text import TextFeatures
from models.sam3.tokenizer import Tokenizer
from models.training.dense_losses import PICTURE_SHARE, dense_logits, dense_losses
from models.training.initialise import initialise_detector
from pipeline.lab.training.pictures import Batch, Contrast, PictureSource, make_batch
from pipeline.lab.training.recipe import Stage
from pipeline.lab.training.tasks import Losses


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneTask:
    """Dense contrast of places with all phrases of a batch; a step costs a third of the detector's.

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
        places = stage.image_size // self.patch_size
        return make_batch(rng, self.source, stage, places=places)

    def losses(
        self, model: Sam3, tokenizer: Tokenizer, batch: Batch, rng: np.random.Generator
    ) -> Losses:
        """Compare every place of every picture with every phrase of the batch."""
        del rng
        return look(model, tokenizer, batch)


def look(model: Sam3, tokenizer: Tokenizer, batch: Batch) -> Losses:
    """Show the backbone the pictures of a batch, and hold them against all its phrases."""
    detector = model.detector_model
    vision = detector.vision_encoder(preprocess(batch.pixels, int(batch.pixels.shape[1])))
    phrases = tokenizer.encode(batch.contrast.phrases).to(batch.pixels.device)
    return contrast(vision.detector_pyramid[-1], detector.encode_text(phrases), batch.contrast)


def contrast(places: Tensor, text: TextFeatures, truth: Contrast) -> Losses:
    """Hold places (N, D, G, G) against the P phrases of a batch."""
    logits = dense_logits(places, pooled(text)).float()
    with torch.no_grad():
        is_there = truth.cover.flatten(2).amax(-1) > PICTURE_SHARE
        is_found = logits.flatten(2).amax(-1) > 0
        found = _share(is_found, is_there & truth.is_known)
        false_alarms = _share(is_found, ~is_there & truth.is_known)
    return Losses(
        terms=dense_losses(logits, truth.cover, truth.is_known),
        figures={"found": found, "false_alarms": false_alarms},
    )


def _share(flags: Tensor, among: Tensor) -> float:
    return float((flags & among).sum() / among.sum().clamp(min=1))


def pooled(text: TextFeatures) -> Tensor:
    """Mean of a phrase's tokens, shape (P, D)."""
    weight = text.is_valid[..., None].to(text.tokens.dtype)
    return (text.tokens * weight).sum(1) / weight.sum(1).clamp(min=1)
