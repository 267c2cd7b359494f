"""``make bench-models``: our models beside transformers', same weights, same threads, in turns."""

import argparse
import json
from dataclasses import asdict

import torch
from rich.console import Console
from rich.table import Table

from tests.benchmarks.families import all_cases
from tests.benchmarks.timing import Part, Timing, compare, machine, take_apart


def main() -> None:
    """Measure and print; one line of JSON for each row with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="published sizes too: an hour or more")
    parser.add_argument("--only", help="models whose name contains this")
    parser.add_argument("--seconds", type=float, default=5.0, help="least time of a comparison")
    parser.add_argument("--json", action="store_true", help="lines of JSON instead of tables")
    options = parser.parse_args()
    console = Console()
    timings: list[Timing] = []
    parts: list[Part] = []
    with torch.inference_mode():
        for case in all_cases(full=options.full, only=options.only):
            timing = compare(case, seconds=options.seconds)
            timings.append(timing)
            parts += take_apart(case)
            if not options.json:
                console.print(f"{case.model} {case.step}: {timing.ratio:.2f}")
    if options.json:
        for timing in timings:
            rates = {"ratio": timing.ratio, "gflop_per_s": timing.gflop_per_s}
            console.print_json(json.dumps({**machine(), **asdict(timing), **rates}), indent=None)
        for part in parts:
            console.print_json(json.dumps(asdict(part)), indent=None)
        return
    console.print(_timing_table(timings), _part_table(parts))


def _timing_table(timings: list[Timing]) -> Table:
    table = Table(title="ours beside transformers: " + ", ".join(map(str, machine().values())))
    for heading in ("model", "step", "ours s", "theirs s", "ours / theirs", "GF", "GF/s"):
        table.add_column(heading, justify="left" if heading in ("model", "step") else "right")
    for t in timings:
        figures = (f"{t.ours_s:.4f}", f"{t.theirs_s:.4f}", f"{t.ratio:.2f}")
        table.add_row(t.model, t.step, *figures, f"{t.gflop:.2f}", f"{t.gflop_per_s:.0f}")
    return table


def _part_table(parts: list[Part]) -> Table:
    table = Table(title="where the time of ours goes")
    for heading in ("model", "step", "part", "s", "GF", "GF/s"):
        table.add_column(heading, justify="right" if heading in ("s", "GF", "GF/s") else "left")
    for p in parts:
        rate = p.gflop / p.seconds if p.seconds else 0.0
        table.add_row(p.model, p.step, p.part, f"{p.seconds:.4f}", f"{p.gflop:.2f}", f"{rate:.0f}")
    return table


if __name__ == "__main__":
    main()
