"""Encodes each phrase once: its features do not depend on the picture (SAM 3, section 3)."""

from collections import OrderedDict
from collections.abc import Sequence
from weakref import WeakValueDictionary

import torch

from models.sam3.network.detector import Detector
from models.sam3.network.text import TextFeatures
from models.sam3.tokenizer import Tokenizer

# What SAM 3 reads where only exemplars say what is meant; it was trained so.
VISUAL_PHRASE = "visual"
_Key = tuple[torch.device, torch.dtype, tuple[int, ...]]


def plain_phrase(phrase: str) -> str:
    """Return what the model reads of a phrase: phrases with the same are one."""
    return " ".join(phrase.lower().split())


class PhraseEncoder:
    """Text encoder with a memory, to be shared by all that ask one model.

    It keeps the ``capacity`` phrases asked for last. A phrase that somebody still holds, such as an
    open stream, is never encoded again, however many others came since. Not thread-safe.
    """

    def __init__(self, detector: Detector, tokenizer: Tokenizer, *, capacity: int = 256) -> None:
        """Wrap a detector's text encoder.

        Raises:
            ValueError: If ``capacity`` is less than 1.
        """
        if capacity < 1:
            raise ValueError(f"capacity is {capacity!r}; accepted: at least 1 phrase")
        self._detector = detector
        self._tokenizer = tokenizer
        self._capacity = capacity
        self._newest: OrderedDict[_Key, TextFeatures] = OrderedDict()
        self._held: WeakValueDictionary[_Key, TextFeatures] = WeakValueDictionary()

    def __len__(self) -> int:
        """Phrases at hand: the newest, and those that are held elsewhere."""
        return len(self._held)

    @torch.inference_mode()
    def encode(self, phrases: Sequence[str]) -> list[TextFeatures]:
        """Return the features of each phrase, as of a batch of one; new phrases in one pass.

        Raises:
            ValueError: If a phrase is empty.
        """
        token_ids = self._tokenizer.encode(phrases)
        weight = self._detector.text_projection.weight
        keys: list[_Key] = [(weight.device, weight.dtype, tuple(row)) for row in token_ids.tolist()]
        known = {key: self._held[key] for key in keys if key in self._held}
        new = {key: row for row, key in enumerate(keys) if key not in known}
        if new:
            rows = torch.tensor(list(new.values()))
            encoded = self._detector.encode_text(token_ids[rows].to(weight.device))
            for place, key in enumerate(new):
                # Copies, because a view would keep the whole batch alive.
                known[key] = self._held[key] = TextFeatures(
                    tokens=encoded.tokens[place : place + 1].clone(),
                    is_valid=encoded.is_valid[place : place + 1].clone(),
                )
        for key in keys:
            self._newest[key] = known[key]
            self._newest.move_to_end(key)
        while len(self._newest) > self._capacity:
            self._newest.popitem(last=False)
        return [known[key] for key in keys]

    def clear(self) -> None:
        """Forget all phrases, as is due when the weights change."""
        self._newest.clear()
        self._held.clear()
