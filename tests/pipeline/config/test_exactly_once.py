"""What exactly once asks of a configuration, said before anything is opened."""

import pytest

from pipeline.config.loading import parse_config
from pipeline.errors import ConfigError

CONFIG = """\
deployment: farm
worker: gate
streams:
  - id: "*"
    source: {type: kafka, bootstrap: "k:9092", group_id: cameras}
    concepts: [deer]
sinks:
  - {type: kafka, bootstrap: "k:9092", delivery: exactly_once, transactions: {commit_interval_s: 1}}
  - {type: jsonl, folder: out}
"""


def problems_of(text):
    with pytest.raises(ConfigError) as found:
        parse_config(text, name="c.yaml")
    return list(found.value.problems)


def test_streams_and_sink_on_one_cluster_are_delivered_exactly_once():
    config = parse_config(CONFIG)
    plan = config.exactly_once
    assert (plan.sink, plan.writer, plan.groups) == ("kafka", "farm/gate/kafka", {"cameras"})
    assert (plan.interval_s, plan.max_results) == (1.0, 256)
    kafka, jsonl = map(plan.complete, config.sinks)
    assert kafka.transactions.id == "farm/gate/kafka"
    assert jsonl == config.sinks[1]
    assert parse_config(CONFIG.replace("exactly", "at_least")).exactly_once is None


def test_writer_may_be_named():
    text = CONFIG.replace("{commit_interval_s: 1}", "{id: barn}")
    assert parse_config(text).exactly_once.writer == "barn"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            '{type: kafka, bootstrap: "k:9092", group_id: cameras}',
            "{type: world}",
            (
                "streams[0].source.type: world, while sink 'kafka' delivers exactly_once "
                "(accepted: kafka, or at_least_once for the sink)"
            ),
        ),
        (
            '"k:9092", group_id',
            '"other:9092", group_id',
            (
                "streams[0].source.bootstrap: is not that of sink 'kafka', which delivers "
                "exactly_once (accepted: the same: both are on one cluster)"
            ),
        ),
        (
            "group_id: cameras",
            "sasl_plain_username: deer",
            "streams[0].source.sasl_plain_username: is not that of sink 'kafka'",
        ),
        (
            "- {type: jsonl, folder: out}",
            '- {type: kafka, name: b, bootstrap: "k:9092", delivery: exactly_once}',
            "sinks[1].delivery: a second exactly_once (accepted: one such sink)",
        ),
        (
            "    concepts",
            "    paused: true\n    concepts",
            "streams[0].paused: true, while sink 'kafka' delivers exactly_once (accepted: false)",
        ),
        ("worker: gate", "state: {resume: false}", "state.resume: false, with exactly_once"),
        (
            "worker: gate",
            'state: {topic: {bootstrap: "k:9092"}}',
            "state.topic: its snapshots go with no transaction",
        ),
        ("delivery: exactly_once", "delivery: exactly_once, acks: leader", "accepted: acks: all"),
    ],
)
def test_what_cannot_be_delivered_exactly_once_is_refused(old, new, told):
    [problem] = problems_of(CONFIG.replace(old, new, 1))
    assert told in problem
