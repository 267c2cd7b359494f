"""What is compared: each model beside transformers', on the same tensors of weights."""

import importlib
from collections.abc import Iterator
from dataclasses import replace

import torch
from transformers import Sam3TrackerVideoModel

from models.catalogue import MODELS, Family, sam3_network, sizes_of
from models.common.config import MaskDecoderConfig
from models.common.positional import sine_grid
from models.common.prompting import ObjectPrompts
from models.sam1.config import Sam1Config
from models.sam1.config import VisionConfig as Sam1VisionConfig
from models.sam2.config import HieraConfig, Sam2Config, TrackerConfig
from models.sam2.outputs import TrackerFeatures
from models.sam3.network.config import DetectorConfig, Sam3Config, TextConfig, VisionConfig
from models.sam3.network.exemplars import Exemplars
from tests.benchmarks.timing import Case
from tests.parity import sam1_reference, sam2_reference, sam3_reference
from tests.parity.tracker_reference import reference_config as tracker_reference_config
from tests.parity.variants import (
    BankByAge,
    TransformersDetector,
    TransformersSam2,
    TransformersTracker,
)

sam2_video = importlib.import_module("transformers.models.sam2_video.modeling_sam2_video")
sam3_video = importlib.import_module(
    "transformers.models.sam3_tracker_video.modeling_sam3_tracker_video"
)

SAM1_REDUCED = Sam1Config(
    vision=Sam1VisionConfig(
        image_size=512, dim=192, mlp_dim=768, num_blocks=6, num_heads=6, global_blocks=(2, 5)
    ),
    mask_decoder=MaskDecoderConfig(),
)
SAM2_REDUCED = Sam2Config(
    hiera=HieraConfig(
        dim=48,
        num_heads=1,
        blocks=(1, 2, 3, 1),
        windows=(8, 4, 8, 4),
        global_blocks=(4,),
        background_grid=7,
    ),
    tracker=TrackerConfig(image_size=512, patch_size=16, max_cond_frames=None),
)
SAM3_REDUCED = Sam3Config(
    vision=VisionConfig(
        image_size=504,
        dim=256,
        mlp_dim=1024,
        num_blocks=8,
        num_heads=4,
        window=12,
        global_blocks=(3, 7),
        pretrain_grid=12,
        neck_dim=256,
    ),
    text=TextConfig(dim=256, mlp_dim=1024, num_blocks=6, num_heads=4, projection_dim=64),
    detector=DetectorConfig(mlp_dim=1024, fusion_layers=3, decoder_layers=3, num_queries=100),
    tracker=TrackerConfig(image_size=504),
)
DETECTOR_PARTS = (
    "geometry_encoder",
    "detr_encoder",
    "detr_decoder",
    "mask_decoder",
    "dot_product_scoring",
)
TRACKER_PARTS = ("memory_attention", "mask_decoder", "memory_encoder")
# Frames before the measured one: as many memories as there are at most, and fewer where a frame
# takes minutes.
HISTORY, SHORT_HISTORY = 8, 2


def sam1_cases(name: str, config: Sam1Config) -> Iterator[Case]:
    """Image forward, one point, and 64 points at once."""
    theirs = sam1_reference.build_reference(config)
    ours = sam1_reference.build_ours(config, theirs.state_dict())
    images = torch.randn(1, 3, config.vision.image_size, config.vision.image_size)
    yield Case(
        model=name,
        step="image",
        ours=lambda: ours.encode_images(images),
        theirs=lambda: theirs.get_image_embeddings(images),
        module=ours,
        parts=("vision_encoder.patch_embed", "vision_encoder.neck"),
    )
    embedding = ours.encode_images(images)
    for count in (1, 64):
        points, labels = torch.rand(count, 1, 2), torch.ones(count, 1, dtype=torch.int64)
        prompts = ObjectPrompts(points=points, labels=labels, boxes=None, mask_logits=None)
        yield Case(
            model=name,
            step=f"{count} point{'s' * (count > 1)}",
            ours=lambda prompts=prompts: ours.decode_prompts(embedding, prompts, multimask=True),
            theirs=lambda points=points, labels=labels: theirs(
                image_embeddings=embedding,
                input_points=points[None] * config.vision.image_size,
                input_labels=labels[None],
            ),
            module=ours,
            parts=("prompt_encoder", "mask_decoder"),
        )


