"""Sending a few messages to Kafka, again and again until it has acknowledged them all; some may come twice."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from collectors.publisher import PRODUCER_OPTIONS
from dailyread.config import KafkaConfig
from dailyread.kafka import client_options
from dailyread.presence import Presence, patiently

log = logging.getLogger(__name__)

ACKNOWLEDGED_WITHIN_S = 30.0


class Outgoing(NamedTuple):
    """A message to send. `partition` null: any; `timestamp_ms` null: now."""

    topic: str
    value: bytes
    partition: int | None = None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int | None = None


class Sender:
    """Sends when asked. `wait` is called with seconds while Kafka is away, and may raise to give up; `options` are more of
    the producer's."""

    def __init__(self, config: KafkaConfig, presence: Presence, wait: Callable[[float], None], **options: Any) -> None:
        self._config, self._presence, self._wait = config, presence, wait
        self._options = options
        self._producer: KafkaProducer | None = None

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Returns when the broker has acknowledged all of them. Raises what sending the same again cannot mend."""
        patiently(self._presence, self._wait, lambda: self._send(messages), self._drop_producer)

    def close(self) -> None:
        """Ends the connections; to be called once."""
        self._drop_producer()

    def _send(self, messages: Sequence[Outgoing]) -> None:
        if self._producer is None:
            self._producer = KafkaProducer(**client_options(self._config), **PRODUCER_OPTIONS, **self._options)
        futures = [
            self._producer.send(
                each.topic, value=each.value, key=each.key, partition=each.partition, headers=list(each.headers),
                timestamp_ms=each.timestamp_ms,
            )
            for each in messages
        ]  # fmt: skip
        until_s = time.monotonic() + ACKNOWLEDGED_WITHIN_S
        for future in futures:
            future.get(timeout=max(0.1, until_s - time.monotonic()))

    def _drop_producer(self) -> None:
        if self._producer is None:
            return
        producer, self._producer = self._producer, None
        try:
            producer.close(timeout=0.5)
        except KafkaError as error:
            log.debug("a producer ended in the middle: %s", error)
