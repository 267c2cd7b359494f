"""The bounded memory bank against an unbounded history that follows the published rules."""

import copy

import numpy as np
import pytest
import torch

from models.sam2.config import TrackerConfig
from models.sam2.memory_bank import QUALITY_THRESHOLD, MemoryBank
from tests.parity.variants import BankByAge

CONFIG = TrackerConfig(hidden_dim=4, memory_dim=2)
FRAMES = 500


def memory(frame):
    return torch.full((2, 1, 1), float(frame)), torch.full((4,), float(frame))


def read(selection):
    """Frames and roles of a selection, as the stored tensors tell them."""
    maps = {(int(m.spatial[0, 0, 0]), m.slot) for m in selection.maps}
    return maps, {(int(p.pointer[0]), p.age) for p in selection.pointers}


def by_quality(conditioning, tracked, time):
    """What an unbounded history gives, walking back as the official tracker does."""
    good = []
    for t in range(time - 1, 0, -1):
        if tracked.get(t, 0.0) > QUALITY_THRESHOLD:
            good.insert(0, t)
        if len(good) >= 15:
            break
    if time - 1 not in good:
        good.append(time - 1)
    chosen = sorted(conditioning, key=lambda t: time - t)[:4]
    maps = {(t, 6) for t in chosen}
    maps |= {(good[-r], r - 1) for r in range(1, 7) if r <= len(good) and good[-r] in tracked}
    pointers = {(t, time - t) for t in chosen}
    pointers |= {(good[-r], r) for r in range(1, 16) if r < len(good) and good[-r] in tracked}
    return maps, pointers


def by_age(conditioning, tracked, time):
    chosen = sorted(conditioning, key=lambda t: time - t)[:4]
    others = set(tracked) | (set(conditioning) - set(chosen))
    maps = {(t, 6) for t in chosen} | {(time - r, r - 1) for r in range(1, 7) if time - r in others}
    pointers = {(t, time - t) for t in chosen}
    return maps, pointers | {(time - r, r) for r in range(1, 16) if time - r in others}


@pytest.mark.parametrize(("build", "rule"), [(MemoryBank, by_quality), (BankByAge, by_age)])
@pytest.mark.parametrize("seed", range(4))
def test_bounded_bank_equals_unbounded_history(build, rule, seed):
    rng, bank = np.random.default_rng(seed), build(CONFIG)
    conditioning, tracked = {0}, {}
    bank.write_conditioning(0, *memory(0))
    for t in range(1, FRAMES):
        assert read(bank.select(t)) == rule(conditioning, tracked, t)
        tracked[t] = float(rng.choice([0.0, 0.0, 0.5, 0.9])) if t % 100 < 60 else 0.0
        bank.write(t, *memory(t), quality=tracked[t])
        if rng.random() < 0.1:  # a detection confirms the object on a frame already tracked
            del tracked[t]
            conditioning.add(t)
            bank.write_conditioning(t, *memory(t))


@pytest.mark.parametrize("num_maps", [1, 3, 7])
@pytest.mark.parametrize("build", [MemoryBank, BankByAge])
def test_short_bank_reads_the_nearest_maps_at_the_usual_positions(build, num_maps):
    whole, short = build(CONFIG), build(CONFIG, num_maps=num_maps)
    for bank in (whole, short):
        for t in range(40):
            bank.write_conditioning(t, *memory(t)) if t % 7 == 0 else bank.write(t, *memory(t))
    maps, pointers = read(short.select(40))
    given = {frame for frame, slot in maps if slot == 6}
    assert given == set(range(35, -1, -7)[: min(num_maps, 4)])
    tracked = read(whole.select(40))[0]
    assert maps - {(t, 6) for t in given} == {m for m in tracked if m[1] < num_maps - 1}
    assert pointers <= read(whole.select(40))[1] | {(t, age) for t, age in pointers if t % 7 == 0}
    assert short.num_bytes <= whole.num_bytes


def test_number_of_maps_must_have_positions():
    for number in (0, 8):
        with pytest.raises(ValueError, match=f"num_maps is {number}"):
            MemoryBank(CONFIG, num_maps=number)


