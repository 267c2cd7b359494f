"""Whatever is done to a log, and however it ends: it loses nothing but what it counts.

Records carry numbers that are never given twice. Within the life of a log each consumer gets
growing ones, and what was appended is confirmed, shed or still to come. Over a crash, what was
safe and not confirmed is still to come, but for what was shed or found damaged.
"""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.clock import ManualClock
from pipeline.engine.log.kinds import Kind
from tests.pipeline.engine.log.logs import (
    JSONL,
    KAFKA,
    MQTT,
    crash,
    limited_files,
    make_records,
    num_disk_bytes,
    numbers_of,
    open_log,
)

KINDS = st.sampled_from(list(Kind))
CONSUMERS = st.sampled_from(["kafka", "mqtt", "jsonl"])
WITH_LOG = ("kafka", "mqtt")
LOG_BYTES, MEMORY_BYTES = 8000, 2000
# In memory where there is such a folder: 40 steps with their fsyncs take 30 times as long on disk.
FAST_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


class RecordLogMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp(dir=FAST_DISK))
        self.clock = ManualClock()
        self.last = dict.fromkeys(Kind, 0)
        self.owed = {(name, kind): set() for name in WITH_LOG for kind in Kind}
        self.num_lost = dict.fromkeys(self.owed, 0)
        self.open()

    def open(self):
        self.log = open_log(
            self.folder,
            KAFKA,
            MQTT,
            JSONL,
            log_bytes=LOG_BYTES,
            memory_bytes=MEMORY_BYTES,
            segment_bytes=600,
            clock=self.clock,
        )
        self.numbers = {kind: [] for kind in Kind}  # numbers of this life, with sequence numbers
        self.num_appended = 0
        self.hands = {}  # what was read last and may yet be confirmed
        self.num_at_start = {name: self.log.lag(name).num_records for name in (*WITH_LOG, "jsonl")}
        self.num_confirmed = dict.fromkeys(self.num_at_start, 0)
        self.seen = dict.fromkeys([(name, kind) for name in self.num_at_start for kind in Kind], 0)

    @rule(kind=KINDS, num=st.integers(1, 8), num_bytes=st.integers(90, 400))
    def append(self, kind, num, num_bytes):
        had_room, before = num == 1 and self.log.has_room(), self.log.counts()
        records = make_records(self.last[kind] + 1, self.last[kind] + num, kind, num_bytes)
        last_seq = self.log.append(kind, records)
        self.last[kind] += num
        self.num_appended += num
        first_seq = last_seq - num + 1
        self.numbers[kind] += [
            (first_seq + i, record.timestamp_ms) for i, record in enumerate(records)
        ]
        if had_room:
            self.log.sync()
            assert self.log.counts() == before

    @rule(limit=st.none() | st.integers(0, 900))
    def sync(self, limit):
        with limited_files(limit):
            self.log.sync()
        if limit is None:
            assert self.log.error is None
        if self.log.error is None:
            last = self.log.append(Kind.ALERTS, [])
            assert min(self.log.safe_seq(Kind.ALERTS), last) == self.log.safe_seq(Kind.ALERTS)
            assert self.log._kinds[Kind.ALERTS]._synced_seq == last or self.done_by_all(last)
        assert num_disk_bytes(self.folder) <= LOG_BYTES

    def done_by_all(self, seq):
        return all(self.log._kinds[Kind.ALERTS].positions[name].done >= seq for name in WITH_LOG)

    @rule(
        kind=KINDS,
        name=CONSUMERS,
        max_bytes=st.sampled_from([1, 500, 10_000]),
        max_records=st.integers(1, 20),
        is_confirmed=st.booleans(),
    )
    def read(self, kind, name, max_bytes, max_records, is_confirmed):
        self.hands.pop((name, kind), None)
        batch = self.log.read(kind, name, max_bytes=max_bytes, max_records=max_records)
        found = numbers_of(batch)
        assert found == sorted(set(found))
        if not found:
            return
        assert found[0] > self.seen[name, kind]
        again = self.log.read(kind, name, max_bytes=max_bytes, max_records=max_records)
        assert numbers_of(again) == found
        self.hands[name, kind] = batch
        if is_confirmed:
            self.confirm(kind, name)

    @rule(kind=KINDS, name=CONSUMERS)
    def confirm(self, kind, name):
        batch = self.hands.pop((name, kind), None)
        if batch is None:
            return
        found = numbers_of(batch)
        self.log.confirm(kind, name, batch.last_seq)
        self.seen[name, kind] = found[-1]
        self.num_confirmed[name] += len(found)
        if name in WITH_LOG:
            self.owed[name, kind] -= set(found)

    @rule(seconds=st.sampled_from([0.1, 1.0]))
    def pass_time(self, seconds):
        self.clock.advance(seconds)

    @rule(flip=st.none() | st.tuples(st.integers(0), st.integers(0), st.integers(1, 255)))
    def kill(self, flip):
        for kind, numbers in self.numbers.items():
            safe = self.log.safe_seq(kind)
            self.owe(kind, {number for seq, number in numbers if seq <= safe})
        self.hands.clear()
        crash(self.log)
        self.begin_again(flip)

    @rule(
        limit=st.none() | st.integers(0, 900),
        flip=st.none() | st.tuples(st.integers(0), st.integers(0), st.integers(1, 255)),
    )
    def close(self, limit, flip):
        for kind, numbers in self.numbers.items():
            self.owe(kind, {number for _, number in numbers})
        with limited_files(limit):
            self.log.close()
        self.hands.clear()
        self.everything_is_accounted_for()
        self.begin_again(flip)

    def owe(self, kind, numbers):
        for name in WITH_LOG:
            seen = self.seen[name, kind]
            self.owed[name, kind] |= {number for number in numbers if number > seen}

    def begin_again(self, flip):
        losses = self.log.counts()
        for name, kind in self.num_lost:
            self.num_lost[name, kind] += losses.shed[name, kind]
        files = sorted(path for path in self.folder.glob("log/*/*.seg") if path.stat().st_size)
        if flip is not None and files:
            path = files[flip[0] % len(files)]
            data = bytearray(path.read_bytes())
            data[flip[1] % len(data)] ^= flip[2]
            with suppress(OSError):
                path.write_bytes(data)
        self.open()
        for name, kind in self.num_lost:
            self.num_lost[name, kind] += self.log.counts().corrupt[kind]

    @invariant()
    def everything_is_accounted_for(self):
        shed = self.log.counts().shed
        for name, num_at_start in self.num_at_start.items():
            if any(name == other for other, _ in self.hands):
                continue  # what was shed from its hands is not lost yet
            num_shed = sum(num for (other, _), num in shed.items() if other == name)
            num_waiting = self.log.lag(name).num_records
            num_accounted = self.num_confirmed[name] + num_shed + num_waiting
            assert num_accounted == num_at_start + self.num_appended

    def teardown(self):
        if not hasattr(self, "log"):
            return
        self.log.sync()
        for kind, numbers in self.numbers.items():
            self.owe(kind, {number for _, number in numbers})
        for name, kind in self.owed:
            while batch := self.log.read(kind, name, max_bytes=1000, max_records=5):
                self.log.confirm(kind, name, batch.last_seq)
                self.owed[name, kind] -= set(numbers_of(batch))
            num_lost = self.num_lost[name, kind] + self.log.counts().shed[name, kind]
            assert len(self.owed[name, kind]) <= num_lost
        self.log.close()
        shutil.rmtree(self.folder)


TestRecordLog = RecordLogMachine.TestCase
TestRecordLog.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
