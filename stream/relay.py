"""The broadcast relay: what concerns many meter points is copied into every facts partition, as of its first receipt.

The `broadcast` topic has one partition, so its consumer group gives it to one of the workers: that one relays, and
publishes the ticks. A frame's offset is committed after the broker has all its copies. A relay that dies in between, or
loses the partition, makes some copies twice, which is harmless: facts have an identity, and count at their earliest receipt.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from metering.facts import AnyFact, GatewayStatus, Tick, meter_point_of
from metering.messages import DeadLetter
from metering.wire import FrameError, UnknownVersion, decode_frame, encode_frame
from stream.faults import FreezeGuard
from stream.letters import Letters
from stream.metrics import METRICS
from stream.opening import instant_of_ms
from stream.processor import RELAY
from stream.settings import WorkerSettings
from stream.sink import Sink

log = logging.getLogger(__name__)


class Relay:
    """Copies frames from `broadcast` to `facts` as long as `run` runs and the group gives it the partition."""

    def __init__(self, settings: WorkerSettings, options: Mapping[str, Any], sink: Sink, guard: FreezeGuard) -> None:
        self._settings = settings
        self._sink = sink
        self._guard = guard
        self._tp = TopicPartition(settings.topics.broadcast, 0)
        session_ms = int(settings.session_timeout_s * 1000)
        self._consumer = AIOKafkaConsumer(
            settings.topics.broadcast,
            **options,
            group_id=settings.relay_group,
            group_instance_id=settings.instance,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 6,
            retry_backoff_ms=300,
            # A broker that has just started may not know the topic yet; then nobody relays until it is asked again.
            metadata_max_age_ms=10_000,
        )
        self.halted: str | None = None
        self.letters = Letters(self._tp.topic)

    @property
    def owner(self) -> bool:
        """Whether this worker is the one that relays."""
        return self._tp in self._consumer.assignment()

    async def run(self) -> None:
        """Relay until cancelled. Raises what the broker refuses for good."""
        await self._consumer.start()
        try:
            while True:
                METRICS.relay_owner.set(self.owner)
                if self.halted is not None:
                    await asyncio.sleep(1)
                    continue
                found = await self._consumer.getmany(timeout_ms=500)
                for message in found.get(self._tp, []):
                    await self._relay(message)
                    if self.halted is not None:
                        break
        finally:
            METRICS.relay_owner.set(0)
            await self._consumer.stop()

    async def _relay(self, message: Any) -> None:
        letters: list[DeadLetter] = []
        try:
            copy = self._copy(message, letters)
        except UnknownVersion as error:
            self.halted = f"offset {message.offset}: {error}"
            log.critical("the broadcast relay is halted at %s. Upgrade the stream job; nothing is lost", self.halted)
            return
        self._guard.check()
        if letters:
            messages = self.letters.publish(letters)
            await self._sink.send_anywhere(self._settings.topics.dead_letter, [(None, each) for each in messages])
        if copy is not None:
            await asyncio.gather(
                *(
                    self._sink.send(self._settings.topics.facts, number, [(None, copy)], message.timestamp)
                    for number in range(self._settings.partitions)
                )
            )
            METRICS.relayed.inc()
        try:
            await self._consumer.commit({self._tp: message.offset + 1})
        except (CommitFailedError, IllegalStateError) as error:
            log.warning("%s is another worker's by now, or was for a while: %s", self._tp.topic, type(error).__name__)

    def _copy(self, message: Any, letters: list[DeadLetter]) -> bytes | None:
        """The frame for the facts partitions, None where nothing is left of it; adds what can't be used to `letters`."""
        received_at = instant_of_ms(message.timestamp)
        value = message.value or b""
        try:
            frame = decode_frame(value)
        except UnknownVersion:
            raise
        except FrameError as error:
            letters.append(self._letter(message, None, str(error), value))
            return None
        letters += [self._letter(message, each.number, each.reason, each.payload) for each in frame.broken]
        facts = []
        for number, fact in enumerate(frame.facts):
            if (point := meter_point_of(fact)) is None:
                facts.append(_as_received(fact, received_at))
                if isinstance(fact, GatewayStatus):
                    METRICS.edge_facts.labels("gateway_status").inc()
                continue
            reason = f"a fact of the meter point {point} belongs into its own partition of the facts topic"
            letters.append(self._letter(message, number, reason, msgspec.json.encode(fact)))
        return encode_frame(facts, RELAY, received_at) if facts else None

    def _letter(self, message: Any, number: int | None, reason: str, payload: bytes) -> DeadLetter:
        return DeadLetter(
            topic=message.topic, partition=0, offset=message.offset, number=number, reason=reason, payload=payload
        )  # fmt: skip


def _as_received(fact: AnyFact, received_at: datetime) -> AnyFact:
    # A worker's clock may be ahead of the broker's, but a tick says no more than that it is this late.
    if isinstance(fact, Tick) and fact.now > received_at:
        return msgspec.structs.replace(fact, now=received_at)
    return fact
