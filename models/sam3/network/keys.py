"""Names of SAM 3's weights: as published, and in transformers, whose names are ours."""

from models.common.keymap import (
    KeyMap,
    Rule,
    dropped,
    parts,
    same,
    shared,
    transposed,
    under,
    without_first_row,
)
from models.sam1.keys import POSITION_NAMES
from models.sam2.keys import (
    MEMORY_ATTENTION_RULES,
    MEMORY_ENCODER_RULES,
    SHARED_TRACKER_RULES,
)

# Beginning of the names that only our own layout knows.
REFINER = "mask_refiner."
ROTARY_TABLE = "detector.backbone.vision_backbone.trunk.blocks.{i}.attn.freqs_cis"


def _fused(left: str, right: str, *, out: str = "o_proj") -> list[Rule]:
    """Pair torch's own attention with one that has three projections."""
    return [
        *(
            parts(f"{left}.in_proj_{kind}", *(f"{right}.{name}_proj.{kind}" for name in "qkv"))
            for kind in ("weight", "bias")
        ),
        same(f"{left}.out_proj.{{*}}", f"{right}.{out}.{{*}}"),
    ]


def _numbered_mlp(left: str, right: str) -> Rule:
    return same(f"{left}.layers.{{i}}.{{*}}", f"{right}.layer{{i+1}}.{{*}}")


_TRUNK: list[Rule] = [
    without_first_row("pos_embed", "embeddings.position_embeddings"),
    same("patch_embed.proj.weight", "embeddings.patch_embeddings.projection.weight"),
    same("ln_pre.{*}", "layer_norm.{*}"),
    same("blocks.{i}.norm{n}.{*}", "layers.{i}.layer_norm{n}.{*}"),
    *(
        parts(
            f"blocks.{{i}}.attn.qkv.{kind}",
            *(f"layers.{{i}}.attention.{name}_proj.{kind}" for name in "qkv"),
        )
        for kind in ("weight", "bias")
    ),
    same("blocks.{i}.attn.proj.{*}", "layers.{i}.attention.o_proj.{*}"),
    same("blocks.{i}.mlp.{*}", "layers.{i}.mlp.{*}"),
]
_NECK: list[Rule] = [
    # Level 1 has one step up and calls it otherwise than the first of level 0's two.
    same("1.dconv_2x2.{*}", "1.scale_layers.0.{*}"),
    same("{i}.dconv_2x2_0.{*}", "{i}.scale_layers.0.{*}"),
    same("{i}.dconv_2x2_1.{*}", "{i}.scale_layers.2.{*}"),
    same("{i}.conv_1x1.{*}", "{i}.proj1.{*}"),
    same("{i}.conv_3x3.{*}", "{i}.proj2.{*}"),
]
_TEXT: list[Rule] = [
    same(
        "encoder.token_embedding.weight",
        "text_encoder.text_model.embeddings.token_embedding.weight",
    ),
    same(
        "encoder.positional_embedding",
        "text_encoder.text_model.embeddings.position_embedding.weight",
    ),
    same("encoder.ln_final.{*}", "text_encoder.text_model.final_layer_norm.{*}"),
    transposed("encoder.text_projection", "text_encoder.text_projection.weight"),
    same("resizer.{*}", "text_projection.{*}"),
    *under(
        "encoder.transformer.resblocks.{i}.",
        "text_encoder.text_model.encoder.layers.{i}.",
        [
            same("ln_{n}.{*}", "layer_norm{n}.{*}"),
            *_fused("attn", "self_attn", out="out_proj"),
            same("mlp.c_fc.{*}", "mlp.fc1.{*}"),
            same("mlp.c_proj.{*}", "mlp.fc2.{*}"),
        ],
    ),
]
_LAYER: list[Rule] = [
    *_fused("self_attn", "self_attn"),
    *_fused("cross_attn_image", "cross_attn"),
    same("linear{n}.{*}", "mlp.fc{n}.{*}"),
    same("norm{n}.{*}", "layer_norm{n}.{*}"),
]
_EXEMPLARS: list[Rule] = [
    *under("encode.{i}.", "layers.{i}.", _LAYER),
    same("encode_norm.{*}", "output_layer_norm.{*}"),
    same("img_pre_norm.{*}", "vision_layer_norm.{*}"),
    same("norm.{*}", "prompt_layer_norm.{*}"),
    same("label_embed.weight", "label_embed.weight"),
    same("cls_embed.weight", "cls_embed.weight"),
    same("final_proj.{*}", "final_proj.{*}"),
    *(
        same(f"{kind}_{how}_project.{{*}}", f"{kind}_{how}_project.{{*}}")
        for kind in ("points", "boxes")
        for how in ("direct", "pool", "pos_enc")
    ),
]
_DECODER_LAYER: list[Rule] = [
    *_fused("self_attn", "self_attn"),
    *_fused("ca_text", "text_cross_attn"),
    *_fused("cross_attn", "vision_cross_attn"),
    same("catext_norm.{*}", "text_cross_attn_layer_norm.{*}"),
    same("norm1.{*}", "vision_cross_attn_layer_norm.{*}"),
    same("norm2.{*}", "self_attn_layer_norm.{*}"),
    same("norm3.{*}", "mlp_layer_norm.{*}"),
    same("linear{n}.{*}", "mlp.fc{n}.{*}"),
]
_DECODER: list[Rule] = [
    *under("layers.{i}.", "layers.{i}.", _DECODER_LAYER),
    same("norm.{*}", "output_layer_norm.{*}"),
    same("presence_token.weight", "presence_token.weight"),
    same("presence_token_out_norm.{*}", "presence_layer_norm.{*}"),
    same("query_embed.weight", "query_embed.weight"),
    same("reference_points.weight", "reference_points.weight"),
    _numbered_mlp("presence_token_head", "presence_head"),
    _numbered_mlp("bbox_embed", "box_head"),
    _numbered_mlp("ref_point_head", "ref_point_head"),
    _numbered_mlp("boxRPB_embed_x", "box_rpb_embed_x"),
    _numbered_mlp("boxRPB_embed_y", "box_rpb_embed_y"),
]
_SCORING: list[Rule] = [
    _numbered_mlp("prompt_mlp", "text_mlp"),
    same("prompt_mlp.out_norm.{*}", "text_mlp_out_norm.{*}"),
    same("prompt_proj.{*}", "text_proj.{*}"),
    same("hs_proj.{*}", "query_proj.{*}"),
]
_MASKS: list[Rule] = [
    same("mask_predictor.mask_embed.layers.{i}.{*}", "mask_embedder.layers.{i}.{*}"),
    same("instance_seg_head.{*}", "instance_projection.{*}"),
    same("semantic_seg_head.{*}", "semantic_projection.{*}"),
    *_fused("cross_attend_prompt", "prompt_cross_attn"),
    same("cross_attn_norm.{*}", "prompt_cross_attn_norm.{*}"),
    same("pixel_decoder.conv_layers.{i}.{*}", "pixel_decoder.conv_layers.{i}.{*}"),
    same("pixel_decoder.norms.{i}.{*}", "pixel_decoder.norms.{i}.{*}"),
]
_VISION = "detector.backbone.vision_backbone."

