"""Opening a partition: its fact store and processor, and the frames that the store lacks, read from the topic itself.

The store is fed before a frame is acknowledged, so normally it lacks nothing. It does where this machine never had the
partition, or not for a while, or where its disk was lost: then those frames are read once more.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from kafka import KafkaConsumer, TopicPartition

from metering.gasday import to_datetime
from metering.ledger import Change
from metering.messages import DeadLetter
from storage.fact_store import FactStore

log = logging.getLogger(__name__)


class FactsGone(RuntimeError):
    """Frames that the fact store lacks are no longer in the topic."""


class Slice(Protocol):
    """What a processor makes of a frame, or of a part of a big one."""

    @property
    def changes(self) -> list[Change]: ...
    @property
    def states(self) -> dict[str, bytes]: ...
    @property
    def dead(self) -> list[DeadLetter]: ...


class Processor(Protocol):
    """The rules on one partition, as `stream.processor.Processor`."""

    def read(self, offset: int, timestamp: datetime, value: bytes) -> Any:
        """A frame's facts. UnknownVersion where it is of a later version than this program knows."""

    def keep(self, frames: Sequence[Any]) -> None:
        """Keep the facts of frames that are read in the fact store."""

    def follow(self, frame: Any) -> Iterator[Slice]:
        """What follows from a frame that is kept."""

    @property
    def behind(self) -> int | None:
        """The offset of the first frame of which something is left to do that is not urgent; None where nothing is."""

    def work_off(self) -> Slice:
        """A slice of what is left to do of the frame `behind`."""

    def remember(self, offset: int, timestamp: datetime, value: bytes) -> None:
        """Only keep the facts of a frame whose consequences are known."""

    @property
    def rests_on(self) -> int:
        """The offset of the first frame on which no state rests."""

    def remake(self, offset: int) -> Iterator[Slice]:
        """What follows, at that offset, from making states anew that other rules made."""

    @property
    def told(self) -> Counter[str]:
        """How many facts of the edge came, by kind; who counts them clears it."""

    closed_out: int  # how many open Days were closed out; who counts them clears it


class Opened(NamedTuple):
    """A processor and the fact store it feeds."""

    processor: Processor
    facts: FactStore


class Opening:
    """Opens `topic[partition]` by `make`, in a thread: it reads much, and may take long."""

    def __init__(self, kafka: Mapping[str, Any], topic: str, partition: int, make: Callable[[], Opened]) -> None:
        self._kafka = kafka
        self._tp = TopicPartition(topic, partition)
        self._make = make
        self._opened: Opened | None = None
        self._stopped = threading.Event()
        self._busy = threading.Lock()

    def run(self, until: int) -> Processor:
        """The processor, when its store has every frame before `until` and on which a state rests, or after `stop`.
        FactsGone where it cannot have them."""
        with self._busy:
            self._opened = self._make()
            until = max(until, self._opened.processor.rests_on)
            missing = until - self._opened.facts.next_offset()
            if missing > 0:
                log.info("%s[%d]: reading %d frames again for the fact store", *self._tp, missing)
                self._catch_up(self._opened, until)
            return self._opened.processor

    def stop(self) -> None:
        """Stops `run`, waits for its end, and closes the store."""
        self._stopped.set()
        with self._busy:
            if self._opened is not None:
                self._opened.facts.close()
                self._opened = None

    def _catch_up(self, opened: Opened, until: int) -> None:
        consumer = KafkaConsumer(**self._kafka, enable_auto_commit=False, group_id=None)
        try:
            self._seek(consumer, opened.facts.next_offset())
            while opened.facts.next_offset() < until and not self._stopped.is_set():
                for messages in consumer.poll(timeout_ms=200).values():
                    self._take(messages, opened.processor, until)
        finally:
            consumer.close()

    def _seek(self, consumer: KafkaConsumer, start: int) -> None:
        consumer.assign([self._tp])
        earliest = consumer.beginning_offsets([self._tp])[self._tp]
        if earliest > start:
            raise FactsGone(
                f"{self._tp.topic}[{self._tp.partition}] begins at offset {earliest}, but the fact store has only the"
                f" frames before {start}: restore the topic or the fact store from a backup"
            )
        consumer.seek(self._tp, start)

    def _take(self, messages: list[Any], processor: Processor, until: int) -> None:
        for message in messages:
            if message.offset >= until or self._stopped.is_set():
                return
            processor.remember(message.offset, instant_of_ms(message.timestamp), message.value or b"")


def instant_of_ms(timestamp_ms: int) -> datetime:
    """The instant of a Kafka timestamp."""
    return to_datetime(timestamp_ms * 1000)
