"""Side-by-side timing: two ways to the same result, in turns, and where the time of ours goes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from torch.utils.hooks import RemovableHandle

Run = Callable[[], object]
FEWEST_ROUNDS = 5


def _attention_flop(query, key, value, *_, out_shape=None, **__) -> int:
    return sdpa_flop_count(query, key, value)


# The counter knows the attention of accelerators, not that of CPUs.
ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One comparison. ``parts`` of ``module`` are told apart where ours is taken to pieces."""

    model: str
    step: str
    ours: Run
    theirs: Run
    module: nn.Module
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Medians in seconds, and how many GFLOP ours takes (one multiply-add is two)."""

    model: str
    step: str
    ours_s: float
    theirs_s: float
    gflop: float
    rounds: int

    @property
    def ratio(self) -> float:
        """Time of ours in times of theirs."""
        return self.ours_s / self.theirs_s

    @property
    def gflop_per_s(self) -> float:
        """Rate of ours."""
        return self.gflop / self.ours_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one submodule of ours takes in one run."""

    model: str
    step: str
    part: str
    seconds: float
    gflop: float


def compare(case: Case, *, seconds: float) -> Timing:
    """Run both in turns for so long, at least five rounds; first once each to warm up."""
    case.ours()
    case.theirs()
    times: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while len(times) < FEWEST_ROUNDS or time.perf_counter() < end:
        # Who goes first changes, so that neither always finds the caches warm.
        pair = (case.ours, case.theirs) if len(times) % 2 else (case.theirs, case.ours)
        first, second = _seconds(pair[0]), _seconds(pair[1])
        times.append((first, second) if len(times) % 2 else (second, first))
    return Timing(
        model=case.model,
        step=case.step,
        ours_s=median(ours for ours, _ in times),
        theirs_s=median(theirs for _, theirs in times),
        gflop=count_flop(case.ours) / 1e9,
        rounds=len(times),
    )


def take_apart(case: Case) -> list[Part]:
    """Time the named submodules of ours in runs of their own; means."""
    seconds = _spent(case, time.perf_counter, FEWEST_ROUNDS)
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        flop = _spent(case, counter.get_total_flops, 1)
    return [
        Part(
            model=case.model,
            step=case.step,
            part=name,
            seconds=seconds[name],
            gflop=flop[name] / 1e9,
        )
        for name in case.parts
    ]


def count_flop(run: Run) -> int:
    """FLOP of one run."""
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        run()
    return counter.get_total_flops()


def _spent(case: Case, meter: Callable[[], float], rounds: int) -> dict[str, float]:
    """By how much the meter moves inside each part in a round."""
    spent = dict.fromkeys(case.parts, 0.0)
    handles: list[RemovableHandle] = []

    def start(name: str) -> None:
        spent[name] -= meter()

    def stop(name: str) -> None:
        spent[name] += meter()

    for name in case.parts:
        part = case.module.get_submodule(name)
        handles += [
            part.register_forward_pre_hook(lambda *_, name=name: start(name)),
            part.register_forward_hook(lambda *_, name=name: stop(name)),
        ]
    for _ in range(rounds):
        case.ours()
    for handle in handles:
        handle.remove()
    return {name: total / rounds for name, total in spent.items()}


def _seconds(run: Run) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def machine() -> dict[str, str | int]:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "cpu")
    return {"cpu": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
