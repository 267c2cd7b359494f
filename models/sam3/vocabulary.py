"""Vocabularies as they lie beside checkpoints, in the three forms that are published."""

import gzip
import json
import zlib
from pathlib import Path
from typing import cast

from tokenizers import Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as BpeTokenizer
from tokenizers.models import BPE

START, END = "<|startoftext|>", "<|endoftext|>"
TOKENIZER_FILE = "tokenizer.json"
PAIR_FILES = ("vocab.json", "merges.txt")
CLIP_FILES = ("bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt")
EXPECTED = f"{TOKENIZER_FILE}, {' with '.join(PAIR_FILES)}, or {CLIP_FILES[0]}"

END_OF_WORD = "</w>"
# The file lists more merges than CLIP takes: 256 bytes, each also at a word's end, and two marks.
CLIP_SIZE = 49408
_CLIP_MERGES = CLIP_SIZE - 2 * 256 - 2
# Radford et al., 2021: clitics, runs of letters, single digits, runs of anything else.
_CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def open_vocabulary(path: Path) -> BpeTokenizer:
    """Open a vocabulary.

    Args:
        path: A ``tokenizer.json``, CLIP's list of merges (zipped or not), or a folder that holds
            one of these or ``vocab.json`` and ``merges.txt``.

    Raises:
        ValueError: If there is none, or it is something else.
    """
    file = _find(path)
    try:
        if file.name in CLIP_FILES:
            return _from_clip(file)
        if file.name in PAIR_FILES:
            return _from_pair(*(file.parent / name for name in PAIR_FILES))
        return BpeTokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"not a tokenizer file: {str(file)!r} ({error})") from error


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    for name in (TOKENIZER_FILE, PAIR_FILES[0], *CLIP_FILES):
        if (path / name).is_file():
            return path / name
    raise ValueError(
        f"no vocabulary at {str(path)!r}; expected the {EXPECTED} of the checkpoint beside it"
    )


def _from_clip(file: Path) -> BpeTokenizer:
    text = file.read_bytes()
    try:
        text = gzip.decompress(text) if file.suffix == ".gz" else text
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"damaged: {error}") from error
    lines = text.decode("utf-8").split("\n")[1 : 1 + _CLIP_MERGES]
    merges = [(a, b) for a, b in (line.split() for line in lines)]
    if len(merges) != _CLIP_MERGES:
        raise ValueError(f"{len(merges)} merges; expected {_CLIP_MERGES}")
    letters = byte_letters()
    tokens = [
        *letters,
        *(letter + END_OF_WORD for letter in letters),
        *(a + b for a, b in merges),
        START,
        END,
    ]
    return clip_tokenizer({token: number for number, token in enumerate(tokens)}, merges)


def _from_pair(vocabulary: Path, merges: Path) -> BpeTokenizer:
    if not merges.is_file():
        raise ValueError(f"no {merges.name} beside it")
    ids = cast("dict[str, int]", json.loads(vocabulary.read_text("utf-8")))
    lines = merges.read_text("utf-8").split("\n")
    if lines and lines[0].startswith("#version"):
        lines = lines[1:]
    pairs = [(a, b) for a, b in (line.split() for line in lines if line)]
    return clip_tokenizer(ids, pairs)


def clip_tokenizer(ids: dict[str, int], merges: list[tuple[str, str]]) -> BpeTokenizer:
    """Return a tokenizer that cuts texts into words and bytes as CLIP's does.

    Args:
        ids: Token to number.
        merges: Pairs of tokens, the first to be merged first.
    """
    tokenizer = BpeTokenizer(BPE(vocab=ids, merges=merges, end_of_word_suffix=END_OF_WORD))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token in (START, END) if token in ids])
    return tokenizer


def byte_letters() -> list[str]:
    """Return a printable letter for each byte, in CLIP's order: the printable bytes come first."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), 256),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return [*map(chr, printable), *(chr(256 + number) for number in range(len(others)))]
