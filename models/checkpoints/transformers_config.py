"""The configuration files with which transformers opens our weights, from the catalogue."""

from pathlib import Path
from typing import Any

from models.catalogue import find_size
from models.common.config import MaskDecoderConfig
from models.common.mask_decoder import NUM_BLOCKS
from models.common.prompt_encoder import MASK_CHANNELS
from models.sam1.config import Sam1Config
from models.sam1.image_encoder import NORM_EPS as SAM1_NORM_EPS
from models.sam2.config import Sam2Config, TrackerConfig
from models.sam2.hiera import MLP_RATIO
from models.sam2.memory_encoder import NUM_FUSER_BLOCKS
from models.sam2.model import PIXEL_MEAN, PIXEL_STD
from models.sam3.network.config import NORM_EPS, Sam3Config
from models.sam3.network.exemplars import ROI_SIZE
from models.sam3.network.segmentation import UPSAMPLING_STAGES

# transformers' own form: a tree of plain values.
Fields = dict[str, Any]


Network = Sam1Config | Sam2Config | Sam3Config


def model_config(network: Network) -> Fields:
    """Return what ``config.json`` holds.

    Of the detector's norms it gives the width that the published weights were trained with, which
    differs from transformers' default.
    """
    match network:
        case Sam1Config():
            return {"architectures": ["SamModel"], "model_type": "sam", **_sam1(network)}
        case Sam2Config():
            kind = {"architectures": ["Sam2VideoModel"], "model_type": "sam2_video"}
            return {**kind, **_sam2(network)}
        case Sam3Config():
            kind = {"architectures": ["Sam3VideoModel"], "model_type": "sam3_video"}
            return {**kind, **_sam3(network)}


