"""Builds transformers' SAM 3 at a reduced size with the dimensions of one of our configs."""

import importlib
import types

import torch

from models.common.prompt_encoder import MASK_CHANNELS
from models.common.roi_align import roi_align
from models.sam2.config import TrackerConfig
from models.sam3.network.config import (
    NORM_EPS,
    DetectorConfig,
    Sam3Config,
    TextConfig,
    VisionConfig,
)
from models.sam3.network.exemplars import ROI_SIZE
from models.sam3.network.segmentation import UPSAMPLING_STAGES

# Imported by full name: the package hides these modules behind torchvision, which only their image
# processor needs.
configuration = importlib.import_module("transformers.models.sam3.configuration_sam3")
reference = importlib.import_module("transformers.models.sam3.modeling_sam3")
visual_configuration = importlib.import_module(
    "transformers.models.sam3_tracker.configuration_sam3_tracker"
)
visual_reference = importlib.import_module("transformers.models.sam3_tracker.modeling_sam3_tracker")

SMALL = Sam3Config(
    vision=VisionConfig(
        image_size=84,
        dim=32,
        mlp_dim=74,
        num_blocks=3,
        num_heads=2,
        window=2,
        global_blocks=(1,),
        pretrain_grid=2,
        neck_dim=32,
    ),
    text=TextConfig(
        vocab_size=99,
        dim=24,
        mlp_dim=96,
        num_blocks=2,
        num_heads=2,
        context_length=8,
        projection_dim=16,
    ),
    detector=DetectorConfig(
        dim=32,
        num_heads=4,
        mlp_dim=64,
        exemplar_layers=2,
        fusion_layers=2,
        decoder_layers=3,
        num_queries=9,
    ),
    tracker=TrackerConfig(
        image_size=84,
        hidden_dim=32,
        memory_dim=16,
        num_heads=4,
        mask_decoder_mlp_dim=48,
        iou_head_dim=24,
        memory_attention_layers=1,
        memory_attention_mlp_dim=40,
        memory_fuser_dim=24,
    ),
)


def _pool(features, boxes, size):
    """Stand in for torchvision, not built for every torch; roi_align has its own test."""
    return torch.cat(
        [roi_align(f[None], b[None], size) for f, b in zip(features, boxes, strict=True)]
    )


def stand_in_for_torchvision():
    """Let transformers pool boxes without torchvision."""
    reference.torchvision = types.SimpleNamespace(ops=types.SimpleNamespace(roi_align=_pool))


def reference_config(config: Sam3Config, norm_eps: float = NORM_EPS):
    """Translate one of our size rows."""
    v, t, d = config.vision, config.text, config.detector
    shared = {"hidden_size": d.dim, "num_attention_heads": d.num_heads, "dropout": 0.0}
    layered = {**shared, "intermediate_size": d.mlp_dim}
    return configuration.Sam3Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": v.dim,
                "intermediate_size": v.mlp_dim,
                "num_hidden_layers": v.num_blocks,
                "num_attention_heads": v.num_heads,
                "image_size": v.image_size,
                "patch_size": v.patch_size,
                "window_size": v.window,
                "global_attn_indexes": list(v.global_blocks),
                "pretrain_image_size": v.pretrain_grid * v.patch_size,
                "layer_norm_eps": norm_eps,
            },
            "fpn_hidden_size": v.neck_dim,
            "backbone_feature_sizes": [[v.grid * s, v.grid * s] for s in (4, 2, 1)],
        },
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": t.vocab_size,
            "hidden_size": t.dim,
            "intermediate_size": t.mlp_dim,
            "projection_dim": t.projection_dim,
            "num_hidden_layers": t.num_blocks,
            "num_attention_heads": t.num_heads,
            "max_position_embeddings": t.context_length,
            "hidden_act": "gelu",
        },
        geometry_encoder_config={
            **layered,
            "num_layers": d.exemplar_layers,
            "roi_size": ROI_SIZE,
        },
        detr_encoder_config={**layered, "num_layers": d.fusion_layers},
        detr_decoder_config={
            **layered,
            "num_layers": d.decoder_layers,
            "num_queries": d.num_queries,
        },
        mask_decoder_config={**shared, "num_upsampling_stages": UPSAMPLING_STAGES},
    )


def build_reference(
    config: Sam3Config, seed: int = 0, *, share: float = 0.1, norm_eps: float = NORM_EPS
):
    """Return transformers' detector in evaluation mode with random weights of ordinary spread."""
    stand_in_for_torchvision()
    torch.manual_seed(seed)
    return spread(reference.Sam3Model(reference_config(config, norm_eps)), share)


def spread(model, share: float = 0.1):
    """Give random weights an ordinary spread, and the model its evaluation mode.

    The library's tiny default spread would hide differences; norms keep their ones plus a little.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * share)
    return model.eval()


def visual_config(config: Sam3Config, scales=(4.0, 2.0, 1.0)):
    """Translate one of our size rows for transformers' image model of the tracker's heads.

    Its own default has a fourth scale, as the checkpoints do, and then adds the embedding of "no
    memory" to that unused level; three scales make it add it where the official code does.
    """
    v, t = config.vision, config.tracker
    vision = reference_config(config).vision_config.to_dict()
    return visual_configuration.Sam3TrackerConfig(
        vision_config={**vision, "model_type": "sam3_vision_model", "scale_factors": list(scales)},
        prompt_encoder_config={
            "hidden_size": t.hidden_dim,
            "image_size": t.image_size,
            "patch_size": v.patch_size,
            "mask_input_channels": MASK_CHANNELS,
        },
        mask_decoder_config={
            "hidden_size": t.hidden_dim,
            "mlp_dim": t.mask_decoder_mlp_dim,
            "num_attention_heads": t.num_heads,
            "iou_head_hidden_dim": t.iou_head_dim,
        },
    )


def visual_names(state):
    """Rename what transformers' image model of the tracker's heads holds to ours."""
    places = {
        "vision_encoder.backbone.": "detector_model.vision_encoder.backbone.",
        "vision_encoder.neck.": "tracker_neck.",
    }
    return {
        next((new + k[len(old) :] for old, new in places.items() if k.startswith(old)), None)
        or f"tracker_model.{k}": v
        for k, v in state.items()
    }
