"""Training runs so small that a test can finish one."""

from dataclasses import replace

import torch

from connectors.world.still import StillConfig
from models.catalogue import NANO_FOLDER, VOCABULARY_FILE
from models.sam3.network.config import RefinerConfig
from models.sam3.network.model import Sam3
from models.sam3.tokenizer import Tokenizer
from pipeline.lab.training.backbone_task import BackboneTask
from pipeline.lab.training.clips import WorldClips
from pipeline.lab.training.detector_task import DetectorTask
from pipeline.lab.training.distributed import ProcessGroup
from pipeline.lab.training.loop import TrainingRun, train
from pipeline.lab.training.pictures import WorldPictures
from pipeline.lab.training.recipe import Recipe, Stage
from pipeline.lab.training.refiner_task import RefinerTask
from pipeline.lab.training.report import Reporter
from pipeline.lab.training.tracker_task import TrackerTask
from tests.models.tiny import TINY

SIZE, GRID = 56, 16
STILLS = StillConfig(max_objects=3)
CONFIG = replace(
    TINY,
    tracker=replace(
        TINY.tracker,
        image_size=SIZE,
        hidden_dim=16,
        memory_dim=16,
        num_heads=2,
        mask_decoder_mlp_dim=16,
        iou_head_dim=16,
        memory_attention_layers=1,
        memory_attention_mlp_dim=16,
        memory_fuser_dim=16,
    ),
    refiner=RefinerConfig(side=16, fine_dim=8, coarse_dim=8, full_dim=4),
)
TASKS = {
    "backbone": BackboneTask(source=WorldPictures(config=STILLS), patch_size=14),
    "detector": DetectorTask(source=WorldPictures(config=STILLS), patch_size=14),
    "tracker": TrackerTask(source=WorldClips(config=STILLS), patch_size=14),
    "refiner": RefinerTask(source=WorldPictures(config=STILLS)),
}
ALONE = ProcessGroup(rank=0, size=1, device=torch.device("cpu"))


def tokenizer():
    return Tokenizer(NANO_FOLDER / VOCABULARY_FILE, context_length=16, vocab_size=1024)


def stage(name="s", **fields):
    given = {"steps": 2, "images": 2, "frames": 3, "lr_start": 1e-3, "lr_end": 5e-4} | fields
    return Stage(name=name, image_size=SIZE, **given)


def recipe(*stages, **fields):
    given = {"warmup_steps": 2, "checkpoint_every": 1, "picture_every": 0} | fields
    return Recipe(stages=stages, **given)


def make_model(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Sam3(CONFIG)


def run(plan, out, *, group=ALONE, is_fresh=True):
    """Train; a run in a folder that holds a state goes on from it."""
    training = TrainingRun(
        recipe=plan,
        make_model=make_model,
        tokenizer=tokenizer(),
        tasks=TASKS,
        out=out,
        group=group,
        is_fresh=is_fresh,
    )
    report = Reporter(out=out, panel=lambda model, stage: [], is_quiet=not group.is_leader)
    train(training, report)
    report.end()
