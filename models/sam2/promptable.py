"""Points, boxes and masks on single pictures, for SAM 2.1 and SAM 3's tracker alike.

``ImagePredictor(PromptableTracker(model, model.encode_pixels))`` is the official image predictor of
SAM 2 (section 4; the memory stays empty).
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from models.common.mask_decoder import choose_single_mask
from models.common.prompting import InputFrame, MaskCandidates, ObjectPrompts
from models.sam2.outputs import TrackerFeatures
from models.sam2.tracker import MemoryTracker

# The official predictor bounds the logits that it hands out to be given again.
MAX_PROMPT_LOGIT = 32.0

PixelEncoder = Callable[[Tensor], TrackerFeatures]


class PromptableTracker:
    """A tracker and what encodes pictures for it; see ``models.common.prompting``.

    Args:
        tracker: Put into evaluation mode.
        encode: Maps RGB pictures (N, H, W, 3), uint8, to features; it stretches them to the model's
            square.
    """

    __slots__ = ("encode", "tracker")

    def __init__(self, tracker: MemoryTracker, encode: PixelEncoder) -> None:
        self.tracker = tracker.eval()
        self.encode = encode

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.tracker.no_memory_embedding.device

    @property
    def mask_side(self) -> int:
        """Side of the masks it gives and takes (4 g)."""
        config = self.tracker.config
        return 4 * (config.image_size // config.patch_size)

    def frame_of(self, picture_hw: tuple[int, int]) -> InputFrame:
        """Tell how a picture of this size lies in the input: stretched over all of it."""
        side = self.tracker.config.image_size
        return InputFrame(picture_hw=picture_hw, content_hw=(side, side), side=side)

    def encode_picture(self, pixels: Tensor) -> TrackerFeatures:
        """Embed one RGB picture (1, H, W, 3), uint8."""
        return self.encode(pixels)

    def decode_prompts(
        self, state: TrackerFeatures, prompts: ObjectPrompts, *, multimask: bool
    ) -> MaskCandidates:
        """Answer prompts on one picture: three candidates each with ``multimask``, otherwise one.

        The one is the single mask, or the best of the three where that is unstable. Whether an
        object is there at all is not asked, as official.
        """
        if prompts.mask_logits is not None:
            prompts = replace(prompts, mask_logits=prompts.mask_logits.to(state.top.dtype))
        of_first = prompts.labels.new_zeros(len(prompts.labels))
        decoded = self.tracker.decode_prompts(state, of_first, prompts)
        if multimask:
            return MaskCandidates(
                mask_logits=decoded.mask_logits[:, 1:],
                predicted_iou=decoded.iou[:, 1:],
                given_again_within=MAX_PROMPT_LOGIT,
            )
        rows, chosen = torch.arange(len(of_first)), choose_single_mask(decoded)
        return MaskCandidates(
            mask_logits=decoded.mask_logits[rows, chosen][:, None],
            predicted_iou=decoded.iou[rows, chosen][:, None],
            given_again_within=MAX_PROMPT_LOGIT,
        )

    def upscale(self, mask_logits: Tensor, frame: InputFrame) -> Tensor:
        """Bring (B, M, 4g, 4g) logits to the picture's size (B, M, H, W)."""
        return F.interpolate(mask_logits.float(), frame.picture_hw, mode="bilinear")
