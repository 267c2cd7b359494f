"""Every detector module equals transformers' on equal weights: fp32, relative L2 error <= 1e-5.

The tolerance is a few hundred fp32 roundings (6e-8), the cost of different orders of summation.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.catalogue import NANO_FOLDER, VOCABULARY_FILE
from models.common.positional import sine_grid
from models.protocols import ConceptQuery, ExemplarBox
from models.sam3.network.config import NORM_EPS
from models.sam3.network.detector import Detector
from models.sam3.network.exemplars import Exemplars
from models.sam3.network.model import preprocess
from models.sam3.network.vision import VisionEncoder
from models.sam3.predictor import Sam3ImageDetector
from models.sam3.tokenizer import Tokenizer
from tests.parity.closeness import relative_error
from tests.parity.sam3_reference import SMALL, build_reference
from tests.parity.variants import TransformersDetector, build_sam3, set_norm_eps

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def theirs():
    return build_reference(SMALL)


@pytest.fixture(scope="module")
def ours(theirs):
    model = TransformersDetector(SMALL).eval()
    model.load_state_dict(theirs.state_dict(), strict=True)
    return model


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 84, 84, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def token_ids():
    return torch.tensor([[97, 5, 6, 98, 0, 0, 0, 0], [97, 9, 98, 0, 0, 0, 0, 0]])


@pytest.fixture(scope="module")
def vision(ours, images):
    with torch.no_grad():
        return ours.vision_encoder(images)


def _flat(level):
    return level.flatten(2).transpose(1, 2)


@torch.no_grad()
def test_backbone_and_neck_equal(ours, theirs, images, vision):
    expected = theirs.vision_encoder(images)
    assert relative_error(_flat(vision.trunk), expected.last_hidden_state) < TOLERANCE
    for actual, wanted in zip(vision.detector_pyramid, expected.fpn_hidden_states[:3], strict=True):
        assert relative_error(actual, wanted) < TOLERANCE


@torch.no_grad()
def test_position_encoding_equal(theirs, images):
    expected = theirs.vision_encoder(images).fpn_position_encoding[1][0]
    assert relative_error(sine_grid(12, 12, 32, torch.device("cpu")), expected) < TOLERANCE


@torch.no_grad()
def test_text_encoder_equal_on_valid_tokens(ours, theirs, token_ids):
    actual = ours.encode_text(token_ids)
    expected = theirs.get_text_features(
        token_ids, attention_mask=(token_ids != 0).long()
    ).pooler_output
    assert relative_error(actual.tokens[actual.is_valid], expected[actual.is_valid]) < TOLERANCE


@pytest.fixture(scope="module")
def exemplars():
    boxes = torch.tensor(
        [[[0.3, 0.4, 0.2, 0.3], [0.7, 0.5, 0.4, 0.2]], [[0.5, 0.5, 0.9, 0.6], [0.0, 0.0, 0.1, 0.1]]]
    )
    labels = torch.tensor([[True, False], [True, False]])
    return Exemplars(
        boxes_cxcywh=boxes, is_positive=labels, is_valid=torch.tensor([[True, True], [True, False]])
    )


@torch.no_grad()
def test_exemplar_encoder_equal(ours, theirs, vision, exemplars):
    """Compared on full boxes: with padding the two place the last token differently (next test)."""
    coarse = vision.detector_pyramid[-1]
    place = sine_grid(6, 6, 32, coarse.device)
    full = torch.ones_like(exemplars.is_valid)
    tokens, _ = ours.geometry_encoder(
        Exemplars(
            boxes_cxcywh=exemplars.boxes_cxcywh, is_positive=exemplars.is_positive, is_valid=full
        ),
        coarse,
        place,
    )
    expected = theirs.geometry_encoder(
        exemplars.boxes_cxcywh,
        full,
        exemplars.is_positive.long(),
        (coarse,),
        (place[None].expand_as(coarse),),
    ).last_hidden_state
    assert relative_error(tokens, expected) < TOLERANCE


def _forward_reference(theirs, images, token_ids, exemplars=None):
    labels = boxes = None
    if exemplars is not None:
        boxes = exemplars.boxes_cxcywh
        labels = torch.where(exemplars.is_valid, exemplars.is_positive.long(), -10)
    return theirs(
        pixel_values=images,
        input_ids=token_ids,
        attention_mask=(token_ids != 0).long(),
        input_boxes=boxes,
        input_boxes_labels=labels,
    )


@pytest.mark.parametrize("with_boxes", [False, True])
@torch.no_grad()
def test_whole_detector_equal(ours, theirs, images, vision, token_ids, exemplars, with_boxes):
    boxes = exemplars if with_boxes else None
    actual = ours(vision, torch.arange(2), ours.encode_text(token_ids), boxes)
    expected = _forward_reference(theirs, images, token_ids, boxes)
    corners = torch.cat(
        (
            actual.boxes_cxcywh[-1][..., :2] - actual.boxes_cxcywh[-1][..., 2:] / 2,
            actual.boxes_cxcywh[-1][..., :2] + actual.boxes_cxcywh[-1][..., 2:] / 2,
        ),
        -1,
    )
    assert relative_error(actual.logits[-1], expected.pred_logits) < TOLERANCE
    assert relative_error(actual.presence_logits[-1], expected.presence_logits[:, 0]) < TOLERANCE
    assert relative_error(corners, expected.pred_boxes) < TOLERANCE
    assert relative_error(ours.masks(actual), expected.pred_masks) < TOLERANCE
    assert relative_error(actual.semantic_logits, expected.semantic_seg[:, 0]) < TOLERANCE


@torch.no_grad()
def test_picture_token_is_kept_without_boxes_as_published(ours, theirs, vision, token_ids):
    published = Detector(SMALL).eval()
    published.load_state_dict(theirs.state_dict(), strict=True)
    text = published.encode_text(token_ids)
    with_token, without = (
        model(vision, torch.arange(2), text).logits[-1] for model in (published, ours)
    )
    assert relative_error(with_token, without) > 1e-3


@torch.no_grad()
def test_presence_is_not_clamped_as_published(ours, theirs, vision, token_ids):
    published = Detector(SMALL).eval()
    published.load_state_dict(theirs.state_dict(), strict=True)
    for model in (published, ours):
        model.detr_decoder.presence_head.layer3.bias.add_(50.0)
    text = published.encode_text(token_ids)
    free, clamped = (
        model(vision, torch.arange(2), text).presence_logits for model in (published, ours)
    )
    ours.detr_decoder.presence_head.layer3.bias.sub_(50.0)
    assert free.min() > 20
    assert clamped.max() == 10


@pytest.mark.parametrize("epsilon", [1e-5, 1e-6], ids=["published", "transformers"])
@torch.no_grad()
def test_backbone_differs_from_another_epsilon_alone(images, epsilon):
    """The published norms add 1e-5, transformers' default is 1e-6; faint pictures tell them."""
    theirs = build_reference(SMALL, norm_eps=epsilon)
    for faint in theirs.vision_encoder.backbone.embeddings.parameters():
        faint.mul_(1e-2)
    errors = {}
    for own in (1e-5, 1e-6):
        ours = set_norm_eps(VisionEncoder(SMALL.vision).eval(), own)
        ours.load_state_dict(theirs.vision_encoder.state_dict())
        expected = theirs.vision_encoder(images).last_hidden_state
        errors[own] = relative_error(_flat(ours(images).trunk), expected)
    assert errors.pop(epsilon) < TOLERANCE
    assert next(iter(errors.values())) > 10 * TOLERANCE


