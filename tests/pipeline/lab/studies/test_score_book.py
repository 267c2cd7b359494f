import numpy as np
import pytest
from scipy import stats

from pipeline.lab.metrics.overlap import concept_scores
from pipeline.lab.studies.score_book import ScoreBook, gated_measures
from tests.pipeline.lab.studies.makers import make_question

QUIET, ALARM = (make_question(truth=0, predicted=n, hits=0) for n in (0, 1))
FOUND, MISSED = (make_question(truth=1, predicted=n, hits=n) for n in (1, 0))


def values(questions) -> dict[str, float | None]:
    return {measure.name: measure.value for measure in gated_measures(questions)}


def make_book(number: int, *, seeds=(0, 1)) -> ScoreBook:
    """Pictures of two questions each: "after" misses less than "before"."""
    book = ScoreBook()
    for seed in seeds:
        for index in range(number):
            alarmed = ALARM if index % 4 == 0 else QUIET
            book.add("before", seed, [FOUND if index % 2 else MISSED, alarmed])
            book.add("after", seed, [FOUND if index % 5 else MISSED, alarmed])
    return book


def test_measures_without_questions_of_the_kind_have_no_value() -> None:
    assert set(values([]).values()) == {None}
    assert values([FOUND, MISSED])["cgF1"] is None
    assert values([FOUND, MISSED])["pmF1"] == pytest.approx(2 / 3, abs=1e-3)
    assert values([QUIET, ALARM])["IL_MCC"] is None
    assert values([QUIET, ALARM])["false alarms"] == pytest.approx(0.5, abs=1e-3)
    assert values([FOUND, QUIET])["cgF1"] == pytest.approx(1.0, abs=1e-3)


def test_a_measure_of_a_set_is_that_of_all_its_questions() -> None:
    (before, *_) = make_book(20).points()
    questions = [MISSED, FOUND] * 10 + [ALARM, QUIET, QUIET, QUIET] * 5
    measure = before.measure("cgF1")
    assert measure is not None
    assert measure.value == pytest.approx(concept_scores(questions).cgf1)


def test_bootstrap_agrees_with_scipys_on_the_same_pictures() -> None:
    book, number = make_book(40, seeds=(0,)), 40
    (cgf1, pmf1, il_mcc) = book.compare("before", "after")
    before, after = (book.questions(setting, 0) for setting in ("before", "after"))

    def difference(index) -> float:
        new, old = (concept_scores(q for i in index for q in s[i]) for s in (after, before))
        return new.cgf1 - old.cgf1

    known = stats.bootstrap(
        (np.arange(number),),
        difference,
        vectorized=False,
        method="percentile",
        n_resamples=400,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert cgf1.difference == pytest.approx(difference(range(number)))
    assert (cgf1.low, cgf1.high) == pytest.approx(tuple(known), abs=0.04)
    assert cgf1.p_value is not None
    assert cgf1.p_value < 0.01
    assert [one.measure for one in (cgf1, pmf1, il_mcc)] == ["cgF1", "pmF1", "IL_MCC"]
    assert cgf1.method == "paired bootstrap over 40 pictures"


def test_difference_is_that_of_the_means_over_seeds() -> None:
    book = ScoreBook()
    for seed, better in ((0, FOUND), (1, MISSED)):
        for _ in range(5):
            book.add("before", seed, [MISSED, FOUND, QUIET])
            book.add("after", seed, [better, FOUND, QUIET])
    compared = book.compare("before", "after")[0]
    means = {
        setting: np.mean([p.measure("cgF1").value for p in book.points() if p.setting == setting])
        for setting in ("before", "after")
    }
    assert compared.difference == pytest.approx(means["after"] - means["before"])


def test_equal_answers_differ_by_nothing() -> None:
    book = ScoreBook()
    for setting in ("before", "after"):
        for index in range(10):
            book.add(setting, 0, [FOUND if index % 2 else MISSED, QUIET])
    for compared in book.compare("before", "after"):
        assert (compared.difference, compared.low, compared.high) == (0, 0, 0)
        assert compared.p_value == 1.0


def test_settings_without_a_question_are_not_compared() -> None:
    book = ScoreBook()
    book.add("before", 0, [])
    book.add("after", 0, [])
    assert book.compare("before", "after") == ()
    assert book.compare("before", "unheard of") == ()
