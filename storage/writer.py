"""From the `ledger` topic to InfluxDB: write, remember, then say so to Kafka; whatever fails is done again.

The order makes it safe to stop anywhere. Records are with InfluxDB before the local index knows their offsets; the index
has them, and what could not be used is in the dead-letter topic, before the position in the topic moves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from metering.gasday import GasDays
from metering.messages import DeadLetter, LedgerMessage, decode_change
from metering.wire import FrameError
from storage.influx_client import InfluxClient
from storage.ledger_influx import InfluxLedgerStore
from storage.ledger_store import BadMessage, check
from storage.offset_index import OffsetIndex

log = logging.getLogger(__name__)


class Message(NamedTuple):
    """A message of the `ledger` topic, as it stands there."""

    partition: int
    offset: int
    value: bytes


class LedgerTopic(Protocol):
    """What the writer needs of Kafka."""

    name: str

    def commit(self, positions: Mapping[int, int]) -> None:
        """Says how far each partition has been written, for people who look at the lag. Failing does no harm."""

    def dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Sends them to the dead-letter topic; returns when the broker has them."""


@dataclass
class WriterCounts:
    """Since the start: records written, records too late to change anything, messages that went to the dead letters."""

    written: int = 0
    late: int = 0
    dead_letters: int = 0


class LedgerWriter:
    """Writes batches of messages. `positions` is where to go on in each partition; partitions not in it from the start."""

    def __init__(self, topic: LedgerTopic, client: InfluxClient, index: OffsetIndex, gas_days: GasDays) -> None:
        self.positions = index.positions()
        self.dead = 0
        self.store = InfluxLedgerStore(client, index, self._refused, gas_days)
        self._topic = topic
        self._index = index
        self._letters: list[DeadLetter] = []
        self._origin: dict[int, Message] = {}

    @property
    def counts(self) -> WriterCounts:
        """What has been done so far."""
        return WriterCounts(self.store.counts.written, self.store.counts.late, self.dead)

    def write(self, messages: Sequence[Message]) -> None:
        """Writes the messages, of each partition in the order of the topic, and moves the positions behind them.

        Returns when all of it is done and acknowledged. Raises NeedsAttention, and what `wait` and the topic raise; then
        nothing has moved, and the same messages may come again.
        """
        self._letters, self._origin = [], {}
        good = [change for message in messages if (change := self._decoded(message)) is not None]
        self.store.write(good)
        if self._letters:
            self._topic.dead_letters(self._letters)
            self.dead += len(self._letters)
        moved = {message.partition: message.offset + 1 for message in messages}
        self._index.set_positions(moved)
        self.positions |= moved
        self._topic.commit(moved)

    def _decoded(self, message: Message) -> LedgerMessage | None:
        try:
            change = decode_change(message.value)
            check(change)
        except (FrameError, BadMessage) as error:
            self._letter(message, str(error))
            return None
        self._origin[id(change)] = message
        return change

    def _refused(self, change: LedgerMessage, reason: str) -> None:
        self._letter(self._origin[id(change)], f"InfluxDB cannot take it: {reason}")

    def _letter(self, message: Message, reason: str) -> None:
        log.error("%s[%d] offset %d: %s", self._topic.name, message.partition, message.offset, reason)
        self._letters.append(
            DeadLetter(
                topic=self._topic.name,
                partition=message.partition,
                offset=message.offset,
                number=None,
                reason=reason,
                payload=message.value,
            )
        )
