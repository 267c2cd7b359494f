"""What exemplars are good for: a phrase alone, with boxes of some of its objects, and boxes alone.

As in the paper's table of exemplars: positive boxes from the truth for concepts that are there, and
none for those that are not, whose answers are those of the phrase alone.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from connectors.world.compose import WorldFrame, WorldObject
from models.protocols import ConceptDetector, ConceptQuery, ConceptResult, ExemplarBox
from pipeline.lab.detector import build_image_detector
from pipeline.lab.evaluation.held_out import HELD_OUT_SEED, Question, is_counted
from pipeline.lab.evaluation.images import judge
from pipeline.lab.metrics.overlap import Mask, QuestionScore, concept_scores
from pipeline.lab.studies.pictures import compare_both_ways, drawn, settings_of, told
from pipeline.lab.studies.score_book import GATED, ScoreBook
from pipeline.lab.studies.study import Measure, Point, StudyContext, StudyResult

# Of most phrases a scene has one object, so that there is nothing for a second box to show.
CROWDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompting:
    """One way to say what is meant.

    Attributes:
        name: Its setting.
        has_phrase: Whether the phrase is said.
        num_boxes: Most boxes that are shown; fewer where there are fewer objects.
    """

    name: str
    has_phrase: bool
    num_boxes: int

    def query(self, phrase: str, boxes: Sequence[ExemplarBox]) -> ConceptQuery:
        """Return the query for a concept with these boxes to choose from, first ones first."""
        return ConceptQuery(
            phrase=phrase if self.has_phrase else None, exemplars=tuple(boxes[: self.num_boxes])
        )


TEXT = Prompting(name="text", has_phrase=True, num_boxes=0)
TEXT_1 = Prompting(name="text + 1 box", has_phrase=True, num_boxes=1)
TEXT_3 = Prompting(name="text + 3 boxes", has_phrase=True, num_boxes=3)
PROMPTINGS = (
    TEXT,
    TEXT_1,
    TEXT_3,
    Prompting(name="1 box alone", has_phrase=False, num_boxes=1),
    Prompting(name="3 boxes alone", has_phrase=False, num_boxes=3),
)
# Objects that are shown by no box of any compared prompting: its name, and how many are left out.
_OTHERS = {"pmF1 of all but 1": 1, "pmF1 of all but 3": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A question with the objects that may be shown, in the order in which they are."""

    question: Question
    shown: tuple[WorldObject, ...]

    @property
    def boxes(self) -> list[ExemplarBox]:
        return [ExemplarBox(box_xyxy=box_of(thing.visible_mask)) for thing in self.shown]


def run(context: StudyContext) -> StudyResult:
    """Ask every question in every way."""
    return measure(build_image_detector(context.model), context)


def measure(detector: ConceptDetector, context: StudyContext) -> StudyResult:
    """Study a detector."""
    settings = settings_of(context)
    if settings.world.wide_split is not None:
        settings = replace(settings, crowd_probability=CROWDS)
    book = ScoreBook()
    others: dict[tuple[str, int, str], list[QuestionScore]] = defaultdict(list)
    for seed, index, frame, questions in drawn(context, settings):
        asked = _choose(frame, questions, np.random.default_rng((HELD_OUT_SEED, seed, index)))
        for prompting, results in _ask(detector, frame, asked).items():
            book.add(prompting.name, seed, _scores(frame, asked, results))
            for name, number in _OTHERS.items():
                if prompting.num_boxes <= number:
                    place = prompting.name, seed, name
                    others[place] += _scores(frame, asked, results, left_out=number)
    crowds = "" if settings.crowd_probability is None else " All scenes are crowds of few kinds."
    result = StudyResult(
        name="exemplars",
        title="Exemplars: boxes that show what is meant",
        settings=tuple(prompting.name for prompting in PROMPTINGS),
        x_label="prompt",
        points=tuple(_with_others(point, others) for point in book.points()),
        plotted=GATED,
        note=f"{told(settings)}{crowds} Boxes are of the truth, of objects chosen at random, or of "
        "all if there are not as many; concepts that are not there get none, so that boxes alone "
        'have no negatives. "All but" leaves out what is shown, in every row that it is given for, '
        "and asks for the others.",
    )
    steps = ((TEXT.name, TEXT_1.name), (TEXT_1.name, TEXT_3.name), (TEXT.name, TEXT_3.name))
    return replace(result, comparisons=compare_both_ways(book, result, steps))


def box_of(mask: Mask) -> tuple[float, float, float, float]:
    """Return the box x0, y0, x1, y1 of a mask that is not empty, as shares of its (H, W)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    return (
        float(columns[0] / width),
        float(rows[0] / height),
        float((columns[-1] + 1) / width),
        float((rows[-1] + 1) / height),
    )


def _choose(
    frame: WorldFrame, questions: Sequence[Question], rng: np.random.Generator
) -> list[_Asked]:
    """Put the counted objects of each question in random order."""
    found: list[_Asked] = []
    for question in questions:
        things = [t for t in frame.objects if t.concept == question.concept and is_counted(t)]
        shown = tuple(things[int(place)] for place in rng.permutation(len(things)))
        found.append(_Asked(question=question, shown=shown))
    return found


def _ask(
    detector: ConceptDetector, frame: WorldFrame, asked: Sequence[_Asked]
) -> dict[Prompting, list[ConceptResult | None]]:
    """Ask everything in one pass; ``None`` where nothing can be said without a phrase."""
    queries: dict[tuple[Prompting, int], ConceptQuery] = {}
    for place, one in enumerate(asked):
        for prompting in PROMPTINGS if one.shown else (TEXT,):
            queries[prompting, place] = prompting.query(one.question.phrase, one.boxes)
    found = dict(zip(queries, detector.detect(frame.pixels, list(queries.values())), strict=True))
    return {
        prompting: [
            found.get((prompting, place), found[TEXT, place] if prompting.has_phrase else None)
            for place in range(len(asked))
        ]
        for prompting in PROMPTINGS
    }


def _scores(
    frame: WorldFrame,
    asked: Sequence[_Asked],
    results: Sequence[ConceptResult | None],
    *,
    left_out: int = 0,
) -> list[QuestionScore]:
    """Judge what was answered; with ``left_out``, only where other objects remain."""
    return [
        judge(
            frame,
            one.question,
            result,
            left_out=[thing.object_id for thing in one.shown[:left_out]],
        ).score
        for one, result in zip(asked, results, strict=True)
        if result is not None and len(one.shown) >= (left_out + 1 if left_out else 0)
    ]


def _with_others(
    point: Point, others: Mapping[tuple[str, int, str], Sequence[QuestionScore]]
) -> Point:
    more: list[Measure] = []
    for name in _OTHERS:
        scores = others.get((point.setting, point.seed, name), ())
        value = concept_scores(scores).positive_micro_f1 if scores else None
        more.append(Measure(name=name, value=value, count=sum(s.num_truth for s in scores)))
    return replace(point, measures=(*point.measures, *more))
