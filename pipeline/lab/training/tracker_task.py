"""Teaches the tracker to follow objects it is given (SAM 2, section 4), on a frozen backbone."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.common.mask_decoder import choose_multimask
from models.sam2.memory_bank import MemoryBank
from models.sam2.outputs import TrackerFeatures, TrackOutput
from models.sam3.network.model import Sam3, preprocess
from models.sam3.tokenizer import Tokenizer
from models.training.initialise_tracker import initialise_tracker
from models.training.tracker_losses import (
    TrackerLossWeights,
    clip_losses,
    mask_iou,
    prompt_losses,
)
from pipeline.lab.training.clicks import correct, first_prompt, random_plan
from pipeline.lab.training.clips import ClipBatch, ClipSource, make_clips
from pipeline.lab.training.recipe import Stage
from pipeline.lab.training.tasks import Losses

# A conditioning frame may lie far back when an object is tracked for long.
MOST_EXTRA_AGE = 40
TEACHING_SHARE = 0.5
RECONDITION_SHARE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """How one clip is taught.

    Attributes:
        is_taught: Whether the truth about visibility, and not the object score, decides what is
            remembered.
        extra_age: Frames by which the conditioning frame is made to look older.
        recondition_at: Frame on which visible objects are remembered as if just detected again,
            0 for none.
    """

    is_taught: bool = True
    extra_age: int = 0
    recondition_at: int = 0


def random_lesson(rng: np.random.Generator, frames: int) -> Lesson:
    """Draw how to teach a step."""
    is_old, is_again = rng.random() < 0.4, rng.random() < RECONDITION_SHARE
    return Lesson(
        is_taught=bool(rng.random() < TEACHING_SHARE),
        extra_age=int(rng.integers(1, MOST_EXTRA_AGE)) if is_old else 0,
        recondition_at=int(rng.integers(1, frames)) if is_again and frames > 1 else 0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerTask:
    """Masks, predicted IoU and visibility of followed objects.

    Attributes:
        source: Where the clips come from.
        patch_size: Of the model, in px.
        weights: Of the terms of the loss.
        learns: Beginnings of the names of the parameters that learn.
    """

    source: ClipSource
    patch_size: int
    weights: TrackerLossWeights = field(default_factory=TrackerLossWeights)
    learns: tuple[str, ...] = ("tracker_model.", "tracker_neck.")

    def initialise(self, model: Sam3, stage: Stage, *, seed: int) -> None:
        """Set starting weights that fit what the backbone gives."""
        batch = self.draw(np.random.default_rng(seed), stage)
        with torch.no_grad():
            trunk = _trunk(model, batch)
        initialise_tracker(model.tracker_model, model.tracker_neck, trunk, seed=seed)

    def draw(self, rng: np.random.Generator, stage: Stage) -> ClipBatch:
        """Draw clips."""
        return make_clips(rng, self.source, stage, grid=4 * stage.image_size // self.patch_size)

    def losses(
        self, model: Sam3, tokenizer: Tokenizer, batch: ClipBatch, rng: np.random.Generator
    ) -> Losses:
        """Follow the objects through the clips and judge the masks."""
        del tokenizer
        features = encode_clips(model, batch)
        outputs = unroll(model, features, batch, random_lesson(rng, len(batch.targets)))
        asked = ask(model, features, batch, rng, self.weights)
        return Losses(
            terms=clip_losses(outputs, batch.targets, self.weights) | asked.terms,
            figures=clip_quality(outputs, batch) | asked.figures,
        )


def _trunk(model: Sam3, batch: ClipBatch) -> Tensor:
    pixels = batch.pixels.to(next(model.parameters()).device)
    return model.detector_model.vision_encoder.backbone(
        preprocess(pixels, int(batch.pixels.shape[1]))
    )


def encode_clips(model: Sam3, batch: ClipBatch) -> TrackerFeatures:
    """Encode all frames; the tracker's neck learns, no gradient flows into the backbone."""
    with torch.no_grad():
        trunk = _trunk(model, batch)
    return model.tracker_features(trunk)