@pytest.mark.parametrize("build", [MemoryBank, BankByAge])
def test_bytes_stop_growing(build):
    bank, sizes = build(CONFIG), []
    for t in range(FRAMES):
        bank.write_conditioning(t, *memory(t)) if t % 16 == 0 else bank.write(t, *memory(t))
        sizes.append(bank.num_bytes)
    spatial, pointer = (m.numel() * m.element_size() for m in memory(0))
    assert max(sizes) <= 11 * spatial + 20 * pointer
    assert max(sizes[100:]) == max(sizes[-32:])


def test_a_bank_does_not_keep_the_batch_its_memory_came_from():
    batch = torch.zeros(100, 2, 1, 1)
    bank = MemoryBank(CONFIG)
    bank.write_conditioning(0, batch[3], torch.zeros(4))
    assert bank.select(1).maps[0].spatial.untyped_storage().nbytes() == 2 * 4


def test_going_back_in_time_is_refused():
    bank = MemoryBank(CONFIG)
    with pytest.raises(ValueError, match="empty"):
        bank.select(0)
    bank.write_conditioning(5, *memory(5))
    with pytest.raises(ValueError, match="5"):
        bank.write(5, *memory(5))
    with pytest.raises(ValueError, match="4"):
        bank.write_conditioning(4, *memory(4))
    with pytest.raises(ValueError, match="5"):
        bank.select(5)


@pytest.mark.parametrize("build", [MemoryBank, BankByAge])
def test_a_copy_and_its_original_know_nothing_of_each_other(build):
    bank = build(CONFIG)
    bank.write_conditioning(0, *memory(0))
    for t in range(1, 9):
        bank.write(t, *memory(t))
    before = read(bank.select(20))
    twin = copy.copy(bank)
    twin.write(9, *memory(9))
    twin.write_conditioning(9, *memory(9))
    assert read(bank.select(20)) == before
    after = read(twin.select(20))
    bank.write(10, *memory(10))
    assert read(twin.select(20)) == after


def grown_bank(num_frames, **sizes):
    bank = MemoryBank(CONFIG, **sizes)
    for t in range(num_frames):
        write = bank.write_conditioning if t % 4 == 0 else bank.write
        write(t, *memory(t))
    return bank


@pytest.mark.parametrize("num_maps", [1, 3])
def test_a_shorter_bank_takes_over_what_it_would_have_kept(num_maps):
    whole, short = grown_bank(30), grown_bank(30, num_maps=num_maps)
    taken = MemoryBank(CONFIG, num_maps=num_maps)
    taken.load(whole.tensors(), good=whole.good, newest=whole.newest)
    assert taken.conditioning_frames == short.conditioning_frames
    assert taken.tensors().keys() == short.tensors().keys()
    assert read(taken.select(30)) == read(short.select(30))


@pytest.mark.parametrize(
    ("change", "good", "newest", "reason"),
    [
        ({"given-map/8": None}, (9, 10), 10, "lacks its map or its pointer"),
        (
            {f"given-{kind}/{t}": None for kind in ("map", "pointer") for t in (0, 4, 8)},
            (),
            10,
            "cond",
        ),
        ({"pointer/9": None, "map/9": None}, (9, 10), 10, "a frame that counts lacks its pointer"),
        ({"pointer/9": None}, (10,), 10, "a frame that counts lacks its pointer"),
        ({}, (9, 10), 11, "newest is 11; accepted: the last frame, 10"),
        ({}, (9, 10), 9, "newest is 9; accepted: the last frame, 10"),
        ({"odd/9": memory(9)[0]}, (9, 10), 10, "'odd/9' is of no memory"),
        ({"map/-1": memory(9)[0]}, (9, 10), 10, "'map/-1' is of no memory"),
        ({"map/" + "9" * 5000: memory(9)[0]}, (9, 10), 10, "is of no memory"),
    ],
)
def test_tensors_of_no_bank_are_refused(change, good, newest, reason):
    tensors = {**grown_bank(11).tensors(), **change}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    with pytest.raises(ValueError, match=reason):
        MemoryBank(CONFIG).load(tensors, good=good, newest=newest)
