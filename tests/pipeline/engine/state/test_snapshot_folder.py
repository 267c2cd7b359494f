"""A snapshot that cannot be believed leaves the one before."""

import hashlib
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from safetensors.numpy import save

from connectors.errors import NotWritableError
from pipeline.engine.state.snapshot_file import (
    SnapshotAbout,
    SnapshotFileError,
    StoredSnapshot,
    decode_snapshot_file,
    encode_snapshot_file,
)
from pipeline.engine.state.snapshot_folder import SnapshotFolder
from tests.pipeline.engine.log.logs import limited_files
from tests.pipeline.streams.steps import make_stream

ABOUT = SnapshotAbout(
    stream_id="gate / Süd",
    model="sam3-nano",
    taken_at=datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC),
    is_full=True,
    alerts_seq=7,
    next_no=20,
    next_masklet_id=5,
    source={"frame_seq": 12, "epoch": 3},
    tracker="",
)


STREAM = make_stream().snapshot()


def snapshot(seq=7, **arrays):
    about = replace(ABOUT, alerts_seq=seq)
    return StoredSnapshot(about=about, stream=STREAM, arrays=arrays)


HEAD = b"MSTRMSNP\x00\x02"


def with_checksum(head, body):
    return head + hashlib.sha256(body).digest() + body


def test_snapshot_comes_back_as_it_was(tmp_path):
    folder = SnapshotFolder(tmp_path)
    stored = snapshot(
        maps=np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
        picture=np.array([255, 216], np.uint8),
    )
    num_bytes = folder.save(stored)
    assert num_bytes == (tmp_path / "gate%20%2F%20S%C3%BCd/newest.snapshot").stat().st_size
    found, problems = folder.load("gate / Süd")
    assert problems == []
    assert (found.about, found.stream) == (stored.about, stored.stream)
    assert found.arrays.keys() == stored.arrays.keys()
    for name, array in stored.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)


def test_stream_without_snapshot_has_none(tmp_path):
    assert SnapshotFolder(tmp_path / "none").load("gate") == (None, [])
    SnapshotFolder(tmp_path / "none").delete("gate")


def test_the_one_before_is_there_if_the_process_ended_between_two_renames(tmp_path):
    folder = SnapshotFolder(tmp_path)
    folder.save(snapshot(1))
    (path,) = tmp_path.glob("*/newest.snapshot")
    path.rename(path.with_name("former.snapshot"))
    found, problems = folder.load(ABOUT.stream_id)
    assert (found.about.alerts_seq, problems) == (1, [])


@pytest.mark.parametrize("size", [0, 7, 41, 42, 100, -1])
def test_cut_snapshot_leaves_the_one_before(tmp_path, size):
    folder = SnapshotFolder(tmp_path)
    folder.save(snapshot(1))
    folder.save(snapshot(2))
    (path,) = tmp_path.glob("*/newest.snapshot")
    path.write_bytes(path.read_bytes()[:size])
    found, problems = folder.load(ABOUT.stream_id)
    assert found.about.alerts_seq == 1
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: is ")
    folder.save(snapshot(3))
    assert folder.load(ABOUT.stream_id)[0].about.alerts_seq == 3


def with_stream(text):
    """Return a snapshot file whose checksum is right, and that says so of its stream."""
    about = TypeAdapter(SnapshotAbout).dump_json(replace(ABOUT, alerts_seq=9)).decode()
    return with_checksum(HEAD, save({}, {"snapshot": about, "stream": text}))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"version": 9}', r"is of version 9 \(accepted: 1\)"),
        ("{", "is not JSON"),
        ('{"version": 1, "stream": {}}', "snapshot: stream"),
    ],
)
def test_snapshot_whose_stream_cannot_be_used_leaves_the_one_before(tmp_path, text, reason):
    folder = SnapshotFolder(tmp_path)
    folder.save(snapshot(1))
    folder.save(snapshot(2))
    (path,) = tmp_path.glob("*/newest.snapshot")
    path.write_bytes(with_stream(text))
    found, [problem] = folder.load(ABOUT.stream_id)
    assert found.about.alerts_seq == 1
    assert problem.startswith(f"{path}: ")
    assert re.search(reason, problem)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_is_believed(at, change):
    data = bytearray(encode_snapshot_file(snapshot(maps=np.ones(9, np.float32))))
    data[at % len(data)] ^= change
    with pytest.raises(SnapshotFileError):
        decode_snapshot_file(bytes(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"MSTRMSNP\x00\x03" + bytes(32), "is of version 3"),
        (with_checksum(HEAD, b"\xff" * 20), "does not hold what"),
        (with_checksum(HEAD, b"\x02" + bytes(7) + b"{}"), "does not hold what"),
        (b"{}" * 40, "is no snapshot"),
    ],
)
def test_what_is_no_snapshot_says_so(data, reason):
    with pytest.raises(SnapshotFileError, match=reason):
        decode_snapshot_file(data)


