"""Phrases to ids, and vocabularies that cannot be used."""

import pytest
import torch
from tokenizers import Tokenizer as BpeTokenizer
from tokenizers.models import BPE

from models.catalogue import NANO_FOLDER, VOCABULARY_FILE
from models.sam3.tokenizer import END, START, Tokenizer

NANO = NANO_FOLDER / VOCABULARY_FILE


@pytest.fixture(scope="module")
def nano():
    return Tokenizer(NANO, context_length=16, vocab_size=1024)


def write_vocabulary(path, *tokens):
    BpeTokenizer(BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[])).save(str(path))
    return path


def test_phrase_stands_between_start_and_end(nano):
    ids = nano.encode(["red car"])
    start, end = (nano._bpe.token_to_id(token) for token in (START, END))
    length = int((ids[0] != 0).sum())
    assert ids.shape == (1, 16)
    assert ids.dtype == torch.int64
    assert (ids[0, 0], ids[0, length - 1]) == (start, end)
    assert not ids[0, length:].any()


def test_ids_decode_to_the_phrase(nano):
    ids = nano.encode(["red car"])[0]
    assert nano._bpe.decode(ids[ids != 0].tolist()).strip() == "red car"


@pytest.mark.parametrize("same", ["Red Car", "  red   car ", "red\tcar\n"])
def test_case_and_white_space_do_not_matter(nano, same):
    assert torch.equal(nano.encode([same]), nano.encode(["red car"]))


def test_long_phrase_keeps_its_end(nano):
    ids = nano.encode(["zebra " * 50])
    assert ids[0, -1] == nano._bpe.token_to_id(END)


def test_phrases_do_not_touch_each_other(nano):
    both = nano.encode(["deer", "a very long phrase about a deer"])
    assert torch.equal(both[:1], nano.encode(["deer"]))


def test_other_scripts_become_bytes(nano):
    ids = nano.encode(["олень 鹿"])
    assert int(ids.max()) < 1024
    assert int((ids != 0).sum()) > 2


@pytest.mark.parametrize("phrase", ["", "  \n"])
def test_empty_phrase_is_refused(nano, phrase):
    with pytest.raises(ValueError, match="is empty; expected a noun phrase"):
        nano.encode(["deer", phrase])


def test_missing_vocabulary_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no vocabulary at .*gone\.json"):
        Tokenizer(tmp_path / "gone.json", context_length=16, vocab_size=1024)


@pytest.mark.parametrize("text", ["", "{}", "not json"])
def test_file_of_another_kind_is_refused(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"not a tokenizer file: .*other\.json"):
        Tokenizer(path, context_length=16, vocab_size=1024)


def test_vocabulary_without_end_is_refused(tmp_path):
    path = write_vocabulary(tmp_path / "t.json", "<pad>", START)
    with pytest.raises(ValueError, match=r"lacks .*endoftext"):
        Tokenizer(path, context_length=16, vocab_size=1024)


def test_vocabulary_larger_than_the_model_is_refused(tmp_path):
    path = write_vocabulary(tmp_path / "t.json", "<pad>", START, END)
    assert Tokenizer(path, context_length=4, vocab_size=3).context_length == 4
    with pytest.raises(ValueError, match="has id 2, the model holds ids below 2"):
        Tokenizer(path, context_length=4, vocab_size=2)