def sam2_cases(
    name: str, config: Sam2Config, *, objects: tuple[int, ...], history: int
) -> Iterator[Case]:
    """Image forward, one point, and tracking steps."""
    theirs = sam2_reference.build_reference(config, spread=0.02)
    still = sam2_reference.build_image_reference(config, theirs.state_dict())
    ours = TransformersSam2(config).eval().requires_grad_(requires_grad=False)
    ours.load_state_dict(theirs.state_dict(), assign=True)
    size = config.tracker.image_size
    images = torch.randn(1, 3, size, size)
    yield Case(
        model=name,
        step="image",
        ours=lambda: ours.encode_image(images),
        theirs=lambda: still.get_image_embeddings(images),
        module=ours,
        parts=("vision_encoder.backbone", "vision_encoder.neck"),
    )
    features = ours.encode_image(images)
    point, label = torch.rand(1, 1, 2), torch.ones(1, 1, dtype=torch.int64)
    prompts = ObjectPrompts(points=point, labels=label, boxes=None, mask_logits=None)
    of_first = torch.zeros(1, dtype=torch.int64)
    levels = still.get_image_embeddings(images)
    yield Case(
        model=name,
        step="1 point",
        ours=lambda: ours.decode_prompts(features, of_first, prompts),
        theirs=lambda: still(
            image_embeddings=levels, input_points=point[None] * size, input_labels=label[None]
        ),
        module=ours,
        parts=("mask_decoder",),
    )
    yield from tracking_cases(name, ours, theirs, sam2_video, objects=objects, history=history)


def sam3_cases(
    name: str, config: Sam3Config, *, objects: tuple[int, ...], history: int
) -> Iterator[Case]:
    """Image forward, text, detector passes without and with exemplars, then tracking steps."""
    yield from sam3_detector_cases(name, config)
    yield from sam3_tracking_cases(name, config.tracker, objects=objects, history=history)


def sam3_detector_cases(name: str, config: Sam3Config) -> Iterator[Case]:
    """Image forward, text, and detector passes without and with exemplars."""
    theirs = sam3_reference.build_reference(config)
    ours = TransformersDetector(config)
    ours = ours.eval().requires_grad_(requires_grad=False)
    ours.load_state_dict(theirs.state_dict(), assign=True)
    images = torch.randn(1, 3, config.vision.image_size, config.vision.image_size)
    yield Case(
        model=name,
        step="image",
        ours=lambda: ours.vision_encoder(images),
        theirs=lambda: theirs.vision_encoder(images),
        module=ours,
        parts=("vision_encoder.backbone", "vision_encoder.neck"),
    )
    token_ids = torch.zeros(1, config.text.context_length, dtype=torch.int64)
    token_ids[0, :5] = torch.tensor([1, 2, 3, 4, config.text.vocab_size - 1])
    valid = (token_ids != 0).long()
    yield Case(
        model=name,
        step="text",
        ours=lambda: ours.encode_text(token_ids),
        theirs=lambda: theirs.get_text_features(token_ids, attention_mask=valid),
        module=ours,
    )
    vision, their_vision = ours.vision_encoder(images), theirs.vision_encoder(images)
    text = ours.encode_text(token_ids)
    their_text = theirs.get_text_features(token_ids, attention_mask=valid)
    labels = torch.ones(1, 2, dtype=torch.int64)
    boxes = torch.tensor([[[0.3, 0.4, 0.2, 0.3], [0.6, 0.5, 0.3, 0.2]]])
    given = Exemplars(boxes_cxcywh=boxes, is_positive=labels > 0, is_valid=labels > 0)
    index = torch.zeros(1, dtype=torch.int64)
    for step, exemplars in (("text prompt", None), ("text + 2 exemplars", given)):
        shown = {"input_boxes": boxes, "input_boxes_labels": labels} if exemplars else {}
        yield Case(
            model=name,
            step=step,
            # Theirs makes all masks, so ours does here, too; in use only those kept are made.
            ours=lambda given=exemplars: ours.masks(ours(vision, index, text, given)),
            theirs=lambda shown=shown: theirs(
                vision_embeds=their_vision, text_embeds=their_text, attention_mask=valid, **shown
            ),
            module=ours,
            parts=DETECTOR_PARTS,
        )


def sam3_tracking_cases(
    name: str, config: TrackerConfig, *, objects: tuple[int, ...], history: int
) -> Iterator[Case]:
    """Tracking steps of SAM 3's tracker."""
    if config.hidden_dim == config.memory_dim:
        # The port cannot attend to pointers that are as wide as the memories.
        config = replace(config, hidden_dim=2 * config.memory_dim)
    theirs = Sam3TrackerVideoModel(
        tracker_reference_config(config), remove_vision_encoder=True
    ).eval()
    ours = TransformersTracker(config)
    ours = ours.eval().requires_grad_(requires_grad=False)
    ours.load_state_dict(theirs.state_dict(), assign=True)
    yield from tracking_cases(name, ours, theirs, sam3_video, objects=objects, history=history)


def tracking_cases(name, ours, theirs, library, *, objects, history) -> Iterator[Case]:
    """One more frame, from features to new memories, of so many objects with full memories."""
    for count in objects:
        features = _features(ours.config, history + 1)
        follow = OursFollowing(ours, features, count, history)
        reference = TheirsFollowing(theirs, library, features, count, history)
        yield Case(
            model=name,
            step=f"track {count} object{'s' * (count > 1)}",
            ours=follow.step,
            theirs=reference.step,
            module=ours,
            parts=TRACKER_PARTS,
        )


