"""Faults that must never pass: each breaks one promise of the engine in one place."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """One promise, and the change that breaks it.

    Attributes:
        promise: What users rely on.
        path: Module that keeps it, from the root.
        before: Text that stands there exactly once.
        after: Text that breaks the promise.
        tests: Files that must notice.
    """

    promise: str
    path: str
    before: str
    after: str
    tests: tuple[str, ...]

    def break_in(self, tree: Path) -> tuple[str, str]:
        """Return the module's text in ``tree`` as it is, and broken.

        Raises:
            ValueError: If the text to be changed is not there exactly once.
        """
        original = (tree / self.path).read_text(encoding="utf-8")
        if original.count(self.before) != 1:
            raise ValueError(
                f"{self.path}: {original.count(self.before)} times {self.before!r} (accepted: 1; "
                f"mend the row {self.promise!r} in {Path(__file__).name})"
            )
        return original, original.replace(self.before, self.after)


def _engine(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/pipeline/engine/test_{name}.py" for name in names)


def _log(name: str) -> tuple[str, ...]:
    return (f"tests/pipeline/engine/log/test_{name}.py",)


_KAFKA = ("tests/connectors/kafka/test_sink.py", "tests/connectors/kafka/test_source.py")
_CLOCK = ("tests/pipeline/streams/test_clock.py",)

GUARANTEES = (
    Guarantee(
        promise="the committed position never passes a lost frame",
        path="pipeline/engine/commits.py",
        before="return self._delivery != _OPEN and self._delivery <= acknowledged",
        after="return self._delivery <= acknowledged",
        tests=_engine("commits", "committer"),
    ),
    Guarantee(
        promise="a frame dropped at a stop is not committed",
        path="pipeline/engine/buffer.py",
        before="                self._frames.clear()\n",
        after=(
            "                for one in self._frames:\n"
            "                    one.ticket.finish()\n"
            "                self._frames.clear()\n"
        ),
        tests=_engine("buffer", "committer", "source_runner", "engine"),
    ),
    Guarantee(
        promise="a batch that is written again is not sent again while it is in flight",
        path="connectors/kafka/sink.py",
        before="if batch is None or batch.records != tuple(records):",
        after="if True:",
        tests=_KAFKA,
    ),
    Guarantee(
        promise="what is done of revoked partitions is committed",
        path="connectors/kafka/poller.py",
        before="            offsets = self._list_done(partitions)\n        if offsets:",
        after="            offsets = {}\n        if offsets:",
        tests=_KAFKA,
    ),
    Guarantee(
        promise="a source that goes on at a position does not commit it unasked",
        path="connectors/kafka/poller.py",
        before="self._handed_out[partition] = start",
        after="pass",
        tests=_KAFKA,
    ),
    Guarantee(
        promise="what another member has committed is not read again",
        path="connectors/kafka/poller.py",
        before="if self._committed[partition] > start:",
        after="if False:",
        tests=_KAFKA,
    ),
    Guarantee(
        promise="a mark given before its partition is assigned is committed",
        path="connectors/kafka/poller.py",
        before="first = 0 if partition in self._start else self._first.get(partition, end)",
        after="first = self._first.get(partition, end)",
        tests=_KAFKA,
    ),
    Guarantee(
        promise="marks that a lost source did not commit are given to the next one",
        path="pipeline/engine/source_runner.py",
        before="            mark = dict(self._mark)\n",
        after="            mark, self._mark = self._mark, {}\n",
        tests=_engine("source_runner"),
    ),
    Guarantee(
        promise="a revived masklet gets a track_uid of its own",
        path="pipeline/tracking/tracks.py",
        before="next_no = max(next_no, life.track.no + 1)",
        after="next_no = max(next_no, len(lives) + 1)",
        tests=("tests/pipeline/tracking/test_tracks.py",),
    ),
    Guarantee(
        promise="time of a live stream never runs backwards",
        path="pipeline/streams/timelines.py",
        before="if time_us <= self._state.time_us:",
        after="if False:",
        tests=_CLOCK,
    ),
    Guarantee(
        promise="time of a file never runs backwards",
        path="pipeline/streams/timelines.py",
        before="max(anchor.time_us + step_us, self._state.time_us + 1)",
        after="anchor.time_us + step_us",
        tests=_CLOCK,
    ),
    Guarantee(
        promise="a camera's clock is believed within its bound alone",
        path="pipeline/streams/timelines.py",
        before="if abs(error_us) <= _TRUST_US and not reading.is_doubtful:",
        after="if not reading.is_doubtful:",
        tests=_CLOCK,
    ),
    Guarantee(
        promise="drift of a camera's clock is followed slowly",
        path="pipeline/streams/timelines.py",
        before="min(max(error_us, -limit_us), limit_us)",
        after="error_us",
        tests=_CLOCK,
    ),
    Guarantee(
        promise="errors of the model count in a row alone",
        path="pipeline/engine/turns.py",
        before="            running.backoff.succeed()\n",
        after="",
        tests=_engine("turns", "engine"),
    ),
    Guarantee(
        promise="waits of a source grow by errors in a row alone",
        path="pipeline/engine/retry.py",
        before="if opened_s is not None and now_s - opened_s >= self._config.healthy_s:",
        after="if False:",
        tests=_engine("retry"),
    ),
    Guarantee(
        promise="waits of a source are bounded",
        path="connectors/backoff.py",
        before="""            planned = min(delay, self.maximum_s)
            yield planned * (1.0 - self.jitter * rng.random())
            delay = min(delay * self.factor, self.maximum_s)
