"""Scores of pictures by setting and seed, and what a study makes of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pipeline.lab.metrics.overlap import Floats, QuestionScore, concept_scores, gated_scores, tally
from pipeline.lab.studies.spread import CONFIDENCE
from pipeline.lab.studies.study import Comparison, Measure, Point

GATED = ("cgF1", "pmF1", "IL_MCC")
_RESAMPLES, _RESAMPLING_SEED = 4000, 0


class _Place(NamedTuple):
    setting: str
    seed: int


@dataclass(slots=True)
class ScoreBook:
    """Collects the scores of each picture's questions.

    For :meth:`compare`, pictures of two settings are pairs by the order in which they were added.
    """

    _pictures: dict[_Place, list[list[QuestionScore]]] = field(
        default_factory=dict[_Place, list[list[QuestionScore]]]
    )

    def add(self, setting: str, seed: int, questions: Iterable[QuestionScore]) -> None:
        """Add a picture with its questions; a picture may have none that counts."""
        self._pictures.setdefault(_Place(setting, seed), []).append(list(questions))

    def questions(self, setting: str, seed: int) -> Sequence[Sequence[QuestionScore]]:
        """Return what was added for a setting and seed, picture by picture."""
        return tuple(self._pictures.get(_Place(setting, seed), ()))

    def points(self) -> tuple[Point, ...]:
        """Return a point with :func:`gated_measures` for each setting and seed."""
        return tuple(
            Point(
                setting=place.setting,
                seed=place.seed,
                measures=gated_measures([one for questions in pictures for one in questions]),
            )
            for place, pictures in self._pictures.items()
        )

    def compare(self, baseline: str, setting: str) -> tuple[Comparison, ...]:
        """Compare two settings on the same pictures, by a paired bootstrap; see :func:`resample`.

        Empty if a setting has no score at all.
        """
        seeds = sorted(place.seed for place in self._pictures if place.setting == baseline)
        pairs = [
            (self._tallies(baseline, seed), self._tallies(setting, seed))
            for seed in seeds
            if _Place(setting, seed) in self._pictures
        ]
        if not any(before.any() or after.any() for before, after in pairs):
            return ()
        return resample(pairs, baseline=baseline, setting=setting)

    def _tallies(self, setting: str, seed: int) -> Floats:
        return np.stack([tally(questions) for questions in self.questions(setting, seed)])


def gated_measures(questions: Sequence[QuestionScore]) -> tuple[Measure, ...]:
    """Return cgF1, its factors, cgF1 at overlap 0.50 and false alarms, where there are any.

    F1 needs a positive question, false alarms a negative one, and the others both.
    """
    scores = concept_scores(questions)
    asked, there = scores.num_questions, scores.num_positive
    is_mixed = 0 < there < asked
    return (
        Measure(name="cgF1", value=scores.cgf1 if is_mixed else None, count=asked),
        Measure(name="cgF1 @ .50", value=scores.cgf1_50 if is_mixed else None, count=asked),
        Measure(name="pmF1", value=scores.positive_micro_f1 if there else None, count=there),
        Measure(name="IL_MCC", value=scores.il_mcc if is_mixed else None, count=asked),
        Measure(
            name="false alarms",
            value=scores.il_fpr if there < asked else None,
            count=asked - there,
        ),
    )


def resample(
    pairs: Sequence[tuple[Floats, Floats]], *, baseline: str, setting: str
) -> tuple[Comparison, ...]:
    """Return what the step from one setting to another does to cgF1 and its factors.

    Paired bootstrap: pictures are drawn with replacement within each seed, the same ones for both
    settings; the measures are those of each seed, averaged. Interval by percentiles; p is twice the
    share of draws whose difference lies on the other side of 0.

    Args:
        pairs: Tallies of the pictures of each seed before and after, each (N, K + 6); see
            :func:`pipeline.lab.metrics.overlap.tally`.
        baseline: Name of the setting before.
        setting: Name of the setting after.
    """
    rng = np.random.default_rng(_RESAMPLING_SEED)
    observed = np.zeros(len(GATED))
    drawn = np.zeros((len(GATED), _RESAMPLES))
    for before, after in pairs:
        number = len(before)
        times = rng.multinomial(number, np.full(number, 1 / number), size=_RESAMPLES)
        observed += _measured(after.sum(0)) - _measured(before.sum(0))
        drawn += _measured(times @ after) - _measured(times @ before)
    observed, drawn = observed / len(pairs), drawn / len(pairs)
    low, high = np.quantile(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), axis=1)
    beyond = np.minimum((drawn <= 0).sum(1), (drawn >= 0).sum(1))
    p_values = np.minimum(2 * (beyond + 1) / (_RESAMPLES + 1), 1)
    pictures = sum(len(before) for before, _ in pairs)
    return tuple(
        Comparison(
            measure=name,
            baseline=baseline,
            setting=setting,
            difference=float(observed[place]),
            low=float(low[place]),
            high=float(high[place]),
            p_value=float(p_values[place]),
            method=f"paired bootstrap over {pictures} pictures",
        )
        for place, name in enumerate(GATED)
    )


def _measured(tallies: Floats) -> Floats:
    scores = gated_scores(tallies)
    return np.stack((scores.cgf1, scores.positive_micro_f1, scores.il_mcc))