def test_published_epsilon_is_ours():
    norms = [m for m in Detector(SMALL).modules() if isinstance(m, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {NORM_EPS} == {1e-5}


@torch.no_grad()
def test_batch_of_pairs_equals_one_by_one(ours, vision, token_ids):
    text = ours.encode_text(token_ids)
    index, phrase = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1])
    together = ours(vision, index, text.select(phrase))
    for b in range(3):
        alone = ours(vision, index[b : b + 1], text.select(phrase[b : b + 1]))
        assert relative_error(ours.masks(together)[b], ours.masks(alone)[0]) < TOLERANCE


def _corners(exemplar):
    x0, y0, x1, y1 = exemplar.box_xyxy
    return [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]


def _box(*corners, is_positive=True):
    return ExemplarBox(box_xyxy=corners, is_positive=is_positive)


# Exemplars alone, with a phrase, both labels, several: padded to one batch. Each has a box, because
# transformers reads a batch either with exemplars or without.
QUERIES = [
    ConceptQuery(exemplars=(_box(0.1, 0.2, 0.5, 0.9),)),
    ConceptQuery(phrase="red car", exemplars=(_box(0.3, 0.3, 0.6, 0.5, is_positive=False),)),
    ConceptQuery(
        phrase="deer",
        exemplars=(_box(0, 0, 0.3, 0.2), _box(0.5, 0, 1, 1, is_positive=False), _box(0, 0, 1, 1)),
    ),
]


@torch.no_grad()
def test_queries_with_exemplars_equal_from_phrase_to_mask():
    config = replace(SMALL, text=replace(SMALL.text, vocab_size=1024, context_length=16))
    theirs = build_reference(config)
    model = build_sam3(config)
    model.detector_model.load_state_dict(theirs.state_dict())
    tokenizer = Tokenizer(NANO_FOLDER / VOCABULARY_FILE, context_length=16, vocab_size=1024)
    pixels = np.random.default_rng(2).integers(0, 255, (84, 84, 3), dtype=np.uint8)
    detector = Sam3ImageDetector(model, tokenizer, min_score=0.0)
    (found,) = detector.search(detector.encode([pixels]), [(84, 84)], [QUERIES])
    token_ids = tokenizer.encode(["visual", "red car", "deer"])
    boxes, labels = torch.zeros(3, 3, 4), torch.full((3, 3), -10)
    for row, query in enumerate(QUERIES):
        for k, exemplar in enumerate(query.exemplars):
            boxes[row, k] = torch.tensor(_corners(exemplar))
            labels[row, k] = int(exemplar.is_positive)
    expected = theirs(
        pixel_values=preprocess(torch.from_numpy(pixels)[None], 84).expand(3, -1, -1, -1),
        input_ids=token_ids,
        attention_mask=(token_ids != 0).long(),
        input_boxes=boxes,
        input_boxes_labels=labels,
    )
    for row, one in enumerate(found):
        scores = expected.pred_logits[row].sigmoid() * expected.presence_logits[row].sigmoid()
        order = scores.argsort(descending=True, stable=True)
        masks, dense = expected.pred_masks[row, order], expected.semantic_seg[row, 0]
        px = expected.pred_boxes[row, order].clamp(0, 1) * 84
        assert relative_error(torch.from_numpy(one.scores), scores[order]) < TOLERANCE
        assert relative_error(torch.from_numpy(one.boxes_xyxy), px) < TOLERANCE
        assert relative_error(torch.from_numpy(one.logits), masks) < TOLERANCE
        assert relative_error(torch.from_numpy(one.semantic_logits), dense) < TOLERANCE
