"""What weights say of themselves, as lines."""

import json

import pytest

from models.checkpoints.metadata import lines_of_metadata


def test_curves_are_shown_by_their_ends():
    curves = {"find": {"step": [20, 40, 60], "loss": [3.5, None, 1.25], "boxes": [None, 1, 2]}}
    (line,) = lines_of_metadata("curves", json.dumps(curves))
    assert line == "find, steps 20 to 60: loss 3.5 → 1.25, boxes ? → 2"


def test_texts_keep_their_lines_and_long_ones_are_cut():
    assert lines_of_metadata("recipe", "a: 1\n" + "x" * 500) == ["a: 1", "x" * 200 + " …"]


@pytest.mark.parametrize("curves", ["[]", "{}x", '{"a": 1}', '{"a": {}}', "x" * 500])
def test_curves_of_another_program_are_shown_as_text(curves):
    (line,) = lines_of_metadata("curves", curves)
    assert line[:200] == curves[:200]
    assert len(line) <= 202
