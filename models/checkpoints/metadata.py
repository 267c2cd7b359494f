"""What weights say of themselves, as lines for people. Importing this costs no torch.

The metadata of a safetensors file is text under any name. Our own training writes the recipe and
the curves there.
"""

import json
from collections.abc import Mapping, Sequence

MAX_SHOWN = 200  # characters of one line


def lines_of_metadata(name: str, text: str) -> list[str]:
    """Return an entry as lines: training curves by their ends, long lines cut."""
    if name == "curves":
        try:
            curves: dict[str, dict[str, list[float | None]]] = json.loads(text)
            return [_summary(stage, columns) for stage, columns in curves.items()]
        except (ValueError, AttributeError, TypeError, LookupError):
            pass  # another program's curves
    return [
        line if len(line) <= MAX_SHOWN else f"{line[:MAX_SHOWN]} …" for line in text.split("\n")
    ]


def _summary(stage: str, columns: Mapping[str, Sequence[float | None]]) -> str:
    begin, end = columns["step"][0], columns["step"][-1]
    terms = [f"{name} {_ends(values)}" for name, values in columns.items() if name != "step"]
    return f"{stage}, steps {begin} to {end}: {', '.join(terms)}"


def _ends(values: Sequence[float | None]) -> str:
    """Return the first and last value."""
    return " → ".join("?" if value is None else f"{value:g}" for value in (values[0], values[-1]))