""",
        after="""            yield delay * (1.0 - self.jitter * rng.random())
            delay = delay * self.factor
""",
        tests=("tests/connectors/test_backoff.py", *_engine("retry")),
    ),
    Guarantee(
        promise="few sources connect to one host at once",
        path="pipeline/engine/retry.py",
        before="while self._running[host] >= self._num_attempts and not should_stop():",
        after="while False:",
        tests=_engine("retry", "source_runner"),
    ),
    Guarantee(
        promise="a refused password is tried slowly",
        path="pipeline/engine/retry.py",
        before="if isinstance(error, UnauthorizedError):",
        after="if False:",
        tests=_engine("retry"),
    ),
    Guarantee(
        promise="a frame that the model fails on costs no track",
        path="pipeline/engine/turns.py",
        before="return num_failures == 1",
        after="return False",
        tests=_engine("turns"),
    ),
    Guarantee(
        promise="a stream on which the model fails goes back to what was saved",
        path="pipeline/engine/turns.py",
        before="restored = self._restorer.recall(running)",
        after="restored = None",
        tests=("tests/pipeline/engine/state/test_model_errors.py",),
    ),
    Guarantee(
        promise="the loss of a session is told",
        path="pipeline/engine/turns.py",
        before='self._publisher.end_session(running, "model_error", now=self._clock.utc_now())',
        after="pass",
        tests=_engine("turns", "engine"),
    ),
    Guarantee(
        promise="changes and events are not shed",
        path="pipeline/engine/recorder.py",
        before="delivery = replace(delivery, result=replace(result, scene=None))",
        after="return",
        tests=_engine("recorder"),
    ),
    Guarantee(
        promise="a stream with frames waiting is not closed for idleness",
        path="pipeline/engine/control.py",
        before="if running.is_named_by_source and is_idle and not running.buffer.num_frames:",
        after="if running.is_named_by_source and is_idle:",
        tests=_engine("control", "engine"),
    ),
    Guarantee(
        promise="a failed source of many streams shows in the exit code",
        path="pipeline/engine/control.py",
        before="self._summary.retire(StreamSummary(stream_id=name, error=str(error)))",
        after="pass",
        tests=_engine("control", "engine", "summary"),
    ),
    Guarantee(
        promise="what leaves is committed up to the first frame that was not taken",
        path="pipeline/engine/commits.py",
        before="            if ticket.is_void or not ticket.is_finished(acknowledged):\n",
        after="            if not ticket.is_void and not ticket.is_finished(acknowledged):\n",
        tests=_engine("commits"),
    ),
    Guarantee(
        promise="a partition leaves once its streams are written down",
        path="pipeline/engine/handovers.py",
        before="return is_written and one.tickets.is_settled(self._outbox.acknowledged)",
        after="return True",
        tests=_engine("handovers"),
    ),
    Guarantee(
        promise="a frame of another worker's partition leads to nothing",
        path="pipeline/engine/turns.py",
        before="            if arrived.ticket.is_void:\n",
        after="            if False:\n",
        tests=_engine("handovers"),
    ),
    Guarantee(
        promise="a partition is committed before it leaves",
        path="connectors/kafka/poller.py",
        before="        await self._hand_over(partitions)\n",
        after="",
        tests=_KAFKA,
    ),
    Guarantee(
        promise="of two snapshots in the topic the one behind more frames is used",
        path="pipeline/engine/state/snapshot_topic.py",
        before="newest, slot, partition = max(good, key=lambda one: _reach(one[0]))",
        after="newest, slot, partition = good[-1]",
        tests=("tests/pipeline/engine/state/test_snapshot_topic.py",),
    ),
    Guarantee(
        promise="leaving is armed by an unbroken stay alone",
        path="pipeline/events/rules/machine.py",
        before="        if holds:\n            watch.fails_since = None\n",
        after="        if holds:\n",
        tests=("tests/pipeline/events",),
    ),
    Guarantee(
        promise="a masklet is re-prompted at most once an interval",
        path="models/sam3/tracking/reconcile.py",
        before="is_due = since_s >= self._options.life.recondition_s",
        after="is_due = True",
        tests=("tests/models/sam3/tracking/test_reconcile.py",),
    ),
    Guarantee(
        promise="no result counts as safe before every durable sink has it or the disk",
        path="pipeline/engine/recorder.py",
        before="return self._safe if self._marks or self._waiting else num_put",
        after="return num_put",
        tests=_engine("outbox", "recorder", "committer"),
    ),
    Guarantee(
        promise="streams that may wait are slowed by sinks without room",
        path="pipeline/engine/turns.py",
        before="if has_room or not one.may_wait",
        after="if True",
        tests=_engine("turns"),
    ),
    Guarantee(
        promise="live streams are never slowed by a sink",
        path="pipeline/engine/turns.py",
        before="if has_room or not one.may_wait",
        after="if has_room",
        tests=_engine("turns"),
    ),
    Guarantee(
        promise="a sink that is away is tried again for ever",
        path="pipeline/engine/record_feed.py",
        before="            if self._hurry.wait(delay_s):\n                return None\n",
        after="            return []\n",
        tests=_engine("outbox"),
    ),
    Guarantee(
        promise="only the guilty stream of a batch loses a frame",
        path="pipeline/engine/worker.py",
        before="if len(inputs) > 1:",
        after="if False:",
        tests=_engine("worker", "engine"),
    ),
    Guarantee(
        promise="a gap above session_gap_s ends the session",
        path="pipeline/streams/timelines.py",
        before="begins_session = time_us - self._state.time_us > self._session_gap_us",
        after="begins_session = False",
        tests=_CLOCK,
    ),
    Guarantee(
        promise="alerts are on disk before a sink with log sees them",
        path="pipeline/engine/log/kind_log.py",
        before="is_held = self.kind is Kind.ALERTS and",
        after="is_held = False and",
        tests=_log("record_log"),
    ),
    Guarantee(
        promise="what memory has no room for is on disk before memory lets go of it",
        path="pipeline/engine/log/kind_log.py",
        before="                if not self.is_disk_failing:\n                    return\n",
        after="",
        tests=_log("record_log"),
    ),
    Guarantee(
        promise="what is shed while the disk fails is counted",
        path="pipeline/engine/log/kind_log.py",
        before="                _shed(self._with_log, seq, seq)\n",
        after="",
        tests=_log("crashes"),
    ),
    Guarantee(
        promise="a batch shed from a consumer's hands counts as lost only if it is not confirmed",
        path="pipeline/engine/log/positions.py",
        before="        self.doubt_from = max(self.doubt_from, seq + 1)\n",
        after="",
        tests=_log("record_log"),
    ),
    Guarantee(
        promise="segments are kept until all consumers have confirmed them",
        path="pipeline/engine/log/kind_log.py",
        before="segments[num_done].last_seq <= least",
        after="segments[num_done].first_seq <= least",
        tests=_log("record_log"),
    ),
    Guarantee(
        promise="a full log sheds masklets, then tracks, then alerts",
        path="pipeline/engine/log/record_log.py",
        before="for log in reversed(self._kinds.values()):",
        after="for log in self._kinds.values():",
        tests=_log("record_log"),
    ),
    Guarantee(
        promise="a failed write of the log leaves nothing of it",
        path="pipeline/engine/log/segment_store.py",
        before="            self._cut_off(segment, is_new=is_new)\n",
        after="",
        tests=_log("segment_store"),
    ),
    Guarantee(
        promise="a damaged entry of the log harms itself alone",
        path="pipeline/engine/log/entries.py",
        before="        if entry is None and is_whole:\n",
        after="        if False:\n",
        tests=_log("segment_store"),
    ),
    Guarantee(
        promise="damage in the log is counted",
        path="pipeline/engine/log/segments.py",
        before="    if is_whole and last_seq < place.last_seq:\n",
        after="    if False:\n",
        tests=_log("segment_store"),
    ),
    Guarantee(
        promise="a damaged cursor passes over no record",
        path="pipeline/engine/log/cursors.py",
        before="if checksum != _checksum(numbers):",
        after="if False:",
        tests=_log("record_log"),
    ),
    Guarantee(
        promise="a state folder has one process",
        path="pipeline/engine/log/folder_lock.py",
        before="            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        after="            pass\n",
        tests=_log("record_log"),
    ),
    Guarantee(
        promise="a record that cannot be written down is refused with all beside it",
        path="pipeline/engine/log/kind_log.py",
        before="        sizes = [size_of(record) for record in records]\n",
        after="        sizes = [0 for _ in records]\n",
        tests=_log("record_log"),
    ),
    Guarantee(
        promise="a stop has the whole log written before its end",
        path="pipeline/engine/log/record_log.py",
        before="        self._is_stopping = True\n",
        after="        pass\n",
        tests=_log("record_log"),
    ),
    Guarantee(
        promise="a disk that hangs is taken as failing",
        path="pipeline/engine/log/record_log.py",
        before="            self._is_hanging = True\n",
        after="            return\n",
        tests=_log("crashes"),
    ),
    Guarantee(
        promise="what was counted as lost while it was written is not delivered later",
        path="pipeline/engine/log/kind_log.py",
        before="        if commit.first_seq <= self._shed_unwritten_to:\n",
        after="        if False:\n",
        tests=_log("crashes"),
    ),
    Guarantee(
        promise="a sector of the log that can be read later costs nothing",
        path="pipeline/engine/log/record_log.py",
        before="is_bad = reader.failed_path == path and reader.num_failed_reads >= _MAX_READS",
        after="is_bad = True",
        tests=_log("crashes"),
    ),
    Guarantee(
        promise="a bad sector of the log costs the records around it alone",
        path="pipeline/engine/log/segments.py",
        before="                if error.errno != errno.EIO:\n                    raise\n",
        after="                raise\n",
        tests=_log("crashes"),
    ),
    Guarantee(
        promise="the log keeps at its end what was in memory",
        path="pipeline/engine/log/record_log.py",
        before="            self._write_out(is_everything=True)\n",
        after="            self._write_out(is_everything=False)\n",
        tests=_log("record_log"),
    ),
    Guarantee(
        promise="a command goes on when nobody reads it any more",
        path="pipeline/cli/stdio.py",
        before="self.buffer.close()",
        after="raise",
        tests=("tests/pipeline/cli/test_stdio.py",),
    ),
    Guarantee(
        promise="a film that cannot be ended fails the run",
        path="pipeline/engine/media_feed.py",
        before="self._has_output &= self._try(self.sink.close)",
        after="self._try(self.sink.close)",
        tests=_engine("media_feed"),
    ),
    Guarantee(
        promise="a refused password is told from a broker that is away",
        path="connectors/kafka/network.py",
        before="self.refusal = error",
        after="pass",
        tests=("tests/connectors/kafka/test_sasl.py",),
    ),
)
