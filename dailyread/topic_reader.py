"""Reading whole topics in batches, every partition, from where the reader's own books say; patient while Kafka is away.

There is one reader, so no consumer group shares the partitions out: nothing is rebalanced while what is behind it is away
for hours. The group's name is only for the committed positions, by which a person can tell the lag.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from dailyread.config import KafkaConfig
from dailyread.kafka import consumer
from dailyread.presence import RETRY_S, Presence

log = logging.getLogger(__name__)

MESSAGES_MAX = 5_000  # in one batch
FETCH_BYTES_MAX = 8_000_000
PARTITION_FETCH_BYTES_MAX = 1_048_588  # a message can be as large as that
LOOK_EVERY_S = 5.0  # how often it is asked where the topics end, which also shows whether Kafka is there
ANSWER_WITHIN_MS = 3_000


class TopicChanged(Exception):
    """A topic is not the one that the reader's books speak of."""


class Read(NamedTuple):
    """A message as it stands in its topic. `timestamp_ms` is when the broker appended it, or what its sender said."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes


class TopicReader:
    """Some partitions, read in batches; opening it raises KafkaError or TopicChanged.

    `positions` says where to go on. A partition that is not in it is read from the first message as late as `since_ms`,
    or from its start. `wait` is called with seconds while Kafka is away, and may raise to give up. `advice` is what to do
    about a topic that was made anew.
    """

    def __init__(
        self, config: KafkaConfig, partitions: Sequence[TopicPartition], group: str, positions: Mapping[TopicPartition, int],
        *, presence: Presence, wait: Callable[[float], None], advice: str, since_ms: int | None = None,
    ) -> None:  # fmt: skip
        self.lag = 0  # messages not read yet, as of the last look
        self._presence, self._wait, self._advice = presence, wait, advice
        self._looked_s = 0.0
        self._next: dict[TopicPartition, int] = {}
        self._first_ends: dict[TopicPartition, int] = {}
        self._consumer: KafkaConsumer = consumer(
            config,
            group_id=group,
            auto_offset_reset="none",
            max_poll_records=MESSAGES_MAX,
            fetch_max_bytes=FETCH_BYTES_MAX,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES_MAX,
        )
        try:
            self._seek(list(partitions), positions, since_ms)
        except BaseException:
            self._consumer.close(timeout_ms=0)
            raise

    @property
    def caught_up(self) -> bool:
        """Whether all that was there when it was opened has been read."""
        return all(self._next[partition] >= end for partition, end in self._first_ends.items())

    def read(self, timeout_s: float) -> list[Read]:
        """The next messages, at most `MESSAGES_MAX`; none where none came in time, or Kafka is away."""
        polled = self._poll(timeout_s)
        found = [
            Read(place.topic, place.partition, message.offset, message.timestamp, message.value or b"")
            for place, messages in polled.items()
            for message in messages
        ]
        if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            self._look()
        return found

    def at_end(self) -> bool:
        """Whether all that is in the topics now has been read; False while Kafka is away."""
        self._look()
        return not self._presence.away and self.lag == 0

    def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Tells the group's positions; our own books have them already, so a failure is only seen by those who look."""
        offsets = {place: OffsetAndMetadata(at) for place, at in positions.items()}
        try:
            self._consumer.commit(offsets, timeout_ms=ANSWER_WITHIN_MS)
        except KafkaError as error:
            log.debug("positions not committed: %s", error)

    def close(self) -> None:
        """Ends the connections; to be called once."""
        self._consumer.close(autocommit=False, timeout_ms=1_000)

    def _poll(self, timeout_s: float) -> dict[TopicPartition, list[Any]]:
        try:
            polled = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        except KafkaError as error:  # now and then, where a connection breaks while it is being made
            if not error.retriable:
                raise
            self._presence.gone(error)
            for place, at in self._next.items():  # what had come is not passed over
                self._consumer.seek(place, at)
            self._wait(RETRY_S)
            return {}
        self._next |= {place: messages[-1].offset + 1 for place, messages in polled.items() if messages}
        return polled  # type: ignore[no-any-return]

    def _seek(self, places: list[TopicPartition], positions: Mapping[TopicPartition, int], since_ms: int | None) -> None:
        self._consumer.assign(places)
        begins, ends = self._consumer.beginning_offsets(places), self._consumer.end_offsets(places)
        found = {} if since_ms is None else self._consumer.offsets_for_times(dict.fromkeys(places, since_ms))
        for place in places:
            first = begins[place] if since_ms is None else found[place].offset if found.get(place) else ends[place]
            at = positions.get(place, first)
            if not begins[place] <= at <= ends[place]:
                raise TopicChanged(_changed(place, begins[place], ends[place], at, self._advice))
            self._consumer.seek(place, at)
            self._next[place] = at
        self._first_ends = dict(ends)

    def _look(self) -> None:
        places = list(self._consumer.assignment())
        try:
            ends = self._consumer.end_offsets(places, timeout_ms=ANSWER_WITHIN_MS)
        except KafkaError as error:
            self._presence.gone(error)
        else:
            self.lag = sum(ends[place] - self._consumer.position(place) for place in places)
            self._presence.back()
        self._looked_s = time.monotonic()


def _changed(place: TopicPartition, begins: int, ends: int, at: int, advice: str) -> str:
    where = f"{place.topic}[{place.partition}]"
    if at < begins:
        return f"{where} begins at offset {begins}, and is to be read from {at}: restore the topic from a backup"
    return f"{where} ends at offset {ends}, and is to be read from {at}: it was made anew. {advice}"
