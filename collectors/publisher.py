"""The publisher: from the outbox to Kafka, in its own thread, until Kafka has acknowledged every fact.

A fact leaves the outbox only when the broker has acknowledged its frame (`acks=all`, idempotent producer). What was sent and
not acknowledged when the program ends is sent again after the next start, so a fact can be in the topic twice, as an
identical copy, never not at all.

kafka-python's producer can stop for good after a long outage, and its buffer has no bound. So few facts are in flight at a
time, and where nothing moves for `stall_s` the producer is given up, which also ends its busy attempts to connect. A new one
is made as soon as Kafka answers, and everything that waits is sent again from the outbox. A failed frame may still be in the
log: it is treated the same way.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from kafka.errors import KafkaError

from collectors.frames import Message, Route, pack
from collectors.outbox import Outbox, OutboxError

log = logging.getLogger(__name__)

# The safe options of kafka-python's producer; addresses and security come beside them. The delivery timeout is a day: after
# it the producer would never send again.
PRODUCER_OPTIONS: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "max_in_flight_requests_per_connection": 5,
    "delivery_timeout_ms": 86_400_000,
    "max_block_ms": 5_000,
    "allow_auto_create_topics": False,
}
IN_FLIGHT_FACTS_MAX = 1_000
BATCH_FACTS = 250
GATHER_S = 0.02  # facts that come within it share frames
STALL_S_MAX = 300.0
RETRY_S, RETRY_S_MAX = 1.0, 30.0


class Producer(Protocol):
    """What is used of `kafka.KafkaProducer`."""

    def send(self, topic: str, *, value: bytes, partition: int, timestamp_ms: int | None) -> Any:
        """A future with `add_callback` and `add_errback`."""

    def close(self, timeout: float) -> None:
        """End; raises where messages are still waiting."""


@dataclass
class PublisherCounters:
    """What happened since the start, for metrics; `away` while Kafka cannot be reached or refuses."""

    facts_acknowledged: int = 0
    frames_acknowledged: int = 0
    bytes_acknowledged: int = 0
    frames_failed: int = 0
    producers_made: int = 0
    away: bool = False


class Publisher:
    """Publishes what is in the outbox. `make_producer` may raise: then Kafka is away, and it is asked again later."""

    def __init__(self, outbox: Outbox, make_producer: Callable[[], Producer], route: Route, stall_s: float = 10.0) -> None:
        self.counters = PublisherCounters()
        self._outbox = outbox
        self._make_producer = make_producer
        self._route = route
        self._stall_s = self._stall_s_first = stall_s
        self._producer: Producer | None = None
        self._generation = 0
        self._in_flight: dict[int, Message] = {}
        self._frame_number = 0
        self._last_sent = 0
        self._sent_facts = 0
        self._to_acknowledge: list[int] = []
        self._finished: queue.SimpleQueue[tuple[int, int, BaseException | None]] = queue.SimpleQueue()
        self._progress_at = time.monotonic()
        self._retry_s = RETRY_S
        self._wake = threading.Event()
        self._emptied = threading.Condition()
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Begin to publish."""
        self._outbox.on_put(self._wake.set)
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Wait up to `timeout_s` for acknowledgements of what is in flight, and end; the rest stays in the outbox."""
        self._stop_at = time.monotonic() + timeout_s
        self._wake.set()
        self._thread.join(timeout_s + 1.0)

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until everything that was put is acknowledged; False where it is not in time."""
        with self._emptied:
            return self._emptied.wait_for(lambda: self._outbox.backlog().facts == 0, timeout_s)

    def _run(self) -> None:
        while self._stop_at is None:
            self._settle()
            if self._producer is not None or self._renew():
                self._send()
                self._watch()
            self._wait(self._retry_s if self._producer is None else 1.0)
        while self._in_flight and time.monotonic() < self._stop_at:
            self._wait(0.1)
            self._settle()
        if self._producer is not None:
            give_up(self._producer)

    def _wait(self, timeout_s: float) -> None:
        if self._wake.wait(timeout_s) and self._stop_at is None:
            time.sleep(GATHER_S)
        self._wake.clear()

    def _renew(self) -> bool:
        """A new producer in place of the one there is, and everything again from the outbox; False while Kafka is away."""
        try:
            made = self._make_producer()
        except Exception as error:  # whatever it is, the meters' data waits safely and the next try may work
            self._away(described(error))
            self._drop()
            return False
        self._drop()
        self._producer = made
        self._generation += 1
        self.counters.producers_made += 1
        self._sent_facts = self._last_sent = 0
        self._progress_at = time.monotonic()
        if self._waiting() == 0:
            self._back()
        return True

    def _send(self) -> None:
        try:
            while self._sent_facts < IN_FLIGHT_FACTS_MAX and self._send_batch():
                pass
        except Exception as error:  # the library raises many kinds; none may end the publishing
            self._failed(described(error))

    def _send_batch(self) -> bool:
        assert self._producer is not None
        stored = self._outbox.pending(BATCH_FACTS, after=self._last_sent)
        for message in pack(stored, self._route):
            self._frame_number += 1
            if not self._in_flight:
                self._progress_at = time.monotonic()
            self._in_flight[self._frame_number] = message
            self._sent_facts += len(message.ids)
            future = self._producer.send(
                message.topic, value=message.value, partition=message.partition, timestamp_ms=message.timestamp_ms
            )
            future.add_callback(partial(self._on_success, self._generation, self._frame_number))
            future.add_errback(partial(self._on_failure, self._generation, self._frame_number))
        if stored:
            self._last_sent = stored[-1].id
        return bool(stored)

    def _on_success(self, generation: int, number: int, _metadata: object) -> None:
        self._finished.put((generation, number, None))
        self._wake.set()

    def _on_failure(self, generation: int, number: int, error: BaseException) -> None:
        self._finished.put((generation, number, error))
        self._wake.set()

    def _settle(self) -> None:
        """Take the broker's answers: what is acknowledged leaves the outbox; after a failure all is sent again."""
        failure = ""
        while not self._finished.empty():
            generation, number, error = self._finished.get()
            message = self._in_flight.get(number) if generation == self._generation else None
            if message is None:
                continue
            if error is not None:
                self.counters.frames_failed += 1
                failure = described(error)
                continue
            del self._in_flight[number]
            self._acknowledged(message)
        self._empty()
        if failure:
            self._failed(failure)

    def _acknowledged(self, message: Message) -> None:
        self.counters.frames_acknowledged += 1
        self.counters.facts_acknowledged += len(message.ids)
        self.counters.bytes_acknowledged += len(message.value)
        self._to_acknowledge += message.ids
        self._sent_facts -= len(message.ids)
        self._progress_at = time.monotonic()
        self._stall_s, self._retry_s = self._stall_s_first, RETRY_S
        self._back()

    def _empty(self) -> None:
        if not self._to_acknowledge:
            return
        try:
            self._outbox.acknowledge(self._to_acknowledge)
        except OutboxError as error:
            self._away(str(error))
            return
        self._to_acknowledge = []
        with self._emptied:
            self._emptied.notify_all()

    def _failed(self, reason: str) -> None:
        self._away(reason)
        self._drop()
        self._retry_s = min(2 * self._retry_s, RETRY_S_MAX)

    def _drop(self) -> None:
        """Give the producer up; what it had in flight is in the outbox still."""
        if self._producer is not None:
            give_up(self._producer)
        self._producer = None
        self._in_flight.clear()

    def _watch(self) -> None:
        """The watchdog: where frames are in flight and none is acknowledged for long, a new producer; ever more patiently."""
        if not self._in_flight or time.monotonic() - self._progress_at < self._stall_s:
            return
        if self._renew():
            self._stall_s = min(2 * self._stall_s, STALL_S_MAX)

    def _away(self, reason: str) -> None:
        if self.counters.away:
            log.debug("still nothing goes to Kafka: %s", reason)
        else:
            log.warning("nothing goes to Kafka (%s); %d facts wait on disk", reason, self._waiting())
        self.counters.away = True

    def _back(self) -> None:
        if self.counters.away:
            log.info("Kafka takes facts again; %d wait on disk", self._waiting())
        self.counters.away = False

    def _waiting(self) -> int:
        """How many facts wait; -1 where the outbox does not say."""
        try:
            return self._outbox.backlog().facts
        except OutboxError:
            return -1


def described(error: BaseException) -> str:
    """An error in one line; kafka-python's have their kind in it."""
    return str(error) if isinstance(error, KafkaError) else f"{type(error).__name__}: {error}"


def give_up(producer: Producer) -> None:
    """End a producer that may be wedged: its `close` raises then, and leaves a thread that goes on trying, to be ended too."""
    try:
        producer.close(timeout=0)
    except Exception as error:
        log.debug("giving up a producer: %s", error)
        sender = getattr(producer, "_sender", None)
        if sender is not None:
            sender.force_close()
