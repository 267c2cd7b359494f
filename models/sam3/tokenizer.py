"""Phrases to token ids: byte-level BPE as CLIP's, from the checkpoint's own ``tokenizer.json``."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer as BpeTokenizer
from torch import Tensor

from models.sam3.text import PAD_TOKEN

START, END = "<|startoftext|>", "<|endoftext|>"


class Tokenizer:
    """Encodes noun phrases, lower-cased and with runs of white space made one."""

    def __init__(self, path: Path, *, context_length: int, vocab_size: int) -> None:
        """Open a vocabulary.

        Args:
            path: A ``tokenizer.json``.
            context_length: Tokens per phrase, start and end included.
            vocab_size: Rows of the token embedding; ids must stay below.

        Raises:
            ValueError: If the file is missing, is no tokenizer, or does not fit the model.
        """
        if not path.is_file():
            raise ValueError(
                f"no vocabulary at {str(path)!r}; expected the tokenizer.json of the checkpoint"
            )
        try:
            self._bpe = BpeTokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"not a tokenizer file: {str(path)!r} ({error})") from error
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
        self._start, self._end = int(start), int(end)
        self.context_length = context_length

    def encode(self, phrases: Sequence[str]) -> Tensor:
        """Return ids (P, context_length), int64; padding is 0, a long phrase keeps its end token.

        Raises:
            ValueError: If a phrase is empty.
        """
        ids = torch.full((len(phrases), self.context_length), PAD_TOKEN, dtype=torch.int64)
        for row, phrase in enumerate(phrases):
            text = " ".join(phrase.lower().split())
            if not text:
                raise ValueError(
                    f"phrase {phrase!r} is empty; expected a noun phrase such as 'deer'"
                )
            body = self._bpe.encode(text, add_special_tokens=False).ids[: self.context_length - 2]
            ids[row, : len(body) + 2] = torch.tensor([self._start, *body, self._end])
        return ids
