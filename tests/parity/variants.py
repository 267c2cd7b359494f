"""Our modules with the readings of transformers where it departs from the official code.

Ours follow the official code, with which the published weights were trained. Each class here
overrides the methods on which the two differ, so that all the rest can be compared to rounding.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from models.common.mask_decoder import choose_multimask
from models.common.resize import resize
from models.sam2.memory_bank import MemoryBank
from models.sam2.memory_selection import neighbours
from models.sam2.model import Sam2
from models.sam2.outputs import TrackOutput
from models.sam2.tracker import MASK_BIAS, MASK_SCALE, MemoryTracker
from models.sam2.video import VideoSession
from models.sam2.video_memory import VideoMemory
from models.sam3.network.decoder import Decoder
from models.sam3.network.detector import Detector
from models.sam3.network.model import Sam3


def set_norm_eps(module, eps):
    """Give all norms of tokens another epsilon: 1e-6 in transformers, 1e-5 in the original."""
    for norm in module.modules():
        if isinstance(norm, nn.LayerNorm):
            norm.eps = eps
    return module


class ClampedDecoder(Decoder):
    """Limits presence logits to ±10. The published model meant to and did not."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        return replace(output, presence_logits=output.presence_logits.clamp(-10, 10))


class TransformersDetector(Detector):
    """Clamps presence, and gives a concept without boxes no picture token."""

    def __init__(self, config):
        super().__init__(config)
        self.detr_decoder = ClampedDecoder(config.detector)

    def _prompt(self, coarse, place, text, exemplars, image_index):
        if exemplars is None:
            return text.tokens, text.is_valid
        return super()._prompt(coarse, place, text, exemplars, image_index)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenMaskOutput(TrackOutput):
    """With the mask that was given, (B, 1, s, s): the memory is made of that one."""

    given_mask_logits: torch.Tensor


class _Readings:
    """What transformers' trackers of SAM 2.1 and SAM 3 read otherwise.

    Masks pass through the size of the input picture on their way in, are not made 0 or 1 again, and
    their pointer comes from the best of three masks. Two padding points join a lone mask.
    """

    binarizes = False

    def input_side(self, grid):
        return self.config.patch_size * grid

    def condition_on_mask(self, features, frame_index, masks):
        mask = resize(masks.to(features.top.dtype), self.input_side(features.grid))
        if self.binarizes:
            mask = (mask >= 0.5).to(mask.dtype)
        decoded = self._decode_given(features, frame_index, mask)
        is_there = (mask > 0).flatten(1).any(dim=1)
        is_visible = is_there & (decoded.object_score_logits[:, 0] > 0)
        given = mask * MASK_SCALE + MASK_BIAS
        return GivenMaskOutput(
            mask_logits=resize(given, 4 * features.grid),
            object_score_logits=is_there[:, None] * MASK_SCALE + MASK_BIAS,
            predicted_iou=torch.ones_like(decoded.iou[:, 0]),
            pointer=self._pointer(decoded, choose_multimask(decoded), is_visible),
            all_mask_logits=decoded.mask_logits[:, 1:],
            all_ious=decoded.iou[:, 1:],
            given_mask_logits=given,
        )

    def decode_prompts(self, features, frame_index, prompts):
        if not prompts.points.shape[1] and prompts.boxes is None:
            batch = len(prompts.points)
            padding = prompts.points.new_zeros(batch, 1, 2)
            prompts = replace(
                prompts, points=padding, labels=prompts.labels.new_full((batch, 1), -1)
            )
        return super().decode_prompts(features, frame_index, prompts)

    def encode_memory(self, features, frame_index, mask_logits, object_score_logits, *, binarize):
        through = resize(mask_logits, self.input_side(features.grid))
        return super().encode_memory(
            features, frame_index, through, object_score_logits, binarize=binarize
        )


class TransformersTracker(_Readings, MemoryTracker):
    """SAM 3's tracker."""


class TransformersSam2(_Readings, Sam2):
    """SAM 2.1 on pictures."""


class TransformersSam2Video(TransformersSam2):
    """SAM 2.1 in videos, where their processor makes given masks 0 or 1."""

    binarizes = True


def build_sam3(config):
    """Return SAM 3 with both of its parts as transformers reads them."""
    model = Sam3(config)
    model.detector_model = TransformersDetector(config)
    model.tracker_model = TransformersTracker(config.tracker)
    return model


class TransformersVideoMemory(VideoMemory):
    """Takes a correction of a tracked frame for one more tracked frame."""

    __slots__ = ()

    def reach(self, frame_index, *, reverse):
        if frame_index not in self._conditioning:
            super().reach(frame_index, reverse=reverse)

    def commit(self, frame_index, spatial):
        is_new = self.is_first_prompt(frame_index) or frame_index in self._conditioning
        super().commit(frame_index, spatial)
        if not is_new:
            self._demote(frame_index)


class TransformersVideoSession(VideoSession):
    """Does not look at an earlier mask of a prompted frame, and remembers given masks whole."""

    def _new_memory(self):
        return TransformersVideoMemory(self._model.tracker.config)

    def _earlier_mask(self, memory, frame_index):
        return None

    def _encode(self, features, outputs, *, is_sure):
        side = self._model.tracker.input_side(features.grid)
        masks = [getattr(output, "given_mask_logits", output.mask_logits) for output in outputs]
        scores = torch.cat([output.object_score_logits for output in outputs])
        return self._model.tracker.encode_memory(
            features,
            self._of_first(len(scores)),
            torch.cat([resize(mask, side) for mask in masks]),
            scores,
            binarize=torch.full((len(scores),), is_sure),
        )


class BankByAge(MemoryBank):
    """Reads the last frames by age, without asking for their quality.

    Where transformers differs here, the official rule of its ablation is kept: once there are more
    than four conditioning frames, pointers of the unselected ones are read as tracked frames'.
    """

    __slots__ = ()

    def _ranked(self, time):
        return neighbours(time, self._num_pointers)

    def _num_lending(self, ranked):
        return len(ranked)

    def _forget_conditioning(self, frame_index):
        entry = self._conditioning.pop(frame_index)
        self._maps[frame_index] = entry.spatial
        self._pointers[frame_index] = entry.pointer

    def _trim(self):
        ranked = self._ranked(self._newest + 1)
        self._keep(maps=set(ranked[: self._num_maps - 1]), pointers=set(ranked))
