"""The trained sam3-nano, converted, finds in transformers what it finds here.

Both see 50 pictures of the synthetic world with two phrases each. transformers' own ways are
switched on here: it clamps the presence logit and asks without a class token when no box is given.
"""

import importlib
import logging

import numpy as np
import pytest
import torch

from connectors.world.concepts import CONCEPT_NAMES
from connectors.world.still import StillConfig, render_still
from models.catalogue import NANO_FOLDER
from models.checkpoints.checkpoint import open_checkpoint
from models.checkpoints.convert import convert
from models.checkpoints.recognise import Layout, fill, recognise, sam3_config
from models.sam3.network.exemplars import Exemplars
from models.sam3.network.model import preprocess
from models.sam3.tokenizer import Tokenizer
from tests.parity.sam3_reference import stand_in_for_torchvision
from tests.parity.variants import build_sam3

reference = importlib.import_module("transformers.models.sam3.modeling_sam3")
video_reference = importlib.import_module("transformers.models.sam3_video.modeling_sam3_video")

NUM_PICTURES, SIDE = 50, 280
MIN_SCORE = 0.3
MAX_SCORE_ERROR, MIN_IOU = 1e-4, 0.999


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("nano")
    checkpoint = open_checkpoint(NANO_FOLDER)
    convert(
        checkpoint,
        recognise(checkpoint.state, source="nano"),
        target,
        layout=Layout.TRANSFORMERS,
    )
    return target


def _open(model_class, folder):
    logging.getLogger("transformers").setLevel(logging.ERROR)
    model, told = model_class.from_pretrained(folder, output_loading_info=True)
    assert not any(told.values())
    return model.eval()


@pytest.fixture(scope="module")
def theirs(folder):
    stand_in_for_torchvision()
    return _open(reference.Sam3Model, folder)


@pytest.fixture(scope="module")
def ours(folder):
    checkpoint = open_checkpoint(folder)
    recognised = recognise(checkpoint.state, source="nano")
    model = build_sam3(sam3_config(recognised))
    fill(model, checkpoint, recognised)
    return model.eval()


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(2_026)
    config = StillConfig(empty_probability=0.0)
    return [render_still(rng, size=SIDE, config=config) for _ in range(NUM_PICTURES)]


def _phrases(still, rng):
    """Return a concept that is there, if any is to be seen, and others to make two."""
    there = sorted({thing.concept for thing in still.visible_objects})[:1]
    others = [name for name in CONCEPT_NAMES if name not in there]
    return [*there, *rng.choice(others, size=2 - len(there), replace=False)]


def _ask_both(ours, theirs, images, token_ids, exemplars=None):
    """Return scores and mask logits of all queries, ours first."""
    vision = ours.detector_model.vision_encoder(images[:1])
    rows = torch.zeros(len(token_ids), dtype=torch.int64)
    mine = ours.detector_model(vision, rows, ours.detector_model.encode_text(token_ids), exemplars)
    masks = ours.detector_model.mask_decoder.masks(mine.queries[-1], mine.pixel_embedding)
    boxes = labels = None
    if exemplars is not None:
        boxes, labels = exemplars.boxes_cxcywh, exemplars.is_positive.long()
    other = theirs(
        pixel_values=images.expand(len(token_ids), -1, -1, -1),
        input_ids=token_ids,
        attention_mask=(token_ids != 0).long(),
        input_boxes=boxes,
        input_boxes_labels=labels,
    )
    scores = other.pred_logits.sigmoid() * other.presence_logits.sigmoid()
    return (mine.joint_scores(), masks), (scores, other.pred_masks)


def _intersection_over_union(first, second):
    union = (first | second).sum(dim=(-2, -1))
    return ((first & second).sum(dim=(-2, -1)) / union.clamp(min=1)).where(union > 0, 1.0)


def _check_equal(mine, other):
    """Compare all scores, and the masks of detections. Return how many detections there were."""
    (scores, masks), (other_scores, other_masks) = mine, other
    assert (scores - other_scores).abs().max() <= MAX_SCORE_ERROR
    found = scores > MIN_SCORE
    overlap = _intersection_over_union(masks[found] > 0, other_masks[found] > 0)
    assert (overlap >= MIN_IOU).all(), overlap.min()
    return int(found.sum())


@torch.no_grad()
def test_phrases_find_the_same(folder, ours, theirs, pictures):
    tokenizer = Tokenizer(folder, context_length=16, vocab_size=1024)
    rng, found = np.random.default_rng(1), 0
    for still in pictures:
        images = preprocess(torch.from_numpy(still.pixels)[None], SIDE)
        token_ids = tokenizer.encode(_phrases(still, rng))
        found += _check_equal(*_ask_both(ours, theirs, images, token_ids))
    assert found > NUM_PICTURES // 2


@torch.no_grad()
def test_phrases_with_boxes_find_the_same(folder, ours, theirs, pictures):
    tokenizer = Tokenizer(folder, context_length=16, vocab_size=1024)
    rng, found = np.random.default_rng(2), 0
    for still in pictures[:10]:
        images = preprocess(torch.from_numpy(still.pixels)[None], SIDE)
        token_ids = tokenizer.encode(_phrases(still, rng))
        exemplars = Exemplars(
            boxes_cxcywh=torch.from_numpy(rng.uniform(0.2, 0.6, (2, 2, 4))).float(),
            is_positive=torch.tensor([[True, False]] * 2),
            is_valid=torch.ones(2, 2, dtype=torch.bool),
        )
        found += _check_equal(*_ask_both(ours, theirs, images, token_ids, exemplars))
    assert found > 3


def test_video_model_opens_too(folder):
    model = _open(video_reference.Sam3VideoModel, folder)
    expected = open_checkpoint(NANO_FOLDER).state
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_vocabulary_gives_the_same_ids(folder):
    theirs = importlib.import_module("transformers").AutoTokenizer.from_pretrained(folder)
    mine = Tokenizer(folder, context_length=16, vocab_size=1024)
    for phrase in ("red car", "A  Deer by the tree", "zebra's 3 stripes!"):
        ids = theirs(phrase)["input_ids"]
        assert mine.encode([phrase])[0, : len(ids)].tolist() == ids
