"""The `ledger` topic as its writer reads it: every partition, from where the writer's own index says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kafka import TopicPartition

from dailyread.config import KafkaConfig
from dailyread.kafka import check_topics
from dailyread.presence import Presence
from dailyread.sender import Outgoing, Sender
from dailyread.topic_reader import TopicReader
from metering.messages import DeadLetter, encode_dead_letter
from storage.writer import Message

ADVICE = "`dailyread rebuild influx` writes what it holds now"


class KafkaLedger:
    """The topic, read in batches; opening it raises KafkaError, TopicsError or TopicChanged.

    `wait` is called with seconds while Kafka is away, and may raise to give up.
    """

    def __init__(self, config: KafkaConfig, group: str, positions: Mapping[int, int], wait: Callable[[float], None]) -> None:
        self.name = config.topics.ledger
        self._dead_letter = config.topics.dead_letter
        self._presence = Presence(config)
        check_topics(config, ("ledger", "dead_letter"))
        self._reader = TopicReader(
            config, [TopicPartition(self.name, number) for number in range(config.partitions)], group, self._placed(positions),
            presence=self._presence, wait=wait, advice=ADVICE,
        )  # fmt: skip
        self._sender = Sender(config, self._presence, wait)

    @property
    def away(self) -> bool:
        """Whether Kafka does not answer."""
        return self._presence.away

    @property
    def lag(self) -> int:
        """How many messages are not read yet, as of the last look."""
        return self._reader.lag

    def read(self, timeout_s: float) -> list[Message]:
        """The next messages; none where none came in time, or Kafka is away."""
        return [Message(found.partition, found.offset, found.value) for found in self._reader.read(timeout_s)]

    def at_end(self) -> bool:
        """Whether all that is in the topic now has been read; False while Kafka is away."""
        return self._reader.at_end()

    def commit(self, positions: Mapping[int, int]) -> None:
        """Tells the group's positions; the index has them already, so a failure is only seen by those who look."""
        self._reader.commit(self._placed(positions))

    def dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Sends them, again and again until the broker has acknowledged them all; some may come twice."""
        self._sender.send([Outgoing(self._dead_letter, encode_dead_letter(letter)) for letter in letters])

    def close(self) -> None:
        """Ends the connections; to be called once."""
        self._sender.close()
        self._reader.close()

    def _placed(self, positions: Mapping[int, int]) -> dict[TopicPartition, int]:
        return {TopicPartition(self.name, number): at for number, at in positions.items()}
