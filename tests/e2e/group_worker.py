"""A worker of a group in a process of its own, with a model that costs nothing.

As a program: ``python -m tests.e2e.group_worker CONFIG`` runs a configuration until SIGTERM.
"""

import logging
import signal
import sys
from pathlib import Path

from pipeline.app import build_app
from pipeline.config.loading import load_config
from tests.pipeline.fakes import BlobTracker


def main() -> None:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO)
    app = build_app(load_config(Path(sys.argv[1])), tracker=BlobTracker())
    signal.signal(signal.SIGTERM, lambda *_: app.engine.stop())
    app.engine.run()


if __name__ == "__main__":
    main()
