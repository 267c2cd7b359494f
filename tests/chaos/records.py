"""Records that came out of a worker, and what is wrong with them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.e2e.runs import read_all

STANDING = "blue"
"""The thing that is there in every picture: it has one track, and one event that never ends."""
_OF_THE_RUN = ("result_time", "worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One record as a consumer sees it.

    Attributes:
        kind: masklets, tracks, events or status.
        ce_id: What it is about: a repeat has the same.
        body: The rest.
    """

    kind: str
    ce_id: str
    body: dict[str, Any]

    @property
    def stream_id(self) -> str:
        return self.body["stream_id"]

    @property
    def same_in_repeats(self) -> dict[str, Any]:
        """What does not change when a frame is processed again, by another worker perhaps."""
        return {name: value for name, value in self.body.items() if name not in _OF_THE_RUN}


class Tail:
    """Follows the files of records in a folder, over lives of the worker that writes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ends: dict[Path, int] = defaultdict(int)
        self._of: dict[tuple[str, str], list[Told]] = defaultdict(list)
        self.records: list[Told] = []

    def read(self) -> None:
        """Take what has come since; the unfinished line of a killed worker is none."""
        for path in sorted(self._folder.glob("*.jsonl")):
            if path.stat().st_size == self._ends[path]:
                continue
            with path.open("rb") as file:
                file.seek(self._ends[path])
                lines = file.read().split(b"\n")[:-1]
            self._ends[path] += sum(len(line) + 1 for line in lines)
            kind = path.name.partition(".")[0].partition("-")[0]
            for line in lines:
                body = json.loads(line)
                told = Told(kind=kind, ce_id=body.pop("ce_id"), body=body)
                self.records.append(told)
                self._of[kind, told.stream_id].append(told)

    def of(self, kind: str, stream_id: str) -> list[Told]:
        """Return all of a kind and a stream so far."""
        self.read()
        return self._of[kind, stream_id]


def read_broker(address: str, **options: str) -> list[Told]:
    """Return all records that the topics hold; options are of the consumer."""
    return [
        Told(
            kind=kind,
            ce_id=dict(record.headers)["ce_id"].decode(),
            body=json.loads(record.value),
        )
        for kind, records in read_all(address, "", **options).items()
        for record in records
    ]


@dataclass(frozen=True, slots=True)
class Repeats:
    """Records that came more than once.

    Attributes:
        same: Those with the same body.
        other: Those with another one.
        fields: What differs in those.
    """

    same: int = 0
    other: int = 0
    fields: frozenset[str] = frozenset()


def find_repeats(records: Iterable[Told]) -> Repeats:
    """Compare records of one id, but for when and by which worker the frame was processed."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    same, differing = 0, list[set[str]]()
    for one in records:
        about, body = (one.kind, one.ce_id), one.same_in_repeats
        before = first.setdefault(about, body)
        if before != body:
            differing.append(
                {
                    f"{one.kind}.{key}"
                    for key in before.keys() | body
                    if before.get(key) != body.get(key)
                }
            )
        elif before is not body:
            same += 1
    return Repeats(same, len(differing), frozenset().union(*differing))


def find_missing(expected: Iterable[Told], found: Iterable[Told]) -> set[tuple[str, str]]:
    """Return kind and id of what one consumer has and another has not."""
    return {(one.kind, one.ce_id) for one in expected} - {(one.kind, one.ce_id) for one in found}


def count_holes(records: Iterable[Told]) -> int:
    """Return how many frames no record tells of: neither one of their own, nor another as dropped.

    Args:
        records: Of one life of a worker.
    """
    num_missing = 0
    for frames in _frames_by_stream(records):
        num_given = frames[-1]["frame_seq"] - frames[0]["frame_seq"]
        num_missing += max(num_given - (len(frames) - 1) - _num_dropped(frames), 0)
    return num_missing


def count_unseen(records: Iterable[Told], *, fps: float) -> int:
    """Return how many frames the cameras would have given, by stream time, that never came."""
    num_unseen = 0
    for frames in _frames_by_stream(records):
        times_s = [body["stream_time_us"] / 1e6 for body in frames]
        pauses = (fps * (after - before) - 1 for before, after in pairwise(times_s))
        num_in_pauses = sum(round(pause) for pause in pauses if pause > 1)
        num_unseen += max(num_in_pauses - _num_dropped(frames), 0)
    return num_unseen


def _frames_by_stream(records: Iterable[Told]) -> list[list[dict[str, Any]]]:
    """Return the frames of each stream that have a record, repeats left out."""
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for one in records:
        if one.kind == "masklets":
            found[one.stream_id].setdefault(one.ce_id, one.body)
    return [list(some.values()) for some in found.values()]


def _num_dropped(frames: Sequence[dict[str, Any]]) -> int:
    # Of those that are dropped while the model sees a frame, that one's record tells.
    return sum(body["dropped_since_last"] for body in frames)


def find_event_faults(records: Iterable[Told], *, standing: Sequence[str]) -> list[str]:
    """Return what no event may do: begin twice, end twice, jump, or end though its thing stands.

    Args:
        records: All there are, in order.
        standing: Streams on which the standing thing is watched.
    """
    events = _by_event(records)
    faults = [f"event {name}: {fault}" for name, told in events.items() for fault in _faults(told)]
    for stream_id in standing:
        about = [
            told
            for told in events.values()
            if (told[0]["stream_id"], told[0]["concept"]) == (stream_id, STANDING)
        ]
        if len(about) != 1:
            faults.append(f"{stream_id}: {len(about)} events of the standing thing (accepted: 1)")
        ends = [body["end_reason"] for told in about for body in told if body["phase"] == "end"]
        faults += [f"{stream_id}: the standing thing's event ended: {reason}" for reason in ends]
    return faults


def count_identities(records: Iterable[Told], *, standing: Sequence[str]) -> tuple[int, int]:
    """Return on how many streams the standing thing has kept its track, and of how many."""
    uids: dict[str, set[str]] = defaultdict(set)
    for one in records:
        if one.kind == "masklets":
            uids[one.stream_id] |= {
                thing["track_uid"] for thing in one.body["objects"] if thing["concept"] == STANDING
            }
    return sum(len(uids[name]) == 1 for name in standing), len(standing)


def _by_event(records: Iterable[Told]) -> dict[str, list[dict[str, Any]]]:
    """Return the phases of each event, repeats left out, by their numbers."""
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for one in records:
        if one.kind == "events":
            found[one.body["event_id"]].setdefault(one.ce_id, one.body)
    return {
        name: sorted(bodies.values(), key=lambda body: body["sequence"])
        for name, bodies in found.items()
    }


def _faults(told: Sequence[dict[str, Any]]) -> list[str]:
    numbers = [body["sequence"] for body in told]
    phases = [body["phase"] for body in told]
    faults = []
    if numbers != list(range(len(numbers))):
        faults.append(f"its records are numbered {numbers} (accepted: from 0 without a gap)")
    if phases.count("new") != 1 or phases[0] != "new":
        faults.append(f"begins {phases.count('new')} times")
    if phases.count("end") > 1 or "end" in phases[:-1]:
        faults.append("goes on after its end")
    return faults
