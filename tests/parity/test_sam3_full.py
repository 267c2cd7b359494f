"""SAM 3 at its published size against transformers: fp32, same random weights, error <= 1e-5.

One model is in memory at a time: transformers' is built, saved, asked and dropped, then ours is
loaded from its file.
"""

import gc

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import Sam3TrackerVideoModel

from models.catalogue import sam3_network
from models.checkpoints.weights import read_safetensors
from models.protocols import ExemplarBox
from models.sam2.config import TrackerConfig
from models.sam3.network.model import preprocess
from models.sam3.prompts import pack_exemplars
from tests.parity.closeness import relative_error
from tests.parity.sam3_reference import build_reference, spread
from tests.parity.tracker_reference import our_clip, reference_clip, reference_config
from tests.parity.variants import TransformersDetector, TransformersTracker

# An hour: some ten TFLOP for each model, on one core that others may be using, too.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
CONFIG = sam3_network("sam3")
TOKEN_IDS = torch.tensor([[49406, 320, 736, 1615, 49407] + [0] * 27])
CPU = torch.device("cpu")
EXEMPLARS = [
    ExemplarBox(box_xyxy=(0.1, 0.2, 0.45, 0.8)),
    ExemplarBox(box_xyxy=(0.6, 0.1, 0.7, 0.3), is_positive=False),
]


def picture():
    """Shapes and noise; white noise alone would look the same everywhere."""
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 80, (720, 1280, 3), dtype=np.uint8)
    pixels[200:500, 300:700] += np.uint8(120)
    pixels[100:160, 900:1200, 0] = 255
    return preprocess(torch.from_numpy(pixels)[None], CONFIG.vision.image_size)


@torch.no_grad()
def ask_theirs(path):
    # Thirty blocks of a larger spread would amplify single roundings beyond any tolerance.
    theirs = build_reference(CONFIG, share=0.02)
    save_file(theirs.state_dict(), path)
    packed = pack_exemplars([EXEMPLARS], CPU)
    answer = theirs(
        pixel_values=picture(),
        input_ids=TOKEN_IDS,
        attention_mask=(TOKEN_IDS != 0).long(),
        input_boxes=packed.boxes_cxcywh,
        input_boxes_labels=packed.is_positive.long(),
    )
    return {
        "logits": answer.pred_logits,
        "presence": answer.presence_logits[:, 0],
        "masks": answer.pred_masks,
        "semantic": answer.semantic_seg[:, 0],
        "boxes": answer.pred_boxes,
    }


@torch.no_grad()
def ask_ours(path):
    with torch.device("meta"):
        ours = TransformersDetector(CONFIG)
    ours.load_state_dict(read_safetensors(path), assign=True)
    ours.eval()
    output = ours(
        ours.vision_encoder(picture()),
        torch.tensor([0]),
        ours.encode_text(TOKEN_IDS),
        pack_exemplars([EXEMPLARS], CPU),
    )
    centre, size = output.boxes_cxcywh[-1].split(2, dim=-1)
    return {
        "logits": output.logits[-1],
        "presence": output.presence_logits[-1],
        "masks": ours.masks(output),
        "semantic": output.semantic_logits,
        "boxes": torch.cat((centre - size / 2, centre + size / 2), dim=-1),
    }


def test_image_model_with_text_and_exemplars_equals(tmp_path):
    path = tmp_path / "sam3.safetensors"
    expected = ask_theirs(path)
    gc.collect()
    actual = ask_ours(path)
    assert actual["masks"].shape == (1, 200, 288, 288)
    errors = {name: relative_error(actual[name], expected[name]) for name in expected}
    assert max(errors.values()) <= 1e-5, errors


@torch.no_grad()
def test_tracker_prompt_and_two_frames_equal():
    config = TrackerConfig()
    torch.manual_seed(0)
    theirs = Sam3TrackerVideoModel(reference_config(config), remove_vision_encoder=True)
    spread(theirs, share=0.02)
    # Sure that the object is there: else masks are blanked and agree for nothing.
    theirs.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(3.0)
    ours = TransformersTracker(config).eval()
    ours.load_state_dict(theirs.state_dict())
    grid = config.image_size // config.patch_size
    features = ours.prepare_features(
        tuple(torch.randn(3, config.hidden_dim, k * grid, k * grid) for k in (4, 2, 1))
    )
    mask = torch.zeros(1, 1, 540, 960)
    mask[..., 100:350, 200:500] = 1
    clips = zip(
        our_clip(ours, features, mask),
        reference_clip(theirs, features, mask),
        strict=True,
    )
    for (mine, _), reference in clips:
        assert (mine.mask_logits > -1024).any()
        assert relative_error(mine.mask_logits, reference["pred_masks"]) <= 1e-5
        assert relative_error(mine.pointer, reference["object_pointer"][:, 0]) <= 1e-5
