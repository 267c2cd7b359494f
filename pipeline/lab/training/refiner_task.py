"""Teaches the refiner to draw the outlines of what a finished detector finds."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.sam3.network.keys import REFINER
from models.sam3.network.model import Sam3
from models.sam3.network.refiner import Corners, Windows
from models.sam3.tokenizer import Tokenizer
from models.training.detector_losses import enlarge
from models.training.matching import dice_loss, match
from models.training.tracker_losses import mask_iou
from pipeline.lab.training.detector_task import answer
from pipeline.lab.training.pictures import Batch, PictureSource, make_batch
from pipeline.lab.training.recipe import Stage
from pipeline.lab.training.tasks import Losses

# Pictures are so much smaller than the model's, or as large: cameras' objects are of any size.
SHRINKS = (0.6, 1.0)
# Of two masks that overlap less, one is of another thing; then there is no outline to learn.
LEAST_IOU = 0.25
# How sure a mask is differs between models and moments: its logits are stretched by up to this
# power of e, and moved by up to so much.
STRETCH, MOVE = 0.5, 0.4
# What is found costs far more than to look at it: each object is shown by so many windows, mirrored
# or not, their sides moved by up to this share of their length.
VIEWS, JITTER = 4, 0.12
BCE_WEIGHT = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinerTask:
    """Outlines, on windows of pictures; all else of the model is frozen.

    Attributes:
        source: Where the pictures come from.
        learns: Beginnings of the names of the parameters that learn.
    """

    source: PictureSource
    learns: tuple[str, ...] = (REFINER,)

    def initialise(self, model: Sam3, stage: Stage, *, seed: int) -> None:
        """Leave the refiner as it was built: one that changes nothing."""
        del model, stage, seed

    def draw(self, rng: np.random.Generator, stage: Stage) -> Batch:
        """Draw pictures, all of one size, and questions."""
        side = round(stage.image_size * float(rng.choice(SHRINKS)))
        one_size = stage.model_copy(update={"image_size": side})
        return _of_present(make_batch(rng, self.source, one_size, places=1))

    def losses(
        self, model: Sam3, tokenizer: Tokenizer, batch: Batch, rng: np.random.Generator
    ) -> Losses:
        """Let the detector find what is asked for, draw that anew and judge the outlines."""
        if model.mask_refiner is None:
            raise ValueError("the model has no refiner; expected a size that has one")
        looks = look_again(model, tokenizer, batch, rng, side=model.mask_refiner.side)
        refined = model.mask_refiner(*_varied(looks, rng))
        truth, weight = looks.truth, float(looks.is_found)
        bce = F.binary_cross_entropy_with_logits(refined, truth)
        figures = {
            "grid_iou": float(mask_iou(looks.logits, truth).mean()),
            "outline_iou": float(mask_iou(refined, truth).mean()),
        }
        return Losses(
            terms={
                "outline_bce": weight * BCE_WEIGHT * bce,
                "outline_dice": weight * dice_loss(refined, truth).mean(),
            },
            figures=figures if looks.is_found else {},
        )


def _of_present(batch: Batch) -> Batch:
    """Leave out the questions about what is not there, but for one if there are no others."""
    kept = [pair for pair, count in enumerate(batch.targets.counts) if count] or [0]
    rows = torch.tensor(kept)
    return replace(
        batch,
        image_index=batch.image_index[rows],
        phrases=[batch.phrases[pair] for pair in kept],
        exemplars=batch.exemplars.select(rows),
        targets=replace(batch.targets, counts=[batch.targets.counts[pair] for pair in kept]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Windows round what was found, all of a batch one after another.

    Attributes:
        pixels: Shape (M, 3, R, R), 0 to 1.
        logits: The detector's masks, shape (M, R, R).
        truth: Share of each cell that the object covers, shape (M, R, R), 0 to 1.
        is_found: Whether there is anything to learn from; if not, M is 1 and the window empty.
    """

    pixels: Tensor
    logits: Tensor
    truth: Tensor
    is_found: bool = True


@torch.no_grad()
def look_again(
    model: Sam3, tokenizer: Tokenizer, batch: Batch, rng: np.random.Generator, *, side: int
) -> Looks:
    """Cut windows round everything that the detector finds and that is truly there."""
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
    is_found = mask_iou(enlarge(logits, truth.shape[-1]), truth.float()) >= LEAST_IOU
    looks = [
        _view(rng, picture, logits[rows], truth[rows], side)
        for n, picture in enumerate(batch.pixels)
        if len(rows := (is_found & (batch.image_index[found.pair] == n)).nonzero()[:, 0])
        for _ in range(VIEWS)
    ]
    looks = [look for look in looks if look.is_found]
    if not looks:
        return _nothing(side, batch.pixels.device)
    return Looks(
        pixels=torch.cat([look.pixels for look in looks]),
        logits=torch.cat([look.logits for look in looks]),
        truth=torch.cat([look.truth for look in looks]),
    )


def _view(
    rng: np.random.Generator, picture: Tensor, logits: Tensor, truth: Tensor, side: int
) -> Looks:
    """Look at masks (K, g_h, g_w) of one picture by windows that are somewhat off."""
    size = picture.shape[0], picture.shape[1]
    windows = _moved(rng, Windows.of(logits, size, most_cells=side))
    if not windows.corners:
        return _nothing(side, picture.device)
    look = Looks(
        pixels=windows.cut(picture, side),
        logits=windows.cut_logits(logits, side),
        truth=windows.cut_masks(truth, side),
    )
    if rng.random() < 0.5:
        return look
    return Looks(pixels=look.pixels.flip(3), logits=look.logits.flip(2), truth=look.truth.flip(2))


def _moved(rng: np.random.Generator, windows: Windows) -> Windows:
    height, width = windows.picture_hw
    corners: dict[int, Corners] = {}
    for k, (x0, y0, x1, y1) in windows.corners.items():
        moves = JITTER * rng.uniform(-1, 1, (2, 2)) * (x1 - x0, y1 - y0)
        moved = np.add(moves, ((x0, y0), (x1, y1))).round().astype(int)
        left, top = moved[0].clip(0, (width - 1, height - 1)).tolist()
        right, bottom = moved[1].clip((left + 1, top + 1), (width, height)).tolist()
        corners[k] = (left, top, right, bottom)
    return replace(windows, corners=corners)


def _nothing(side: int, device: torch.device) -> Looks:
    empty = torch.zeros(1, side, side, device=device)
    pixels = empty[:, None].expand(-1, 3, -1, -1)
    return Looks(pixels=pixels, logits=empty, truth=empty, is_found=False)


def _varied(looks: Looks, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return windows and masks, some surer and some less sure than the detector's."""
    shape = (len(looks.logits), 1, 1)
    stretch = torch.from_numpy(np.exp(rng.uniform(-STRETCH, STRETCH, shape))).to(looks.logits)
    move = torch.from_numpy(rng.uniform(-MOVE, MOVE, shape)).to(looks.logits)
    return looks.pixels, looks.logits * stretch + move
