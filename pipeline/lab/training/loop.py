"""The training loop: stages one after another, resumable at every step that was saved."""

import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from models.sam3.network.model import Sam3
from models.sam3.tokenizer import Tokenizer
from models.training.attention import SinglePrecisionAttention
from models.training.lora import add_lora
from pipeline.errors import ConfigError
from pipeline.lab.training.distributed import ProcessGroup
from pipeline.lab.training.optimisers import build_optimisers
from pipeline.lab.training.recipe import Recipe, Stage, TaskName
from pipeline.lab.training.report import Reporter
from pipeline.lab.training.state import MovingAverage, TrainingState, of_another_recipe, saved_phase
from pipeline.lab.training.tasks import Task, learned_names, move
from pipeline.lab.training.weight_metadata import LOG_FILE, notes_of

LOG_EVERY = 20
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# The loss is scaled by this at most, in fp16; after so many steps without overflow a scale that had
# to be halved is doubled again, or small gradients would vanish for good.
FIRST_SCALE, CALM_STEPS = 2.0**12, 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """What stays the same through a run.

    Attributes:
        recipe: What to do.
        make_model: Makes the model with its starting weights; called anew for each phase.
        tokenizer: Of the model.
        tasks: By name.
        out: Folder of checkpoints, log and pictures.
        group: This process among all.
        is_fresh: Whether the model starts from nothing, so that tasks set its starting weights.
        text: The recipe as it was written, for the weights to carry; as JSON when left out.
    """

    recipe: Recipe
    make_model: Callable[[], Sam3]
    tokenizer: Tokenizer
    tasks: Mapping[TaskName, Task[Any]]
    out: Path
    group: ProcessGroup
    is_fresh: bool = True
    text: str | None = None


DrawnBatch = tuple[Any, np.random.Generator]


class _Draws(Dataset[Any]):
    """Batches of one stage by number; each depends on its number alone, so a run can go on."""

    def __init__(self, run: TrainingRun, index: int, begin: int) -> None:
        self._task = run.tasks[run.recipe.stages[index].task]
        self._stage = run.recipe.stages[index]
        self._seed, self._group = run.recipe.seed, run.group
        self._steps = range(begin, run.recipe.start_of(index + 1))

    def __len__(self) -> int:
        return len(self._steps) * self._stage.accumulate

    @override
    def __getitem__(self, number: int) -> DrawnBatch | ConfigError:
        if number >= len(self):
            raise IndexError(number)
        step, part = divmod(number, self._stage.accumulate)
        # Two processes with one batch each see what one process with two batches sees.
        place = part * self._group.size + self._group.rank
        rng = np.random.default_rng((self._seed, self._steps[step], place))
        try:
            return self._task.draw(rng, self._stage), rng
        except ConfigError as error:
            # Raised by a process that prepares batches, it would reach the run as a traceback.
            return error


def train(run: TrainingRun, report: Reporter) -> None:
    """Train from the start, or go on from the state in ``run.out``, to the recipe's end.

    Raises:
        ConfigError: If that state is of another recipe.
    """
    recipe = run.recipe
    phase = saved_phase(run.out)
    if phase is not None and phase >= len(recipe.stages):
        raise of_another_recipe(run.out)
    state = _begin_phase(run, phase or 0, None, resumes=phase is not None)
    report.begin(step=state.step, total=recipe.total_steps)
    while state.step < recipe.total_steps:
        index = recipe.stage_index(state.step)
        if _learns_other(recipe, state.phase, index):
            state = _begin_phase(run, index, state, resumes=False)
        _run_stage(run, state, index, report)
        _save(run, state)


def _learns_other(recipe: Recipe, phase: int, index: int) -> bool:
    """Whether a stage learns other parameters than the stretch of stages before it."""

    def what(stage: Stage) -> tuple[object, ...]:
        return stage.task, stage.train, stage.freeze, stage.lora_rank

    return what(recipe.stages[phase]) != what(recipe.stages[index])


