"""Training pictures and clips of the wide world: many concepts, looks, and crowded scenes."""

from dataclasses import dataclass, replace

import numpy as np

from connectors.world.compose import WorldFrame, WorldObject
from connectors.world.wide.casting import WideContent
from connectors.world.wide.phrases import nouns_about, phrase_of
from connectors.world.wide.questions import View, draw_wide_questions
from connectors.world.wide.still import render_wide_clip, render_wide_still
from pipeline.lab.training.clips import FRAME_RATES, Clip, clip_of_films
from pipeline.lab.training.pictures import (
    MIN_VISIBLE_SHARE,
    Crop,
    Drawn,
    Masks,
    Question,
    choose_crops,
    random_spare,
    scene_side,
)
from pipeline.lab.training.recipe import Stage

# An object that shows fewer px of the training picture is neither asked for nor called absent.
MIN_PX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WidePictures:
    """Pictures of the wide world; see :class:`pipeline.lab.training.pictures.PictureSource`."""

    content: WideContent

    def draw(self, rng: np.random.Generator, size: int, stage: Stage) -> list[Drawn]:
        """Draw the pictures of a scene with as many questions as the stage asks."""
        most = min(stage.max_objects, self.content.max_objects)
        content = replace(self.content, max_objects=most)
        frame = render_wide_still(rng, size=scene_side(rng, size, stage), content=content)
        crops = choose_crops(rng, frame, size, stage)
        return [self._ask(rng, frame, crop, stage) for crop in crops]

    def _ask(self, rng: np.random.Generator, frame: WorldFrame, crop: Crop, stage: Stage) -> Drawn:
        seen: list[WorldObject] = []
        present: list[WorldObject] = []
        for thing in frame.objects:
            mask = crop.cut_mask(thing.visible_mask)
            if not mask.any():
                continue
            cut = replace(thing, visible_mask=mask)
            seen.append(cut)
            shown = mask.sum() / (crop.side * crop.side) * (crop.width * crop.height)
            if mask.sum() >= MIN_PX and shown >= MIN_VISIBLE_SHARE * thing.full_mask.sum():
                present.append(cut)
        view = View(present=present, seen=seen, is_night=frame.is_night)
        asked = draw_wide_questions(rng, view, split=self.content.split, number=stage.questions)
        questions = [
            Question(
                phrase=one.phrase.text,
                masks=[t.visible_mask for t in present if t.object_id in one.object_ids],
                others=[t.visible_mask for t in present if t.object_id not in one.object_ids],
            )
            for one in asked
        ]

        about = frozenset[str]().union(*(nouns_about(thing.concept) for thing in seen))

        def covered(phrase: str) -> Masks | None:
            known = phrase_of(phrase)
            if known is not None and known.noun not in about:
                return []  # so it is for nearly every phrase of a batch
            found = view.covered(known) if known is not None else None
            if found is None:
                return None
            return [thing.visible_mask for thing in present if thing.object_id in found]

        return Drawn(pixels=crop.cut(frame.pixels), questions=questions, covered=covered)


@dataclass(frozen=True, slots=True, kw_only=True)
class WideClips:
    """Clips of the wide world; see :class:`pipeline.lab.training.clips.ClipSource`."""

    content: WideContent

    def draw(self, rng: np.random.Generator, stage: Stage) -> Clip:
        """Draw a clip that begins with something to follow."""
        content = replace(self.content, min_objects=2, empty_probability=0.0)
        return clip_of_films(
            rng,
            stage,
            lambda: render_wide_clip(
                rng,
                size=round(stage.image_size * random_spare(rng)),
                num_frames=stage.frames,
                fps=float(rng.choice(FRAME_RATES)),
                content=content,
            ),
        )
