"""The `ledger` topic as its writer reads it: every partition, from where the writer's own index says.

There is one writer, so no consumer group shares the partitions out: nothing is rebalanced while InfluxDB is away for
hours. The group's name is only for the committed positions, by which `dailyread status` tells the lag.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from collectors.publisher import PRODUCER_OPTIONS
from dailyread.config import KafkaConfig
from dailyread.kafka import check_topics, client_options, consumer
from metering.messages import DeadLetter, encode_dead_letter
from storage.writer import Message

log = logging.getLogger(__name__)

MESSAGES_MAX = 5_000  # in one batch
FETCH_BYTES_MAX = 8_000_000
PARTITION_FETCH_BYTES_MAX = 1_048_588  # a message can be as large as that
LOOK_EVERY_S = 5.0  # how often it is asked where the topic ends, which also shows whether Kafka is there
ANSWER_WITHIN_MS = 3_000
ACKNOWLEDGED_WITHIN_S = 30.0
RETRY_S, RETRY_MAX_S = 0.5, 30.0


class LedgerChanged(Exception):
    """The topic is not the one that the index speaks of."""


class KafkaLedger:
    """The topic, read in batches; opening it raises KafkaError, TopicsError or LedgerChanged.

    `wait` is called with seconds while Kafka is away, and may raise to give up.
    """

    def __init__(self, config: KafkaConfig, group: str, positions: Mapping[int, int], wait: Callable[[float], None]) -> None:
        self.name = config.topics.ledger
        self.away = False
        self.lag = 0  # messages not read yet, as of the last look
        self._config = config
        self._wait = wait
        self._producer: KafkaProducer | None = None
        self._looked_s = 0.0
        self._next: dict[TopicPartition, int] = {}
        check_topics(config, ("ledger", "dead_letter"))
        self._consumer: KafkaConsumer = consumer(
            config,
            group_id=group,
            auto_offset_reset="none",
            max_poll_records=MESSAGES_MAX,
            fetch_max_bytes=FETCH_BYTES_MAX,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES_MAX,
        )
        try:
            self._seek(positions)
        except BaseException:
            self._consumer.close(timeout_ms=0)
            raise

    def read(self, timeout_s: float) -> list[Message]:
        """The next messages, at most `MESSAGES_MAX`; none where none came in time, or Kafka is away."""
        polled = self._poll(timeout_s)
        found = [
            Message(partition.partition, message.offset, message.value or b"")
            for partition, messages in polled.items()
            for message in messages
        ]
        if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            self._look()
        return found

    def at_end(self) -> bool:
        """Whether all that is in the topic now has been read; False while Kafka is away."""
        self._look()
        return not self.away and self.lag == 0

    def commit(self, positions: Mapping[int, int]) -> None:
        """Tells the group's positions; the index has them already, so a failure is only seen by those who look."""
        offsets = {TopicPartition(self.name, number): OffsetAndMetadata(at) for number, at in positions.items()}
        try:
            self._consumer.commit(offsets, timeout_ms=ANSWER_WITHIN_MS)
        except KafkaError as error:
            log.debug("positions not committed: %s", error)

    def dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Sends them, again and again until the broker has acknowledged them all; some may come twice."""
        delay_s = RETRY_S
        while True:
            try:
                self._send(letters)
                return
            except KafkaError as error:
                self._say_away(error)
                self._drop_producer()
                self._wait(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)

    def close(self) -> None:
        """Ends the connections; to be called once."""
        self._drop_producer()
        self._consumer.close(autocommit=False, timeout_ms=1_000)

    def _poll(self, timeout_s: float) -> dict[TopicPartition, list[Any]]:
        try:
            polled = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        except KafkaError as error:  # now and then, where a connection breaks while it is being made
            if not error.retriable:
                raise
            self._say_away(error)
            for partition, at in self._next.items():  # what had come is not passed over
                self._consumer.seek(partition, at)
            self._wait(RETRY_S)
            return {}
        self._next |= {partition: messages[-1].offset + 1 for partition, messages in polled.items() if messages}
        return polled  # type: ignore[no-any-return]

    def _seek(self, positions: Mapping[int, int]) -> None:
        partitions = [TopicPartition(self.name, number) for number in range(self._config.partitions)]
        self._consumer.assign(partitions)
        begins, ends = self._consumer.beginning_offsets(partitions), self._consumer.end_offsets(partitions)
        for partition in partitions:
            at = positions.get(partition.partition, 0)
            if not begins[partition] <= at <= ends[partition]:
                raise LedgerChanged(_changed(partition, begins[partition], ends[partition], at))
            self._consumer.seek(partition, at)
            self._next[partition] = at

    def _look(self) -> None:
        partitions = list(self._consumer.assignment())
        try:
            ends = self._consumer.end_offsets(partitions, timeout_ms=ANSWER_WITHIN_MS)
        except KafkaError as error:
            self._say_away(error)
        else:
            self.lag = sum(ends[partition] - self._consumer.position(partition) for partition in partitions)
            if self.away:
                self.away = False
                log.info("Kafka is back")
        self._looked_s = time.monotonic()

    def _say_away(self, error: Exception) -> None:
        if not self.away:
            self.away = True
            log.warning("Kafka at %s is away: %s; trying until it is back", ", ".join(self._config.bootstrap_servers), error)

    def _send(self, letters: Sequence[DeadLetter]) -> None:
        if self._producer is None:
            self._producer = KafkaProducer(**client_options(self._config), **PRODUCER_OPTIONS)
        topic = self._config.topics.dead_letter
        futures = [self._producer.send(topic, value=encode_dead_letter(letter)) for letter in letters]
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
            log.debug("the producer of dead letters ended in the middle: %s", error)


def _changed(partition: TopicPartition, begins: int, ends: int, at: int) -> str:
    where = f"{partition.topic}[{partition.partition}]"
    if at < begins:
        return f"{where} begins at offset {begins}, and is to be read from {at}: restore the topic from a backup"
    return (
        f"{where} ends at offset {ends}, and is to be read from {at}: it was made anew."
        " `dailyread rebuild influx` writes what it holds now"
    )