def test_snapshot_of_another_stream_is_not_taken(tmp_path):
    folder = SnapshotFolder(tmp_path)
    folder.save(snapshot())
    (path,) = tmp_path.glob("*")
    path.rename(tmp_path / "gate")
    found, problems = folder.load("gate")
    assert found is None
    assert "is of stream 'gate / Süd'" in problems[0]


def make_pipe(path):
    os.mkfifo(path)  # nobody writes: who opens it as a file waits for ever


def make_huge(path):
    os.truncate(path, 1 << 40)  # of holes; more than any machine's memory


def make_huge_garbage(path):
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (make_pipe, "is no file"),
        (Path.mkdir, "is no file"),
        (make_huge, "is too large: 1099511627776 bytes (accepted: 8589934592)"),
        (make_huge_garbage, "is no snapshot"),
    ],
)
def test_what_has_a_snapshots_name_by_mistake_leaves_the_one_before(tmp_path, spoil, reason):
    folder = SnapshotFolder(tmp_path)
    folder.save(snapshot(1))
    folder.save(snapshot(2))
    (path,) = tmp_path.glob("*/newest.snapshot")
    if spoil in (make_pipe, Path.mkdir):
        path.unlink()
    spoil(path)
    folder.discard_after(0)
    found, problems = folder.load(ABOUT.stream_id)
    assert found.about.alerts_seq == 1
    assert problems == [f"{path}: {reason}"]


def test_full_disk_leaves_what_was_there(tmp_path):
    folder = SnapshotFolder(tmp_path)
    folder.save(snapshot(1))
    with limited_files(100), pytest.raises(NotWritableError):
        folder.save(snapshot(2))
    assert folder.load(ABOUT.stream_id)[0].about.alerts_seq == 1


def test_folder_in_the_place_of_a_snapshot_is_named(tmp_path):
    folder = SnapshotFolder(tmp_path)
    folder.save(snapshot(1))
    (path,) = tmp_path.glob("*/newest.snapshot")
    path.with_name("former.snapshot").mkdir()
    with pytest.raises(NotWritableError) as found:
        folder.save(snapshot(2))
    assert found.value.name == f"{path} to {path.with_name('former.snapshot')}"
    assert folder.load(ABOUT.stream_id)[0].about.alerts_seq == 1


def test_deleted_stream_leaves_nothing(tmp_path):
    folder = SnapshotFolder(tmp_path)
    folder.save(snapshot(1))
    folder.save(snapshot(2))
    folder.delete(ABOUT.stream_id)
    assert list(tmp_path.iterdir()) == []


def test_snapshots_of_transactions_that_never_were_are_discarded(tmp_path):
    folder = SnapshotFolder(tmp_path)
    for seq, cut in ((1, 4), (2, 6)):
        stored = snapshot(seq)
        folder.save(replace(stored, about=replace(stored.about, cut=cut)))
    folder.discard_after(6)
    assert folder.load(ABOUT.stream_id)[0].about.alerts_seq == 2
    folder.discard_after(5)
    found, problems = folder.load(ABOUT.stream_id)
    assert (found.about.alerts_seq, problems) == (1, [])
    folder.save(snapshot(3))
    assert folder.load(ABOUT.stream_id)[0].about.alerts_seq == 3
    folder.discard_after(-1)
    assert folder.load(ABOUT.stream_id) == (None, [])


def test_damaged_snapshots_are_left_to_be_told_of(tmp_path):
    folder = SnapshotFolder(tmp_path)
    folder.save(snapshot())
    (path,) = tmp_path.glob("*/newest.snapshot")
    path.write_bytes(b"no snapshot")
    folder.discard_after(-1)
    assert len(folder.load(ABOUT.stream_id)[1]) == 1


def test_damaged_snapshot_keeps_no_other_from_being_discarded(tmp_path):
    folder = SnapshotFolder(tmp_path)
    for stream_id in ("barn", "gate", "yard"):
        stored = snapshot()
        folder.save(replace(stored, about=replace(ABOUT, stream_id=stream_id, cut=2)))
    damaged, *_ = tmp_path.glob("*/*.snapshot")  # the one that is come upon first
    damaged.write_bytes(b"no snapshot")
    folder.discard_after(1)
    assert list(tmp_path.glob("*/*.snapshot")) == [damaged]


def test_snapshot_that_cannot_be_discarded_is_an_error(tmp_path):
    path = tmp_path / "gate/newest.snapshot"
    path.parent.mkdir()
    path.symlink_to(path.name)  # a loop
    with pytest.raises(NotWritableError, match=r"gate/newest\.snapshot"):
        SnapshotFolder(tmp_path).discard_after(1)
