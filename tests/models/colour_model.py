"""A promptable model whose answers are known: a click selects all that has the clicked colour."""

import torch
from torch import Tensor
from torch.nn import functional as F

from models.common.prompting import InputFrame, MaskCandidates, ObjectPrompts


class ColourModel:
    """Answers at ``side`` x ``side``; sees and draws pictures by their nearest pixels.

    The first candidate is the region; the second is rated worse; the third is not stable.
    """

    def __init__(self, side: int = 64, iou: tuple[float, float, float] = (0.95, 0.5, 0.9)) -> None:
        self.device = torch.device("cpu")
        self.mask_side = side
        self.iou = iou
        self.pictures_seen: list[tuple[int, int]] = []

    def frame_of(self, picture_hw: tuple[int, int]) -> InputFrame:
        return InputFrame(
            picture_hw=picture_hw, content_hw=(self.mask_side, self.mask_side), side=self.mask_side
        )

    def encode_picture(self, pixels: Tensor) -> Tensor:
        self.pictures_seen.append((pixels.shape[1], pixels.shape[2]))
        size = (self.mask_side, self.mask_side)
        return F.interpolate(pixels.permute(0, 3, 1, 2).float(), size, mode="nearest-exact")[0]

    def decode_prompts(
        self, state: Tensor, prompts: ObjectPrompts, *, multimask: bool
    ) -> MaskCandidates:
        x, y = (prompts.points[:, 0] * self.mask_side).long().clamp(max=self.mask_side - 1).T
        is_same = (state[:, None] == state[:, y, x][..., None, None]).all(dim=0)
        sure = torch.where(is_same, 10.0, -10.0)
        candidates = torch.stack([sure, sure, sure / 20], dim=1)
        iou = torch.tensor(self.iou).expand(len(sure), -1)
        count = 3 if multimask else 1
        return MaskCandidates(mask_logits=candidates[:, :count], predicted_iou=iou[:, :count])

    def upscale(self, mask_logits: Tensor, frame: InputFrame) -> Tensor:
        return F.interpolate(mask_logits, frame.picture_hw, mode="nearest-exact")
