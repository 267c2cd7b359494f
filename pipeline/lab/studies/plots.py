"""Draws what a study found, in one style; matplotlib is an optional dependency."""

from importlib import import_module
from io import BytesIO
from textwrap import wrap
from typing import Any

import numpy as np

from pipeline.lab.studies.spread import mean_and_deviation
from pipeline.lab.studies.study import Measure, StudyResult

# Okabe and Ito's colours: told apart by everybody.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
_INK, _FAINT = "#24292f", "#d8dee4"
_SIZE_INCH, _DPI = (7.6, 4.2), 150
_BAR_SPAN, _MOST_VALUES, _LINE_CHARS, _LEAST_CHARS = 0.78, 14, 72, 6
_STYLE = {
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": _INK,
    "axes.titlepad": 34,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.bottom": False,
    "ytick.left": False,
    "text.color": _INK,
}


def load_matplotlib(module: str = "matplotlib") -> Any:  # noqa: ANN401 - much of it is untyped
    """Import a module of matplotlib.

    Raises:
        ModuleNotFoundError: If it is not installed; it comes with the extra ``lab``.
    """
    return import_module(module)


def draw_plot(result: StudyResult) -> bytes:
    """Draw the plotted measures over the settings, and return a PNG file.

    Bars, or a line where the settings are ordered; whiskers and bands are standard deviations over
    seeds, and dots the seeds themselves. What has no value is left out.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed; it comes with the extra ``lab``.
    """
    matplotlib, drawing = load_matplotlib(), load_matplotlib("matplotlib.figure")
    measures = [measure for measure in result.measures if measure.name in result.plotted]
    file = BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure = drawing.Figure(figsize=_SIZE_INCH, dpi=_DPI, layout="constrained")
        axes = figure.add_subplot()
        axes.set_axisbelow(True)
        axes.grid(axis="y", color=_FAINT, linewidth=0.8)
        for place, measure in enumerate(measures):
            _draw_measure(axes, result, measure, place=place, number=len(measures))
        _frame(axes, result, measures)
        figure.savefig(file, format="png")
    return file.getvalue()


def _frame(axes: Any, result: StudyResult, measures: list[Measure]) -> None:  # noqa: ANN401
    labels = [
        "\n".join(wrap(name, max(_LINE_CHARS // len(result.settings), _LEAST_CHARS)))
        for name in result.settings
    ]
    axes.set_xticks(range(len(labels)), labels)
    margin = 0.35 if result.is_ordered else 0.6
    axes.set_xlim(-margin, len(labels) - 1 + margin)
    axes.set_xlabel(result.x_label)
    axes.set_ylabel(measures[0].unit.value if measures else "")
    # Deviations of few seeds reach where no value can lie; the axis is for the values.
    seen = [
        value * measure.unit.scale
        for measure in measures
        for setting in result.settings
        for value in result.values(setting, measure.name).values()
    ]
    lowest, highest = min([0.0, *seen]), max([0.0, *seen])
    room = (highest - lowest) * 0.08 or 1.0
    axes.set_ylim(lowest - room if lowest < 0 else 0.0, highest + room)
    axes.set_title(result.title)
    if measures:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.01, 1.0),
            ncols=len(measures),
            frameon=False,
            handlelength=1.0,
            borderaxespad=0.2,
        )


def _draw_measure(
    axes: Any,  # noqa: ANN401 - matplotlib's own are untyped
    result: StudyResult,
    measure: Measure,
    *,
    place: int,
    number: int,
) -> None:
    colour, scale = _COLOURS[place % len(_COLOURS)], measure.unit.scale
    width = _BAR_SPAN / number
    shift = 0.0 if result.is_ordered else (place - (number - 1) / 2) * width
    told: list[tuple[float, float, float]] = []
    for x, setting in enumerate(result.settings):
        values = result.values(setting, measure.name)
        found = mean_and_deviation(values)
        if found is None:
            continue
        told.append((x + shift, found[0] * scale, (found[1] or 0.0) * scale))
        seeds = np.array(list(values.values())) * scale
        apart = (np.arange(len(seeds)) - (len(seeds) - 1) / 2) * width * 0.12
        ink = colour if result.is_ordered else _INK
        axes.scatter(x + shift + apart, seeds, s=9, color=ink, alpha=0.55, linewidths=0, zorder=4)
    xs, means, spreads = np.array(told).reshape(-1, 3).T
    if result.is_ordered:
        axes.plot(xs, means, marker="o", color=colour, linewidth=2.2, label=measure.name, zorder=3)
        axes.fill_between(
            xs, means - spreads, means + spreads, color=colour, alpha=0.15, linewidth=0
        )
    else:
        axes.bar(xs, means, width * 0.92, color=colour, label=measure.name, zorder=2)
        whisker = {"ecolor": _INK, "elinewidth": 1.0, "capsize": 2.5, "fmt": "none", "zorder": 3}
        axes.errorbar(xs, means, spreads, **whisker)
    if number * len(result.settings) <= _MOST_VALUES or place == 0:
        for x, mean, spread in zip(xs, means, spreads, strict=True):
            axes.annotate(
                f"{mean:.1f}",
                (x, mean if result.is_ordered else max(mean + spread, 0.0)),
                xytext=(0, 7 if result.is_ordered else 4),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                zorder=5,
            )
