"""Builds transformers' SAM 1 with the dimensions of one of our configs."""

import importlib

import torch

from models.common.config import MaskDecoderConfig
from models.common.mask_decoder import NUM_BLOCKS
from models.common.prompt_encoder import MASK_CHANNELS
from models.sam1.config import Sam1Config, VisionConfig
from models.sam1.image_encoder import NORM_EPS
from models.sam1.keys import TRANSFORMERS
from models.sam1.model import Sam1
from tests.parity.variants import set_norm_eps

# Imported by full name: the package hides these modules behind torchvision, which only their image
# processor needs.
configuration = importlib.import_module("transformers.models.sam.configuration_sam")
reference = importlib.import_module("transformers.models.sam.modeling_sam")

TRANSFORMERS_NORM_EPS = 1e-6
SMALL = Sam1Config(
    vision=VisionConfig(
        image_size=160,
        dim=48,
        mlp_dim=100,
        num_blocks=3,
        num_heads=4,
        window=3,
        global_blocks=(1,),
        neck_dim=32,
    ),
    mask_decoder=MaskDecoderConfig(dim=32, num_heads=4, mlp_dim=40, iou_head_dim=24),
)


def reference_config(config: Sam1Config, **vision):
    """Translate one of our size rows."""
    v, d = config.vision, config.mask_decoder
    return configuration.SamConfig(
        vision_config={
            "hidden_size": v.dim,
            "output_channels": v.neck_dim,
            "num_hidden_layers": v.num_blocks,
            "num_attention_heads": v.num_heads,
            "image_size": v.image_size,
            "patch_size": v.patch_size,
            "layer_norm_eps": NORM_EPS,
            "window_size": v.window,
            "global_attn_indexes": list(v.global_blocks),
            "num_pos_feats": v.neck_dim // 2,
            "mlp_dim": v.mlp_dim,
            **vision,
        },
        prompt_encoder_config={
            "hidden_size": v.neck_dim,
            "image_size": v.image_size,
            "patch_size": v.patch_size,
            "mask_input_channels": MASK_CHANNELS,
        },
        mask_decoder_config={
            "hidden_size": d.dim,
            "mlp_dim": d.mlp_dim,
            "num_hidden_layers": NUM_BLOCKS,
            "num_attention_heads": d.num_heads,
            "iou_head_hidden_dim": d.iou_head_dim,
        },
    )


def build_reference(config: Sam1Config, seed: int = 0):
    """Return transformers' model in evaluation mode with random weights of ordinary spread."""
    torch.manual_seed(seed)
    model = reference.SamModel(reference_config(config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("positional_embedding"):
                parameter.normal_()  # its own spread grows with the width and drowns neighbours
                continue
            # Position tables start at zero and most weights near it, which would hide mistakes.
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
            parameter.add_(torch.randn_like(parameter) * max(0.5 * fan_in**-0.5, 0.02))
    return model


def build_ours(config: Sam1Config, state) -> Sam1:
    """Return our model in evaluation mode with transformers' weights."""
    with torch.device("meta"):
        model = Sam1(config)
    set_norm_eps(model.mask_decoder.transformer.layers, TRANSFORMERS_NORM_EPS)
    model.load_state_dict(dict(TRANSFORMERS.apply(state)), assign=True)
    return model.eval()
