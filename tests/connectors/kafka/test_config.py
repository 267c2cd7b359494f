"""What is said of options that kafka-python does not have."""

import pytest

from connectors.kafka.config import KafkaSourceConfig


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("fetch_max_byte", "did you mean 'fetch_max_bytes'? "),  # and not fetch_min_bytes
        ("xyzzy", ""),
    ],
)
def test_an_unknown_option_is_named_with_the_one_most_like_it(option, hint):
    config = KafkaSourceConfig(bootstrap="h:1", options={option: 1})
    assert config.find_faults() == {
        "options": f"unknown option {option!r}; {hint}accepted: kafka-python's options"
    }
