"""Teaches the refiner to draw the outlines of what a finished detector finds."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.sam3.model import Sam3
from models.sam3.refiner import Windows
from models.sam3.tokenizer import Tokenizer
from models.training.matching import dice_loss, match
from models.training.tracker_losses import mask_iou
from pipeline.training.detector_task import answer
from pipeline.training.pictures import Batch, PictureSource, make_batch
from pipeline.training.recipe import Stage
from pipeline.training.tasks import Losses

# Pictures are so much smaller than the model's, or as large: cameras' objects are of any size.
SHRINKS = (0.6, 1.0)
# Of two masks that overlap less, one is of another thing; then there is no outline to learn.
LEAST_IOU = 0.25
# How sure a mask is differs between models and moments: its logits are stretched by up to this
# power of e, and moved by up to so much.
STRETCH, MOVE = 0.5, 0.4
BCE_WEIGHT = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinerTask:
    """Outlines, on windows of pictures; all else of the model is frozen.

    Attributes:
        source: Where the pictures come from.
        learns: Beginnings of the names of the parameters that learn.
    """

    source: PictureSource
    learns: tuple[str, ...] = ("mask_refiner.",)

    def initialise(self, model: Sam3, stage: Stage, *, seed: int) -> None:
        """Leave the refiner as it was built: one that changes nothing."""
        del model, stage, seed

    def draw(self, rng: np.random.Generator, stage: Stage) -> Batch:
        """Draw pictures, all of one size, and questions."""
        side = round(stage.image_size * float(rng.choice(SHRINKS)))
        return make_batch(rng, self.source, stage.model_copy(update={"image_size": side}), places=1)

    def losses(
        self, model: Sam3, tokenizer: Tokenizer, batch: Batch, rng: np.random.Generator
    ) -> Losses:
        """Let the detector find what is asked for, draw that anew and judge the outlines."""
        if model.mask_refiner is None:
            raise ValueError("the model has no refiner; expected a size that has one")
        looks = look_again(model, tokenizer, batch, model.mask_refiner.side)
        refined = model.mask_refiner(*_varied(looks, rng))
        truth = looks.truth
        bce = F.binary_cross_entropy_with_logits(refined, truth, reduction="none").mean((1, 2))
        count = max(len(truth), 1)
        return Losses(
            terms={
                "outline_bce": BCE_WEIGHT * bce.sum() / count,
                "outline_dice": dice_loss(refined, truth).sum() / count,
            },
            figures={
                "grid_iou": float(mask_iou(looks.logits, truth).mean()),
                "outline_iou": float(mask_iou(refined, truth).mean()),
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Windows round what was found, all of a batch one after another.

    Attributes:
        pixels: Shape (M, 3, R, R), 0 to 1.
        logits: The detector's masks, shape (M, R, R).
        truth: Share of each cell that the object covers, shape (M, R, R), 0 to 1.
    """

    pixels: Tensor
    logits: Tensor
    truth: Tensor


@torch.no_grad()
def look_again(model: Sam3, tokenizer: Tokenizer, batch: Batch, side: int) -> Looks:
    """Cut a window round everything that the detector finds and that is truly there.

    A batch of which nothing is found gives one empty window, so that there is a loss.
    """
    output = answer(model.detector_model, tokenizer, batch, size=model.config.vision.image_size)[0]
    targets = batch.targets
    found = match(
        output.logits[-1],
        output.boxes_cxcywh[-1],
        targets.boxes_cxcywh,
        targets.counts,
        repeats=1,
    )
    queries = output.queries[-1][found.pair, found.query][:, None]
    masks = model.detector_model.mask_decoder.masks(queries, output.pixel_embedding[found.pair])
    logits, truth = masks[:, 0].float(), targets.masks[found.target]
    size = (truth.shape[-2], truth.shape[-1])
    large = F.interpolate(logits[:, None], size=size, mode="bilinear")[:, 0]
    is_found = (mask_iou(large, truth.float()) >= LEAST_IOU) & (logits > 0).flatten(1).any(1)
    looks = [_empty(batch, side)]
    for n, picture in enumerate(batch.pixels):
        rows = (is_found & (batch.image_index[found.pair] == n)).nonzero()[:, 0]
        if not len(rows):
            continue
        windows = Windows.of(logits[rows], size)
        looks.append(
            Looks(
                pixels=windows.cut(picture, side),
                logits=windows.cut_logits(logits[rows], side),
                truth=_cut_truth(truth[rows], windows, side),
            )
        )
    used = looks[1:] or looks
    return Looks(
        pixels=torch.cat([look.pixels for look in used]),
        logits=torch.cat([look.logits for look in used]),
        truth=torch.cat([look.truth for look in used]),
    )


def _empty(batch: Batch, side: int) -> Looks:
    nothing = torch.zeros(1, side, side, device=batch.pixels.device)
    return Looks(pixels=nothing[:, None].expand(-1, 3, -1, -1), logits=nothing - 1, truth=nothing)


def _cut_truth(masks: Tensor, windows: Windows, side: int) -> Tensor:
    """Cut the windows out of their own true masks (K, H, W) to (M, R, R)."""
    cut = [
        F.interpolate(
            masks[k][None, None, y0:y1, x0:x1].float(),
            size=(side, side),
            mode="bilinear",
            antialias=True,
        )[0]
        for k, (x0, y0, x1, y1) in zip(windows.of_mask, windows.corners, strict=True)
    ]
    return torch.cat(cut)


def _varied(looks: Looks, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return windows and masks, some surer and some less sure than the detector's."""
    shape = (len(looks.logits), 1, 1)
    stretch = torch.from_numpy(np.exp(rng.uniform(-STRETCH, STRETCH, shape))).to(looks.logits)
    move = torch.from_numpy(rng.uniform(-MOVE, MOVE, shape)).to(looks.logits)
    return looks.pixels, looks.logits * stretch + move
