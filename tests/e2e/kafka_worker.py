"""A worker over a topic of frames, with a model that costs next to nothing.

As a program: ``python -m tests.e2e.kafka_worker CONFIG`` runs a configuration until its end, or
until SIGTERM, and ends with the exit code of the command.
"""

import logging
import signal
import sys
from pathlib import Path

from pipeline.app import build_app
from pipeline.config.loading import load_config
from pipeline.observe.logs import set_up_logs
from tests.pipeline.fakes import LossyBlobTracker

STEP_S = 0.02  # for each batch


def main() -> None:
    config = load_config(Path(sys.argv[1]))
    set_up_logs(style=config.observe.log_format, level=logging.INFO)
    app = build_app(config, tracker=LossyBlobTracker(memory_s=0.1, step_s=STEP_S))
    signal.signal(signal.SIGTERM, lambda *_: app.engine.stop())
    sys.exit(app.engine.run().exit_code())


if __name__ == "__main__":
    main()
