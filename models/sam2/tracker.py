"""The tracker: prompts and memories in, masks and memories out. Tensors only, no state."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.common.mask_decoder import (
    DecodedObjects,
    ObjectMaskDecoder,
    choose_multimask,
    choose_single_mask,
)
from models.common.mlp import RowLinear, StackedMLP
from models.common.positional import sine_grid, sine_time
from models.common.prompt_encoder import (
    LABEL_BOX_BOTTOM_RIGHT,
    LABEL_BOX_TOP_LEFT,
    FourierPosition,
    PromptEncoder,
)
from models.common.prompting import ObjectPrompts
from models.common.resize import resize
from models.sam2.config import TrackerConfig
from models.sam2.memory_attention import MemoryAttention, MemoryTokens
from models.sam2.memory_bank import MemoryBank
from models.sam2.memory_encoder import MemoryEncoder
from models.sam2.memory_selection import MemorySelection
from models.sam2.outputs import TrackerFeatures, TrackOutput

ABSENT_LOGIT = -1024.0
MASK_SCALE = 20.0
MASK_BIAS = -10.0
# With at most this many points (a box is two) a prompt is ambiguous and three masks are offered.
MAX_AMBIGUOUS_POINTS = 1


class MemoryTracker(nn.Module):
    """Memory tracker of SAM 3 (and, with other features, of SAM 2.1).

    All methods are batched over B objects, which may be of different frames and streams:
    ``frame_index`` (B,), int64, says which of the N frames in ``features`` each belongs to. Every
    square grid g works; positions are computed per grid.

    Parameter names are those of ``tracker_model`` in the published safetensors.
    """

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        dim, memory_dim = config.hidden_dim, config.memory_dim
        if dim % memory_dim:
            raise ValueError(f"hidden_dim {dim!r} is not a multiple of memory_dim {memory_dim!r}")
        self.config = config
        self.shared_image_embedding = FourierPosition(dim)
        self.prompt_encoder = PromptEncoder(config.prompt_encoder)
        self.mask_decoder = ObjectMaskDecoder(config.mask_decoder)
        self.memory_attention = MemoryAttention(config)
        self.memory_encoder = MemoryEncoder(config)
        self.mask_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)
        self.object_pointer_proj = StackedMLP(dim, dim, dim, depth=3, linear=RowLinear)
        self.temporal_positional_encoding_projection_layer = nn.Linear(dim, memory_dim)
        self.memory_temporal_positional_encoding = _small(config.num_maskmem, 1, 1, memory_dim)
        self.no_memory_embedding = _small(1, 1, dim)
        # Never used; it is part of the published weights.
        self.no_memory_positional_encoding = _small(1, 1, dim)
        self.no_object_pointer = _small(1, dim)
        self.occlusion_spatial_embedding_parameter = _small(1, memory_dim)
        # Prompts and picture are placed by one and the same code.
        self.shared_image_embedding.positional_embedding.copy_(
            self.prompt_encoder.shared_embedding.positional_embedding
        )

    def prepare_features(self, pyramid: tuple[Tensor, Tensor, Tensor]) -> TrackerFeatures:
        """Project the fine levels once per frame.

        Args:
            pyramid: Shapes (N, C, 4g, 4g), (N, C, 2g, 2g) and (N, C, g, g).

        Raises:
            ValueError: If the three sides are not 4 g, 2 g and g.
        """
        sides = tuple(level.shape[-1] for level in pyramid)
        if sides != (4 * sides[2], 2 * sides[2], sides[2]):
            raise ValueError(f"pyramid has sides {sides!r}; accepted are 4, 2 and 1 times a grid")
        return TrackerFeatures(
            fine0=self.mask_decoder.conv_s0(pyramid[0]),
            fine1=self.mask_decoder.conv_s1(pyramid[1]),
            top=pyramid[2],
        )

    def condition_on_mask(
        self, features: TrackerFeatures, frame_index: Tensor, masks: Tensor
    ) -> TrackOutput:
        """Take masks as given: they are the output, and the decoder only makes the pointers.

        Args:
            features: Features of N frames.
            frame_index: Frame of each object, shape (B,).
            masks: Shape (B, 1, H, W) of any size, bool or 0 to 1. An empty one means "absent".
        """
        grid, dtype = features.grid, features.top.dtype
        mask = (resize(masks.to(dtype), 16 * grid) >= 0.5).to(dtype)
        decoded = self._decode_given(features, frame_index, mask)
        is_there = (mask > 0).flatten(1).any(dim=1)
        is_decoded = decoded.object_score_logits[:, 0] > 0
        single = torch.zeros_like(frame_index)
        return TrackOutput(
            mask_logits=resize(mask * MASK_SCALE + MASK_BIAS, 4 * grid),
            object_score_logits=is_there[:, None] * MASK_SCALE + MASK_BIAS,
            predicted_iou=torch.ones_like(decoded.iou[:, 0]),
            pointer=self._pointer(decoded, single, is_there & is_decoded),
            all_mask_logits=decoded.mask_logits[:, 1:],
            all_ious=decoded.iou[:, 1:],
        )

    def prompt(
        self,
        features: TrackerFeatures,
        frame_index: Tensor,
        *,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        mask_logits: Tensor | None = None,
        memories: Sequence[MemorySelection] | None = None,
    ) -> TrackOutput:
        """Segment objects from points or boxes.

        Args:
            features: Features of N frames.
            frame_index: Frame of each object, shape (B,).
            points: Shape (B, P, 2), x and y, 0 to 1 over width and height.
            labels: Shape (B, P): 1 on the object, 0 off it, -1 padding. All 1 when left out.
            boxes: Shape (B, 4), x0, y0, x1, y1, 0 to 1.
            mask_logits: Shape (B, 1, 4g, 4g), an earlier answer that the points correct.
            memories: What each object remembers; none when left out, as for the first prompt.

        Raises:
            ValueError: If neither points nor boxes are given.
        """
        if points is None and boxes is None:
            raise ValueError("no prompt: points or boxes are needed")
        batch = len(frame_index)
        points = features.top.new_zeros(batch, 0, 2) if points is None else points
        if labels is None:
            labels = frame_index.new_ones(points.shape[:2])
        points, labels = with_corners(points, labels.to(frame_index), boxes)
        decoded = self._decode(
            features,
            frame_index,
            self._without_memory(features, frame_index)
            if memories is None
            else self._with_memory(features, frame_index, memories),
            self.prompt_encoder.points(points, labels, features.grid),
            self._dense(mask_logits),
        )
        is_ambiguous = points.shape[1] <= MAX_AMBIGUOUS_POINTS
        chosen = choose_multimask(decoded) if is_ambiguous else choose_single_mask(decoded)
        token = chosen if is_ambiguous else torch.zeros_like(chosen)
        return self._output(decoded, chosen, token, decoded.object_score_logits[:, 0] > 0)

    def decode_prompts(
        self, features: TrackerFeatures, frame_index: Tensor, prompts: ObjectPrompts
    ) -> DecodedObjects:
        """Answer prompts on single pictures, without memory, with all candidates.

        A mask alone is a prompt, too; it then stands without any point, as in the official image
        predictor.

        Args:
            features: Features of N frames.
            frame_index: Frame of each object, shape (B,).
            prompts: Prompts of B objects.
        """
        points, labels = with_corners(prompts.points, prompts.labels, prompts.boxes)
        closes = points.shape[1] > 0
        sparse = self.prompt_encoder.points(points, labels, features.grid, closes=closes)
        image = self._without_memory(features, frame_index)
        return self._decode(features, frame_index, image, sparse, self._dense(prompts.mask_logits))

    def track(
        self,
        features: TrackerFeatures,
        frame_index: Tensor,
        banks: Sequence[MemoryBank],
        *,
        times: Sequence[int] | None = None,
        is_visible: Tensor | None = None,
    ) -> TrackOutput:
        """Follow objects into their next frame.

        Args:
            features: Features of N frames.
            frame_index: Frame of each object, shape (B,).
            banks: Memory of each object; they are only read.
            times: Time index of each object's frame in the count of its bank; the one after the
                newest written when left out.
            is_visible: As for :meth:`follow`.

        Raises:
            ValueError: If a bank is empty or not older than its time.
        """
        if times is None:
            times = [bank.newest + 1 for bank in banks]
        memories = [bank.select(time) for bank, time in zip(banks, times, strict=True)]
        return self.follow(features, frame_index, memories, is_visible=is_visible)

    def follow(
        self,
        features: TrackerFeatures,
        frame_index: Tensor,
        memories: Sequence[MemorySelection],
        *,
        is_visible: Tensor | None = None,
    ) -> TrackOutput:
        """Find objects on a frame by what each remembers.

        Args:
            features: Features of N frames.
            frame_index: Frame of each object, shape (B,).
            memories: Memories of each object.
            is_visible: Shape (B,), bool; in training the known visibility, which then blanks masks
                and pointers instead of the object score.
        """
        tokens = self._memory_tokens(memories, features)
        return self.follow_tokens(features, frame_index, tokens, is_visible=is_visible)

    def follow_tokens(
        self,
        features: TrackerFeatures,
        frame_index: Tensor,
        memory: MemoryTokens,
        *,
        is_visible: Tensor | None = None,
    ) -> TrackOutput:
        """Do :meth:`follow` with memories as tensors: a pure function, fit for compilers."""
        decoded = self._decode(
            features,
            frame_index,
            self.memory_attention(features.top, frame_index, memory),
            self.prompt_encoder.nothing(memory.tokens.shape[0]),
            self.prompt_encoder.no_mask(),
        )
        if is_visible is None:
            is_visible = decoded.object_score_logits[:, 0] > 0
        chosen = choose_multimask(decoded)
        return self._output(decoded, chosen, chosen, is_visible)

    def encode_memory(
        self,
        features: TrackerFeatures,
        frame_index: Tensor,
        mask_logits: Tensor,
        object_score_logits: Tensor,
        *,
        binarize: Tensor,
    ) -> Tensor:
        """Make the spatial memories of B objects.

        Args:
            features: Features of N frames.
            frame_index: Frame of each object, shape (B,).
            mask_logits: Shape (B, 1, H, W), normally (B, 1, 4g, 4g).
            object_score_logits: Shape (B, 1).
            binarize: Shape (B,), bool: whether the mask was given (then it counts as sure).

        Returns:
            Shape (B, memory_dim, g, g).
        """
        grid = features.grid
        logits = resize(mask_logits, 16 * grid)
        sure = (logits > 0).to(logits.dtype)
        mask = torch.where(binarize[:, None, None, None], sure, logits.sigmoid())
        memory = self.memory_encoder(
            rows_of(features.top, frame_index), mask * MASK_SCALE + MASK_BIAS
        )
        is_absent = (object_score_logits <= 0).to(memory.dtype)
        return memory + (is_absent * self.occlusion_spatial_embedding_parameter)[..., None, None]

    def _dense(self, mask_logits: Tensor | None) -> Tensor:
        encoder = self.prompt_encoder
        return encoder.no_mask() if mask_logits is None else encoder.mask(mask_logits)

    def _without_memory(self, features: TrackerFeatures, frame_index: Tensor) -> Tensor:
        placed = features.top + self.no_memory_embedding[..., None].movedim(2, 1)
        # The decoder itself shares one picture among all prompts, and saves work by it.
        return placed if placed.shape[0] == 1 else placed[frame_index]

    def _with_memory(
        self, features: TrackerFeatures, frame_index: Tensor, memories: Sequence[MemorySelection]
    ) -> Tensor:
        tokens = self._memory_tokens(memories, features)
        return self.memory_attention(features.top, frame_index, tokens)

    def _decode_given(
        self, features: TrackerFeatures, frame_index: Tensor, mask: Tensor
    ) -> DecodedObjects:
        """Decode frames with given masks, (B, 1, s, s), 0 to 1, as their only prompt."""
        dense = self.prompt_encoder.mask(resize(self.mask_downsample(mask), 4 * features.grid))
        sparse = self.prompt_encoder.nothing(mask.shape[0])
        return self._decode(
            features, frame_index, rows_of(features.top, frame_index), sparse, dense
        )

    def _decode(
        self,
        features: TrackerFeatures,
        frame_index: Tensor,
        image: Tensor,
        sparse: Tensor,
        dense: Tensor,
    ) -> DecodedObjects:
        image_pos = self.shared_image_embedding.image(features.grid).to(image.dtype)
        fine = (rows_of(features.fine0, frame_index), rows_of(features.fine1, frame_index))
        return self.mask_decoder(image, image_pos, sparse, dense, fine)

    def _pointer(self, decoded: DecodedObjects, token: Tensor, is_visible: Tensor) -> Tensor:
        rows = torch.arange(token.shape[0], device=token.device)
        pointer = self.object_pointer_proj(decoded.tokens[rows, token])
        return torch.where(is_visible[:, None], pointer, self.no_object_pointer)

    def _output(
        self, decoded: DecodedObjects, chosen: Tensor, token: Tensor, is_visible: Tensor
    ) -> TrackOutput:
        rows = torch.arange(chosen.shape[0], device=chosen.device)
        mask = decoded.mask_logits[rows, chosen][:, None]
        return TrackOutput(
            mask_logits=torch.where(is_visible[:, None, None, None], mask, ABSENT_LOGIT),
            object_score_logits=decoded.object_score_logits,
            predicted_iou=decoded.iou[rows, chosen],
            pointer=self._pointer(decoded, token, is_visible),
            all_mask_logits=decoded.mask_logits[:, 1:],
            all_ious=decoded.iou[:, 1:],
        )

    def _memory_tokens(
        self, selections: Sequence[MemorySelection], features: TrackerFeatures
    ) -> MemoryTokens:
        """Pad the memories of B objects to one length."""
        top, memory_dim = features.top, self.config.memory_dim
        num_maps = max(len(s.maps) for s in selections)
        num_pointers = max(len(s.pointers) for s in selections)
        no_map = top.new_zeros(memory_dim, features.grid, features.grid)
        no_pointer = top.new_zeros(self.config.hidden_dim)
        maps = _stack(
            [[m.spatial.to(top.dtype) for m in s.maps] for s in selections], num_maps, no_map
        )
        slots = torch.tensor(
            [_fill([m.slot for m in s.maps], num_maps) for s in selections],
            device=top.device,
            dtype=torch.int64,
        )
        pointers = _stack(
            [[p.pointer.to(top.dtype) for p in s.pointers] for s in selections],
            num_pointers,
            no_pointer,
        )
        ages = torch.tensor(
            [_fill([p.age / s.longest_age for p in s.pointers], num_pointers) for s in selections],
            device=top.device,
            dtype=torch.float32,
        )
        grid = features.grid
        place = sine_grid(grid, grid, memory_dim, top.device).to(top.dtype).flatten(1).T
        map_pos = place + self.memory_temporal_positional_encoding[slots, 0]
        time_code = sine_time(ages, self.config.hidden_dim)
        pointer_pos = self.temporal_positional_encoding_projection_layer(time_code.to(top.dtype))
        splits = self.config.hidden_dim // memory_dim
        is_valid = _validity(selections, (num_maps, features.grid**2), (num_pointers, splits))
        return MemoryTokens(
            tokens=torch.cat(
                [
                    maps.flatten(3).transpose(2, 3).flatten(1, 2),
                    pointers.unflatten(2, (splits, -1)).flatten(1, 2),
                ],
                dim=1,
            ),
            pos=torch.cat(
                [map_pos.flatten(1, 2), pointer_pos.repeat_interleave(splits, dim=1)], dim=1
            ),
            num_maps=num_maps,
            is_valid=None if is_valid is None else is_valid.to(top.device),
        )


def with_corners(points: Tensor, labels: Tensor, boxes: Tensor | None) -> tuple[Tensor, Tensor]:
    """Put the two corners of boxes (B, 4) in front of points (B, P, 2) and labels (B, P)."""
    if boxes is None:
        return points, labels
    corners = labels.new_tensor([LABEL_BOX_TOP_LEFT, LABEL_BOX_BOTTOM_RIGHT])
    return (
        torch.cat([boxes.unflatten(1, (2, 2)), points], dim=1),
        torch.cat([corners.expand(len(labels), 2), labels], dim=1),
    )


def rows_of(x: Tensor, frame_index: Tensor) -> Tensor:
    """Give each of B objects the row (of N) of its frame; one frame's is shared, not copied."""
    # Sizes are read from shapes, not by len(), so that tracing leaves them open.
    if x.shape[0] > 1:
        return x[frame_index]
    # Of one layout for one object and for several: a convolution's last bits depend on it.
    return x.contiguous().expand(frame_index.shape[0], *x.shape[1:])


