"""A member of a group whose name another one takes."""

import threading
from datetime import UTC, datetime

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from connectors.errors import SourceError
from connectors.kafka import poller
from tests.connectors.kafka.helpers import PNG, committed, kafka_source, produce, wait_until
from tests.servers import strict_kafka_broker

NOW_MS = round(datetime.now(UTC).timestamp() * 1000)


def test_member_whose_name_another_one_takes_lets_go_of_all_and_does_not_come_back(
    tmp_path, topic, monkeypatch
):
    monkeypatch.setattr(poller, "_COMMIT_AGAIN_S", 0.2)
    options = {"until_end": False, "group_instance_id": "w1"}
    with strict_kafka_broker(tmp_path) as address:
        admin = KafkaAdminClient(bootstrap_servers=address)
        admin.create_topics([NewTopic(topic, 1, 1)])
        admin.close()
        for _ in range(2):
            produce(address, topic, value=PNG, partition=0, timestamp_ms=NOW_MS)
        first, second = (kafka_source(address, topic, **options) for _ in range(2))
        handovers, raised = [], []
        first.on_handover = handovers.append
        with first:
            first.commit(first.read().position)
            wait_until(lambda: committed(address, topic) == 1)
            frame = first.read()

            def read_on():
                with pytest.raises(SourceError) as caught:
                    first.read()
                raised.append(caught.value)

            reader = threading.Thread(target=read_on, daemon=True)
            reader.start()
            with second:
                second.read()
                first.commit(frame.position)
                wait_until(lambda: raised)
    [handover], [error] = handovers, raised
    assert handover.partitions == {f"{topic}/0"}
    assert handover.over.is_set()
    assert not error.recoverable
    assert str(error).endswith(
        "another member has taken its group_instance_id; "
        "accepted: a group_instance_id of its own for each worker"
    )
