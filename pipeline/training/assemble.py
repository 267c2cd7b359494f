"""Joins a detector and a tracker run: ``python -m pipeline.training.assemble``."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from models.sam3.config import SAM3_SIZES
from models.sam3.model import Sam3
from models.weights import load_strictly, write_safetensors
from pipeline.training.checkpoint import load_average

DETECTOR_PREFIX = "detector_model."


def assemble(
    name: str, *, detector: Path, tracker: Path | None, out: Path, metadata: dict[str, str]
) -> None:
    """Write the averaged weights of both runs under the names of the whole model.

    Args:
        name: Size, such as ``sam3-nano``.
        detector: Folder of the detector's run.
        tracker: Folder of the tracker's run; without one the tracker keeps its starting weights.
        out: The safetensors file to write.
        metadata: What the file says of itself.

    Raises:
        models.weights.CheckpointError: If the runs do not make up the model.
    """
    torch.manual_seed(0)
    model = Sam3(SAM3_SIZES[name])
    state: dict[str, Tensor] = dict(model.state_dict())
    state |= {DETECTOR_PREFIX + key: value for key, value in load_average(detector).items()}
    if tracker is not None:
        state |= load_average(tracker)
    load_strictly(model, state, source=f"{detector} + {tracker}")
    write_safetensors(model.state_dict(), out, metadata=metadata)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="sam3-nano")
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--tracker", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--note", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    notes = dict(note.split("=", 1) for note in arguments.note)
    assemble(
        arguments.model,
        detector=arguments.detector,
        tracker=arguments.tracker,
        out=arguments.out,
        metadata=notes,
    )


if __name__ == "__main__":
    main()
