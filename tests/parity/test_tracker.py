"""The tracker against transformers' port of it, with the same random weights, in fp32."""

import pytest
import torch
from transformers import Sam3TrackerVideoModel

from models.common.positional import sine_grid
from models.sam2.config import TrackerConfig
from models.sam2.memory_attention import MemoryTokens
from tests.parity.closeness import relative_error
from tests.parity.tracker_reference import our_clip, reference_clip, reference_config
from tests.parity.variants import TransformersTracker

GRID = 6
# transformers fixes the width of the memories at 64, whatever its configuration says.
CONFIG = TrackerConfig(
    image_size=14 * GRID,
    hidden_dim=128,
    memory_dim=64,
    num_heads=4,
    mask_decoder_mlp_dim=96,
    iou_head_dim=64,
    memory_attention_layers=2,
    memory_attention_mlp_dim=80,
    memory_fuser_dim=48,
)


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    theirs = Sam3TrackerVideoModel(reference_config(CONFIG), remove_vision_encoder=True).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # some start at zero, which would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.05)
    ours = TransformersTracker(CONFIG).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(1)
    with torch.no_grad():
        yield


def pyramid(frames=1):
    dim = CONFIG.hidden_dim
    return tuple(torch.randn(frames, dim, k * GRID, k * GRID) for k in (4, 2, 1))


def test_points_match(pair):
    ours, theirs = pair
    points, labels = torch.rand(3, 2, 2), torch.tensor([[1, 0], [0, -1], [1, 1]])
    sparse, dense = theirs.prompt_encoder(
        points[:, None] * CONFIG.image_size, labels[:, None], None, None
    )
    encoder = ours.prompt_encoder
    assert relative_error(encoder.points(points, labels, GRID), sparse[:, 0]) <= 1e-5
    assert relative_error(encoder.no_mask().expand_as(dense), dense) == 0


def test_box_matches(pair):
    ours, theirs = pair
    box = torch.tensor([[0.1, 0.2, 0.7, 0.9]])
    sparse, _ = theirs.prompt_encoder(None, None, box[:, None] * CONFIG.image_size, None)
    mine = ours.prompt_encoder.points(box.unflatten(1, (2, 2)), torch.tensor([[2, 3]]), GRID)
    assert relative_error(mine, sparse[:, 0]) <= 1e-5


def test_mask_prompt_and_picture_positions_match(pair):
    ours, theirs = pair
    logits = torch.randn(2, 1, 4 * GRID, 4 * GRID)
    _, dense = theirs.prompt_encoder(None, None, None, logits)
    assert relative_error(ours.prompt_encoder.mask(logits), dense) <= 1e-5
    image = theirs.get_image_wide_positional_embeddings()
    assert relative_error(ours.shared_image_embedding.image(GRID), image) <= 1e-5


@pytest.mark.parametrize("multimask", [True, False])
def test_mask_decoder_matches(pair, multimask):
    ours, theirs = pair
    dim = CONFIG.hidden_dim
    image, dense = torch.randn(2, dim, GRID, GRID), torch.randn(2, dim, GRID, GRID)
    pos, sparse = torch.randn(1, dim, GRID, GRID), torch.randn(2, 3, dim)
    fine = (
        torch.randn(2, dim // 8, 4 * GRID, 4 * GRID),
        torch.randn(2, dim // 4, 2 * GRID, 2 * GRID),
    )
    theirs.mask_decoder.dynamic_multimask_via_stability = False
    masks, iou, tokens, score = theirs.mask_decoder(
        image, pos.repeat(2, 1, 1, 1), sparse[:, None], dense, multimask, list(fine)
    )
    theirs.mask_decoder.dynamic_multimask_via_stability = True
    mine = ours.mask_decoder(image, pos, sparse, dense, fine)
    which = slice(1, None) if multimask else slice(0, 1)
    assert relative_error(mine.mask_logits[:, which], masks[:, 0]) <= 1e-5
    assert relative_error(mine.iou[:, which], iou[:, 0]) <= 1e-5
    assert relative_error(mine.tokens[:, which], tokens[:, 0]) <= 1e-5
    assert relative_error(mine.object_score_logits, score[:, 0]) <= 1e-5


def test_memory_encoder_matches(pair):
    ours, theirs = pair
    features = torch.randn(2, CONFIG.hidden_dim, GRID, GRID)
    masks = torch.randn(2, 1, 16 * GRID, 16 * GRID) * 10
    memory, pos = theirs.memory_encoder(features, masks)
    assert relative_error(ours.memory_encoder(features, masks), memory) <= 1e-5
    mine = sine_grid(GRID, GRID, CONFIG.memory_dim, memory.device)
    assert relative_error(mine.expand_as(pos), pos) <= 1e-5


def test_memory_attention_matches(pair):
    ours, theirs = pair
    dim, maps, pointers, cells = CONFIG.hidden_dim, 3, 10, GRID**2
    features = torch.randn(2, dim, GRID, GRID)
    memory, pos = torch.randn(2, 2, maps * cells + pointers, CONFIG.memory_dim)
    place = sine_grid(GRID, GRID, dim, features.device)
    reference = theirs.memory_attention(
        current_vision_features=features.flatten(2).permute(2, 0, 1),
        current_vision_position_embeddings=place.flatten(1).T[:, None],
        memory=memory.transpose(0, 1),
        memory_posision_embeddings=pos.transpose(0, 1),
        num_object_pointer_tokens=pointers,
    )
    tokens = MemoryTokens(tokens=memory, pos=pos, num_maps=maps, is_valid=None)
    mine = ours.memory_attention(features, torch.arange(2), tokens).flatten(2).transpose(1, 2)
    assert relative_error(mine, reference.reshape(mine.shape)) <= 1e-5


def test_prompt_without_memory_matches(pair):
    ours, theirs = pair
    features = ours.prepare_features(pyramid())
    points, labels = torch.tensor([[[0.4, 0.6]]]), torch.tensor([[1]])
    image = features.top + theirs.no_memory_embedding[..., None].movedim(2, 1)
    reference = theirs._single_frame_forward(
        input_points=points[:, None] * CONFIG.image_size,
        input_labels=labels[:, None],
        image_embeddings=[features.fine0, features.fine1, image],
    )
    mine = ours.prompt(features, torch.tensor([0]), points=points, labels=labels)
    assert relative_error(mine.mask_logits, reference.pred_masks) <= 1e-5
    assert relative_error(mine.pointer, reference.object_pointer[:, 0]) <= 1e-5


@pytest.mark.parametrize("score_bias", [3.0, 0.0, -3.0], ids=["visible", "mixed", "absent"])
def test_clip_of_eight_frames_matches(pair, score_bias):
    ours, theirs = pair
    for model in pair:
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(score_bias)
    features = ours.prepare_features(pyramid(8))
    mask = torch.zeros(1, 1, 50, 70)
    mask[..., 10:35, 20:50] = 1
    clips = zip(our_clip(ours, features, mask), reference_clip(theirs, features, mask), strict=True)
    for (mine, spatial), reference in clips:
        assert relative_error(mine.mask_logits, reference["pred_masks"]) <= 1e-5
        assert relative_error(mine.pointer, reference["object_pointer"][:, 0]) <= 1e-5
        memory = reference["maskmem_features"].float().permute(1, 2, 0)
        assert relative_error(spatial.flatten(2), memory) <= 4e-3  # they round it to bfloat16
