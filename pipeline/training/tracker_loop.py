"""Trains the tracker: ``python -m pipeline.training.tracker_loop RECIPE --trunk RUN --out DIR``."""

import argparse
import json
import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.sam2.memory_bank import MemoryBank
from models.sam2.outputs import TrackOutput
from models.sam2.tracker import MemoryTracker
from models.sam3.config import SAM3_SIZES, Sam3Config
from models.sam3.model import preprocess
from models.sam3.vision import Backbone, Neck
from models.training.initialise_tracker import initialise_tracker
from models.training.tracker_losses import TrackerLossWeights, clip_losses, mask_iou
from pipeline.training.checkpoint import MovingAverage, TrainingState, load_average
from pipeline.training.clips import ClipBatch, make_clips
from pipeline.training.recipe import Recipe, Stage

log = logging.getLogger("maskstream.training")
LOG_EVERY = 20
TRUNK_PREFIX = "vision_encoder.backbone."
# A conditioning frame may lie far back when an object is tracked for long.
MOST_EXTRA_AGE = 40
TEACHING_SHARE = 0.5
RECONDITION_SHARE = 0.3
UNDECAYED = ("embed", "token", "no_", "temporal_pos")


class ClipStage(Stage):
    """A stretch of training on clips; its ``images`` are clips."""

    frames: int = Field(default=6, gt=0, description="Frames of a clip.")
    objects: int = Field(default=2, gt=0, description="Most objects followed in a clip.")


class TrackerRecipe(Recipe):
    """A tracker run."""

    stages: tuple[ClipStage, ...]  # pyright: ignore[reportIncompatibleVariableOverride]


class TrackerHalf(nn.Module):
    """What the run trains; the names are those of the whole model."""

    def __init__(self, config: Sam3Config) -> None:
        super().__init__()
        self.tracker_neck = Neck(config.vision)
        self.tracker_model = MemoryTracker(config.tracker)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerRun:
    """What stays the same through a run.

    Attributes:
        recipe: What to do.
        config: Size of the model.
        backbone: Trained vision backbone; it is not changed.
        out: Folder of the checkpoint and the log.
        weights: Of the loss terms.
    """

    recipe: TrackerRecipe
    config: Sam3Config
    backbone: Backbone
    out: Path
    weights: TrackerLossWeights = field(default_factory=TrackerLossWeights)


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


def train_tracker(run: TrackerRun) -> TrackerHalf:
    """Train from nothing, or go on from the checkpoint in ``run.out``, to the recipe's end."""
    half = _start(run)
    optimiser = torch.optim.AdamW(
        _parameter_groups(half, run.recipe.weight_decay), lr=1e-3, betas=(0.9, 0.98)
    )
    state = TrainingState(
        module=half, optimiser=optimiser, average=MovingAverage(half, run.recipe.ema_decay)
    )
    state.resume(run.out)
    window: dict[str, list[float]] = defaultdict(list)
    while state.step < run.recipe.total_steps:
        began = time.monotonic()
        for name, value in _step(run, half, state).items():
            window[name].append(value)
        window["seconds"].append(time.monotonic() - began)
        state.step += 1
        if state.step % LOG_EVERY == 0:
            _log(state, window, run.out)
        if state.step % run.recipe.checkpoint_every == 0 or state.step == run.recipe.total_steps:
            state.save(run.out)
    return half


def _start(run: TrackerRun) -> TrackerHalf:
    """Make neck and tracker with weights that fit what the backbone gives at first."""
    with torch.random.fork_rng():
        torch.manual_seed(run.recipe.seed)
        half = TrackerHalf(run.config)
    seed, stage = run.recipe.seed, run.recipe.stages[0]
    grid = 4 * stage.image_size // run.config.vision.patch_size
    batch = make_clips(
        np.random.default_rng(seed),
        clips=stage.images,
        frames=2,
        objects=1,
        size=stage.image_size,
        grid=grid,
    )
    with torch.no_grad():
        trunk = run.backbone(preprocess(batch.pixels, stage.image_size))
    initialise_tracker(half.tracker_model, half.tracker_neck, trunk, seed=seed)
    return half


def _step(run: TrackerRun, half: TrackerHalf, state: TrainingState) -> dict[str, float]:
    stage, rate = run.recipe.at(state.step)
    if not isinstance(stage, ClipStage):
        raise TypeError(f"stage {stage.name!r} has no clips")
    # A step's data depends on its number alone, so a resumed run goes on as if never stopped.
    rng = np.random.default_rng((run.recipe.seed, state.step))
    batch = make_clips(
        rng,
        clips=stage.images,
        frames=stage.frames,
        objects=stage.objects,
        size=stage.image_size,
        grid=4 * stage.image_size // run.config.vision.patch_size,
    )
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    outputs = unroll(half, run.backbone, batch, random_lesson(rng, stage.frames))
    terms = clip_losses(outputs, batch.targets, run.weights)
    loss = torch.stack(list(terms.values())).sum()
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(half.parameters(), run.recipe.grad_clip)
    state.optimiser.step()
    state.average.update(half)
    return {
        "loss": float(loss.detach()),
        "grad_norm": float(norm),
        "lr": rate,
        **{name: float(value.detach()) for name, value in terms.items()},
        **clip_quality(outputs, batch),
    }


def unroll(
    half: TrackerHalf, backbone: Backbone, batch: ClipBatch, lesson: Lesson
) -> list[TrackOutput]:
    """Introduce the objects on the first frame and follow them through the clip.

    Args:
        half: Neck and tracker.
        backbone: Vision backbone; no gradient flows into it.
        batch: The clips.
        lesson: How they are taught.

    Returns:
        The step of all B objects on each frame.
    """
    tracker = half.tracker_model
    with torch.no_grad():
        trunk = backbone(preprocess(batch.pixels, batch.pixels.shape[1]))
    fine, middle, coarse = half.tracker_neck(trunk)
    features = tracker.prepare_features((fine, middle, coarse))
    banks = [MemoryBank(half.tracker_model.config) for _ in batch.clip_index]
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
        masks = output.all_mask_logits[torch.arange(len(chosen)), chosen]
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


def _parameter_groups(half: TrackerHalf, decay: float) -> list[dict[str, object]]:
    matrices = [
        p
        for name, p in half.named_parameters()
        if p.ndim > 1 and not any(word in name for word in UNDECAYED)
    ]
    chosen = {id(p) for p in matrices}
    rest = [p for p in half.parameters() if id(p) not in chosen]
    return [{"params": matrices, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


def _log(state: TrainingState, window: dict[str, list[float]], out: Path) -> None:
    means = {name: round(sum(v) / len(v), 5) for name, v in window.items()}
    row = {"step": float(state.step)} | means
    window.clear()
    state.history.append(row)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    log.info("%s", json.dumps(row))


def load_backbone(config: Sam3Config, detector_run: Path) -> Backbone:
    """Take the averaged vision backbone out of a detector run's folder."""
    backbone = Backbone(config.vision)
    weights = {
        name.removeprefix(TRUNK_PREFIX): value
        for name, value in load_average(detector_run).items()
        if name.startswith(TRUNK_PREFIX)
    }
    backbone.load_state_dict(weights)
    return backbone.eval().requires_grad_(requires_grad=False)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--trunk", type=Path, required=True, help="folder of a detector run")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = TrackerRecipe.load(arguments.recipe)
    config = SAM3_SIZES[recipe.model]
    backbone = load_backbone(config, arguments.trunk)
    train_tracker(TrackerRun(recipe=recipe, config=config, backbone=backbone, out=arguments.out))


if __name__ == "__main__":
    main()