def processor_config(network: Network) -> Fields:
    """Return what ``preprocessor_config.json`` holds."""
    side = network.image_size
    mean, deviation = list(PIXEL_MEAN), list(PIXEL_STD)
    match network:
        case Sam1Config():
            processor, kind = "SamProcessor", "SamImageProcessor"
            sizes: Fields = {
                "size": {"longest_edge": side},
                "mask_size": {"longest_edge": side // 4},
                "do_pad": True,
                "pad_size": _square(side),
                "mask_pad_size": _square(side // 4),
            }
        case Sam2Config():
            processor, kind = "Sam2VideoProcessor", "Sam2ImageProcessor"
            mask_side = 4 * (side // network.tracker.patch_size)
            sizes = {"size": _square(side), "mask_size": _square(mask_side)}
        case Sam3Config():
            processor, kind = "Sam3VideoProcessor", "Sam3ImageProcessor"
            sizes = {"size": _square(side), "mask_size": _square(4 * network.vision.grid)}
            mean, deviation = [0.5] * 3, [0.5] * 3
    return {
        "processor_class": processor,
        "image_processor_type": kind,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "rescale_factor": 1 / 255,
        "resample": 2,
        "image_mean": mean,
        "image_std": deviation,
        **sizes,
    }


def tokenizer_config(network: Sam3Config) -> Fields:
    """Return what ``tokenizer_config.json`` holds for a SAM 3."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": network.text.context_length,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }


def companion_files(size: str) -> dict[Path, Fields]:
    """Return the files that belong beside a size's weights, but for the vocabulary."""
    network = find_size(size).network
    files = {
        Path("config.json"): model_config(network),
        Path("preprocessor_config.json"): processor_config(network),
    }
    if isinstance(network, Sam3Config):
        files[Path("tokenizer_config.json")] = tokenizer_config(network)
    return files


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _prompts_and_masks(*, image_size: int, patch_size: int, decoder: MaskDecoderConfig) -> Fields:
    return {
        "prompt_encoder_config": {
            "hidden_size": decoder.dim,
            "image_size": image_size,
            "patch_size": patch_size,
            "mask_input_channels": MASK_CHANNELS,
        },
        "mask_decoder_config": {
            "hidden_size": decoder.dim,
            "mlp_dim": decoder.mlp_dim,
            "num_hidden_layers": NUM_BLOCKS,
            "num_attention_heads": decoder.num_heads,
            "iou_head_hidden_dim": decoder.iou_head_dim,
        },
    }


def _sam1(config: Sam1Config) -> Fields:
    vision = config.vision
    return {
        "vision_config": {
            "hidden_size": vision.dim,
            "output_channels": vision.neck_dim,
            "num_hidden_layers": vision.num_blocks,
            "num_attention_heads": vision.num_heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "layer_norm_eps": SAM1_NORM_EPS,
            "window_size": vision.window,
            "global_attn_indexes": list(vision.global_blocks),
            "num_pos_feats": vision.neck_dim // 2,
            "mlp_dim": vision.mlp_dim,
        },
        **_prompts_and_masks(
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            decoder=config.mask_decoder,
        ),
    }


def _sam2(config: Sam2Config) -> Fields:
    hiera, tracker = config.hiera, config.tracker
    grid = tracker.image_size // tracker.patch_size
    stages = range(len(hiera.blocks))
    backbone: Fields = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": hiera.dim,
        "num_attention_heads": hiera.num_heads,
        "image_size": [tracker.image_size] * 2,
        "blocks_per_stage": list(hiera.blocks),
        "embed_dim_per_stage": list(hiera.stage_dims),
        "num_attention_heads_per_stage": [hiera.num_heads * 2**stage for stage in stages],
        "window_size_per_stage": list(hiera.windows),
        "global_attention_blocks": list(hiera.global_blocks),
        "window_positional_embedding_background_size": [hiera.background_grid] * 2,
        "mlp_ratio": float(MLP_RATIO),
    }
    return {
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": list(reversed(hiera.stage_dims)),
            "backbone_feature_sizes": [[grid * scale, grid * scale] for scale in (4, 2, 1)],
            "fpn_hidden_size": tracker.hidden_dim,
        },
        **_tracker(tracker),
    }


def _tracker(config: TrackerConfig) -> Fields:
    dim, grid = config.hidden_dim, config.image_size // config.patch_size
    return {
        **_prompts_and_masks(
            image_size=config.image_size,
            patch_size=config.patch_size,
            decoder=config.mask_decoder,
        ),
        "image_size": config.image_size,
        "num_maskmem": config.num_maskmem,
        "max_object_pointers_in_encoder": config.max_object_pointers,
        "max_cond_frame_num": -1 if config.max_cond_frames is None else config.max_cond_frames,
        "memory_attention_hidden_size": dim,
        "memory_attention_num_layers": config.memory_attention_layers,
        "memory_attention_feed_forward_hidden_size": config.memory_attention_mlp_dim,
        "memory_attention_rope_feat_sizes": [grid, grid],
        "memory_encoder_hidden_size": dim,
        "memory_encoder_output_channels": config.memory_dim,
        "mask_downsampler_embed_dim": dim,
        "memory_fuser_num_layers": NUM_FUSER_BLOCKS,
        "memory_fuser_embed_dim": dim,
        "memory_fuser_intermediate_dim": config.memory_fuser_dim,
    }


def _sam3(config: Sam3Config) -> Fields:
    vision = _sam3_vision(config)
    return {
        "detector_config": {
            "model_type": "sam3",
            "vision_config": vision,
            **_sam3_heads(config),
        },
        "tracker_config": {
            "model_type": "sam3_tracker_video",
            "vision_config": vision,
            **_tracker(config.tracker),
        },
        "low_res_mask_size": 4 * config.vision.grid,
    }


def _sam3_vision(config: Sam3Config) -> Fields:
    vision = config.vision
    backbone: Fields = {
        "model_type": "sam3_vit_model",
        "hidden_size": vision.dim,
        "intermediate_size": vision.mlp_dim,
        "num_hidden_layers": vision.num_blocks,
        "num_attention_heads": vision.num_heads,
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "window_size": vision.window,
        "global_attn_indexes": list(vision.global_blocks),
        "pretrain_image_size": vision.pretrain_grid * vision.patch_size,
        "layer_norm_eps": NORM_EPS,
    }
    return {
        "model_type": "sam3_vision_model",
        "backbone_config": backbone,
        "fpn_hidden_size": vision.neck_dim,
        "backbone_feature_sizes": [
            [vision.grid * scale, vision.grid * scale] for scale in (4, 2, 1)
        ],
    }


def _sam3_heads(config: Sam3Config) -> Fields:
    text, detector = config.text, config.detector
    shared = {
        "hidden_size": detector.dim,
        "num_attention_heads": detector.num_heads,
        "layer_norm_eps": NORM_EPS,
    }
    layered = {**shared, "intermediate_size": detector.mlp_dim}
    return {
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": text.vocab_size,
            "hidden_size": text.dim,
            "intermediate_size": text.mlp_dim,
            "projection_dim": text.projection_dim,
            "num_hidden_layers": text.num_blocks,
            "num_attention_heads": text.num_heads,
            "max_position_embeddings": text.context_length,
            "hidden_act": "gelu",
        },
        "geometry_encoder_config": {
            **layered,
            "num_layers": detector.exemplar_layers,
            "roi_size": ROI_SIZE,
        },
        "detr_encoder_config": {**layered, "num_layers": detector.fusion_layers},
        "detr_decoder_config": {
            **layered,
            "num_layers": detector.decoder_layers,
            "num_queries": detector.num_queries,
        },
        "mask_decoder_config": {**shared, "num_upsampling_stages": UPSAMPLING_STAGES},
    }
