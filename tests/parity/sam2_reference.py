"""Builds transformers' SAM 2.1 with the dimensions of one of our configs."""

import importlib

import torch

from models.sam2.config import Sam2Config

# Imported by full name: the package hides these modules behind torchvision, which only their image
# processor needs.
configuration = importlib.import_module("transformers.models.sam2.configuration_sam2")
reference = importlib.import_module("transformers.models.sam2.modeling_sam2")
video_configuration = importlib.import_module(
    "transformers.models.sam2_video.configuration_sam2_video"
)
video_reference = importlib.import_module("transformers.models.sam2_video.modeling_sam2_video")


def reference_config(config: Sam2Config):
    """Translate one of our size rows."""
    hiera, tracker = config.hiera, config.tracker
    dim, grid = tracker.hidden_dim, tracker.image_size // tracker.patch_size
    prompts = {
        "hidden_size": dim,
        "image_size": tracker.image_size,
        "patch_size": tracker.patch_size,
    }
    decoder = {
        "hidden_size": dim,
        "mlp_dim": tracker.mask_decoder_mlp_dim,
        "num_attention_heads": tracker.num_heads,
        "iou_head_hidden_dim": tracker.iou_head_dim,
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": hiera.dim,
            "num_attention_heads": hiera.num_heads,
            "image_size": [tracker.image_size] * 2,
            "blocks_per_stage": list(hiera.blocks),
            "embed_dim_per_stage": list(hiera.stage_dims),
            "num_attention_heads_per_stage": [hiera.num_heads * 2**s for s in range(4)],
            "window_size_per_stage": list(hiera.windows),
            "global_attention_blocks": list(hiera.global_blocks),
            "window_positional_embedding_background_size": [hiera.background_grid] * 2,
        },
        "backbone_channel_list": list(reversed(hiera.stage_dims)),
        "backbone_feature_sizes": [[grid * s, grid * s] for s in (4, 2, 1)],
        "fpn_hidden_size": dim,
    }
    parts = {
        "vision_config": vision,
        "prompt_encoder_config": prompts,
        "mask_decoder_config": decoder,
    }
    video = video_configuration.Sam2VideoConfig(
        **parts,
        image_size=tracker.image_size,
        memory_attention_hidden_size=dim,
        memory_attention_num_layers=tracker.memory_attention_layers,
        memory_attention_feed_forward_hidden_size=tracker.memory_attention_mlp_dim,
        memory_attention_rope_feat_sizes=[grid, grid],
        memory_encoder_hidden_size=dim,
        memory_encoder_output_channels=tracker.memory_dim,
        mask_downsampler_embed_dim=dim,
        memory_fuser_embed_dim=dim,
        memory_fuser_intermediate_dim=tracker.memory_fuser_dim,
    )
    return configuration.Sam2Config(**parts), video


def build_reference(config: Sam2Config, seed: int = 0, spread: float = 0.05):
    """Return transformers' video model with random weights of ordinary spread."""
    torch.manual_seed(seed)
    model = video_reference.Sam2VideoModel(reference_config(config)[1]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Some start at zero, which would hide mistakes; norms keep their ones plus a little.
            parameter.add_(torch.randn_like(parameter) * spread)
    return model


def build_image_reference(config: Sam2Config, state: dict[str, torch.Tensor]):
    """Return transformers' image model with the part of a video model's weights that it has."""
    model = reference.Sam2Model(reference_config(config)[0]).eval()
    missing, _ = model.load_state_dict(state, strict=False)
    if missing:
        raise ValueError(f"the video model lacks {missing!r}")
    return model
