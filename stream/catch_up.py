"""Bringing a partition's fact store up to the first frame that is to be worked on, from the topic itself.

The store is fed before a frame is acknowledged, so normally there is nothing to do. It lacks frames where this machine
never had the partition, or not for a while, or where its disk was lost: then they are read once more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from kafka import KafkaConsumer, TopicPartition

from metering.gasday import to_datetime

log = logging.getLogger(__name__)

Append = Callable[[int, datetime, bytes], None]


class FactsGone(RuntimeError):
    """Frames that the fact store lacks are no longer in the topic."""


class Store(Protocol):
    """What is needed of a fact store."""

    def next_offset(self) -> int:
        """The offset of the first frame that is not in it."""

    def close(self) -> None:
        """Close it."""


class CatchUp:
    """Reads `facts[partition]` from `store.next_offset()` and gives each frame to `append`. Runs in a thread."""

    def __init__(self, kafka: Mapping[str, Any], topic: str, partition: int, store: Store, append: Append) -> None:
        self._kafka = kafka
        self._tp = TopicPartition(topic, partition)
        self._store = store
        self._append = append
        self._stopped = threading.Event()
        self._idle = threading.Lock()

    def run(self, until: int) -> None:
        """Returns when the store has every frame before `until`, or after `stop`. FactsGone where it can't."""
        with self._idle:
            missing = until - self._store.next_offset()
            if missing <= 0 or self._stopped.is_set():
                return
            log.info("facts[%d]: reading %d frames again for the fact store", self._tp.partition, missing)
            consumer = KafkaConsumer(**self._kafka, enable_auto_commit=False, group_id=None)
            try:
                self._read(consumer, until)
            finally:
                consumer.close()

    def stop(self) -> None:
        """Stops `run`, waits for its end, and closes the store."""
        self._stopped.set()
        with self._idle:
            self._store.close()

    def _read(self, consumer: KafkaConsumer, until: int) -> None:
        start = self._store.next_offset()
        consumer.assign([self._tp])
        earliest = consumer.beginning_offsets([self._tp])[self._tp]
        if earliest > start:
            raise FactsGone(
                f"{self._tp.topic}[{self._tp.partition}] begins at offset {earliest}, but the fact store has only the"
                f" frames before {start}: restore the topic or the fact store from a backup"
            )
        consumer.seek(self._tp, start)
        while self._store.next_offset() < until and not self._stopped.is_set():
            for messages in consumer.poll(timeout_ms=200).values():
                self._take(messages, until)

    def _take(self, messages: list[Any], until: int) -> None:
        for message in messages:
            if message.offset >= until or self._stopped.is_set():
                return
            self._append(message.offset, instant_of_ms(message.timestamp), message.value or b"")


def instant_of_ms(timestamp_ms: int) -> datetime:
    """The instant of a Kafka timestamp."""
    return to_datetime(timestamp_ms * 1000)