def _begin_phase(
    run: TrainingRun, index: int, before: TrainingState | None, *, resumes: bool
) -> TrainingState:
    """Choose what learns; what the stages before have learned goes on as its average."""
    recipe, stage = run.recipe, run.recipe.stages[index]
    task = run.tasks[stage.task]
    model = run.make_model()
    if before is not None:
        model.load_state_dict(before.averaged())
    is_first = index == 0 or all(s.task != stage.task for s in recipe.stages[:index])
    builds_on_backbone = stage.task == "detector" and any(
        s.task == "backbone" for s in recipe.stages[:index]
    )
    model = model.to(run.group.device)
    if run.is_fresh and is_first and not builds_on_backbone and not resumes:
        task.initialise(model, stage, seed=recipe.seed)
    model.requires_grad_(requires_grad=False)
    names = learned_names([name for name, _ in model.named_parameters()], stage, task)
    if stage.lora_rank:
        with torch.random.fork_rng():
            # Else a run that was resumed, and each of several processes, would begin elsewhere.
            torch.manual_seed(recipe.seed)
            names = add_lora(model, names, rank=stage.lora_rank)
        if not names:
            raise ValueError(
                f"stage {stage.name!r} has lora_rank {stage.lora_rank!r}, and no linear layer "
                "learns in it; accepted: 0"
            )
    learned = {name: p for name, p in model.named_parameters() if name in set(names)}
    for parameter in learned.values():
        parameter.requires_grad = True
    state = TrainingState(
        model=model,
        learned=learned,
        optimisers=build_optimisers(learned, recipe.optimiser, weight_decay=recipe.weight_decay),
        average=MovingAverage(learned, recipe.ema_decay),
        step=before.step if before else 0,
        phase=index,
        scale=FIRST_SCALE if recipe.precision == "fp16" else 1.0,
    )
    if resumes:
        state.resume(run.out)
    return state


def _run_stage(run: TrainingRun, state: TrainingState, index: int, report: Reporter) -> None:
    recipe, stage = run.recipe, run.recipe.stages[index]
    end = recipe.start_of(index + 1)
    loader = DataLoader(
        _Draws(run, index, state.step),
        batch_size=None,
        num_workers=recipe.workers,
        prefetch_factor=4 if recipe.workers else None,
    )
    batches = iter(loader)
    window: dict[str, list[float]] = defaultdict(list)
    while state.step < end:
        began = time.monotonic()
        for name, value in _step(run, state, stage, batches).items():
            window[name].append(value)
        window["seconds"].append(time.monotonic() - began)
        state.step += 1
        if state.step % LOG_EVERY == 0 or state.step == end:
            report.log(state.step, stage, {n: sum(v) / len(v) for n, v in window.items()})
            window.clear()
        if recipe.picture_every and state.step % recipe.picture_every == 0:
            report.show(state.step, stage, state.model)
        if state.step % recipe.checkpoint_every == 0 and state.step < end:
            _save(run, state)


def _save(run: TrainingRun, state: TrainingState) -> None:
    if run.group.is_leader:
        notes = notes_of(run.recipe, run.text, step=state.step, log=run.out / LOG_FILE)
        state.save(run.out, notes)
    run.group.wait()


def _step(
    run: TrainingRun,
    state: TrainingState,
    stage: Stage,
    batches: Iterator[DrawnBatch | ConfigError],
) -> dict[str, float]:
    recipe, device = run.recipe, run.group.device
    rate = recipe.rate_at(state.step)
    state.optimisers.set_rate(rate)
    state.optimisers.zero_grad()
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(stage.accumulate):
        drawn = next(batches)
        if isinstance(drawn, ConfigError):
            raise drawn
        batch, rng = drawn
        with _precision(recipe, device):
            losses = run.tasks[stage.task].losses(
                state.model, run.tokenizer, move(batch, device), rng
            )
        loss = torch.stack([term.float() for term in losses.terms.values()]).sum()
        (loss * (state.scale / stage.accumulate)).backward()
        terms = {name: float(term.detach()) for name, term in losses.terms.items()}
        for name, value in {"loss": float(loss.detach()), **terms, **losses.figures}.items():
            figures[name].append(value)
    run.group.average_gradients(state.learned.values())
    norm = _learn(state, recipe)
    # Not every batch has every figure: an overlap needs something that was found.
    means = {name: sum(values) / len(values) for name, values in figures.items()}
    return {**means, "grad_norm": norm, "lr": rate}


@contextmanager
def _precision(recipe: Recipe, device: torch.device) -> Generator[None]:
    """Compute in the recipe's precision."""
    if recipe.precision not in DTYPES:
        yield
        return
    attention = SinglePrecisionAttention() if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, DTYPES[recipe.precision]), attention:
        yield


def _learn(state: TrainingState, recipe: Recipe) -> float:
    """Take the optimiser's step, unless the gradients are not finite; return their norm."""
    gradients: list[Tensor] = [p.grad for p in state.learned.values() if p.grad is not None]
    for gradient in gradients:
        gradient.div_(state.scale)
    norm = float(torch.nn.utils.clip_grad_norm_(state.learned.values(), recipe.grad_clip))
    if not np.isfinite(norm):
        # fp16 overflowed: a smaller scale will do. Otherwise one spoilt batch is passed over.
        state.scale, state.calm_steps = max(state.scale / 2, 1.0), 0
        return norm
    state.optimisers.step()
    state.average.update(state.learned)
    state.calm_steps += 1
    if state.scale < FIRST_SCALE and recipe.precision == "fp16" and state.calm_steps >= CALM_STEPS:
        state.scale, state.calm_steps = state.scale * 2, 0
    return norm