OFFICIAL = KeyMap(
    [
        # Tables of angles, computed here for whatever grid there is.
        dropped(ROTARY_TABLE),
        *under(_VISION + "trunk.", "detector_model.vision_encoder.backbone.", _TRUNK),
        *under(_VISION + "convs.", "detector_model.vision_encoder.neck.fpn_layers.", _NECK),
        *under(_VISION + "sam2_convs.", "tracker_neck.fpn_layers.", _NECK),
        *under("detector.backbone.language_backbone.", "detector_model.", _TEXT),
        *under("detector.geometry_encoder.", "detector_model.geometry_encoder.", _EXEMPLARS),
        *under(
            "detector.transformer.encoder.layers.{i}.",
            "detector_model.detr_encoder.layers.{i}.",
            _LAYER,
        ),
        *under("detector.transformer.decoder.", "detector_model.detr_decoder.", _DECODER),
        *under("detector.dot_prod_scoring.", "detector_model.dot_product_scoring.", _SCORING),
        *under("detector.segmentation_head.", "detector_model.mask_decoder.", _MASKS),
        *under(
            "tracker.transformer.encoder.",
            "tracker_model.memory_attention.",
            MEMORY_ATTENTION_RULES,
        ),
        *under("tracker.maskmem_backbone.", "tracker_model.memory_encoder.", MEMORY_ENCODER_RULES),
        *under("tracker.", "tracker_model.", SHARED_TRACKER_RULES),
    ]
)
_POSITIONS = tuple(f"tracker_model.{name}" for name in POSITION_NAMES)
TRANSFORMERS = KeyMap([shared(_POSITIONS, _POSITIONS), same("{*}", "{*}")])
# Files of one half, as transformers saves its Sam3Model and its Sam3TrackerVideoModel.
TRANSFORMERS_DETECTOR = KeyMap(under("", "detector_model.", [same("{*}", "{*}")]))
TRANSFORMERS_TRACKER = KeyMap(
    [
        shared(POSITION_NAMES, _POSITIONS),
        same("vision_encoder.backbone.{*}", "detector_model.vision_encoder.backbone.{*}"),
        same("vision_encoder.neck.{*}", "tracker_neck.{*}"),
        same("{*}", "tracker_model.{*}"),
    ]
)
