"""Concept and visual prompts on pictures: the calls that users know, on the small trained model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.build import build_detector, build_sam3
from models.catalogue import MODELS, sam3_network
from models.common.boxes import generalized_iou
from models.protocols import ConceptQuery, ExemplarBox, ExemplarPoint
from models.sam3.masks import mask_iou
from models.sam3.network.model import Sam3
from models.sam3.picture_rules import PictureRules
from models.sam3.predictor import Sam3ImageDetector, Sam3ImagePredictor

RULES = MODELS["sam3-nano"].pictures


@pytest.fixture(scope="module")
def nano():
    return build_sam3("sam3-nano")


@pytest.fixture
def predictor(nano, frame):
    predictor = Sam3ImagePredictor(*nano, confidence_threshold=0.3, rules=RULES)
    predictor.set_image(frame.pixels)
    return predictor


def box_of(frame):
    ys, xs = np.nonzero(frame.visible_objects[1].visible_mask)
    return [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]


def same(a, b):
    return (
        a.masks.shape == b.masks.shape
        and (a.masks == b.masks).all()
        and np.allclose(a.scores, b.scores, atol=1e-4)
        and np.allclose(a.boxes_xyxy, b.boxes_xyxy, atol=0.1)
    )


def test_text_prompt_gives_arrays_in_px_of_the_picture(predictor, frame):
    found = predictor.set_text_prompt(frame.visible_objects[1].concept)
    count = len(found.scores)
    assert count
    assert found.masks.shape == (count, 150, 200)
    assert found.masks.dtype == np.bool_
    assert found.boxes_xyxy.shape == (count, 4)
    assert (found.scores > 0.3).all()
    assert (np.diff(found.scores) <= 0).all()
    assert found.scores.max() <= found.presence_score <= 1
    ys, xs = np.nonzero(found.masks[0])
    around = torch.tensor([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]])
    assert float(generalized_iou(torch.from_numpy(found.boxes_xyxy[:1]), around.float())) > 0.5


def test_logits_and_dense_map_are_at_the_pictures_size(predictor, frame):
    found = predictor.add_exemplar(box=box_of(frame))
    assert ((found.mask_logits() > 0) == found.masks).all()
    dense = found.semantic_map()
    assert dense.shape == (150, 200)
    assert ((dense >= 0) & (dense <= 1)).all()
    shown = frame.visible_objects[1].visible_mask
    assert dense[shown].mean() > 2 * dense[~shown].mean()


def test_an_exemplar_finds_what_it_shows(predictor, frame):
    found = predictor.add_exemplar(box=box_of(frame))
    shown = frame.visible_objects[1].visible_mask
    best = max((m & shown).sum() / (m | shown).sum() for m in found.masks)
    assert best > 0.5


def test_box_in_shares_and_box_in_px_are_one_prompt(predictor, frame):
    x0, y0, x1, y1 = box_of(frame)
    in_px = predictor.add_exemplar(box=[x0, y0, x1, y1])
    predictor.reset_all_prompts()
    shares = [(x0 + x1) / 400, (y0 + y1) / 300, (x1 - x0) / 200, (y1 - y0) / 150]
    assert same(predictor.add_geometric_prompt(shares, True), in_px)


def test_prompts_add_up_until_they_are_reset(predictor, frame):
    text = predictor.set_text_prompt("cow")
    both = predictor.add_exemplar(box=box_of(frame), is_positive=False)
    assert predictor.query.phrase == "cow"
    assert len(predictor.query.exemplars) == 1
    assert not np.allclose(both.semantic_logits, text.semantic_logits, atol=1e-2)
    predictor.reset_all_prompts()
    assert same(predictor.set_text_prompt("cow"), text)


def test_threshold_decides_what_is_kept(predictor):
    predictor.set_confidence_threshold(0.0)
    scores = np.sort(predictor.set_text_prompt("cow").scores)
    assert 2 < len(scores) < 36  # a small model's duplicates are dropped
    predictor.set_confidence_threshold(float(scores[-3:-1].mean()))
    assert len(predictor.ask().scores) == 2
    predictor.set_confidence_threshold(float(scores[-1] + 1) / 2)
    assert len(predictor.ask().scores) == 0
    assert predictor.ask().mask_logits().shape == (0, 150, 200)


def test_boxes_are_clipped_to_the_picture(predictor):
    outside = predictor.add_exemplar(box=[-50, 20, 100, 1000])
    predictor.reset_all_prompts()
    assert same(predictor.add_exemplar(box=[0, 20, 100, 150]), outside)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"box": [10, 10, 10, 50]}, "covers nothing"),
        ({"box": [-90, 10, -10, 50]}, "covers nothing"),
        ({"box": [50, 10, 10, 50]}, "covers nothing"),
        ({"box": [0, 0, np.nan, 5]}, "not finite"),
        ({"box": [1, 2, 3]}, r"box has shape \(3,\); accepted: \(4\)"),
        ({"point": [10, 10]}, "hold points; accepted by this model: boxes"),
        ({"point": [-10, 10]}, "outside the picture; accepted"),
        ({}, "box is None, point is None; accepted: one"),
    ],
)
def test_a_refused_exemplar_changes_nothing(predictor, prompt, message):
    predictor.set_text_prompt("cow")
    with pytest.raises(ValueError, match=message):
        predictor.add_exemplar(**prompt)
    assert predictor.query == ConceptQuery(phrase="cow")


def test_a_predictor_without_picture_or_prompt_says_so(nano, frame):
    predictor = Sam3ImagePredictor(*nano)
    with pytest.raises(ValueError, match="call set_image first"):
        predictor.set_text_prompt("cow")
    with pytest.raises(ValueError, match="call set_image first"):
        predictor.predict([[1, 2]])
    predictor.set_image(frame.pixels)
    with pytest.raises(ValueError, match="says nothing; accepted: a phrase, exemplars, or both"):
        predictor.ask()
    with pytest.raises(ValueError, match=r"threshold is 1\.5; accepted: 0 to 1"):
        predictor.set_confidence_threshold(1.5)


@pytest.mark.parametrize("query", [3, None, ConceptQuery(), " ", ConceptQuery(phrase="")])
def test_a_query_that_says_nothing_is_refused(nano, frame, query):
    with pytest.raises(ValueError, match=r"accepted|expected"):
        Sam3ImageDetector(*nano).detect(frame.pixels, ["cow", query])


def test_what_is_found_twice_is_told_once_where_that_is_wanted(nano, frame):
    detector = Sam3ImageDetector(*nano, min_score=0.0)
    vision, size = detector.encode([frame.pixels]), frame.pixels.shape[:2]
    ((every,),) = detector.search(vision, [size], [["cow"]])
    detector.rules = PictureRules(nms_iou=0.5)
    ((kept,),) = detector.search(vision, [size], [["cow"]])
    assert (
        1 < len(kept.scores) < len(every.scores) == sam3_network("sam3-nano").detector.num_queries
    )
    assert kept.scores[0] == every.scores[0]
    told, all_of_them = torch.from_numpy(kept.logits) > 0, torch.from_numpy(every.logits) > 0
    assert np.triu(mask_iou(told, told), 1).max() <= 0.5
    is_drawn = all_of_them.flatten(1).any(1).numpy()
    assert mask_iou(told, all_of_them).max(0)[is_drawn].min() > 0.5  # of nothing is all lost
    with pytest.raises(ValueError, match=r"nms_iou is 1\.5; accepted: 0 to 1"):
        PictureRules(nms_iou=1.5)


def test_many_queries_at_once_equal_one_by_one(nano, frame):
    detector = Sam3ImageDetector(*nano, min_score=0.3)
    box = tuple(np.array(box_of(frame)) / [200, 150, 200, 150])
    queries = ["cow", "deer"] * 18 + [
        ConceptQuery(exemplars=(ExemplarBox(box_xyxy=box),)),
        ConceptQuery(phrase="cow", exemplars=(ExemplarBox(box_xyxy=box, is_positive=False),) * 3),
    ]
    together = detector.detect(frame.pixels, queries, with_semantic_map=True)
    assert [r.phrase for r in together] == ["cow", "deer"] * 18 + ["visual", "cow"]
    for place in (0, 35, 36, 37):
        (alone,) = detector.detect(frame.pixels, [queries[place]], with_semantic_map=True)
        assert np.allclose(together[place].semantic_map, alone.semantic_map, atol=1e-4)
        assert len(together[place].detections) == len(alone.detections)


def test_pictures_of_all_sizes_in_one_batch(nano, frame):
    detector = Sam3ImageDetector(*nano, min_score=0.3)
    pictures = [frame.pixels, np.full((1, 1, 3), 7, np.uint8), frame.pixels[:90]]
    sizes = [(150, 200), (1, 1), (90, 200)]
    found = detector.search(detector.encode(pictures), sizes, [["cow"], [], ["cow", "deer"]])
    assert [len(row) for row in found] == [1, 0, 2]
    assert found[2][1].semantic_map().shape == (90, 200)
    assert len(found[0][0].scores) == len(detector.detect(frame.pixels, ["cow"])[0].detections)
    assert detector.detect(pictures[1], []) == []


def test_points_are_exemplars_where_the_weights_know_them(nano, frame):
    config = sam3_network("sam3-nano")
    torch.manual_seed(0)
    model = Sam3(replace(config, detector=replace(config.detector, point_exemplars=True)))
    detector = Sam3ImageDetector(model, nano[1], min_score=0.0)
    on, off = (
        ConceptQuery(exemplars=(ExemplarPoint(point_xy=(0.4, 0.6), is_positive=label),))
        for label in (True, False)
    )
    first, second = detector.detect(frame.pixels, [on, off], with_semantic_map=True)
    assert np.abs(first.semantic_map - second.semantic_map).max() > 1e-4


def test_one_backbone_pass_serves_concepts_and_objects(nano, frame):
    model, tokenizer = nano
    passes = []
    handle = model.detector_model.vision_encoder.backbone.register_forward_hook(
        lambda *_: passes.append(1)
    )
    predictor = Sam3ImagePredictor(model, tokenizer, rules=RULES)
    predictor.set_image(frame.pixels)
    predictor.set_text_prompt("cow")
    shared = predictor.predict([[60, 70]], box=[40, 50, 90, 100])
    predictor.add_exemplar(box=[40, 50, 90, 100])
    assert len(passes) == 1
    predictor.visual.set_image(frame.pixels)
    handle.remove()
    alone = predictor.predict([[60, 70]], box=[40, 50, 90, 100])
    assert np.allclose(shared.logits, alone.logits, atol=1e-4)
    assert shared.masks.shape == (3, 150, 200)


def test_a_predictor_decides_as_the_detector_of_its_size_does(nano, predictor, frame):
    height, width = frame.pixels.shape[:2]
    x0, y0, x1, y1 = box_of(frame)
    shown = ExemplarBox(box_xyxy=(x0 / width, y0 / height, x1 / width, y1 / height))
    detector = build_detector("sam3-nano")
    detector.min_score = 0.3
    (theirs,) = detector.detect(frame.pixels, [ConceptQuery(phrase="cow", exemplars=(shown,))])
    predictor.set_text_prompt("cow")
    mine = predictor.add_exemplar(box=box_of(frame))
    assert len(mine.scores) == len(theirs.detections) > 0
    for mask, score, detection in zip(mine.masks, mine.scores, theirs.detections, strict=True):
        assert np.array_equal(mask, detection.mask)
        assert score == pytest.approx(detection.score, abs=1e-5)
    plain = Sam3ImageDetector(*nano, min_score=0.3)
    (published,) = plain.detect(frame.pixels, [ConceptQuery(phrase="cow", exemplars=(shown,))])
    assert [one.score for one in published.detections] != pytest.approx(mine.scores.tolist())


def test_a_new_picture_is_what_all_prompts_ask(predictor, frame):
    before = predictor.predict([[60, 70]])
    predictor.set_image(frame.pixels[::-1])
    assert predictor.query == ConceptQuery()
    after = predictor.predict([[60, 70]])
    assert not np.allclose(before.logits, after.logits, atol=1e-2)


def test_a_refused_picture_leaves_the_one_before(predictor):
    before = predictor.set_text_prompt("cow")
    with pytest.raises(ValueError, match="accepted: RGB, uint8"):
        predictor.set_image(np.zeros((4, 4), np.uint8))
    assert same(predictor.ask(), before)
