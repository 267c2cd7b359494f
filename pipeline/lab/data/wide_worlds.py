"""Held-out pictures and clips of the wide world, in the form in which the others are measured.

What is asked is drawn with the world's own phrases. In the truth of the frames, every object bears
the phrase that covers it for its concept, so that no two questions share an object; what no
question covers is left out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from connectors.world.compose import WorldFrame
from connectors.world.config import Split
from connectors.world.wide.casting import WideContent
from connectors.world.wide.phrases import PhraseKind, Verdict, covered_concepts, is_held_out
from connectors.world.wide.questions import Asked, WideQuestion, draw_wide_questions
from connectors.world.wide.scene import WideConfig, WideWorld
from pipeline.lab.evaluation.held_out import Gathering, Phrasing, Question, held_out_world_seed

_EMPTY_PROBABILITY = 0.05
_QUESTIONS = 8
_PHRASINGS = {
    Asked.WRONG_LOOK: Phrasing.WRONG_LOOK,
    Asked.LOOK_ALIKE: Phrasing.LOOK_ALIKE,
    Asked.OTHER: Phrasing.OTHER_CONCEPT,
    Asked.FOREIGN: Phrasing.FOREIGN,
}
_WORDINGS = {
    PhraseKind.NAME: Phrasing.NAME,
    PhraseKind.SYNONYM: Phrasing.SYNONYM,
    PhraseKind.KIND: Phrasing.KIND,
    PhraseKind.ATTRIBUTE: Phrasing.ATTRIBUTE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedWorld:
    """A wide world whose objects bear the phrases that cover them.

    Attributes:
        world: What is seen.
        asked: The phrase that covers an object, by its id.
    """

    world: WideWorld
    asked: Mapping[int, str]

    @property
    def num_frames(self) -> int:
        """How many frames the scene lasts."""
        return self.world.num_frames

    def render(self, index: int) -> WorldFrame:
        """Draw frame ``index``; see :meth:`WideWorld.render`."""
        return _relabelled(self.world.render(index), self.asked)


def held_out_content(split: Split) -> WideContent:
    """Return what held-out scenes hold."""
    return WideContent(split=split, min_objects=2, empty_probability=_EMPTY_PROBABILITY)


def draw_wide_picture(
    rng: np.random.Generator, *, content: WideContent, width: int, height: int
) -> tuple[WorldFrame, list[Question]]:
    """Return a picture of a scene of its own, and what to ask about it."""
    world = _draw_world(rng, content=content, size_wh=(width, height), fps=10.0, duration_s=20.0)
    # Casts of a scene follow one another about every 10 s; this is where most of one is on stage.
    frame = world.render(int(rng.uniform(10.5, 11.5) * world.config.fps))
    asked, questions = _ask(rng, [frame], content.split)
    return _relabelled(frame, asked), questions


def draw_wide_clip(
    rng: np.random.Generator,
    *,
    split: Split,
    size_wh: tuple[int, int],
    fps: float,
    duration_s: float,
) -> tuple[AskedWorld, list[Question]]:
    """Return a clip of a scene of its own, and what to look for in it."""
    content = held_out_content(split)
    world = _draw_world(rng, content=content, size_wh=size_wh, fps=fps, duration_s=duration_s)
    frames = (world.render(index) for index in range(world.num_frames))
    asked, questions = _ask(rng, frames, split)
    return AskedWorld(world=world, asked=asked), questions


def _draw_world(
    rng: np.random.Generator,
    *,
    content: WideContent,
    size_wh: tuple[int, int],
    fps: float,
    duration_s: float,
) -> WideWorld:
    return WideWorld(
        WideConfig(
            seed=held_out_world_seed(rng),
            width=size_wh[0],
            height=size_wh[1],
            fps=fps,
            duration_s=duration_s,
            content=content,
        )
    )


def _relabelled(frame: WorldFrame, asked: Mapping[int, str]) -> WorldFrame:
    things = tuple(
        replace(thing, concept=asked[thing.object_id])
        for thing in frame.objects
        if thing.object_id in asked
    )
    return replace(frame, objects=things)


def _ask(
    rng: np.random.Generator, frames: Iterable[WorldFrame], split: Split
) -> tuple[dict[int, str], list[Question]]:
    gathered = Gathering()
    for frame in frames:
        gathered.add(frame)
    asked: dict[int, str] = {}
    questions: list[Question] = []
    for one in draw_wide_questions(rng, gathered.view(), split=split, number=_QUESTIONS):
        covered = {
            number
            for number, thing in gathered.best.items()
            if one.phrase.verdict(thing, is_night=gathered.is_night) is Verdict.YES
        }
        if covered & asked.keys():
            continue
        asked |= dict.fromkeys(covered, one.phrase.text)
        questions.append(_to_question(one))
    return asked, questions


def _to_question(one: WideQuestion) -> Question:
    phrasing = _PHRASINGS.get(one.asked) or _WORDINGS[one.phrase.kind]
    named = covered_concepts(one.phrase.noun)
    return Question(
        phrase=one.phrase.text,
        concept=one.phrase.text,
        phrasing=Phrasing.HELD_OUT if is_held_out(one.phrase) else phrasing,
        listed_as=named[0].group if named else "",
    )
