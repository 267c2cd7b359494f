"""What befalls workers that share the streams of a topic."""

import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from itertools import pairwise

from tests.chaos.fault import Fault, Trial
from tests.chaos.outcome import Limits, Outcome
from tests.chaos.records import (
    Told,
    count_identities,
    find_event_faults,
    find_repeats,
    read_broker,
)
from tests.chaos.worker import worker
from tests.chaos.worker_faults import (
    SESSION_S,
    config_behind,
    frames_of,
    publishing,
    wait_for_all,
)
from tests.servers import kafka_broker

_NAMES = tuple(f"gate-{number}" for number in range(6))
# A dead member is missed after its session; the others then rejoin and read the state, which took
# 10 s on cores with seven programs each.
_MOVED = Limits(recovery_s=SESSION_S + 20.0)


def try_rebalance(trial: Trial) -> Outcome:
    """Let two of three workers leave and return, one in order and one by a kill."""
    pause = threading.Event()
    with ExitStack() as ends:
        address = ends.enter_context(kafka_broker())[0]
        films = ends.enter_context(publishing(address, _NAMES))
        first, second, third = (
            ends.enter_context(_member(trial, address, name)) for name in ("w1", "w2", "w3")
        )
        others: list[str] = []
        for member in (first, second, third):
            member.start()
            pause.wait(trial.away_s)
        others += second.stop()
        pause.wait(trial.away_s)
        third.kill()
        pause.wait(trial.away_s + SESSION_S)
        for member in (second, third):
            member.start()
            pause.wait(trial.away_s)
        films.stop()
        wait_for_all(address, films.published)
        for member in (first, second, third):
            others += member.stop()
        records = read_broker(address)
    frames_lost = first.frames_lost + second.frames_lost + third.frames_lost
    return Outcome(
        recoveries_s=(_longest_pause_s(records),),
        frames_lost=frames_lost,
        records_lost=len(films.published - frames_of(records)),
        repeats=find_repeats(records),
        identities=count_identities(records, standing=_NAMES),
        event_faults=tuple(find_event_faults(records, standing=_NAMES)),
        others=tuple(others),
    )


def _member(trial: Trial, address: str, name: str):
    folder = trial.folder / name
    folder.mkdir()
    state = {"topic": {"bootstrap": address}}
    return worker(folder, {**config_behind(address), "worker": name, "state": state})


def _longest_pause_s(records: Sequence[Told]) -> float:
    """Return the longest time in which a stream that was filmed had no result."""
    known: dict[str, list[datetime]] = defaultdict(list)
    for one in records:
        if one.kind == "masklets":
            known[one.stream_id].append(datetime.fromisoformat(one.body["result_time"]))
    pauses = (pairwise(sorted(times)) for times in known.values())
    return max((b - a).total_seconds() for some in pauses for a, b in some)


GROUP_FAULTS = (
    Fault(
        name="workers rebalanced",
        what="three workers share six streams from a broker: two join, one leaves (SIGTERM), "
        "one is killed, both return; state in a topic",
        run=try_rebalance,
        limits=_MOVED,
    ),
)
