"""Learns sam3-nano's vocabulary from the world's phrases.

Run as ``python -m pipeline.lab.training.bake_tokenizer OUT``.
"""

import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from connectors.world.concepts import ABSENT_PHRASES, CONCEPTS
from models.catalogue import sam3_network
from models.sam3.tokenizer import END, START


def bake_tokenizer(path: Path) -> None:
    """Write a byte-level BPE ``tokenizer.json``: any text encodes, common phrases briefly."""
    phrases = [phrase for concept in CONCEPTS for phrase in (concept.name, *concept.synonyms)]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=sam3_network("sam3-nano").text.vocab_size,
        show_progress=False,
        special_tokens=["<pad>", START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
    )
    # Every letter also ends a word somewhere, so that no phrase falls out of the vocabulary.
    endings = [chr(code) for code in (*range(0x21, 0x7F), *range(0xA1, 0x180))]
    bpe.train_from_iterator([*phrases, *ABSENT_PHRASES, "visual", *endings], trainer)
    bpe.save(str(path))


if __name__ == "__main__":
    bake_tokenizer(Path(sys.argv[1]))
