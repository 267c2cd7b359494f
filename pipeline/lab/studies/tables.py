"""Writes what a study found: JSON for programs, a Markdown table for people."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.config.sections.model import ModelConfig
from pipeline.lab.studies.spread import mean_and_deviation
from pipeline.lab.studies.study import Comparison, Measure, StudyResult, Unit

NO_VALUE = "–"
_TOLD = "Mean ± standard deviation over seeds {seeds}; n: questions, objects or frames in all."


def to_fields(result: StudyResult, model: ModelConfig) -> dict[str, Any]:
    """Return everything but the sheet as JSON values."""
    return {
        "study": result.name,
        "title": result.title,
        "model": model.name,
        "checkpoint": None if model.checkpoint is None else str(model.checkpoint),
        "seeds": list(result.seeds),
        "settings": list(result.settings),
        "note": result.note,
        "points": [asdict(point) for point in result.points],
        "comparisons": [asdict(comparison) for comparison in result.comparisons],
    }


def to_json(result: StudyResult, model: ModelConfig) -> str:
    """Return :func:`to_fields` as text."""
    return json.dumps(to_fields(result, model), indent=1, allow_nan=False) + "\n"


def to_markdown(result: StudyResult) -> str:
    """Return a table of settings, one of comparisons if there are any, and the note."""
    parts = [f"**{result.title}**", _settings_table(result)]
    if result.comparisons:
        parts.append(_comparison_table(result.comparisons))
    seeds = ", ".join(str(seed) for seed in result.seeds)
    parts.append(" ".join(filter(None, (result.note, _TOLD.format(seeds=seeds)))))
    return "\n\n".join(parts) + "\n"


def _settings_table(result: StudyResult) -> str:
    measures = result.measures
    head = [result.x_label or "setting", "n", *(_heading(measure) for measure in measures)]
    rows = [
        [
            setting,
            str(max((result.count(setting, measure.name) for measure in measures), default=0)),
            *(_cell(result, setting, measure) for measure in measures),
        ]
        for setting in result.settings
    ]
    return _table(head, rows)


def _heading(measure: Measure) -> str:
    # A share is so common that its unit would only be noise.
    is_plain = measure.unit in {Unit.PERCENT, Unit.NUMBER} or measure.unit.value in measure.name
    return measure.name if is_plain else f"{measure.name}, {measure.unit.value}"


def _cell(result: StudyResult, setting: str, measure: Measure) -> str:
    found = mean_and_deviation(result.values(setting, measure.name))
    if found is None:
        return NO_VALUE
    mean, deviation = found
    spread = "" if deviation is None else f" ± {_shown(deviation, measure.unit)}"
    return f"{_shown(mean, measure.unit)}{spread}"


def _comparison_table(comparisons: Sequence[Comparison]) -> str:
    head = ["measure", "from", "to", "difference", "95 % interval", "p", "by"]
    rows = [
        [
            one.measure,
            one.baseline,
            one.setting,
            _shown(one.difference, one.unit, sign="+"),
            NO_VALUE
            if one.low is None or one.high is None
            else f"{_shown(one.low, one.unit, sign='+')} to {_shown(one.high, one.unit, sign='+')}",
            _shown_p(one.p_value),
            one.method,
        ]
        for one in comparisons
    ]
    return _table(head, rows)


def _shown(value: float, unit: Unit, *, sign: str = "") -> str:
    # Adding 0 makes -0 a 0.
    return f"{round(value * unit.scale, 1) + 0.0:{sign}.1f}"


def _shown_p(p_value: float | None) -> str:
    if p_value is None:
        return NO_VALUE
    return f"{p_value:.3f}" if p_value >= 0.001 else "< 0.001"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a GitHub table: the first column reads from the left, the others from the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))
