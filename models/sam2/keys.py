"""Names of SAM 2.1's weights: as published, and in transformers, whose names are ours."""

from models.common.keymap import KeyMap, Rule, same, shared, under
from models.sam1.keys import DECODER_RULES, POSITION_NAMES, PROMPT_RULES, stacked_mlp

_ATTENTION: list[Rule] = [
    same("out_proj.{*}", "o_proj.{*}"),
    *(same(f"{name}_proj.{{*}}", f"{name}_proj.{{*}}") for name in "qkv"),
]
MEMORY_ATTENTION_RULES: list[Rule] = [
    *under("layers.{i}.self_attn.", "layers.{i}.self_attn.", _ATTENTION),
    *under("layers.{i}.cross_attn_image.", "layers.{i}.cross_attn_image.", _ATTENTION),
    same("layers.{i}.norm{n}.{*}", "layers.{i}.layer_norm{n}.{*}"),
    same("layers.{i}.linear{n}.{*}", "layers.{i}.linear{n}.{*}"),
    same("norm.{*}", "layer_norm.{*}"),
]
MEMORY_ENCODER_RULES: list[Rule] = [
    same("pix_feat_proj.{*}", "feature_projection.{*}"),
    same("out_proj.{*}", "projection.{*}"),
    same("mask_downsampler.encoder.12.{*}", "mask_downsampler.final_conv.{*}"),
    same("mask_downsampler.encoder.{3i}.{*}", "mask_downsampler.layers.{i}.conv.{*}"),
    same("mask_downsampler.encoder.{3i+1}.{*}", "mask_downsampler.layers.{i}.layer_norm.{*}"),
    *under(
        "fuser.layers.{i}.",
        "memory_fuser.layers.{i}.",
        [
            same("dwconv.{*}", "depthwise_conv.{*}"),
            same("norm.{*}", "layer_norm.{*}"),
            same("pwconv{n}.{*}", "pointwise_conv{n}.{*}"),
            same("gamma", "scale"),
        ],
    ),
]
# What SAM 2.1 and SAM 3 call alike.
SHARED_TRACKER_RULES: list[Rule] = [
    shared(("sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",), POSITION_NAMES),
    *under("sam_prompt_encoder.", "prompt_encoder.", PROMPT_RULES),
    *under("sam_mask_decoder.", "mask_decoder.", DECODER_RULES),
    *under(
        "sam_mask_decoder.",
        "mask_decoder.",
        [
            same("obj_score_token.weight", "obj_score_token.weight"),
            same("conv_s{n}.{*}", "conv_s{n}.{*}"),
            *stacked_mlp("pred_obj_score_head", "pred_obj_score_head"),
        ],
    ),
    *stacked_mlp("obj_ptr_proj", "object_pointer_proj"),
    same("obj_ptr_tpos_proj.{*}", "temporal_positional_encoding_projection_layer.{*}"),
    same("mask_downsample.{*}", "mask_downsample.{*}"),
    same("maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    same("no_mem_embed", "no_memory_embedding"),
    same("no_mem_pos_enc", "no_memory_positional_encoding"),
    same("no_obj_ptr", "no_object_pointer"),
    same("no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
]
_TRUNK: list[Rule] = [
    same("pos_embed", "pos_embed"),
    same("pos_embed_window", "pos_embed_window"),
    same("patch_embed.proj.{*}", "patch_embed.projection.{*}"),
    same("blocks.{i}.norm{n}.{*}", "blocks.{i}.layer_norm{n}.{*}"),
    same("blocks.{i}.attn.{*}", "blocks.{i}.attn.{*}"),
    same("blocks.{i}.mlp.layers.0.{*}", "blocks.{i}.mlp.proj_in.{*}"),
    same("blocks.{i}.mlp.layers.1.{*}", "blocks.{i}.mlp.proj_out.{*}"),
    same("blocks.{i}.proj.{*}", "blocks.{i}.proj.{*}"),
]

OFFICIAL = KeyMap(
    [
        *under("image_encoder.trunk.", "vision_encoder.backbone.", _TRUNK),
        same("image_encoder.neck.convs.{i}.conv.{*}", "vision_encoder.neck.convs.{i}.{*}"),
        # Before the shared names: only SAM 2 counts the layers of these perceptrons.
        *under(
            "sam_mask_decoder.transformer.layers.{i}.mlp.",
            "mask_decoder.transformer.layers.{i}.mlp.",
            [same("layers.0.{*}", "proj_in.{*}"), same("layers.1.{*}", "proj_out.{*}")],
        ),
        *under("memory_attention.", "memory_attention.", MEMORY_ATTENTION_RULES),
        *under("memory_encoder.", "memory_encoder.", MEMORY_ENCODER_RULES),
        *SHARED_TRACKER_RULES,
    ]
)
TRANSFORMERS = KeyMap([shared(POSITION_NAMES, POSITION_NAMES), same("{*}", "{*}")])
