"""A process that appends, syncs and confirms until it is killed; says what it may be held to."""

import sys
from pathlib import Path

from pipeline.engine.log.kinds import Kind
from tests.pipeline.engine.log.logs import JSONL, KAFKA, make_records, numbers_of, open_log


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(folder: Path, first: int) -> None:
    log = open_log(folder, KAFKA, JSONL, memory_bytes=1500, segment_bytes=4000)
    say("open")
    while True:
        for kind in (Kind.ALERTS, Kind.TRACKS):
            last = log.append(kind, make_records(first, first + 4, kind, 200))
            batch = log.read(kind, "jsonl", max_bytes=1 << 20, max_records=1000)
            if batch is not None:
                log.confirm(kind, "jsonl", batch.last_seq)
            log.sync()
            say(f"{kind} safe {first + 4 - (last - log.safe_seq(kind))}")
            batch = log.read(kind, "kafka", max_bytes=1 << 20, max_records=4)
            if batch is not None:
                log.confirm(kind, "kafka", batch.last_seq)
                say(f"{kind} confirmed {numbers_of(batch)[-1]}")
        first += 5


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
