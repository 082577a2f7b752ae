"""Of several errors that kafka-python logs on its way to giving up, the most telling one is named."""

from __future__ import annotations

import logging

import pytest
from kafka.errors import KafkaConnectionError, KafkaTimeoutError, RequestTimedOutError, SaslAuthenticationFailedError

from dailyread.config import KafkaConfig
from dailyread.kafka_trouble import CLOSED, NotReached, told_why

ENDED = KafkaConnectionError("socket disconnected")
LATE = RequestTimedOutError("Request timed out after 153 ms")
REFUSED = SaslAuthenticationFailedError("Invalid username or password")


@pytest.mark.parametrize(
    ("logged", "named"),
    [
        ([], "no answer"),
        ([LATE], "no answer in time"),
        ([ENDED, LATE], CLOSED),  # the last attempt had hardly any time left
        ([LATE, ENDED, REFUSED], "user and password are refused: Invalid username or password"),
        ([KafkaConnectionError("111 ECONNREFUSED"), LATE], "connection refused"),
    ],
)
def test_the_most_telling_error_is_named(logged: list[Exception], named: str) -> None:
    config = KafkaConfig(bootstrap_servers=("127.0.0.1:9092",), partitions=2)
    with pytest.raises(NotReached) as caught:
        give_up(config, logged)
    assert str(caught.value) == f"127.0.0.1:9092 (no TLS, no password): {named}"


def give_up(config: KafkaConfig, logged: list[Exception]) -> None:
    """As kafka-python does: it logs, and then raises that it was in vain."""
    with told_why(config):
        for error in logged:
            logging.getLogger("kafka.net").error("%s", error)
        raise KafkaTimeoutError("Unable to bootstrap")
