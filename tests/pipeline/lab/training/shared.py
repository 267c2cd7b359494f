"""One of several processes of a run; started by torchrun in a test."""

import sys
from pathlib import Path

from pipeline.lab.training.distributed import join_processes
from tests.pipeline.lab.training.runs import recipe, run, stage


def main():
    with join_processes("cpu") as group:
        run(recipe(stage()), Path(sys.argv[1]), group=group)
