"""Faults of the state that outlives a process that must never pass."""

from tests.benchmarks.guarantee import Guarantee

_RESUMING = ("tests/pipeline/engine/state/test_resuming.py",)
_FOLDER = ("tests/pipeline/engine/state/test_snapshot_folder.py",)
_LIVE = ("tests/connectors/video/test_rtsp.py",)

STATE_GUARANTEES = (
    Guarantee(
        promise="a snapshot is written once all alerts before it are safe",
        path="pipeline/engine/state/keeper.py",
        before="return self._outbox.are_alerts_safe(job.mark.alerts_seq)",
        after="return True",
        tests=_RESUMING,
    ),
    Guarantee(
        promise="a frame that can be read again is done once a snapshot holds it",
        path="pipeline/engine/state/keeper.py",
        before="            entry.held.append(ticket)\n",
        after="            ticket.finish(number)\n",
        tests=_RESUMING,
    ),
    Guarantee(
        promise="a snapshot holds no frame whose records have not arrived",
        path="pipeline/engine/state/keeper.py",
        before="return self._outbox.acknowledged >= job.number",
        after="return True",
        tests=_RESUMING,
    ),
    Guarantee(
        promise="no id is given again behind an older snapshot of a stream from Kafka",
        path="pipeline/engine/state/restorer.py",
        before="return not (running.config.source.keeps_position and is_newest)",
        after="return not running.config.source.keeps_position",
        tests=_RESUMING,
    ),
    Guarantee(
        promise="no number of a track that the log names is given again",
        path="pipeline/records/replay.py",
        before="snapshot = replace(snapshot, next_no=next_no)",
        after="del next_no",
        tests=("tests/pipeline/records/test_replay.py",),
    ),
    Guarantee(
        promise="events stay in the log until two snapshots hold them",
        path="pipeline/engine/state/keeper.py",
        before="entry.covered_seq, entry.newest_seq = entry.newest_seq, job.mark.alerts_seq or 0",
        after="entry.covered_seq = job.mark.alerts_seq or 0",
        tests=_RESUMING,
    ),
    Guarantee(
        promise="numbers of tracks are leased ahead, so that none is given twice",
        path="pipeline/engine/state/keeper.py",
        before="            next_no=entry.next_no,\n",
        after="            next_no=stream.next_no,\n",
        tests=_RESUMING,
    ),
    Guarantee(
        promise="a stop keeps tracks and events open",
        path="pipeline/engine/control.py",
        before='if reason != "stopped" or not self._keeper.stop(running):',
        after="if True:",
        tests=_RESUMING,
    ),
    Guarantee(
        promise="what was restored is written before a frame has come",
        path="pipeline/engine/state/keeper.py",
        before="dict(source or {}), source is not None",
        after="dict(source or {}), False",
        tests=_RESUMING,
    ),
    Guarantee(
        promise="events logged behind a camera's snapshot are replayed over it",
        path="pipeline/engine/state/restorer.py",
        before="            logged,\n",
        after="            (),\n",
        tests=_RESUMING,
    ),
    Guarantee(
        promise="an event of which nothing is known any more ends",
        path="pipeline/engine/state/restorer.py",
        before="ended=self._ends(open_events_of(logged))",
        after="ended=()",
        tests=_RESUMING,
    ),
    Guarantee(
        promise="a frame that a snapshot holds is not processed again",
        path="pipeline/engine/turns.py",
        before="            if not running.has_done(arrived.frame):\n",
        after="            if True:\n",
        tests=_RESUMING,
    ),
    Guarantee(
        promise="nothing of a snapshot with a wrong checksum is believed",
        path="pipeline/engine/state/snapshot_file.py",
        before="if hashlib.sha256(body).digest() != digest:",
        after="if False:",
        tests=_FOLDER,
    ),
    Guarantee(
        promise="nothing of a snapshot of another version is believed",
        path="pipeline/engine/state/snapshot_file.py",
        before="if version != VERSION:",
        after="if False:",
        tests=_FOLDER,
    ),
    Guarantee(
        promise="a snapshot whose stream is of another version leaves the one before it",
        path="pipeline/engine/state/snapshot_file.py",
        before="    except SnapshotError as error:\n"
        "        raise SnapshotFileError(str(error)) from error\n",
        after="",
        tests=_FOLDER,
    ),
    Guarantee(
        promise="a damaged snapshot leaves the one before it",
        path="pipeline/engine/state/snapshot_folder.py",
        before="                (folder / _NEWEST).replace(folder / _FORMER)\n",
        after="                pass\n",
        tests=_FOLDER,
    ),
    Guarantee(
        promise="a camera's epoch is above all before it, whatever was lost",
        path="connectors/video/live_source.py",
        before="self._epoch = max(self._epoch + 1, int(time.time()))",
        after="self._epoch += 1",
        tests=_LIVE,
    ),
)
