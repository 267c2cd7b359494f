"""Each phrase is encoded once, and what is kept of phrases is bounded."""

import gc

import pytest
import torch

from models.catalogue import NANO_FOLDER, VOCABULARY_FILE, sam3_network
from models.protocols import FrameInput
from models.sam3.network.model import Sam3
from models.sam3.phrases import PhraseEncoder
from models.sam3.predictor import Sam3ImagePredictor
from models.sam3.tokenizer import Tokenizer
from models.sam3.tracking.session import Sam3Session


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(NANO_FOLDER / VOCABULARY_FILE, context_length=16, vocab_size=1024)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Sam3(sam3_network("sam3-nano"))


@pytest.fixture
def encoded(model):
    """Numbers of phrases that the text encoder is given, call by call."""
    counts = []
    encoder = model.detector_model.text_encoder
    encoder.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    return counts


def test_a_phrase_is_encoded_once(model, tokenizer, encoded):
    phrases = PhraseEncoder(model.detector_model, tokenizer)
    first = phrases.encode(["deer", "red car"])
    again = phrases.encode(["Red  CAR", "cat", "deer", "cat"])
    assert encoded == [2, 1]
    assert again[0] is first[1]
    assert again[1] is again[3]


def test_features_are_those_of_a_batch(model, tokenizer):
    one, two = PhraseEncoder(model.detector_model, tokenizer).encode(["deer", "a very red car"])
    with torch.inference_mode():
        both = model.detector_model.encode_text(tokenizer.encode(["deer", "a very red car"]))
    assert torch.equal(torch.cat((one.tokens, two.tokens)), both.tokens)
    assert torch.equal(torch.cat((one.is_valid, two.is_valid)), both.is_valid)


def test_predictor_and_session_share_what_is_encoded(model, tokenizer, encoded):
    phrases = PhraseEncoder(model.detector_model, tokenizer)
    session = Sam3Session(model, tokenizer, phrases=phrases)
    session.open_stream("a", ["deer", "visual"])
    session.open_stream("b", ["deer"])
    predictor = Sam3ImagePredictor(model, tokenizer, phrases=phrases)
    pixels = torch.zeros(20, 30, 3, dtype=torch.uint8).numpy()
    predictor.set_image(pixels)
    predictor.add_exemplar(box=[1, 2, 11, 12])
    predictor.set_text_prompt("deer")
    session.step([FrameInput(stream_id="a", pixels=pixels, time_s=0.0)])
    assert encoded == [2]


def test_oldest_phrases_are_forgotten_and_only_they(model, tokenizer, encoded):
    phrases = PhraseEncoder(model.detector_model, tokenizer, capacity=2)
    for phrase in ("deer", "cat", "deer", "dog", "deer"):
        phrases.encode([phrase])
    assert len(encoded) == 3
    assert len(phrases) == 2
    phrases.encode(["cat"])
    assert len(encoded) == 4


def test_text_of_an_open_stream_stays_however_many_others_come(model, tokenizer, encoded):
    phrases = PhraseEncoder(model.detector_model, tokenizer, capacity=1)
    session = Sam3Session(model, tokenizer, phrases=phrases)
    session.open_stream("a", ["deer"])
    for phrase in ("cat", "dog", "cow"):
        phrases.encode([phrase])
    session.open_stream("b", ["deer"])
    assert len(encoded) == 4
    session.close_stream("a")
    session.close_stream("b")
    phrases.encode(["cat"])
    gc.collect()
    assert len(phrases) == 1


def test_capacity_is_at_least_one(model, tokenizer):
    with pytest.raises(ValueError, match="capacity is 0; accepted: at least 1"):
        PhraseEncoder(model.detector_model, tokenizer, capacity=0)


def test_exemplars_alone_read_a_word_of_the_nano_vocabulary(tokenizer):
    ids = tokenizer.encode(["visual"])[0]
    assert (ids != 0).sum() == 3