def ask(
    model: Sam3,
    features: TrackerFeatures,
    batch: ClipBatch,
    rng: np.random.Generator,
    weights: TrackerLossWeights,
) -> Losses:
    """Ask for every object by points or a box on a random frame that shows it, and correct."""
    times = [int(rng.choice(row.nonzero()[0])) for row in visible_times(batch)]
    frame_index = torch.stack([batch.frame_index(t)[i] for i, t in enumerate(times)])
    masks = torch.stack([batch.targets[t].masks[i] for i, t in enumerate(times)])
    plan = random_plan(rng)
    prompts = first_prompt(rng, masks, plan)
    totals: dict[str, Tensor] = {}
    overlap = masks.new_zeros(())
    for turn in range(plan.corrections + 1):
        is_ambiguous = prompts.boxes is None and prompts.points.shape[1] == 1
        decoded = model.tracker_model.decode_prompts(features, frame_index, prompts)
        terms = prompt_losses(decoded, masks, weights, is_ambiguous=is_ambiguous)
        for name, term in terms.items():
            totals[name] = totals.get(name, 0) + term / (plan.corrections + 1)
        chosen = choose_multimask(decoded) if is_ambiguous else torch.zeros_like(frame_index)
        rows = torch.arange(len(chosen), device=chosen.device)
        answer = decoded.mask_logits[rows, chosen][:, None]
        overlap = mask_iou(answer[:, 0], masks).mean()
        if turn < plan.corrections:
            prompts = correct(rng, prompts, masks, answer)
    return Losses(terms=totals, figures={f"{plan.opening}_iou": float(overlap)})


def visible_times(batch: ClipBatch) -> NDArray[np.bool_]:
    """Return on which frames each object is visible, shape (B, T); always on the first."""
    return torch.stack([target.is_visible for target in batch.targets], dim=1).numpy(force=True)


def unroll(
    model: Sam3, features: TrackerFeatures, batch: ClipBatch, lesson: Lesson
) -> list[TrackOutput]:
    """Introduce the objects on the first frame and follow them through the clip.

    Args:
        model: Its tracker learns.
        features: Of all frames, see :func:`encode_clips`.
        batch: The clips.
        lesson: How they are taught.

    Returns:
        The step of all B objects on each frame.
    """
    tracker = model.tracker_model
    banks = [MemoryBank(tracker.config) for _ in batch.clip_index]
    outputs: list[TrackOutput] = []
    for t, targets in enumerate(batch.targets):
        frame, time_index = batch.frame_index(t), t + lesson.extra_age if t else 0
        if t == 0:
            output = tracker.condition_on_mask(features, frame, batch.given)
        else:
            output = tracker.track(
                features,
                frame,
                banks,
                times=[time_index] * len(banks),
                is_visible=targets.is_visible if lesson.is_taught else None,
            )
        outputs.append(output)
        if t + 1 < len(batch.targets):
            is_taught = lesson.is_taught or t == 0
            seen = targets.is_visible if is_taught else output.object_score_logits[:, 0] > 0
            given = seen & (t in {0, lesson.recondition_at})
            spatial = tracker.encode_memory(
                features, frame, output.mask_logits, seen[:, None] * 2.0 - 1.0, binarize=given
            )
            quality = torch.where(seen, output.predicted_iou, 0.0).detach()
            for i, bank in enumerate(banks):
                if bool(given[i]):
                    bank.write_conditioning(time_index, spatial[i], output.pointer[i])
                else:
                    bank.write(time_index, spatial[i], output.pointer[i], quality=float(quality[i]))
    return outputs


@torch.no_grad()
def clip_quality(outputs: list[TrackOutput], batch: ClipBatch) -> dict[str, float]:
    """Mask IoU of visible objects on the first, every and the last frame; visibility accuracy."""
    overlaps: list[Tensor] = []
    right: list[Tensor] = []
    for output, targets in zip(outputs, batch.targets, strict=True):
        seen = targets.is_visible
        chosen = output.all_ious.argmax(1)
        masks = output.all_mask_logits[torch.arange(len(chosen), device=chosen.device), chosen]
        overlaps.append(mask_iou(masks, targets.masks)[seen])
        right.append((output.object_score_logits[:, 0] > 0) == seen)
    given, last = overlaps[0], overlaps[-1]
    everything = torch.cat(overlaps)
    return {
        "given_iou": float(given.mean()),
        "mask_iou": float(everything.mean()),
        "last_iou": float(last.mean()) if len(last) else 0.0,
        "visibility_accuracy": float(torch.cat(right).float().mean()),
        "visible_share": len(everything) / sum(len(r) for r in right),
    }
