"""Logs for people or for machines, on stderr, with secrets taken out."""

import json
import logging
import sys
from datetime import UTC, datetime

from typing_extensions import override

from connectors.errors import redact_url
from pipeline.clock import format_time

ROOT = "maskstream"


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    @override
    def format(self, record: logging.LogRecord) -> str:
        return redact_url(super().format(record))


class _JsonFormatter(logging.Formatter):
    @override
    def format(self, record: logging.LogRecord) -> str:
        body = {
            "time": format_time(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact_url(record.getMessage()),
        }
        if record.exc_info:
            body["error"] = redact_url(self.formatException(record.exc_info))
        return json.dumps(body, ensure_ascii=False)


def set_up_logs(*, style: str = "text", level: int = logging.WARNING) -> None:
    """Send the program's own logs to stderr.

    Args:
        style: ``text`` or ``json``.
        level: Lowest level that is shown.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if style == "json" else _TextFormatter())
    logger = logging.getLogger(ROOT)
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False
