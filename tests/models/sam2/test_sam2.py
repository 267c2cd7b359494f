import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.common.image_predictor import ImagePredictor
from models.sam2.hiera import pool
from models.sam2.memory_selection import closest_frames, neighbours
from models.sam2.model import Sam2, preprocess
from models.sam2.outputs import TrackOutput
from models.sam2.video_memory import ShownMask, VideoMemory
from tests.models.tiny_sam2 import SMALL, make_clip, make_model
from tests.parity.variants import BankByAge

CONFIG = SMALL.tracker


@pytest.fixture(scope="module")
def model():
    return make_model()


def test_weights_given_to_a_model_without_any_are_all_there_is(model):
    state = model.tracker.state_dict()
    with torch.device("meta"):
        other = Sam2(SMALL).eval()
    other.load_state_dict(state, assign=True)
    images = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected = model.tracker.encode_image(images)
        assert torch.equal(other.encode_image(images).top, expected.top)


def test_pictures_of_a_batch_do_not_meet(model):
    images = torch.randn(3, 3, 128, 128)
    with torch.no_grad():
        together = model.tracker.encode_image(images)
        alone = model.tracker.encode_image(images[1:2])
    torch.testing.assert_close(together.top[1:2], alone.top)
    torch.testing.assert_close(together.fine0[1:2], alone.fine0)


@pytest.mark.parametrize("sides", [(6, 8), (5, 7), (2, 2)])
def test_pooling_is_that_of_2_x_2_cells(sides):
    x = torch.randn(2, *sides, 3)
    expected = F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    assert torch.equal(pool(x), expected)


@pytest.mark.parametrize("hw", [(1, 1), (1, 300), (40, 60), (128, 128)])
def test_pictures_of_any_size_are_stretched_and_normalised(hw):
    pixels = torch.full((1, *hw, 3), 255, dtype=torch.uint8)
    white = preprocess(pixels, 128)
    assert white.shape == (1, 3, 128, 128)
    torch.testing.assert_close(
        white[0, :, 5, 5], torch.tensor([2.2489, 2.4286, 2.64]), rtol=1e-4, atol=0
    )


def test_preprocessing_is_that_of_pixels_in_0_to_1():
    pixels = torch.from_numpy(make_clip(1))
    images = F.interpolate(
        pixels.permute(0, 3, 1, 2) / 255, (128, 128), mode="bilinear", antialias=True
    )
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    torch.testing.assert_close(preprocess(pixels, 128), (images - mean) / std, rtol=0, atol=1e-5)


@pytest.mark.parametrize("hw", [(1, 1), (2, 90), (40, 60)])
def test_image_predictor_gives_masks_of_the_size_of_the_picture(model, hw):
    predictor = ImagePredictor(model)
    predictor.set_image(np.full((*hw, 3), 90, np.uint8))
    many = predictor.predict_batch(np.random.default_rng(0).uniform(-9, 99, (70, 2, 2)))
    assert many.masks.shape == (70, 3, *hw)
    one = predictor.predict(box=[0, 0, 1, 1], multimask_output=False)
    assert one.masks.shape == (1, *hw)
    again = predictor.predict(mask_input=one.logits, multimask_output=False)
    assert 0 <= again.scores[0] <= 1


def test_many_prompts_give_what_each_gives_alone(model):
    predictor = ImagePredictor(model)
    predictor.set_image(make_clip(1)[0])
    points = np.random.default_rng(0).uniform(0, 60, (5, 1, 2))
    together = predictor.predict_batch(points, return_logits=True)
    alone = predictor.predict(points[3], return_logits=True)
    np.testing.assert_allclose(together.masks[3], alone.masks, atol=1e-4)


def test_frames_before_and_after_are_nearest_first():
    assert list(neighbours(3, 6)) == [2, 1, 0]
    assert list(neighbours(3, 2, reverse=True)) == [4, 5]


@pytest.mark.parametrize(
    ("time", "limit", "expected"),
    [(10, None, [0, 5, 9, 12, 30]), (10, 3, [9, 12, 5]), (31, 2, [30, 12]), (12, 2, [9, 12])],
)
def test_closest_conditioning_frames_come_from_both_sides(time, limit, expected):
    assert sorted(closest_frames(time, [0, 5, 9, 12, 30], limit)) == sorted(expected)


def output_of(spatial, pointer):
    empty = torch.zeros(1, 1)
    return TrackOutput(
        mask_logits=empty,
        object_score_logits=empty,
        predicted_iou=empty,
        pointer=pointer[None],
        all_mask_logits=empty,
        all_ious=empty,
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [2, 4])
def test_forward_stream_reads_what_the_bank_reads(seed, limit):
    """Two stores, one rule: also with more conditioning frames than are attended to."""
    config = type(CONFIG)(max_cond_frames=limit, memory_dim=2, hidden_dim=2)
    bank, video = BankByAge(config), VideoMemory(config)
    rng, empty = np.random.default_rng(seed), torch.zeros(1)
    for t in range(40):
        spatial, pointer = torch.full((2, 1, 1), t), torch.full((2,), t)
        if t == 0 or rng.random() < 0.2:
            bank.write_conditioning(t, spatial, pointer)
            video.pending[t] = output_of(spatial, pointer)
            video.commit(t, spatial)
        else:
            bank.write(t, spatial, pointer)
            shown = ShownMask(mask_logits=empty, object_score_logits=empty)
            video.write(t, shown, spatial, pointer, reverse=False)
        video.forget_before(t, max_conditioning=limit)
        assert read(video.select(t + 1)) == read(bank.select(t + 1))


def read(selection):
    maps = {(m.frame_index, m.slot, int(m.spatial.sum())) for m in selection.maps}
    pointers = {(p.frame_index, p.age, int(p.pointer.sum())) for p in selection.pointers}
    return maps, pointers, selection.longest_age


def test_short_video_counts_ages_in_its_length():
    assert VideoMemory(CONFIG).select(1, num_frames=5).longest_age == 4
    assert VideoMemory(CONFIG).select(1, num_frames=500).longest_age == 15
    assert VideoMemory(CONFIG).select(0, num_frames=1).longest_age == 1
