"""Segments everything: a grid of clicks, of which good and different masks stay (SAM, section 5).

Works with whatever an :class:`~models.common.image_predictor.ImagePredictor` works with: SAM 1,
SAM 2.1 and SAM 3's tracker.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.common.checks import check_integer, check_number, check_sequence
from models.common.image_predictor import ImagePredictor
from models.common.mask_filters import (
    Boxes,
    Crop,
    boxes_around,
    crops_of,
    point_grid,
    remove_small_regions,
    stability_scores,
    suppress_overlaps,
    touches_crop_edge,
)
from models.common.masks import CocoRle, RunLengths, UncompressedRle
from models.common.prompting import State, check_array, check_pixels

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomaticMaskOptions:
    """How everything is segmented; names and defaults are the original's.

    Attributes:
        points_per_side: Clicks along one side of the picture; ``None`` with ``point_grids``.
        points_per_batch: Clicks answered at once: more is faster on an accelerator.
        pred_iou_thresh: Masks stay that the model expects to be better than this, 0 to 1.
        stability_score_thresh: Masks stay that change at most so much, see next; 0 to 1.
        stability_score_offset: By how much the threshold of the logits is moved for that.
        box_nms_thresh: Box IoU above which the worse of two masks of a crop is dropped.
        crop_n_layers: Layers of crops that are segmented too: the i-th has 4^i crops.
        crop_nms_thresh: Box IoU above which the mask of the larger of two crops is dropped.
        crop_overlap_ratio: Overlap of the first layer's crops, as a share of the short side.
        crop_n_points_downscale_factor: ``points_per_side`` is divided by this on every layer.
        point_grids: A grid of points (n, 2), 0 to 1, for the picture and each layer of crops.
        min_mask_region_area: Holes and islands smaller than this, in px, are removed.
        output_mode: Form of the masks.
    """

    points_per_side: int | None = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[NDArray[np.floating]] | None = None
    min_mask_region_area: float = 0
    output_mode: OutputMode = "binary_mask"

    def __post_init__(self) -> None:
        if (self.points_per_side is None) == (self.point_grids is None):
            raise ValueError(
                f"points_per_side is {self.points_per_side!r} and point_grids is "
                f"{'absent' if self.point_grids is None else 'given'}; accepted: exactly one"
            )
        least = {
            "points_per_side": 1,
            "points_per_batch": 1,
            "crop_n_layers": 0,
            "crop_n_points_downscale_factor": 1,
        }
        for name, bound in least.items():
            if name != "points_per_side" or self.points_per_side is not None:
                check_integer(name, getattr(self, name), least=bound)
        for name in ("pred_iou_thresh", "stability_score_thresh"):
            check_number(name, getattr(self, name))
        for name in (
            "stability_score_offset",
            "box_nms_thresh",
            "crop_nms_thresh",
            "min_mask_region_area",
        ):
            check_number(name, getattr(self, name), least=0)
        check_number("crop_overlap_ratio", self.crop_overlap_ratio, least=0, most=1)
        if self.output_mode not in get_args(OutputMode):
            modes = ", ".join(get_args(OutputMode))
            raise ValueError(f"output_mode is {self.output_mode!r}; accepted: {modes}")

    def grids(self) -> list[Boxes]:
        """Points of the picture and of each layer of crops, each (n, 2), 0 to 1.

        Raises:
            ValueError: If ``point_grids`` has too few grids or one that is not (n, 2).
        """
        layers = range(self.crop_n_layers + 1)
        if self.point_grids is None:
            side, factor = self.points_per_side or 1, self.crop_n_points_downscale_factor
            return [point_grid(max(1, int(side / factor**layer))) for layer in layers]
        check_sequence("point_grids", self.point_grids, of="grids")
        if len(self.point_grids) < len(layers):
            raise ValueError(
                f"point_grids has {len(self.point_grids)} grids; accepted: {len(layers)}, for the "
                "picture and each layer of crops"
            )
        for layer in layers:
            check_array(f"point_grids[{layer}]", self.point_grids[layer], (None, 2))
        return [np.asarray(self.point_grids[layer], np.float64) for layer in layers]


DEFAULT_OPTIONS = AutomaticMaskOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomaticMask:
    """One mask of the picture.

    Attributes:
        segmentation: Shape (H, W), bool, or run lengths, as ``output_mode`` says.
        area: Its pixels.
        bbox: x, y, width, height in px; width and height are one less than the mask's, as in the
            original.
        predicted_iou: The model's own estimate of its quality.
        point_coords: The click that it answers, x and y in px.
        stability_score: IoU of the mask with itself when the threshold moves, 0 to 1.
        crop_box: x, y, width, height in px of the crop that it was found in.
    """

    segmentation: "NDArray[np.bool_] | CocoRle | UncompressedRle"
    area: int
    bbox: tuple[float, float, float, float]
    predicted_iou: float
    point_coords: tuple[float, float]
    stability_score: float
    crop_box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    """Masks on their way, as parallel columns; boxes and points in px of the picture."""

    rles: list[RunLengths] = field(default_factory=list)
    boxes: Boxes = field(default_factory=lambda: np.zeros((0, 4)))
    points: Boxes = field(default_factory=lambda: np.zeros((0, 2)))
    ious: Boxes = field(default_factory=lambda: np.zeros(0))
    stability: Boxes = field(default_factory=lambda: np.zeros(0))
    crops: list[Crop] = field(default_factory=list)

    def pick(self, rows: NDArray[np.int64]) -> "_Candidates":
        return _Candidates(
            rles=[self.rles[row] for row in rows],
            boxes=self.boxes[rows],
            points=self.points[rows],
            ious=self.ious[rows],
            stability=self.stability[rows],
            crops=[self.crops[row] for row in rows],
        )

    @staticmethod
    def joined(parts: "Sequence[_Candidates]") -> "_Candidates":
        parts = [_Candidates(), *parts]
        return _Candidates(
            rles=[rle for part in parts for rle in part.rles],
            boxes=np.concatenate([part.boxes for part in parts]),
            points=np.concatenate([part.points for part in parts]),
            ious=np.concatenate([part.ious for part in parts]),
            stability=np.concatenate([part.stability for part in parts]),
            crops=[crop for part in parts for crop in part.crops],
        )


class AutomaticMaskGenerator(Generic[State]):
    """Masks of everything on a picture. Not thread-safe."""

    def __init__(
        self, predictor: ImagePredictor[State], options: AutomaticMaskOptions = DEFAULT_OPTIONS
    ) -> None:
        """Use the model and mask threshold of ``predictor``, not the picture that it holds.

        Raises:
            ValueError: If ``point_grids`` does not fit the crops.
        """
        self.options = options
        self._predictor = ImagePredictor(predictor.model, mask_threshold=predictor.mask_threshold)
        self._grids = options.grids()

    @torch.inference_mode()
    def generate(self, pixels: NDArray[np.uint8]) -> list[AutomaticMask]:
        """Segment a picture; the surest mask of the picture as a whole comes first.

        Memory: masks are held as run lengths until the end; with binary output the answer itself
        is H W bytes for each mask.

        Args:
            pixels: RGB, uint8, shape (H, W, 3).

        Raises:
            ValueError: If the picture has another shape or type.
        """
        picture, options = check_pixels(pixels), self.options
        picture_hw = (picture.shape[0], picture.shape[1])
        crops = crops_of(picture_hw, options.crop_n_layers, options.crop_overlap_ratio)
        try:
            found = _Candidates.joined([self._crop_masks(picture, crop) for crop in crops])
        finally:
            self._predictor.reset()
        if len(crops) > 1:
            # Smaller crops see more.
            scores = np.array([1 / np.prod(crop.size_hw, dtype=np.float64) for crop in found.crops])
            found = found.pick(suppress_overlaps(found.boxes, scores, options.crop_nms_thresh))
        if options.min_mask_region_area > 0 and found.rles:
            found = self._cleaned(found)
        return [self._record(found, row) for row in range(len(found.rles))]

    def _crop_masks(self, picture: NDArray[np.uint8], crop: Crop) -> _Candidates:
        x0, y0, x1, y1 = crop.box
        self._predictor.set_image(picture[y0:y1, x0:x1])
        points = self._grids[crop.layer] * np.array(crop.size_hw[::-1])
        picture_hw = (picture.shape[0], picture.shape[1])
        parts: list[_Candidates] = []
        for start in range(0, len(points), self.options.points_per_batch):
            batch = points[start : start + self.options.points_per_batch]
            parts.extend(self._batch_masks(batch, crop, picture_hw))
        found = _Candidates.joined(parts)
        return found.pick(suppress_overlaps(found.boxes, found.ious, self.options.box_nms_thresh))

    def _batch_masks(
        self, points: Boxes, crop: Crop, picture_hw: tuple[int, int]
    ) -> Iterator[_Candidates]:
        """Answer clicks (n, 2), in px of the crop; a few masks at a time come out."""
        options = self.options
        prompts = self._predictor.prompts_from_points(points.astype(np.float32))
        answer = self._predictor.decode(prompts, multimask=True)
        ious = answer.predicted_iou.flatten().float()
        asked = torch.arange(len(points)).repeat_interleave(answer.predicted_iou.shape[1])
        rows = torch.arange(len(ious), device=ious.device)
        if options.pred_iou_thresh > 0:
            rows = rows[ious > options.pred_iou_thresh]
        # Only what the model trusts is brought to the picture's size, which costs most.
        for part, large in self._predictor.upscaled(answer.mask_logits.flatten(0, 1)[rows]):
            chosen = rows[part]
            yield self._stable_masks(
                large,
                ious[chosen].numpy(force=True),
                points[asked[chosen.cpu()].numpy()],
                crop,
                picture_hw,
            )

    def _stable_masks(
        self,
        large: Tensor,
        ious: NDArray[np.float32],
        points: Boxes,
        crop: Crop,
        picture_hw: tuple[int, int],
    ) -> _Candidates:
        """Keep what is stable and whole of logits (k, H, W) at the crop's size."""
        options, threshold = self.options, self._predictor.mask_threshold
        stability = stability_scores(large, threshold, options.stability_score_offset)
        rows = torch.arange(len(large), device=large.device)
        if options.stability_score_thresh > 0:
            rows = rows[stability >= options.stability_score_thresh]
        masks = large[rows] > threshold
        x0, y0, x1, y1 = crop.box
        offset = np.array((x0, y0, x0, y0), np.float64)
        boxes = boxes_around(masks).numpy(force=True) + offset
        is_whole = ~touches_crop_edge(boxes, crop, picture_hw)
        masks = masks[torch.from_numpy(is_whole).to(masks.device)]
        kept = rows.numpy(force=True)[is_whole]
        margins = (x0, picture_hw[1] - x1, y0, picture_hw[0] - y1)
        return _Candidates(
            rles=[RunLengths.of(mask) for mask in F.pad(masks, margins).numpy(force=True)],
            boxes=boxes[is_whole],
            points=points[kept] + offset[:2],
            ious=ious[kept].astype(np.float64),
            stability=stability.numpy(force=True)[kept].astype(np.float64),
            crops=[crop] * len(kept),
        )

    def _cleaned(self, found: _Candidates) -> _Candidates:
        """Remove small holes and islands, then what became a duplicate."""
        options = self.options
        rles, boxes = list(found.rles), found.boxes.copy()
        is_untouched = np.ones(len(rles))
        for row, rle in enumerate(rles):
            mask, has_holes = remove_small_regions(
                rle.mask(), options.min_mask_region_area, "holes"
            )
            mask, has_islands = remove_small_regions(mask, options.min_mask_region_area, "islands")
            if has_holes or has_islands:
                is_untouched[row] = 0
                changed = torch.from_numpy(mask)[None]
                rles[row] = RunLengths.of(mask)
                boxes[row] = boxes_around(changed)[0].numpy()
        iou = max(options.box_nms_thresh, options.crop_nms_thresh)
        changed = replace(found, rles=rles, boxes=boxes)
        return changed.pick(suppress_overlaps(boxes, is_untouched, iou))

    def _record(self, found: _Candidates, row: int) -> AutomaticMask:
        rle, crop = found.rles[row], found.crops[row]
        x0, y0, x1, y1 = found.boxes[row].tolist()
        x, y = found.points[row].tolist()
        match self.options.output_mode:
            case "binary_mask":
                segmentation = rle.mask()
            case "uncompressed_rle":
                segmentation = rle.uncompressed()
            case "coco_rle":
                segmentation = rle.compressed()
        return AutomaticMask(
            segmentation=segmentation,
            area=rle.area,
            bbox=(x0, y0, x1 - x0, y1 - y0),
            predicted_iou=float(found.ious[row]),
            point_coords=(x, y),
            stability_score=float(found.stability[row]),
            crop_box=(crop.box[0], crop.box[1], crop.size_hw[1], crop.size_hw[0]),
        )
