"""Clients of kafka-python that are built, or leave nothing behind."""

import socket
import threading

import pytest
from kafka import KafkaConsumer
from kafka.errors import KafkaTimeoutError

from connectors.kafka.client import build_client
from tests.connectors.kafka.helpers import wait_until


@pytest.fixture
def silent():
    """Address of a listener that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_client_that_nobody_answers_says_so_and_leaves_no_thread(silent):
    before = threading.active_count()
    options = {"bootstrap_servers": silent, "bootstrap_timeout_ms": 300}
    with pytest.raises(KafkaTimeoutError, match=f"bootstrap from {silent}"):
        build_client(KafkaConsumer, options)
    wait_until(lambda: threading.active_count() <= before)
