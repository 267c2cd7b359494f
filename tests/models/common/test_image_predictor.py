"""The image predictor with a real small SAM 1: shapes, order, bounds of memory, refusals."""

import numpy as np
import pytest
import torch

from models.common import image_predictor
from models.common.image_predictor import ImagePredictor
from tests.models.tiny_sam1 import build_tiny_sam1

HW = (60, 80)


@pytest.fixture(scope="module")
def model():
    return build_tiny_sam1()


@pytest.fixture
def predictor(model):
    predictor = ImagePredictor(model)
    predictor.set_image(noise(*HW))
    return predictor


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def assert_same(found, expected):
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    assert (found.masks != expected.masks).mean() < 1e-3


@pytest.mark.parametrize(("multimask", "count"), [(True, 3), (False, 1)])
def test_predict_gives_masks_scores_logits(predictor, model, multimask, count):
    masks, scores, logits = predictor.predict([[10, 20]], [1], multimask_output=multimask)
    assert masks.shape == (count, *HW)
    assert masks.dtype == np.bool_
    assert scores.shape == (count,)
    assert logits.shape == (count, model.mask_side, model.mask_side)
    assert scores.dtype == logits.dtype == np.float32


def test_masks_are_the_logits_above_the_threshold(predictor, model):
    asked = {"point_coords": [[10, 20]], "box": [5, 5, 50, 40]}
    large = predictor.predict(**asked, return_logits=True).masks
    assert large.dtype == np.float32
    np.testing.assert_array_equal(predictor.predict(**asked).masks, large > 0)
    strict = ImagePredictor(model, mask_threshold=float(np.median(large)))
    strict.set_image(noise(*HW))
    np.testing.assert_array_equal(strict.predict(**asked).masks, large > np.median(large))


def test_answer_can_be_given_again_as_mask_input(predictor):
    first = predictor.predict([[10, 20]])
    best = first.logits[first.scores.argmax()]
    again = predictor.predict([[10, 20]], mask_input=best, multimask_output=False)
    assert_same(predictor.predict([[10, 20]], mask_input=best[None], multimask_output=False), again)
    assert (again.logits != first.logits[:1]).any()


def test_batch_is_the_objects_one_by_one(predictor, monkeypatch):
    rng = np.random.default_rng(1)
    points, boxes = rng.uniform(0, 60, (5, 2, 2)), rng.uniform(0, 60, (5, 2, 2))
    boxes = np.sort(boxes, axis=1).reshape(5, 4)
    labels = rng.integers(0, 2, (5, 2))
    monkeypatch.setattr(image_predictor, "BATCH", 2)
    monkeypatch.setattr(image_predictor, "CHUNK_PIXELS", 1)
    batch = predictor.predict_batch(points, labels, boxes)
    assert batch.masks.shape == (5, 3, *HW)
    for i in range(5):
        alone = predictor.predict(points[i], labels[i], boxes[i])
        assert_same(alone, type(alone)(batch.masks[i], batch.scores[i], batch.logits[i]))


def test_padding_points_of_a_ragged_batch_do_not_count(predictor):
    padded = predictor.predict([[10, 20], [0, 0]], [1, -1])
    other = predictor.predict([[10, 20], [50, 33]], [1, -1])
    np.testing.assert_array_equal(padded.logits, other.logits)


def test_large_masks_are_made_a_few_at_a_time(model):
    predictor = ImagePredictor(model)
    predictor.set_embedding(model.encode_images(torch.zeros(1, 3, 96, 96)), (4320, 7680))
    logits = torch.randn(3, model.mask_side, model.mask_side)
    parts = [(rows, tuple(large.shape)) for rows, large in predictor.upscaled(logits)]
    assert parts == [(slice(i, i + 1), (1, 4320, 7680)) for i in range(3)]


@pytest.mark.parametrize("hw", [(1, 1), (1, 500), (500, 1), (2, 3), (96, 96), (1080, 1920)])
def test_any_size_of_picture(model, hw):
    predictor = ImagePredictor(model)
    predictor.set_image(noise(*hw))
    assert predictor.image_hw == hw
    assert predictor.predict([[hw[1] / 2, hw[0] / 2]]).masks.shape == (3, *hw)


@pytest.mark.slow
def test_8k_picture(model):
    predictor = ImagePredictor(model)
    predictor.set_image(noise(4320, 7680))
    found = predictor.predict_batch(boxes=[[100, 100, 7000, 4000]] * 4, multimask_output=False)
    assert found.masks.shape == (4, 1, 4320, 7680)


def test_prompts_outside_the_picture_are_taken(predictor):
    found = predictor.predict([[-500, 9000], [30, 30]], [0, 1], [-20, -30, 400, 500])
    assert np.isfinite(found.logits).all()


