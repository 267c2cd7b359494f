import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.sections.model import ModelConfig
from pipeline.lab.studies.spread import compare_seeds
from pipeline.lab.studies.study import Measure, Point, StudyContext, Unit
from pipeline.lab.studies.tables import to_json, to_markdown
from tests.pipeline.lab.studies.makers import make_result

TOY = make_result(
    {"old": {0: 0.4, 1: 0.5}, "new": {0: -0.0001, 1: None}, "none": {}},
    note="Measured on toys.",
)


def test_table_has_means_deviations_and_dashes() -> None:
    assert to_markdown(TOY) == (
        "**A toy**\n\n"
        "| way | n | cgF1 |\n"
        "| --- | ---: | ---: |\n"
        "| old | 20 | 45.0 ± 7.1 |\n"
        "| new | 20 | 0.0 |\n"
        "| none | 0 | – |\n\n"
        "Measured on toys. Mean ± standard deviation over seeds 0, 1; n: "
        "questions, objects or frames in all.\n"
    )


def test_table_of_comparisons_tells_how_sure_it_is() -> None:
    toy = make_result({"old": {0: 0.4, 1: 0.5, 2: 0.6}, "new": {0: 0.5, 1: 0.7, 2: 0.71}})
    compared = compare_seeds(toy, "cgF1", baseline="old", setting="new")
    one = compare_seeds(TOY, "cgF1", baseline="old", setting="new")
    assert compared is not None
    assert one is not None
    sure = replace(compared, p_value=1e-9)
    text = to_markdown(replace(toy, comparisons=(compared, sure, one)))
    rows = [line for line in text.splitlines() if line.startswith("| cgF1 |")]
    assert rows == [
        "| cgF1 | old | new | +13.7 | +0.0 to +27.3 | 0.050 | paired t-test over 3 seeds |",
        "| cgF1 | old | new | +13.7 | +0.0 to +27.3 | < 0.001 | paired t-test over 3 seeds |",
        "| cgF1 | old | new | -40.0 | – | – | paired t-test over 1 seed |",
    ]


def test_other_units_are_named_and_not_scaled() -> None:
    toy = make_result({"old": {}})
    measures = (
        Measure(name="delay", value=12.34, count=5, unit=Unit.MILLISECONDS),
        Measure(name="switches", value=3.0, count=5, unit=Unit.NUMBER),
    )
    point = Point(setting="old", seed=0, measures=measures)
    text = to_markdown(replace(toy, points=(point,)))
    assert "| way | n | delay, ms | switches |" in text
    assert "| old | 5 | 12.3 | 3.0 |" in text


def test_json_holds_every_point() -> None:
    fields = json.loads(to_json(TOY, ModelConfig(checkpoint=Path("a.safetensors"))))
    assert (fields["model"], fields["checkpoint"]) == ("sam3-nano", "a.safetensors")
    assert (fields["seeds"], fields["settings"]) == ([0, 1], ["old", "new", "none"])
    assert fields["points"][0] == {
        "setting": "old",
        "seed": 0,
        "measures": [{"name": "cgF1", "value": 0.4, "count": 10, "unit": "%"}],
    }


def test_result_refuses_points_of_unknown_settings() -> None:
    with pytest.raises(ValueError, match=r"settings \['old'\]; accepted: \('new',\)"):
        make_result({"old": {0: 0.1}}, settings=("new",))


@pytest.mark.parametrize(
    "wrong", [{"seeds": ()}, {"seeds": (1, 1)}, {"seeds": (-1,)}, {"samples": 0}]
)
def test_context_refuses_what_cannot_be_measured(wrong) -> None:
    with pytest.raises(ValueError, match="accepted"):
        StudyContext(model=ModelConfig(), **wrong)