def _features(config: TrackerConfig, frames: int) -> TrackerFeatures:
    grid, dim = config.image_size // config.patch_size, config.hidden_dim
    return TrackerFeatures(
        fine0=torch.randn(frames, dim // 8, 4 * grid, 4 * grid),
        fine1=torch.randn(frames, dim // 4, 2 * grid, 2 * grid),
        top=torch.randn(frames, dim, grid, grid),
    )


def _masks(count: int, side: int) -> torch.Tensor:
    masks = torch.zeros(count, 1, side, side)
    for k in range(count):
        left = k * side // (2 * count)
        masks[k, :, side // 4 : side // 2, left : left + side // 3] = 1
    return masks


class OursFollowing:
    """All objects in one batch; the last frame can be tracked over and over."""

    def __init__(self, tracker, features, count, history):
        config = tracker.config
        self.tracker, self.features, self.last = tracker, features, history
        self.banks = [BankByAge(config) for _ in range(count)]
        for t in range(history):
            frame = torch.full((count,), t)
            given = torch.full((count,), t == 0)
            if t == 0:
                masks = _masks(count, config.image_size)
                out = tracker.condition_on_mask(features, frame, masks)
            else:
                out = tracker.track(features, frame, self.banks)
            spatial = tracker.encode_memory(
                features, frame, out.mask_logits, out.object_score_logits, binarize=given
            )
            for k, bank in enumerate(self.banks):
                (bank.write if t else bank.write_conditioning)(t, spatial[k], out.pointer[k])

    def step(self):
        now = slice(self.last, self.last + 1)
        features = TrackerFeatures(
            fine0=self.features.fine0[now],
            fine1=self.features.fine1[now],
            top=self.features.top[now],
        )
        frame = torch.zeros(len(self.banks), dtype=torch.int64)
        out = self.tracker.track(features, frame, self.banks)
        return self.tracker.encode_memory(
            features, frame, out.mask_logits, out.object_score_logits, binarize=frame > 0
        )


class TheirsFollowing:
    """Their session, fed with ready features; the last frame can be tracked over and over."""

    def __init__(self, model, library, features, count, history):
        self.model, self.last = model, history
        name = next(n for n in dir(library) if n.endswith("VideoInferenceSession"))
        self.session = getattr(library, name)(dtype=torch.float32)
        grid, dim = features.grid, features.top.shape[1]
        place = sine_grid(grid, grid, dim, torch.device("cpu")).flatten(1).T[:, None]
        self.feeds = [
            {
                "vision_feats": [
                    level[t : t + 1].flatten(2).permute(2, 0, 1)
                    for level in (features.fine0, features.fine1, features.top)
                ],
                "vision_pos_embeds": [torch.zeros(1), torch.zeros(1), place],
            }
            for t in range(history + 1)
        ]
        masks = _masks(count, grid * 16)
        for k in range(count):
            self.session.obj_id_to_idx(k)
            self.session.add_mask_inputs(k, 0, masks[k : k + 1])
        self.session.obj_with_new_inputs = list(range(count))
        for t in range(history):
            self._run(t)

    def _run(self, t):
        self.session.cache.cache_vision_features(t, self.feeds[t])
        return self.model(self.session, frame=torch.zeros(3, 1, 1), frame_idx=t)

    def step(self):
        return self._run(self.last)


def all_cases(*, full: bool, only: str | None) -> Iterator[Case]:
    """Cases of every model whose name contains ``only``; one model in memory at a time."""
    makers = {
        "sam1-reduced": lambda n: sam1_cases(n, SAM1_REDUCED),
        "sam2.1-reduced": lambda n: sam2_cases(n, SAM2_REDUCED, objects=(1, 3, 8), history=HISTORY),
        "sam3-nano": lambda n: sam3_cases(
            n, sam3_network("sam3-nano"), objects=(1, 3, 8), history=HISTORY
        ),
        "sam3-reduced": lambda n: sam3_cases(
            n, SAM3_REDUCED, objects=(1, 3), history=SHORT_HISTORY
        ),
    }
    if full:
        makers |= {n: lambda n: sam1_cases(n, MODELS[n].network) for n in _names(Family.SAM1)}
        makers |= {
            n: lambda n: sam2_cases(n, _of_transformers(n), objects=(1,), history=SHORT_HISTORY)
            for n in _names(Family.SAM2)
        }
        makers["sam3"] = lambda n: sam3_cases(
            n, sam3_network("sam3"), objects=(1,), history=SHORT_HISTORY
        )
    for name, make in makers.items():
        if only is None or only in name:
            yield from make(name)


def _names(family: Family) -> list[str]:
    return [size.name for size in sizes_of(family)]


def _of_transformers(name: str) -> Sam2Config:
    config = MODELS[name].network
    return replace(config, tracker=replace(config.tracker, max_cond_frames=None))
