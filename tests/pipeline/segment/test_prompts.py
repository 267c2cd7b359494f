"""The flags of ``segment``: what is understood, and what is told about the rest."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.segment.prompts import (
    BoxPrompt,
    PointPrompt,
    PromptFlags,
    PromptKind,
    Prompts,
    parse_prompts,
)

PX = st.floats(-1e6, 1e6)
SIZE = st.floats(1e-3, 1e6)


def problems_of(**flags):
    with pytest.raises(ConfigError) as caught:
        parse_prompts(PromptFlags(**flags))
    return caught.value.problems


def test_phrases_and_exemplars_are_read():
    asked = parse_prompts(
        PromptFlags(concepts=[" red  deer "], exemplars=["1,2, 3,4", "5,6,7.5,8,neg"])
    )
    assert asked.concepts == ("red deer",)
    assert asked.exemplars == (
        BoxPrompt(x=1, y=2, width=3, height=4),
        BoxPrompt(x=5, y=6, width=7.5, height=8, is_positive=False),
    )
    assert asked.kind is PromptKind.CONCEPT


@given(PX, PX, st.sampled_from(["", ",neg", ",NEG", ",pos"]))
def test_points_are_read(x, y, sign):
    [point] = parse_prompts(PromptFlags(points=[f"{x},{y}{sign}"])).points
    assert point == PointPrompt(x=x, y=y, is_positive="neg" not in sign.lower())


@given(PX, PX, SIZE, SIZE)
def test_boxes_are_read(x, y, width, height):
    asked = parse_prompts(PromptFlags(boxes=[f"{x},{y},{width},{height}"]))
    assert asked.boxes == (BoxPrompt(x=x, y=y, width=width, height=height),)
    assert asked.boxes[0].xyxy == (x, y, x + width, y + height)
    assert asked.kind is PromptKind.OBJECT


def test_a_phrase_twice_is_one_question():
    assert parse_prompts(PromptFlags(concepts=["deer", "car", "deer "])).concepts == ("deer", "car")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"points": ["10;20"]}, "--point: bad value '10;20' (accepted: x,y in px"),
        ({"points": ["10"]}, "--point: bad value '10'"),
        ({"points": ["1,2,3"]}, "--point: bad value '1,2,3'"),
        ({"points": ["nan,2"]}, "--point: bad value 'nan,2'"),
        ({"points": ["neg"]}, "--point: bad value 'neg'"),
        ({"points": [""]}, "--point: bad value ''"),
        ({"boxes": ["1,2,3"]}, "--box: bad value '1,2,3' (accepted: x,y,w,h in px"),
        ({"boxes": ["1,2,0,4"]}, "width and height above 0"),
        ({"boxes": ["1,2,3,-4"]}, "width and height above 0"),
        ({"boxes": ["1,2,3,4,neg"]}, "--box: bad value '1,2,3,4,neg'"),
        ({"boxes": ["1,2,3,inf"]}, "--box: bad value"),
        ({"exemplars": ["1,2,3,4,maybe"]}, "--exemplar: bad value '1,2,3,4,maybe'"),
        ({"concepts": ["  "]}, "--concept: bad value '  ' (accepted: a noun phrase"),
        ({}, "nothing is asked (accepted: --concept and --exemplar, or --point"),
        ({"concepts": ["deer"], "points": ["1,2"]}, "cannot be answered at once"),
        ({"is_everything": True, "points": ["1,2"]}, "cannot be answered at once"),
        ({"is_everything": True, "mask": Path("a.png")}, "cannot be answered at once"),
        ({"concepts": ["deer", "car"], "exemplars": ["1,2,3,4"]}, "accepted: one --concept"),
        ({"exemplars": ["1,2,3,4,neg"]}, "accepted: a --concept with it, or one without ,neg"),
        ({"boxes": ["1,2,3,4"] * 2, "points": ["1,2"]}, "accepted: one --box with them"),
        ({"boxes": ["1,2,3,4"] * 2, "mask": Path("a.png")}, "accepted: one --box with them"),
    ],
)
def test_what_makes_no_sense_is_told_with_what_is_accepted(flags, told):
    [problem] = problems_of(**flags)
    assert told in problem


def test_every_malformed_flag_is_told_at_once():
    assert len(problems_of(concepts=[""], points=["a,b", "1,2", "3"], boxes=["x"])) == 4


@pytest.mark.parametrize(
    ("prompts", "kind"),
    [
        (Prompts(concepts=("deer",)), PromptKind.CONCEPT),
        (Prompts(mask=Path("a.png")), PromptKind.OBJECT),
        (Prompts(is_everything=True), PromptKind.EVERYTHING),
    ],
)
def test_kind_says_how_is_asked(prompts, kind):
    assert prompts.kind is kind
