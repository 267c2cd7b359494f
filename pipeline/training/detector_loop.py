"""Trains the detector on the synthetic world.

Run as ``python -m pipeline.training.detector_loop RECIPE --out FOLDER``.
"""

import argparse
import json
import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from connectors.world.still import StillConfig
from models.sam3.config import SAM3_SIZES
from models.sam3.detector import Detector, DetectorOutput
from models.sam3.model import preprocess
from models.sam3.tokenizer import Tokenizer
from models.training.detector_losses import DetectorLossWeights, DetectorTargets, detector_losses
from models.training.initialise import initialise_detector
from pipeline.training.batches import Batch, make_batch
from pipeline.training.checkpoint import MovingAverage, TrainingState
from pipeline.training.recipe import Recipe, Stage

log = logging.getLogger("maskstream.training")
LOG_EVERY = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorRun:
    """What stays the same through a run."""

    recipe: Recipe
    detector: Detector
    tokenizer: Tokenizer
    out: Path
    weights: DetectorLossWeights = field(default_factory=DetectorLossWeights)


def train_detector(run: DetectorRun) -> None:
    """Train from nothing, or go on from the checkpoint in ``run.out``, to the recipe's end."""
    recipe, detector = run.recipe, run.detector
    optimiser = torch.optim.AdamW(
        _parameter_groups(detector, recipe.weight_decay), lr=1e-3, betas=(0.9, 0.98)
    )
    state = TrainingState(
        module=detector, optimiser=optimiser, average=MovingAverage(detector, recipe.ema_decay)
    )
    if not state.resume(run.out):
        initialise_detector(detector, seed=recipe.seed)
        state.average = MovingAverage(detector, recipe.ema_decay)
    window: dict[str, list[float]] = defaultdict(list)
    while state.step < recipe.total_steps:
        began = time.monotonic()
        for name, value in _step(run, state).items():
            window[name].append(value)
        window["seconds"].append(time.monotonic() - began)
        state.step += 1
        if state.step % LOG_EVERY == 0:
            _log(state, window, run.out)
        if state.step % recipe.checkpoint_every == 0 or state.step == recipe.total_steps:
            state.save(run.out)


def _step(run: DetectorRun, state: TrainingState) -> dict[str, float]:
    stage, rate = run.recipe.at(state.step)
    # A step's data depends on its number alone, so a resumed run sees what an uninterrupted one
    # would have seen.
    rng = np.random.default_rng((run.recipe.seed, state.step))
    batch = make_batch(
        rng,
        images=stage.images,
        size=stage.image_size,
        grid=4 * stage.image_size // run.detector.config.vision.patch_size,
        config=StillConfig(max_objects=stage.max_objects),
        exemplar_probability=stage.exemplar_probability,
    )
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    output = _forward(run, batch, stage)
    terms = detector_losses(run.detector, output, batch.targets, run.weights)
    loss = torch.stack(list(terms.values())).sum()
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(run.detector.parameters(), run.recipe.grad_clip)
    state.optimiser.step()
    state.average.update(run.detector)
    return {
        "loss": float(loss.detach()),
        "grad_norm": float(norm),
        "lr": rate,
        **{name: float(value.detach()) for name, value in terms.items()},
        **_quality(run.detector, output, batch.targets),
    }


def _forward(run: DetectorRun, batch: Batch, stage: Stage) -> DetectorOutput:
    detector = run.detector
    unique = sorted(set(batch.phrases))
    with torch.set_grad_enabled(not stage.freeze_trunk):
        text = detector.encode_text(run.tokenizer.encode(unique))
        vision_trunk = detector.vision_encoder.backbone(preprocess(batch.pixels, stage.image_size))
    vision = detector.vision_encoder.from_trunk(vision_trunk)
    rows = torch.tensor([unique.index(phrase) for phrase in batch.phrases])
    exemplars = batch.exemplars if batch.exemplars.is_valid.any() else None
    return detector(vision, batch.image_index, text.select(rows), exemplars)


@torch.no_grad()
def _quality(
    detector: Detector, output: DetectorOutput, targets: DetectorTargets
) -> dict[str, float]:
    """Presence accuracy, and of present pairs the best-scored query's IoU with its best object."""
    is_present = torch.tensor([count > 0 for count in targets.counts])
    accuracy = ((output.presence_logits[-1] > 0) == is_present).float().mean()
    best = output.logits[-1].argmax(1)
    pairs = torch.arange(len(best))
    masks = detector.masks(output, output.queries[-1][pairs, best][:, None])[:, 0] > 0
    overlaps: list[Tensor] = []
    start = 0
    for pair, count in enumerate(targets.counts):
        if count:
            truth = targets.masks[start : start + count] > 0.5
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


def _parameter_groups(detector: Detector, decay: float) -> list[dict[str, object]]:
    matrices = [p for name, p in detector.named_parameters() if p.ndim > 1 and "embed" not in name]
    chosen = {id(p) for p in matrices}
    rest = [p for p in detector.parameters() if id(p) not in chosen]
    return [{"params": matrices, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


def _log(state: TrainingState, window: dict[str, list[float]], out: Path) -> None:
    row = {"step": float(state.step)} | {
        name: round(sum(v) / len(v), 5) for name, v in window.items()
    }
    window.clear()
    state.history.append(row)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    log.info("%s", json.dumps(row))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = Recipe.load(arguments.recipe)
    config = SAM3_SIZES[recipe.model]
    folder = Path(__file__).parents[2] / "models" / "sam3" / "nano"
    tokenizer = Tokenizer(
        folder / "tokenizer.json",
        context_length=config.text.context_length,
        vocab_size=config.text.vocab_size,
    )
    train_detector(
        DetectorRun(
            recipe=recipe, detector=Detector(config), tokenizer=tokenizer, out=arguments.out
        )
    )


if __name__ == "__main__":
    main()
