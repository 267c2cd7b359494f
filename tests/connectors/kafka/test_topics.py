"""Which topics a sink makes, and what it says of those that are not there."""

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import TopicAuthorizationFailedError
from pydantic import ValidationError

from connectors.errors import TopicMissingError
from connectors.kafka.config import TopicsConfig
from connectors.kafka.sink import KafkaSink
from connectors.kafka.topics import Topics
from connectors.record import Topic
from tests.connectors.kafka.helpers import consume, event, events, numbers, sink_config
from tests.servers import strict_kafka_broker


@pytest.fixture
def admin(kafka_bootstrap):
    client = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    yield client
    client.close()


def test_names_take_prefix_and_replacement():
    topics = Topics(sink_config("h:1", "alerts", topics={"prefix": "farm."}), [])
    assert topics.name_of(Topic.EVENTS) == "farm.alerts"
    assert topics.name_of(Topic.TRACKS) == "farm.maskstream.tracks.v1"


@pytest.mark.parametrize("fields", [{"prefix": "a b"}, {"names": {"events": "x" * 250}}])
def test_name_that_no_broker_takes_is_refused(fields):
    with pytest.raises(ValidationError, match="bad topic name"):
        TopicsConfig.model_validate(fields)


@pytest.mark.parametrize("names", [{"events": "x", "status": "x"}, {"events": Topic.DLQ.value}])
def test_kinds_that_are_kept_differently_have_topics_of_their_own(names):
    with pytest.raises(ValidationError, match="is there for two kinds of record; accepted: one"):
        TopicsConfig.model_validate({"names": names})


def test_missing_topics_are_made_as_configured(tmp_path):
    with strict_kafka_broker(tmp_path) as address:
        setup = {"prefix": "farm.", "partitions": 3}
        with KafkaSink(config=sink_config(address, "alerts", topics=setup)) as sink:
            sink.write(events(0))
        client = KafkaAdminClient(bootstrap_servers=address)
        described = client.describe_topics()
        status = ConfigResource(ConfigResourceType.TOPIC, "farm.maskstream.status.v1")
        alerts = ConfigResource(ConfigResourceType.TOPIC, "farm.alerts")
        assert "'compact'" in str(client.describe_configs([status]))
        assert "'compact'" not in str(client.describe_configs([alerts]))
        made = [topic for topic in described if not topic["name"].startswith("__")]
        assert {topic["name"]: len(topic["partitions"]) for topic in made} == {
            "farm.alerts": 3,
            "farm.maskstream.dlq.v1": 3,
            "farm.maskstream.masklets.v1": 3,
            "farm.maskstream.status.v1": 3,
            "farm.maskstream.tracks.v1": 3,
        }
        client.close()


def test_topic_that_would_lose_records_by_its_policy_is_named_once_and_used(tmp_path, caplog):
    policies = {"alerts": "compact", "maskstream.status.v1": "delete"}
    with strict_kafka_broker(tmp_path) as address:
        client = KafkaAdminClient(bootstrap_servers=address)
        for name, policy in policies.items():
            client.create_topics({name: {"configs": {"cleanup.policy": policy}}})
        client.close()
        with KafkaSink(config=sink_config(address, "alerts")) as sink:
            sink.write(events(0))
            sink.write([event(1, topic=Topic.STATUS)])
            sink._topics.ensure(())
        assert numbers(consume(address, "alerts", 1)) == [0]
    warned = [record.getMessage() for record in caplog.records if "policy" in record.getMessage()]
    assert [text.partition(",")[0] for text in warned] == [
        "topic alerts: cleanup.policy is 'compact'",
        "topic maskstream.status.v1: cleanup.policy is 'delete'",
    ]


@pytest.mark.parametrize(
    ("exists", "told"),
    [(True, TopicAuthorizationFailedError()), (True, ValueError()), (False, None)],
)
def test_right_to_describe_and_write_is_enough_where_the_topic_exists(
    kafka_bootstrap, topic, admin, monkeypatch, caplog, exists, told
):
    def refuse(_, topics, **__):
        code = TopicAuthorizationFailedError.errno
        return {"topics": [{"name": name, "error_code": code} for name in topics]}

    if exists:
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})

    def refuse_to_tell(*_, **__):
        raise told  # kafka-python raises ValueError at kinds of values that it does not know

    monkeypatch.setattr(KafkaAdminClient, "create_topics", refuse)
    monkeypatch.setattr(KafkaAdminClient, "describe_configs", refuse_to_tell)
    config = sink_config(kafka_bootstrap, topic, topics={"prefix": topic, "names": {"events": ""}})
    with KafkaSink(config=config) as sink:
        if exists:
            sink.write(events(0))
        else:
            for _ in range(2):
                with pytest.raises(TopicMissingError, match="cannot be made: TopicAuthorization"):
                    sink.write(events(0))
    warned = [record for record in caplog.records if "cannot be made" in record.getMessage()]
    assert len(warned) == 1  # of the others, which are missing


def test_missing_topic_is_named_and_not_made_unless_wanted(kafka_bootstrap, topic, admin):
    batch = events(0)
    config = sink_config(kafka_bootstrap, topic, topics={"create": "never"})
    with KafkaSink(config=config) as sink:
        for _ in range(2):
            with pytest.raises(TopicMissingError, match=f"no topic '{topic}'") as caught:
                sink.write(batch)
            assert caught.value.recoverable
        assert topic not in admin.list_topics()
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
        sink.write(batch)
    assert numbers(consume(kafka_bootstrap, topic, 1)) == [0]
