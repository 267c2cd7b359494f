"""Pictures of what a model in training predicts, one cell for each."""

import numpy as np
import torch
from numpy.typing import NDArray

from connectors.annotate.draw import Style, draw
from connectors.base import Overlay
from models.sam3.masks import DrawnMasks
from models.sam3.network.model import Sam3
from models.sam3.tokenizer import Tokenizer
from models.training.detector_losses import enlarge
from pipeline.lab.training.clips import ClipBatch
from pipeline.lab.training.detector_task import answer
from pipeline.lab.training.pictures import Batch
from pipeline.lab.training.tracker_task import Lesson, encode_clips, unroll

NUM_PICTURES = 8
LEAST_SCORE = 0.5
STYLE = Style(min_width=320, mask_opacity=0.45)


def detector_cells(model: Sam3, tokenizer: Tokenizer, batch: Batch) -> list[NDArray[np.uint8]]:
    """Draw each picture with what was found; the corner tells what was asked and its presence."""
    output = answer(model.detector_model, tokenizer, batch)[0]
    scores, presence = output.joint_scores(), output.presence_logits[-1].sigmoid()
    side = int(batch.pixels.shape[1])
    cells: list[NDArray[np.uint8]] = []
    for n in range(min(len(batch.pixels), NUM_PICTURES)):
        overlays: list[Overlay] = []
        captions: list[str] = []
        for row in (batch.image_index == n).nonzero()[:, 0].tolist():
            kept = (scores[row] > LEAST_SCORE).nonzero()[:, 0]
            logits = model.detector_model.masks(output, output.queries[-1][:, kept])[row]
            large = DrawnMasks.draw(
                logits, (side, side), refiner=model.mask_refiner, pixels=batch.pixels[n]
            ).masks()
            phrase = batch.phrases[row]
            is_there = "there" if batch.targets.counts[row] else "absent"
            captions.append(f"{phrase} ({is_there}) {float(presence[row]):.2f}")
            overlays += [
                Overlay(
                    number=len(overlays) + i + 1,
                    label=f"{phrase} {float(scores[row, query]):.2f}",
                    bits=mask,
                )
                for i, (query, mask) in enumerate(zip(kept.tolist(), large, strict=True))
            ]
        cells.append(draw(batch.pixels[n].numpy(force=True), overlays, captions, STYLE))
    return cells


def tracker_cells(model: Sam3, batch: ClipBatch) -> list[NDArray[np.uint8]]:
    """Draw the frames of the first clips, each object with its mask while it is held visible."""
    outputs = unroll(model, encode_clips(model, batch), batch, Lesson(is_taught=False))
    num_clips = len(batch.pixels) // len(batch.targets)
    side = int(batch.pixels.shape[1])
    cells: list[NDArray[np.uint8]] = []
    for clip in range(min(2, num_clips)):
        members = (batch.clip_index == clip).nonzero()[:, 0].tolist()
        for t, output in enumerate(outputs[: NUM_PICTURES // 2]):
            masks = enlarge(output.mask_logits[:, 0], side) > 0
            overlays = [
                Overlay(number=i + 1, label=f"{i + 1}", bits=masks[i].numpy(force=True))
                for i in members
            ]
            pixels = batch.pixels[t * num_clips + clip].numpy(force=True)
            cells.append(draw(pixels, overlays, [f"frame {t}"], STYLE))
    return cells


def draw_cells(
    model: Sam3, tokenizer: Tokenizer, batch: Batch | ClipBatch
) -> list[NDArray[np.uint8]]:
    """Draw a batch of either kind, without gradients."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            if isinstance(batch, ClipBatch):
                return tracker_cells(model, batch)
            return detector_cells(model, tokenizer, batch)
    finally:
        model.train(was_training)