def _small(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02))


def _fill(values: Sequence[float], length: int) -> list[float]:
    return [*values, *[0] * (length - len(values))]


def _stack(rows: list[list[Tensor]], length: int, padding: Tensor) -> Tensor:
    """Stack rows of tensors of one shape as (len(rows), length, *shape)."""
    if length == 0:
        return padding.new_zeros(len(rows), 0, *padding.shape)
    flat = [t for row in rows for t in (*row, *[padding] * (length - len(row)))]
    return torch.stack(flat).unflatten(0, (len(rows), length))


def _validity(
    selections: Sequence[MemorySelection], maps: tuple[int, int], pointers: tuple[int, int]
) -> Tensor | None:
    """Which tokens are not padding, shape (B, K), or ``None`` when all are real.

    ``maps`` and ``pointers`` are the padded count and the tokens of each.
    """
    counts = [(len(s.maps), len(s.pointers)) for s in selections]
    if all(count == (maps[0], pointers[0]) for count in counts):
        return None
    held = torch.tensor(counts)
    map_rows = torch.arange(maps[0]) < held[:, :1]
    pointer_rows = torch.arange(pointers[0]) < held[:, 1:]
    return torch.cat(
        [
            map_rows.repeat_interleave(maps[1], dim=1),
            pointer_rows.repeat_interleave(pointers[1], dim=1),
        ],
        dim=1,
    )
