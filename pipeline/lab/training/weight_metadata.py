"""What trained weights say of themselves: the recipe, its seed, the steps done and the curves.

They are the metadata of ``model.safetensors``, so that the file alone tells how it came about.
Importing this costs no torch.
"""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import cast

from pipeline.lab.training.recipe import Recipe

LOG_FILE = "log.jsonl"
MAX_CURVES = 20_000  # characters
# Names of a row that are no curve: the time tells of the machine, not of the weights.
_NO_CURVE = frozenset({"step", "stage", "seconds"})
Row = Mapping[str, object]
Curves = dict[str, dict[str, list[float | None]]]


def notes_of(recipe: Recipe, text: str | None, *, step: int, log: Path) -> dict[str, str]:
    """Return the metadata of weights.

    Args:
        recipe: What was done.
        text: The recipe as it was written; left out, it is the recipe as JSON.
        step: Steps done.
        log: The run's log; its rows become the curves.

    Returns:
        ``recipe``, ``seed``, ``steps`` and, if there is a log, ``curves``: JSON with, for each
        stage, the steps and the mean of each logged term up to each of them.

    Raises:
        OSError: If the log cannot be read.
    """
    notes = {
        "recipe": recipe.model_dump_json(exclude_unset=True) if text is None else text,
        "seed": str(recipe.seed),
        "steps": str(step),
    }
    rows = read_rows(log, upto=step)
    return notes | ({"curves": curves_of(rows)} if rows else {})


def read_rows(log: Path, *, upto: int) -> list[Row]:
    """Return the whole rows of a log up to a step; none if there is no log. Raises ``OSError``."""
    if not log.is_file():
        return []
    rows: list[Row] = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            row: object = json.loads(line)
        except json.JSONDecodeError:
            continue  # a kill cut it off
        if isinstance(row, dict) and _number(cast("Row", row), "step") <= upto:
            rows.append(cast("Row", row))
    return rows


def curves_of(rows: Sequence[Row]) -> str:
    """Return rows as compact JSON of at most ``MAX_CURVES`` characters, averaged until they fit."""
    merged = 1
    while True:
        curves: Curves = {
            stage: _columns(list(mine), merged) for stage, mine in groupby(rows, key=_stage)
        }
        text = json.dumps(curves, separators=(",", ":"))
        if len(text) <= MAX_CURVES or merged >= len(rows):
            return text
        merged *= 2


def _stage(row: Row) -> str:
    return str(row.get("stage", ""))


def _columns(rows: Sequence[Row], merged: int) -> dict[str, list[float | None]]:
    groups = [rows[begin : begin + merged] for begin in range(0, len(rows), merged)]
    names = dict.fromkeys(name for row in rows for name in row if name not in _NO_CURVE)
    means = {name: [_mean(group, name) for group in groups] for name in names}
    return {"step": [_number(group[-1], "step") for group in groups], **means}


def _mean(rows: Sequence[Row], name: str) -> float | None:
    """Return the mean to four digits; nothing where nothing finite was logged."""
    values = [value for row in rows if math.isfinite(value := _number(row, name))]
    return float(f"{sum(values) / len(values):.4g}") if values else None


def _number(row: Row, name: str) -> float:
    value = row.get(name)
    return value if isinstance(value, int | float) else math.inf
