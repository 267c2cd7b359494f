"""What befalls brokers while cameras are watched: real ones that go away, fall silent or refuse."""

import importlib.util
import math
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from tests.chaos.camera_faults import load_per_core, p99_ms
from tests.chaos.fault import Fault, Trial
from tests.chaos.outcome import Limits, Outcome
from tests.chaos.proxies import SlowProxy
from tests.chaos.records import (
    Tail,
    Told,
    count_identities,
    find_event_faults,
    find_missing,
    find_repeats,
    read_broker,
)
from tests.chaos.worker import Worker, worker
from tests.e2e.cameras import Sections
from tests.pipeline.engine.runs import wait_until
from tests.servers import (
    TcpProxy,
    durable_kafka_broker,
    free_port,
    object_store,
    proxied_kafka_broker,
    strict_kafka_broker,
)

STREAMS = ("a", "b")
SINK = "kafka"
MASKLETS = "maskstream.masklets.v1"
# From the end of a fault until a sink has all that waited: tries are up to 5 s apart.
CAUGHT_UP = Limits(recovery_s=5.0 + 2.0)
_DOWN_S = 2.0
_WAIT_S = 120.0
_FEW = 20  # records on their way at any time


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """A broker that can be harmed.

    Attributes:
        address: Where it is known.
        proxy: The way to it, if there is one before it.
        process: Its process, where that is what is harmed.
        restart: Starts it again after its end.
    """

    address: str
    proxy: TcpProxy | None = None
    process: subprocess.Popen | None = None
    restart: Callable[[], object] | None = None

    def alter(self, topic: str, **settings: str) -> None:
        """Change settings of a topic."""
        with self.admin() as admin:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, settings)])

    @contextmanager
    def admin(self) -> Iterator[KafkaAdminClient]:
        client = KafkaAdminClient(bootstrap_servers=self.address)
        try:
            yield client
        finally:
            client.close()


Serve = Callable[[Trial], AbstractContextManager[Broker]]
Act = Callable[[Broker], None]


@contextmanager
def behind_proxy(trial: Trial, *, way: type[TcpProxy] = TcpProxy) -> Iterator[Broker]:
    with proxied_kafka_broker(way) as (proxy, process):
        yield Broker(address=proxy.address, proxy=proxy, process=process)
        process.send_signal(signal.SIGCONT)


@contextmanager
def strict(trial: Trial) -> Iterator[Broker]:
    with strict_kafka_broker(trial.folder / "broker") as address:
        yield Broker(address=address)


@contextmanager
def durable(trial: Trial) -> Iterator[Broker]:
    port = free_port()
    with object_store() as store, ExitStack() as brokers:

        def start() -> subprocess.Popen:
            return brokers.enter_context(durable_kafka_broker(store, port))[1]

        yield Broker(address=f"127.0.0.1:{port}", process=start(), restart=start)


def config_of(address: str, **sink: Any) -> dict[str, Any]:
    """Return what watches two cameras of the engine's own process, and writes to a broker."""
    config = Sections(
        stream_ids=STREAMS,
        concepts=("red", "blue"),
        kafka={SINK: address},
        sections={"delivery": {"down_s": _DOWN_S, "behind_s": 0.5}},
    ).build()
    config["sinks"][0] |= sink
    return config


def num_delivered(watching: Worker) -> int:
    return watching.values("records_delivered_total", "sink", sink=SINK)[SINK]


