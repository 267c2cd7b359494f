"""Phrases to token ids: byte-level BPE as CLIP's, with the vocabulary of the checkpoint."""

import html
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from models.common.checks import check_text
from models.sam3.network.text import PAD_TOKEN
from models.sam3.vocabulary import CLIP_SIZE, END, START, open_vocabulary

# Tokens of CLIP's vocabulary by which any other one of its size is told from it.
_CLIP_IDS = {"!": 0, "a</w>": 320, "cat</w>": 2368, START: 49406, END: 49407}


class Tokenizer:
    """Encodes noun phrases, cleaned as CLIP's are: lower-case, with single spaces."""

    def __init__(self, path: Path, *, context_length: int, vocab_size: int) -> None:
        """Open a vocabulary.

        Args:
            path: A vocabulary or the folder that it lies in, see
                :func:`models.sam3.vocabulary.open_vocabulary`.
            context_length: Tokens per phrase, start and end included.
            vocab_size: Rows of the token embedding; ids must stay below. With as many as CLIP's it
                must be CLIP's vocabulary.

        Raises:
            ValueError: If the file is missing, is no tokenizer, or does not fit the model.
        """
        self._bpe = open_vocabulary(path)
        start, end = self._bpe.token_to_id(START), self._bpe.token_to_id(END)
        if start is None or end is None:
            raise ValueError(
                f"vocabulary {str(path)!r} lacks {START!r} or {END!r}, "
                "which SAM 3 puts around a phrase"
            )
        largest = max(self._bpe.get_vocab().values())
        if largest >= vocab_size:
            raise ValueError(
                f"vocabulary {str(path)!r} has id {largest}, the model holds ids below {vocab_size}"
            )
        if vocab_size == CLIP_SIZE:
            self._check_clip(path)
        self._start, self._end = int(start), int(end)
        self.context_length = context_length

    def _check_clip(self, path: Path) -> None:
        size = self._bpe.get_vocab_size()
        odd = {
            token: self._bpe.token_to_id(token)
            for token, expected in _CLIP_IDS.items()
            if self._bpe.token_to_id(token) != expected
        }
        if size != CLIP_SIZE or odd:
            raise ValueError(
                f"vocabulary {str(path)!r} is not CLIP's: {size} tokens, {odd}; "
                f"expected {CLIP_SIZE} tokens with {_CLIP_IDS}"
            )

    def encode(self, phrases: Sequence[str]) -> Tensor:
        """Return ids (P, context_length), int64; padding is 0, a long phrase keeps its end token.

        Raises:
            ValueError: If a phrase is empty or no string.
        """
        ids = torch.full((len(phrases), self.context_length), PAD_TOKEN, dtype=torch.int64)
        for row, phrase in enumerate(phrases):
            text = _clean(check_text("phrase", phrase))
            if not text:
                raise ValueError(
                    f"phrase {phrase!r} is empty; expected a noun phrase such as 'deer'"
                )
            body = self._bpe.encode(text, add_special_tokens=False).ids[: self.context_length - 2]
            ids[row, : len(body) + 2] = torch.tensor([self._start, *body, self._end])
        return ids


def _clean(phrase: str) -> str:
    """Clean a phrase as those that the text encoder was trained with (Radford et al., 2021)."""
    # Twice, because texts from the web are escaped twice now and then.
    text = html.unescape(html.unescape(unicodedata.normalize("NFC", phrase)))
    return " ".join(text.split()).lower()
