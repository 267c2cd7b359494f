"""Each task learns, teaches every part it should, and draws what its seed says."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from connectors.world.wide.casting import WideContent
from connectors.world.wide.phrases import PHRASES, PhraseKind
from connectors.world.wide.questions import View
from connectors.world.wide.still import render_wide_still
from models.sam3.phrases import VISUAL_PHRASE
from pipeline.lab.training.build import _clips_of, _pictures_of
from pipeline.lab.training.clicks import ClickPlan, Opening, correct, first_prompt
from pipeline.lab.training.clips import WorldClips, make_clips
from pipeline.lab.training.mixed import MixedClips, MixedPictures
from pipeline.lab.training.pictures import (
    NAMES,
    SOFT_SPARE,
    SPARE,
    WorldPictures,
    choose_crops,
    make_batch,
    scene_side,
)
from pipeline.lab.training.recipe import WorldData
from pipeline.lab.training.tracker_task import encode_clips, random_lesson, unroll
from pipeline.lab.training.wide import WidePictures
from tests.pipeline.lab.training.runs import GRID, SIZE, STILLS, TASKS, make_model, stage, tokenizer

# The checkpoints carry these, and the published graph reads none of them.
UNREAD = (
    "detector_model.vision_encoder.neck.fpn_layers.3.",
    "detector_model.mask_decoder.pixel_decoder.conv_layers.2.",
    "detector_model.mask_decoder.pixel_decoder.norms.2.",
    "detector_model.text_encoder.text_projection.",
)


def draw(task, seed, **fields):
    return TASKS[task].draw(np.random.default_rng(seed), stage(task=task, **fields))


def clips(seed, frames=4):
    one = stage(images=2, frames=frames, objects=2)
    return make_clips(np.random.default_rng(seed), WorldClips(config=STILLS), one, grid=GRID)


@pytest.mark.parametrize(
    ("name", "least"), [("backbone", 0.6), ("detector", 0.8), ("tracker", 0.8)]
)
def test_a_fixed_batch_is_learned(name, least):
    task, model, batch = TASKS[name], make_model(), draw(name, 3)
    task.initialise(model, stage(), seed=0)
    learned = [p for n, p in model.named_parameters() if n.startswith(task.learns)]
    optimiser = torch.optim.AdamW(learned, lr=2e-3)
    course = []
    for _ in range(20):
        losses = task.losses(model, tokenizer(), batch, np.random.default_rng(1))
        loss = torch.stack(list(losses.terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        course.append(float(loss.detach()))
    assert min(course[-3:]) < least * course[0]


def test_every_part_of_the_detector_that_takes_part_learns():
    task, model = TASKS["detector"], make_model()
    batch = draw("detector", 3, exemplar_probability=1.0)
    assert batch.exemplars.is_valid.any()
    losses = task.losses(model, tokenizer(), batch, np.random.default_rng(1))
    torch.stack(list(losses.terms.values())).sum().backward()
    named = [(n, p) for n, p in model.named_parameters() if n.startswith(task.learns)]
    idle = {name for name, parameter in named if parameter.grad is None}
    assert {name for name in idle if not name.startswith(UNREAD)} == set()
    assert all(any(name.startswith(part) for name in idle) for part in UNREAD)


def test_boxes_of_other_things_are_shown_as_negative():
    rng = np.random.default_rng(0)
    plan = stage(images=12, exemplar_probability=1.0, negative_exemplar_probability=1.0)
    batch = make_batch(rng, WorldPictures(config=STILLS), plan, places=GRID // 4)
    is_negative = batch.exemplars.is_valid & ~batch.exemplars.is_positive
    has_positive = (batch.exemplars.is_valid & batch.exemplars.is_positive).any(1)
    is_there = torch.tensor([count > 0 for count in batch.targets.counts])
    assert torch.equal(has_positive, is_there)
    corrects = is_negative.any(1)
    assert (corrects & is_there).any()
    assert (corrects & ~is_there).any()  # a false alarm is told by what it is not
    has_phrase = torch.tensor([phrase != VISUAL_PHRASE for phrase in batch.phrases])
    assert bool(has_phrase[~is_there].all())
    assert not has_phrase.all()


def test_strange_words_are_said_of_what_is_shown_and_of_nothing_else():
    plan = stage(images=30, exemplar_probability=0.6, strange_words=1.0, hard_negatives=1.0)
    source = WorldPictures(config=STILLS)
    batch = make_batch(np.random.default_rng(0), source, plan, places=GRID // 4)
    is_shown = (batch.exemplars.is_valid & batch.exemplars.is_positive).any(1).tolist()
    said = {
        shown: {phrase for phrase, one in zip(batch.phrases, is_shown, strict=True) if one == shown}
        for shown in (True, False)
    }
    assert VISUAL_PHRASE in said[True]
    assert said[True] - {VISUAL_PHRASE}
    # They are names of nothing, in neither world.
    known = {text for text, phrase in PHRASES.items() if phrase.kind is not PhraseKind.ABSENT}
    assert not said[True] & (known | NAMES.keys())
    assert not said[False] & said[True]
    # What is there is held against its own names still.
    assert not set(batch.contrast.phrases) & said[True]


@pytest.mark.parametrize(
    "source",
    [
        WorldPictures(config=STILLS),
        WidePictures(content=WideContent()),
        WidePictures(content=WideContent(odd_looks=0.8)),
    ],
)
def test_every_phrase_is_held_against_every_picture(source):
    plan = stage(images=8, questions=4, exemplar_probability=0.0)
    batch = make_batch(np.random.default_rng(0), source, plan, places=GRID // 4)
    truth = batch.contrast
    assert truth.phrases == sorted(set(batch.phrases))
    assert truth.cover.shape == (8, len(truth.phrases), GRID // 4, GRID // 4)
    is_there = truth.cover.flatten(2).amax(-1) > 0
    for n, phrase, count in zip(
        batch.image_index, batch.phrases, batch.targets.counts, strict=True
    ):
        p = truth.phrases.index(phrase)
        assert bool(truth.is_known[n, p])
        assert bool(is_there[n, p]) == (count > 0)
    # Far more is known than was asked.
    assert int(truth.is_known.sum()) > 2 * len(batch.phrases)


@pytest.mark.parametrize(
    "source", [WorldPictures(config=STILLS), WidePictures(content=WideContent())]
)
def test_close_ups_show_one_object_large(source):
    rng = np.random.default_rng(0)
    close = [d for _ in range(10) for d in source.draw(rng, SIZE, stage(close_ups=1.0))]
    far = [d for _ in range(10) for d in source.draw(rng, SIZE, stage())]

    def largest(drawn):
        shares = [m.mean() for q in drawn.questions for m in (*q.masks, *q.others)]
        return max(shares, default=0.0)

    assert len(close) > len(far) == 10
    assert all(drawn.pixels.shape == (SIZE, SIZE, 3) for drawn in close)
    assert np.median([largest(d) for d in close]) > 1.3 * np.median([largest(d) for d in far])


def test_contrast_learns_beside_the_detector():
    task, model = TASKS["detector"], make_model()
    losses = task.losses(
        model, tokenizer(), draw("detector", 3, contrast=2.0), np.random.default_rng(1)
    )
    assert {"place", "picture", "choice"} <= losses.terms.keys()
    assert 0 <= losses.figures["found"] <= 1


def test_close_ups_are_rehearsed_beside_the_detector():
    batch = draw("detector", 5, contrast=0.5, rehearse=6)
    assert batch.close_ups.pixels.shape == (6, SIZE, SIZE, 3)
    assert not batch.close_ups.exemplars.is_valid.any()
    model = make_model()
    rng = np.random.default_rng(0)
    with_them = TASKS["detector"].losses(model, tokenizer(), batch, rng)
    alone = TASKS["backbone"].losses(model, tokenizer(), batch.close_ups, rng)
    without = TASKS["detector"].losses(model, tokenizer(), replace(batch, close_ups=None), rng)
    for name, term in alone.terms.items():
        assert torch.allclose(with_them.terms[f"close_{name}"], 0.5 * term)
    assert with_them.terms.keys() - without.terms.keys() == {f"close_{n}" for n in alone.terms}
    assert with_them.figures["close_found"] == alone.figures["found"]


@pytest.mark.parametrize("task", ["detector", "tracker"])
def test_a_batch_depends_on_its_seed_alone(task):
    first, again, other = draw(task, 1), draw(task, 1), draw(task, 2)
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, other.pixels)


@pytest.mark.parametrize("seed", range(6))
def test_clips_start_in_view_and_tell_when_nothing_shows(seed):
    batch = clips(seed)
    assert batch.pixels.shape == (4 * 2, SIZE, SIZE, 3)
    assert bool(batch.targets[0].is_visible.all())
    assert bool((batch.given.amax((1, 2, 3)) > 0).all())
    for t, target in enumerate(batch.targets):
        assert bool((target.masks[target.is_visible].sum((1, 2)) > 0).all())
        assert torch.equal(batch.frame_index(t), t * 2 + batch.clip_index)


def test_objects_are_lost_from_sight_in_some_clips():
    batches = [clips(seed, frames=6) for seed in range(10)]
    visible = torch.cat([torch.stack([t.is_visible for t in b.targets], 1) for b in batches])
    is_back = (~visible[:, :-1] & visible[:, 1:]).any(1)
    assert 0 < int(is_back.sum()) < len(visible)


def test_every_lesson_can_be_taught():
    model, batch, rng = make_model(), clips(4), np.random.default_rng(0)
    for _ in range(6):
        with torch.no_grad():
            lesson = random_lesson(rng, 4)
            outputs = unroll(model, encode_clips(model, batch), batch, lesson)
        assert all(bool(output.all_mask_logits.isfinite().all()) for output in outputs)


@pytest.mark.parametrize("opening", list(Opening))
def test_prompts_lie_on_the_object_and_clicks_where_the_answer_is_wrong(opening):
    masks = torch.zeros(3, 16, 16)
    for row in range(3):
        masks[row, 2 + row : 9 + row, 4:12] = 1
    rng = np.random.default_rng(0)
    plan = ClickPlan(opening=opening, corrections=1)
    prompts = first_prompt(rng, masks, plan)
    assert (prompts.boxes is None) == (opening is Opening.POINT)
    assert prompts.points.shape[1] == (opening is not Opening.BOX)
    cells = (prompts.points * 16).long()
    for row, points in enumerate(cells):
        assert all(masks[row, y, x] == 1 for x, y in points)
    wrong = correct(rng, prompts, masks, torch.full((3, 1, 16, 16), 5.0))
    cells = (wrong.points[:, -1] * 16).long()
    assert all(masks[row, y, x] == 0 for row, (x, y) in enumerate(cells))
    assert wrong.labels[:, -1].tolist() == [0, 0, 0]


def test_whatever_a_batch_asks_is_answered_as_the_world_would():
    source = WidePictures(content=WideContent(max_objects=6))
    some_named: list[bool] = []
    for seed in range(3):
        one = stage(max_objects=6)
        (drawn,) = source.draw(np.random.default_rng(seed), SIZE, one)
        rng = np.random.default_rng(seed)
        frame = render_wide_still(rng, size=scene_side(rng, SIZE, one), content=source.content)
        (crop,) = choose_crops(rng, frame, SIZE, one)
        cut = [replace(t, visible_mask=crop.cut_mask(t.visible_mask)) for t in frame.objects]
        # Nothing is present to this view, so that only what is not there at all is clear.
        view = View(
            present=(), seen=[t for t in cut if t.visible_mask.any()], is_night=frame.is_night
        )
        absent = {text for text, phrase in PHRASES.items() if view.covered(phrase) == ()}
        assert {text for text in PHRASES if drawn.covered(text) == []} == absent
        some_named.append(len(absent) < len(PHRASES))
    assert any(some_named)


def test_outlines_count_as_a_stage_says():
    task, model = TASKS["detector"], make_model()

    def terms(mask_weight):
        batch = draw("detector", 3, mask_weight=mask_weight)
        return task.losses(model, tokenizer(), batch, np.random.default_rng(1)).terms

    once, thrice = terms(1.0), terms(3.0)
    for name in once:
        factor = 3.0 if name in ("mask_bce", "mask_dice") else 1.0
        assert float(thrice[name].detach()) == pytest.approx(factor * float(once[name].detach()))


@pytest.mark.parametrize("presence", [-2.0, 0.5, 2.0])
def test_a_concept_that_is_there_counts_as_a_stage_says(presence):
    """A bias learns from each missed concept as many times as the weight says."""
    task, model = TASKS["detector"], make_model()
    batch = draw("detector", 3)
    assert 0 < sum(count > 0 for count in batch.targets.counts) < len(batch.targets.counts)
    head = model.detector_model.detr_decoder.presence_head.layer3
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.constant_(head.bias, presence)

    def pull(present_weight):
        weighed = replace(batch, present_weight=present_weight)
        head.bias.grad = None
        terms = task.losses(model, tokenizer(), weighed, np.random.default_rng(1)).terms
        terms["presence"].backward()
        return float(head.bias.grad)

    there = torch.tensor([count > 0 for count in batch.targets.counts])
    missed = pull(3.0) - pull(1.0)
    share = float(there.float().mean())
    layers = len(model.detector_model.detr_decoder.layers)
    weight = task.weights.presence
    expected = -2.0 * weight * layers * share * float(torch.tensor(-presence).sigmoid())
    assert missed == pytest.approx(expected, rel=1e-4)


def test_scenes_are_drawn_sharp_and_soft():
    rng = np.random.default_rng(0)
    sides = {scene_side(rng, 100, stage()) for _ in range(40)}
    assert sides == {round(100 * SOFT_SPARE), round(100 * SPARE)}
    assert scene_side(rng, 100, stage(close_ups=0.5)) > max(sides)


def test_a_recipe_says_how_frequent_crowds_are():
    for crowds, expected in ((0.5, 0.5), (None, WideContent().crowd_probability)):
        data = WorldData(style="wide", crowds=crowds)
        assert _pictures_of(data, lambda data: None).content.crowd_probability == expected
    with pytest.raises(ValueError, match="only the wide world has any"):
        WorldData(style="full", crowds=0.5)


def test_a_recipe_says_how_many_things_look_odd():
    data = WorldData(style="wide", odd_looks=0.4)
    assert _pictures_of(data, lambda data: None).content.odd_looks == 0.4
    assert _clips_of(data, lambda data: None).content.odd_looks == 0.4
    with pytest.raises(ValueError, match="odd_looks: not with style 'full'"):
        WorldData(style="full", odd_looks=0.4)


def test_a_recipe_says_how_frequent_nights_are():
    for style, own in (("wide", WideContent().night_probability), ("plain", 0.0)):
        for wanted, expected in ((0.4, 0.4), (None, own)):
            source = _pictures_of(WorldData(style=style, nights=wanted), lambda data: None)
            drawn = source.content if style == "wide" else source.config
            assert drawn.night_probability == expected


@dataclass(frozen=True)
class Named:
    """A source that says which it is, in place of drawing."""

    name: str

    def draw(self, *given):
        return [self.name]


@pytest.mark.parametrize(
    ("shares", "expected"),
    [((), {"b": 0.25, "c": 0.75}), ((5, 1, 1), {"b": 0.5, "c": 0.5}), ((1, 1, 0), {"b": 1.0})],
)
def test_a_stage_draws_by_its_own_shares_or_else_the_datas(shares, expected):
    # The first of the data has no clips, so it is no source here and its weight counts nothing.
    sources, weights = [(1, Named("b")), (2, Named("c"))], (7.0, 1.0, 3.0)
    one = stage(shares=shares)
    for mixed, given in ((MixedPictures, (SIZE, one)), (MixedClips, (one,))):
        rng = np.random.default_rng(0)
        drawn = [mixed(sources, weights).draw(rng, *given)[0] for _ in range(400)]
        assert {n: drawn.count(n) / 400 for n in set(drawn)} == pytest.approx(expected, abs=0.08)
