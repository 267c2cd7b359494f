import numpy as np

from pipeline.lab.evaluation.held_out import Phrasing, Question
from pipeline.lab.evaluation.images import Answer
from pipeline.lab.metrics.average_precision import RankedAnswer
from pipeline.lab.metrics.overlap import score_question
from pipeline.lab.studies.size import NAMES, split_by_size


def make_answer(ious, *, scores, areas, truth_areas) -> Answer:
    return Answer(
        question=Question(phrase="deer", concept="deer", phrasing=Phrasing.NAME),
        truth=(),
        detections=(),
        score=score_question(np.array(ious)),
        ranked=RankedAnswer(
            scores=scores,
            ious=np.array(ious, dtype=np.float64).reshape(len(scores), len(truth_areas)),
            is_crowd=[False] * len(truth_areas),
            areas=areas,
            truth_areas=truth_areas,
        ),
    )


def test_pairs_are_of_their_objects_size_and_false_predictions_of_their_own() -> None:
    answer = make_answer(
        # The third is unsure, and the fourth finds nothing.
        [[0.6, 0.0], [0.0, 0.93], [0.0, 0.99], [0.0, 0.0]],
        scores=[0.9, 0.8, 0.4, 0.7],
        areas=[250.0, 1030.0, 1000.0, 70.0**2],
        truth_areas=[15.0**2, 32.0**2],
    )
    by_size = dict(zip(NAMES, split_by_size(answer), strict=True))
    counts = {name: (one.num_truth, one.num_predicted) for name, one in by_size.items()}
    assert counts == {"< 16": (1, 1), "16-32": (0, 0), "32-64": (1, 1), "> 64": (0, 1)}
    assert by_size["< 16"].true_positives == (1, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    assert by_size["32-64"].true_positives == (1,) * 9 + (0,)
    assert by_size["32-64"].matched_ious == (0.93,)


def test_pair_without_overlap_is_a_miss_and_a_false_prediction() -> None:
    answer = make_answer([[0.0]], scores=[0.9], areas=[100.0], truth_areas=[5000.0])
    by_size = split_by_size(answer)
    assert [(one.num_truth, one.num_predicted) for one in by_size] == [
        (0, 1),
        (0, 0),
        (0, 0),
        (1, 0),
    ]
    assert by_size[3].matched_ious == ()


def test_question_without_anything_has_nothing_of_any_size() -> None:
    answer = make_answer(np.zeros((0, 0)), scores=[], areas=[], truth_areas=[])
    assert all(one.is_rightly_empty for one in split_by_size(answer))