def num_waiting(watching: Worker) -> int:
    return watching.values("sink_waiting", "sink")[SINK]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How a broker is harmed.

    Attributes:
        serve: Starts it.
        fail: Harms it.
        mend: Ends that.
        is_down: ``/readyz`` must say no meanwhile.
        sink: Settings of the sink.
        environ: Of the worker.
        is_due: Which of the records that a file has must be on the broker, by the fault's time.
        felt: Says by the records on the broker, and how many waited, that it was felt.
    """

    fail: Act
    mend: Act
    serve: Serve = behind_proxy
    is_down: bool = False
    sink: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    is_due: Callable[[Told, datetime], bool] = lambda _told, _since: True
    felt: Callable[[list[Told], int], bool] = lambda _records, num_waited: num_waited > _FEW


def try_broker(case: Case, trial: Trial) -> Outcome:
    """Harm a broker and let it be well again; returns what that cost."""
    pause, witness = threading.Event(), trial.folder / "witness"
    tail = Tail(witness)
    environ = {"MASKSTREAM_TEST_WITNESS": str(witness), **case.environ}
    with (
        case.serve(trial) as broker,
        worker(trial.folder, config_of(broker.address, **case.sink), **environ) as watching,
    ):
        watching.start()
        wait_until(lambda: num_delivered(watching) > 100, seconds=_WAIT_S)
        pause.wait(trial.calm_s)
        num_calm = len(tail.of("masklets", STREAMS[0]))
        case.fail(broker)
        since = datetime.now(UTC)
        pause.wait(trial.away_s)
        others = _faults_of_readiness(watching) if case.is_down else []
        num_waited = num_waiting(watching)
        num_before = num_delivered(watching)
        case.mend(broker)
        recovery_s = _time_s(
            lambda: num_waiting(watching) < _FEW and num_delivered(watching) > num_before + _FEW
        )
        others += watching.stop()
        frames = tail.of("masklets", STREAMS[0])
        records = read_broker(broker.address)
    if not case.felt(records, num_waited):
        others.append("the sink was none the worse for it: nothing was tried")
    due = [one for one in tail.records if case.is_due(one, since)]
    return Outcome(
        recoveries_s=(recovery_s,),
        frames_lost=watching.frames_lost,
        records_lost=len(find_missing(due, records)),
        repeats=find_repeats(records),
        identities=count_identities(tail.records, standing=STREAMS),
        event_faults=tuple(find_event_faults(records, standing=STREAMS)),
        latencies_ms=(p99_ms(frames[:num_calm]), p99_ms(frames[num_calm:])),
        load=load_per_core(),
        others=tuple(others),
    )


def _time_s(is_met: Callable[[], bool]) -> float:
    """Return how long it takes until something is met; infinite: too long."""
    began_s = time.monotonic()
    try:
        wait_until(is_met, seconds=_WAIT_S)
    except AssertionError:
        return math.inf
    return time.monotonic() - began_s


def _faults_of_readiness(watching: Worker) -> list[str]:
    try:
        wait_until(lambda: SINK in str(watching.unready()), seconds=5 * _DOWN_S)
    except AssertionError:
        return [f"/readyz did not name the sink in {5 * _DOWN_S:g} s"]
    return []


def _signal(number: signal.Signals) -> Act:
    return lambda broker: broker.process.send_signal(number)


def _delay(seconds: float) -> Act:
    def act(broker: Broker) -> None:
        broker.proxy.delay_s = seconds

    return act


def _kill(broker: Broker) -> None:
    broker.process.kill()
    broker.process.wait()


def _delete(broker: Broker) -> None:
    with broker.admin() as admin:
        admin.delete_topics([MASKLETS])


def _is_due_behind_deletion(told: Told, since: datetime) -> bool:
    """Records that were on the topic are gone with it; of what came later none may be missing."""
    if told.kind != "masklets":
        return True
    known_at = datetime.fromisoformat(told.body["result_time"])
    return known_at > since + timedelta(seconds=_DELETION_S)


# A record that was known before may have been written to the topic while it was being deleted.
_DELETION_S = 1.0
_TOO_LARGE = "3000"  # bytes; a record of two masks has more, without them 1,200


def _limit(size: str) -> Act:
    return lambda broker: broker.alter(MASKLETS, **{"max.message.bytes": size})


def why_no_store() -> str | None:
    """Return what is missing for a broker that keeps its records when it is killed."""
    return None if importlib.util.find_spec("moto") else "the extra dev-full is not installed"


def _fault(name: str, what: str, case: Case, **options: Any) -> Fault:
    fields = {"limits": CAUGHT_UP, **options}
    return Fault(name=name, what=what, run=partial(try_broker, case), **fields)


BROKER_FAULTS = (
    _fault(
        "broker away",
        "all connections are cut and new ones refused for 10 s",
        Case(
            fail=lambda broker: broker.proxy.cut(),
            mend=lambda broker: broker.proxy.restore(),
            is_down=True,
        ),
    ),
    _fault(
        "broker stopped",
        "its process stops (SIGSTOP) for 10 s: connections stand, nothing is answered",
        Case(fail=_signal(signal.SIGSTOP), mend=_signal(signal.SIGCONT), is_down=True),
    ),
    _fault(
        "broker killed",
        "a broker that keeps its records elsewhere is killed, and back after 10 s",
        Case(
            serve=durable,
            fail=_kill,
            mend=lambda broker: broker.restart(),
            is_down=True,
        ),
        missing=why_no_store,
    ),
    _fault(
        "broker slow",
        "each piece of up to 64 kB is held up for 0.3 s, both ways, for 10 s",
        Case(
            serve=partial(behind_proxy, way=SlowProxy),
            fail=_delay(0.3),
            mend=_delay(0.0),
            felt=lambda _records, num_waited: num_waited > 0,
        ),
    ),
    _fault(
        "record too large",
        f"for 10 s the topic takes no record of more than {_TOO_LARGE} bytes",
        Case(
            serve=strict,
            fail=_limit(_TOO_LARGE),
            mend=_limit("1048588"),
            sink={"compression": "none"},
            environ={"MASKSTREAM_TEST_ZOOM": "8"},
            felt=lambda records, _: any(one.body.get("masks_omitted") for one in records),
        ),
    ),
    _fault(
        "topic deleted",
        "the topic of masklets is deleted; what it held is gone with it",
        # Tansu confirms writes to topics that it has no more.
        Case(
            serve=strict,
            fail=_delete,
            mend=lambda _broker: None,
            is_due=_is_due_behind_deletion,
            felt=lambda records, _: any(one.kind == "masklets" for one in records),
        ),
    ),
)
