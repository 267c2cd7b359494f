"""CLIP's vocabulary in its published forms, against transformers' reader of it."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizerFast

from models.sam3.tokenizer import Tokenizer
from models.sam3.vocabulary import END, START, byte_letters, clip_tokenizer, open_vocabulary

LETTERS = byte_letters()
# Enough to merge a few words in several steps.
MERGES = [
    ("c", "a"),
    ("ca", "t</w>"),
    ("r", "e"),
    ("re", "d</w>"),
    ("d", "e"),
    ("e", "r</w>"),
    ("de", "er</w>"),
    ("'", "s</w>"),
]


def small_vocabulary():
    tokens = [*LETTERS, *(a + "</w>" for a in LETTERS), *(a + b for a, b in MERGES), START, END]
    return {token: number for number, token in enumerate(tokens)}


@pytest.fixture(scope="module")
def pair_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    (folder / "vocab.json").write_text(json.dumps(small_vocabulary()))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES), ""]
    (folder / "merges.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def ours(pair_folder):
    return Tokenizer(pair_folder, context_length=400, vocab_size=len(small_vocabulary()))


@pytest.fixture(scope="module")
def theirs():
    return CLIPTokenizerFast(vocab=small_vocabulary(), merges=MERGES)


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"]), min_size=1, max_size=40)
WORDS = st.lists(
    st.sampled_from(
        ["red cat", "Deer's", "7 cats!!", "café", "鹿", "don't", " ", "ǅ", "İ", "e\u0301"]
    )
).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(text=TEXT | WORDS)
def test_ids_are_those_of_transformers(ours, theirs, text):
    cleaned = " ".join(text.split())
    if not cleaned or "&" in cleaned:
        return
    # Python lowers some letters by their neighbours, transformers one by one.
    ids = theirs(cleaned.lower())["input_ids"]
    assert ours.encode([text])[0, : len(ids)].tolist() == ids


@pytest.mark.parametrize("text", ["red &amp; cat", "red &amp;amp; cat", "RED  &  Cat\n"])
def test_escaped_text_reads_as_what_it_stands_for(ours, text):
    assert ours.encode([text]).equal(ours.encode(["red & cat"]))


def write_clip_file(folder, *, is_zipped=True, num_merges=50_000):
    pairs = [("c", "a"), *((a, b) for a in LETTERS for b in LETTERS if (a, b) != ("c", "a"))]
    pairs.insert(1856, ("ca", "t</w>"))
    text = "\n".join(["a first line", *(" ".join(pair) for pair in pairs[:num_merges])])
    path = folder / ("bpe_simple_vocab_16e6.txt" + ".gz" * is_zipped)
    path.write_bytes(gzip.compress(text.encode()) if is_zipped else text.encode())
    return path


@pytest.mark.parametrize("is_zipped", [True, False])
def test_list_of_merges_gives_all_ids_in_their_places(tmp_path, is_zipped):
    write_clip_file(tmp_path, is_zipped=is_zipped)
    tokenizer = Tokenizer(tmp_path, context_length=8, vocab_size=49408)
    assert tokenizer.encode(["a cat"])[0].tolist() == [49406, 320, 2368, 49407, 0, 0, 0, 0]


def test_short_or_damaged_list_is_refused(tmp_path):
    path = write_clip_file(tmp_path, num_merges=100)
    with pytest.raises(ValueError, match="100 merges; expected 48894"):
        open_vocabulary(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="not a tokenizer file"):
        open_vocabulary(tmp_path)


def test_other_vocabulary_of_the_same_size_is_told_from_clips(tmp_path):
    path = tmp_path / "tokenizer.json"
    tokens = [*small_vocabulary()][:-2]
    tokens += [f"<{number}>" for number in range(49408 - len(tokens) - 2)] + [START, END]
    clip_tokenizer({token: number for number, token in enumerate(tokens)}, MERGES).save(str(path))
    with pytest.raises(ValueError, match=r"is not CLIP's: 49408 tokens, \{'cat</w>': 513\}"):
        Tokenizer(path, context_length=8, vocab_size=49408)


def test_vocabulary_of_another_model_is_told_from_clips(pair_folder):
    with pytest.raises(ValueError, match=r"is not CLIP's: 522 tokens"):
        Tokenizer(pair_folder, context_length=8, vocab_size=49408)


def test_half_a_pair_is_refused(tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no merges\.txt beside it"):
        open_vocabulary(tmp_path)