def test_mirror_and_offset_arrays_are_taken(predictor):
    bgr = noise(60, 90)[::-1, 3:-7, ::-1]
    predictor.set_image(bgr)
    mirrored = predictor.predict([[10, 20]])
    predictor.set_image(bgr.copy())
    np.testing.assert_array_equal(predictor.predict([[10, 20]]).logits, mirrored.logits)


def test_embedding_made_elsewhere_is_the_same(predictor, model):
    state = model.encode_picture(torch.from_numpy(noise(*HW))[None])
    other = ImagePredictor(model)
    other.set_embedding(state, HW)
    assert_same(other.predict([[10, 20]]), predictor.predict([[10, 20]]))


@pytest.mark.parametrize("hw", [(0, 5), (3.5, 4), "ab", None, (1, 2, 3)])
def test_embedding_of_an_impossible_picture_is_refused(predictor, hw):
    held = predictor.predict([[10, 20]])
    with pytest.raises(ValueError, match=r"picture_hw is .*; accepted: "):
        predictor.set_embedding(torch.zeros(1, 32, 6, 6), hw)
    assert_same(predictor.predict([[10, 20]]), held)


def test_nothing_is_answered_without_a_picture(model):
    predictor = ImagePredictor(model)
    assert not predictor.is_image_set
    for ask in (lambda: predictor.predict([[1, 1]]), lambda: predictor.image_hw):
        with pytest.raises(ValueError, match="call set_image first"):
            ask()


def test_reset_forgets_the_picture(predictor):
    predictor.reset()
    assert not predictor.is_image_set


@pytest.mark.parametrize(
    "pixels",
    [
        [[0, 0, 0]],
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_wrong_pictures_are_refused_and_the_last_one_stays(predictor, pixels):
    with pytest.raises(ValueError, match=r"pixels is .* accepted: .*uint8"):
        predictor.set_image(pixels)
    assert predictor.image_hw == HW


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "no prompt; accepted: points, boxes or masks"),
        ({"point_coords": []}, r"point_coords has shape \(0,\); accepted: \(\*, 2\)"),
        ({"point_coords": np.zeros((0, 2))}, "points has no point"),
        ({"point_coords": [[1, 2, 3]]}, r"point_coords has shape \(1, 3\)"),
        ({"point_coords": [[1, 2], [3]]}, "point_coords is not numbers"),
        ({"point_coords": [["1", "2"]]}, "point_coords is of type <U1; accepted: numbers"),
        ({"point_coords": [[1, 1j]]}, "point_coords is of type complex128"),
        ({"point_coords": [[1, np.nan]]}, "point_coords has values that are not finite"),
        ({"point_coords": [[1, 1e300]]}, "point_coords has values that are not finite"),
        ({"point_labels": [1]}, "point_labels is given without point_coords; accepted: both"),
        ({"point_coords": [[1, 2]], "point_labels": [1, 0]}, r"point_labels has shape \(2,\)"),
        ({"point_coords": [[1, 2]], "point_labels": [2]}, r"point_labels has \[2.0\]; accepted: 1"),
        ({"box": [1, 2, 3]}, r"box has shape \(3,\); accepted: \(4\)"),
        ({"box": [5, 5, 1, 9]}, r"box has \[5.0, 5.0, 1.0, 9.0\]; accepted: x0, y0, x1, y1"),
        ({"mask_input": np.zeros((8, 8))}, r"mask_input has shape \(1, 8, 8\); accepted: \(1, 24,"),
        ({"mask_input": [[0], [0, 1]]}, "mask_input is not numbers"),
        (
            {"mask_input": np.full((24, 24), -1e30)},
            r"mask_input has .*e\+30; accepted: logits within",
        ),
    ],
)
def test_wrong_prompts_are_refused(predictor, arguments, message):
    with pytest.raises(ValueError, match=message):
        predictor.predict(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": np.zeros((0, 1, 2))}, r"for \[0\] objects; accepted: the same number"),
        ({"points": np.zeros((2, 1, 2)), "boxes": np.zeros((3, 4))}, r"for \[2, 3\] objects"),
        ({"boxes": np.zeros((1, 4)), "labels": [[1]]}, "labels is given without points"),
        ({"points": np.zeros((1, 1, 2)), "labels": [[0.5]]}, r"labels has \[0.5\]; accepted"),
        (
            {"masks": np.full((1, 1, 24, 24), 2e4)},
            r"masks has 20000.0; accepted: logits within 10000",
        ),
        ({"masks": np.zeros((1, 24, 24))}, r"masks has shape .*; accepted: \(\*, 1, 24, 24\)"),
    ],
)
def test_wrong_batches_are_refused(predictor, arguments, message):
    with pytest.raises(ValueError, match=message):
        predictor.predict_batch(**arguments)
