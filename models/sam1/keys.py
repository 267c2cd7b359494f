"""Names of SAM 1's weights: as published, in transformers, and here."""

from models.common.keymap import KeyMap, Rule, dropped, same, shared, under, whole

_GAUSSIAN = "positional_embedding"
POSITION_NAMES = (
    f"shared_image_embedding.{_GAUSSIAN}",
    f"prompt_encoder.shared_embedding.{_GAUSSIAN}",
)


def stacked_mlp(left: str, right: str) -> list[Rule]:
    """Pair ``layers.0 … 2`` of a perceptron with ``proj_in``, ``layers.0``, ``proj_out``."""
    return [
        same(f"{left}.layers.0.{{*}}", f"{right}.proj_in.{{*}}"),
        same(f"{left}.layers.1.{{*}}", f"{right}.layers.0.{{*}}"),
        same(f"{left}.layers.2.{{*}}", f"{right}.proj_out.{{*}}"),
    ]


MASK_EMBED_RULES: list[Rule] = [
    same("0.{*}", "conv1.{*}"),
    same("1.{*}", "layer_norm1.{*}"),
    same("3.{*}", "conv2.{*}"),
    same("4.{*}", "layer_norm2.{*}"),
    same("6.{*}", "conv3.{*}"),
]

# Left: the published names of prompt encoder and mask decoder, in all three generations.
PROMPT_RULES: list[Rule] = [
    whole(*(f"point_embeddings.{i}.weight" for i in range(4)), right="point_embed.weight"),
    same("not_a_point_embed.weight", "not_a_point_embed.weight"),
    same("no_mask_embed.weight", "no_mask_embed.weight"),
    *under("mask_downscaling.", "mask_embed.", MASK_EMBED_RULES),
]
_ATTENTION: list[Rule] = [
    same("out_proj.{*}", "o_proj.{*}"),
    *(same(f"{name}_proj.{{*}}", f"{name}_proj.{{*}}") for name in "qkv"),
]
_BLOCK: list[Rule] = [
    *under("self_attn.", "self_attn.", _ATTENTION),
    *under("cross_attn_token_to_image.", "cross_attn_token_to_image.", _ATTENTION),
    *under("cross_attn_image_to_token.", "cross_attn_image_to_token.", _ATTENTION),
    same("norm{n}.{*}", "layer_norm{n}.{*}"),
    same("mlp.lin1.{*}", "mlp.proj_in.{*}"),
    same("mlp.lin2.{*}", "mlp.proj_out.{*}"),
]
DECODER_RULES: list[Rule] = [
    *under("transformer.layers.{i}.", "transformer.layers.{i}.", _BLOCK),
    *under(
        "transformer.final_attn_token_to_image.",
        "transformer.final_attn_token_to_image.",
        _ATTENTION,
    ),
    same("transformer.norm_final_attn.{*}", "transformer.layer_norm_final_attn.{*}"),
    same("iou_token.weight", "iou_token.weight"),
    same("mask_tokens.weight", "mask_tokens.weight"),
    same("output_upscaling.0.{*}", "upscale_conv1.{*}"),
    same("output_upscaling.1.{*}", "upscale_layer_norm.{*}"),
    same("output_upscaling.3.{*}", "upscale_conv2.{*}"),
    *stacked_mlp("output_hypernetworks_mlps.{i}", "output_hypernetworks_mlps.{i}"),
    *stacked_mlp("iou_prediction_head", "iou_prediction_head"),
]

_POINTS = whole(
    *(f"prompt_encoder.point_embed.{i}.weight" for i in range(4)),
    right="prompt_encoder.point_embed.weight",
)
_VISION: list[Rule] = [
    same("pos_embed", "pos_embed"),
    same("patch_embed.proj.{*}", "patch_embed.projection.{*}"),
    same("blocks.{i}.norm{n}.{*}", "layers.{i}.layer_norm{n}.{*}"),
    same("blocks.{i}.attn.{*}", "layers.{i}.attn.{*}"),
    same("blocks.{i}.mlp.lin{n}.{*}", "layers.{i}.mlp.fc{n}.{*}"),
    same("neck.0.{*}", "neck.conv1.{*}"),
    same("neck.1.{*}", "neck.layer_norm1.{*}"),
    same("neck.2.{*}", "neck.conv2.{*}"),
    same("neck.3.{*}", "neck.layer_norm2.{*}"),
]

OFFICIAL = KeyMap(
    [
        *under("image_encoder.", "vision_encoder.", _VISION),
        shared(("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",), POSITION_NAMES),
        *under("prompt_encoder.", "prompt_encoder.", PROMPT_RULES),
        *under("mask_decoder.", "mask_decoder.", DECODER_RULES),
        # Constants of the pre-processing, which some exports keep.
        dropped("pixel_mean"),
        dropped("pixel_std"),
    ]
)
TRANSFORMERS = KeyMap(
    [
        shared(POSITION_NAMES, POSITION_NAMES),
        _POINTS,
        same("vision_encoder.layers.{i}.mlp.lin{n}.{*}", "vision_encoder.layers.{i}.mlp.fc{n}.{*}"),
        *under(
            "mask_decoder.transformer.layers.{i}.",
            "mask_decoder.transformer.layers.{i}.",
            [rule for rule in _BLOCK if not rule.left[0].startswith("norm")],
        ),
        *under(
            "mask_decoder.transformer.final_attn_token_to_image.",
            "mask_decoder.transformer.final_attn_token_to_image.",
            _ATTENTION,
        ),
        same("{*}", "{*}"),
    ]
)
