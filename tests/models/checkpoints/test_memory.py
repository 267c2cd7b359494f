"""Loading takes no more memory than the weights: measured in a process of its own.

The weights are those of sam1-b, 375 MB: fused, joined and shared ones among them.
"""

import json
import subprocess
import sys

import pytest
import torch

from models.catalogue import Family
from models.checkpoints.recognise import Layout, build_model, keymap_of, of_size
from models.checkpoints.weights import write_safetensors

ALLOWED = 1.15

# Peak of what the process holds while it loads: sampled after each tensor is placed, because the
# system's own high-water mark holds the imports, too.
PROBE = """
import json, re, sys
from pathlib import Path
import torch
from models.checkpoints import recognise as families
from models.checkpoints.checkpoint import open_checkpoint
from models.sam1.model import Sam1

def held():
    text = Path("/proc/self/smaps_rollup").read_text()
    found = dict(re.findall(r"^(Rss|Anonymous):\\s+(\\d+)", text, re.M))
    return [int(found[key]) * 1024 for key in ("Rss", "Anonymous")]

# What torch imports when it is first used is no part of the weights.
small = families.build_model(families.of_size("sam1-b")).to_empty(device="cpu")
torch.ones(4).sum(dtype=torch.float64).to(torch.bfloat16)
del small
peak = before = held()
placed_before = families.place
def place(*args, **kwargs):
    global peak
    placed = placed_before(*args, **kwargs)
    placed.view(-1)[::512].sum()  # every page of it
    peak = [max(a, b) for a, b in zip(peak, held())]
    return placed
families.place = place
checkpoint = open_checkpoint(Path(sys.argv[1]))
told = families.recognise(checkpoint.state, source="x")
model = families.build_model(told)
families.fill(model, checkpoint, told, dtype=getattr(torch, sys.argv[2]))
peak = [max(a, b) for a, b in zip(peak, held())]
print(json.dumps({"peak": [a - b for a, b in zip(peak, before)],
                  "layout": told.layout}))
"""


@pytest.fixture(scope="module")
def state():
    generator = torch.Generator().manual_seed(0)
    model = build_model(of_size("sam1-b"))
    return {
        name: torch.rand(value.shape, generator=generator)
        for name, value in model.state_dict().items()
    }


def measure(path, dtype):
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(path), dtype],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    return json.loads(done.stdout)


def write(state, folder, layout, suffix):
    saved = dict(keymap_of(Family.SAM1, layout).inverse().apply(state))
    path = folder / f"weights{suffix}"
    if suffix == ".safetensors":
        write_safetensors(saved, path)
    else:
        torch.save(saved, path, _use_new_zipfile_serialization=suffix == ".pt")
    return path


CASES = [
    (Layout.OFFICIAL, ".pt", "float32"),
    (Layout.OFFICIAL, ".pth", "float32"),
    (Layout.TRANSFORMERS, ".safetensors", "float32"),
    (Layout.TRANSFORMERS, ".safetensors", "bfloat16"),
    (Layout.OFFICIAL, ".pt", "bfloat16"),
]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
@pytest.mark.parametrize(("layout", "suffix", "dtype"), CASES)
def test_peak_is_that_of_the_weights(tmp_path, state, layout, suffix, dtype):
    path = write(state, tmp_path, layout, suffix)
    told = measure(path, dtype)
    size = sum(value.numel() for value in state.values()) * getattr(torch, dtype).itemsize
    resident, private = told["peak"]
    assert told["layout"] == layout
    assert resident <= ALLOWED * size, f"{resident / size:.2f} of the weights"
    if suffix != ".pth" and dtype == "float32":
        assert private <= 0.15 * size, f"{private / size:.2f} of the weights are private"
