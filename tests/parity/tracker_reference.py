"""Builds transformers' tracker with the sizes of one of our configs, and runs clips in both."""

import torch
from transformers import Sam3TrackerVideoConfig
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import (
    Sam3TrackerVideoInferenceSession,
)

from models.common.positional import sine_grid
from models.common.resize import resize
from models.sam2.config import TrackerConfig
from tests.parity.variants import BankByAge


def reference_config(config: TrackerConfig) -> Sam3TrackerVideoConfig:
    dim = config.hidden_dim
    return Sam3TrackerVideoConfig(
        vision_config={"model_type": "sam3_vision_model", "fpn_hidden_size": dim},
        prompt_encoder_config={"hidden_size": dim, "image_size": config.image_size},
        mask_decoder_config={
            "hidden_size": dim,
            "mlp_dim": config.mask_decoder_mlp_dim,
            "num_attention_heads": config.num_heads,
            "iou_head_hidden_dim": config.iou_head_dim,
        },
        image_size=config.image_size,
        memory_attention_hidden_size=dim,
        memory_attention_num_layers=config.memory_attention_layers,
        memory_attention_feed_forward_hidden_size=config.memory_attention_mlp_dim,
        memory_encoder_hidden_size=dim,
        memory_encoder_output_channels=config.memory_dim,
        mask_downsampler_embed_dim=dim,
        memory_fuser_embed_dim=dim,
        memory_fuser_intermediate_dim=config.memory_fuser_dim,
    )


def reference_clip(theirs, features, mask):
    """Mask on the first frame, then tracking, fed with ready features; yields every output."""
    session = Sam3TrackerVideoInferenceSession(dtype=torch.float32)
    place = [
        torch.zeros(1),
        torch.zeros(1),
        sine_grid(features.grid, features.grid, features.top.shape[1], mask.device),
    ]
    place[2] = place[2].flatten(1).T[:, None]
    session.obj_id_to_idx(1)
    session.obj_with_new_inputs = [1]
    session.add_mask_inputs(0, 0, mask)
    for t in range(len(features.top)):
        levels = (features.fine0, features.fine1, features.top)
        feats = [level[t : t + 1].flatten(2).permute(2, 0, 1) for level in levels]
        session.cache.cache_vision_features(t, {"vision_feats": feats, "vision_pos_embeds": place})
        theirs(session, frame=torch.zeros(3, 1, 1), frame_idx=t)
        kind = "cond_frame_outputs" if t == 0 else "non_cond_frame_outputs"
        yield session.output_dict_per_obj[0][kind][t]


def our_clip(ours, features, mask):
    config = ours.config
    bank = BankByAge(config)
    for t in range(len(features.top)):
        frame = torch.tensor([t])
        if t == 0:
            out = ours.condition_on_mask(features, frame, mask)
            logits = resize(mask, config.image_size) * 20 - 10
        else:
            out = ours.track(features, frame, [bank])
            logits = out.mask_logits
        spatial = ours.encode_memory(
            features, frame, logits, out.object_score_logits, binarize=torch.tensor([t == 0])
        )
        # They keep memories and pointers in bfloat16.
        kept = (spatial[0].to(torch.bfloat16), out.pointer[0].to(torch.bfloat16))
        (bank.write_conditioning if t == 0 else bank.write)(t, *kept)
        yield out, spatial
