import cv2
import numpy as np
import pytest

from pipeline.lab.studies.plots import draw_plot
from pipeline.lab.studies.study import StudyResult
from tests.pipeline.lab.studies.makers import make_result

VALUES = {"old": {0: 0.4, 1: 0.5}, "new": {0: 0.7, 1: 0.8}, "none": {0: None}}
BLUE = (178, 114, 0)


def read(result: StudyResult) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(draw_plot(result), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels


def blue_columns(pixels: np.ndarray) -> np.ndarray:
    """How much of each column of the picture is of the first measure's colour."""
    return (pixels == BLUE).all(2).sum(0)


def test_bars_are_as_high_as_their_values() -> None:
    pixels = read(make_result(VALUES))
    height, width = pixels.shape[:2]
    assert (width, height) == (1140, 630)
    # The legend's square is the leftmost of all; bars are in thirds of the axes, the last is empty.
    columns = blue_columns(pixels[150:])
    left, middle, right = np.array_split(columns[100:], 3)
    assert left.max() / middle.max() == pytest.approx(0.45 / 0.75, abs=0.02)
    assert right.max() == 0


def test_steps_of_a_scale_are_joined() -> None:
    columns = blue_columns(read(make_result(VALUES, is_ordered=True))[150:])
    between = columns[columns.nonzero()[0][0] : columns.nonzero()[0][-1] + 1]
    assert between.all()


@pytest.mark.parametrize("values", [{"old": {0: None}}, {"old": {0: 0.0, 1: 0.0}}, {"old": {}}])
@pytest.mark.parametrize("is_ordered", [False, True])
def test_nothing_to_show_is_an_empty_plot(values, is_ordered) -> None:
    pixels = read(make_result(values, is_ordered=is_ordered))
    assert pixels.std() > 0
