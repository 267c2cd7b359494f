"""Writes a checkpoint in another layout or type, tensor by tensor."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from models.catalogue import VOCABULARY_FILE, WEIGHTS_FILE, Family, sam3_network
from models.checkpoints.checkpoint import Checkpoint, open_checkpoint
from models.checkpoints.recognise import (
    Layout,
    Part,
    Recognised,
    build_model,
    find_faults,
    keymap_of,
    recognise,
)
from models.checkpoints.transformers_config import companion_files
from models.checkpoints.weights import CheckpointError, write_safetensors
from models.common.keymap import MappedState
from models.common.positional import axial_rotary_table
from models.sam3.network.keys import REFINER, ROTARY_TABLE
from models.sam3.vocabulary import END, START, open_vocabulary

_POINTS = "detector_model.geometry_encoder.points_"
# Beginnings of our names that a layout has no place for: transformers has no point exemplars.
_UNKNOWN_TO = {
    Layout.OFFICIAL: (REFINER,),
    Layout.TRANSFORMERS: (_POINTS, REFINER),
    Layout.MASKSTREAM: (),
}
# Trainers of SAM 2 keep the weights under a name, those of SAM 1 and 3 do not.
_WRAPPED = (Family.SAM2,)
_MARKS = ("bos", "eos")


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What a conversion wrote.

    Attributes:
        files: The files.
        left_out: Weights, in our names, that the new layout has no place for.
        lacks_points: Whether the official code will miss the weights of point exemplars, which
            the source had not.
    """

    files: tuple[Path, ...]
    left_out: tuple[str, ...]
    lacks_points: bool


def convert_file(source: Path, target: Path, *, layout: str, dtype: str | None = None) -> Converted:
    """Convert the checkpoint at ``source``; types and layouts by name, else as :func:`convert`."""
    checkpoint = open_checkpoint(source)
    return convert(
        checkpoint,
        recognise(checkpoint.state, source=str(source)),
        target,
        layout=Layout(layout),
        dtype=None if dtype is None else getattr(torch, dtype),
    )


def convert(
    checkpoint: Checkpoint,
    recognised: Recognised,
    target: Path,
    *,
    layout: Layout,
    dtype: torch.dtype | None = None,
) -> Converted:
    """Write a whole model's weights in another layout.

    Args:
        checkpoint: The weights.
        recognised: What they are.
        target: A folder for transformers' layout and ours, made if need be, with all that belongs
            beside the weights; a ``.pt`` file for the official one, for which the weights are held
            in memory once.
        layout: Whose names to write.
        dtype: Type of all weights; as they are when left out.

    Raises:
        CheckpointError: If the weights are not whole or do not fit.
        ValueError: If SAM 3's vocabulary is not beside the weights.
    """
    if recognised.part is not Part.WHOLE:
        raise CheckpointError(
            f"{str(checkpoint.path)!r} holds only the {recognised.part} of {recognised.size}; "
            "expected a whole model to convert"
        )
    faults = find_faults(build_model(recognised), checkpoint, recognised)
    if faults:
        raise CheckpointError(f"{str(checkpoint.path)!r} does not fit: {'; '.join(faults)}")
    ours = recognised.keymap.apply(checkpoint.state)
    left_out = {name for name in ours if name.startswith(_UNKNOWN_TO[layout])}
    table = keymap_of(recognised.family, layout).inverse()
    outgoing = MappedState(ours, table.translate(ours.keys() - left_out))

    def release(name: str) -> None:
        for middle in outgoing.translation.origins[name].sources:
            for source in ours.translation.origins[middle].sources:
                checkpoint.release(source)

    if layout is Layout.OFFICIAL:
        files = [_write_official(outgoing, target, recognised, dtype)]
    else:
        companions = _companions(checkpoint, recognised)
        target.mkdir(parents=True, exist_ok=True)
        weights = target / WEIGHTS_FILE
        write_safetensors(
            outgoing,
            weights,
            metadata={**checkpoint.metadata, "format": "pt"},
            dtype=dtype,
            on_written=release,
        )
        files = [weights]
        for name, text in companions.items():
            (target / name).write_text(text, encoding="utf-8")
            files.append(target / name)
    lacks_points = recognised.family is Family.SAM3 and not recognised.takes_points
    return Converted(
        files=tuple(files),
        left_out=tuple(sorted(left_out)),
        lacks_points=lacks_points and layout is Layout.OFFICIAL,
    )


def _write_official(
    outgoing: MappedState, file: Path, recognised: Recognised, dtype: torch.dtype | None
) -> Path:
    """Write what the official code loads; it reads files of ``torch.save`` only."""
    # Cloned, because views of a file would be saved with all of that file.
    state = {name: outgoing[name].to(dtype=dtype).clone() for name in outgoing}
    if recognised.family is Family.SAM3:
        state |= rotary_tables(recognised.size)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(file.suffix + ".partial")
    try:
        torch.save({"model": state} if recognised.family in _WRAPPED else state, partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return file


def rotary_tables(size: str) -> dict[str, Tensor]:
    """Return the angles that the official code keeps beside the weights, complex, by block."""
    vision = sam3_network(size).vision
    tables: dict[str, Tensor] = {}
    for block in range(vision.num_blocks):
        is_global = block in vision.global_blocks
        side = vision.grid if is_global else vision.window
        table = axial_rotary_table(
            side,
            side,
            vision.dim // vision.num_heads,
            scale=vision.pretrain_grid / vision.grid if is_global else 1.0,
            device=torch.device("cpu"),
        )
        tables[ROTARY_TABLE.format(i=block)] = torch.view_as_complex(table)
    return tables


def _companions(checkpoint: Checkpoint, recognised: Recognised) -> dict[Path, str]:
    """Return the files beside the weights; transformers reads them, and one is our vocabulary."""
    files = companion_files(recognised.size)
    texts: dict[Path, str] = {}
    if recognised.family is Family.SAM3:
        vocabulary = open_vocabulary(checkpoint.folder)
        marks = [(mark, vocabulary.token_to_id(mark)) for mark in (START, END)]
        # Programs other than this one expect the file itself to put the marks.
        vocabulary.post_processor = TemplateProcessing(
            single=f"{START} $A {END}", special_tokens=marks
        )
        texts[Path(VOCABULARY_FILE)] = vocabulary.to_str(pretty=True)
        ids = {f"{kind}_token_id": number for kind, (_, number) in zip(_MARKS, marks, strict=True)}
        files[Path("config.json")]["detector_config"]["text_config"] |= ids
    return texts | {name: json.dumps(fields, indent=2) + "\n" for name, fields in files.items()}
