"""How large records may be after refusals."""

from connectors.kafka.client import MAX_RECORD_BYTES
from connectors.kafka.limits import SizeLimits
from connectors.record import Topic


def test_limit_is_that_of_the_topic_and_larger_bodies_are_tried_again_later():
    now_s = [0.0]
    limits = SizeLimits(lambda: now_s[0])
    assert limits.of(Topic.MASKLETS) == MAX_RECORD_BYTES
    limits.learn(Topic.MASKLETS, 4_000_000)
    assert limits.of(Topic.MASKLETS) == 3_000_000
    assert limits.of(Topic.DLQ) == MAX_RECORD_BYTES
    now_s[0] = 599.0
    assert limits.of(Topic.MASKLETS) == 3_000_000
    now_s[0] = 600.0
    assert limits.of(Topic.MASKLETS) == 4_000_000
    limits.learn(Topic.MASKLETS, 4_000_000)
    assert limits.of(Topic.MASKLETS) == 3_000_000
    now_s[0] = 1e9
    assert limits.of(Topic.MASKLETS) == MAX_RECORD_BYTES
