"""Sending to Kafka so that one knows when it is there: idempotent, in whole batches, each awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, Self

from aiokafka import AIOKafkaProducer

_ANSWER_S = 3.0
BATCH_BYTES = 512 * 1024  # below the broker's default limit of 1 MiB a batch

KeyValue = tuple[bytes | None, bytes]


class Sink:
    """A producer with `acks=all`. An idempotent batch is tried until the broker has it, so an outage only delays.

    Start it inside the event loop that uses it.
    """

    def __init__(self, kafka: Mapping[str, Any]) -> None:
        self._waiting: dict[object, float] = {}  # writes that are not acknowledged yet, since when
        self._producer = AIOKafkaProducer(
            **kafka,
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=2 * BATCH_BYTES,
            retry_backoff_ms=300,
        )

    async def start(self) -> Self:
        """Connect; raises aiokafka's KafkaConnectionError where no broker answers."""
        await self._producer.start()
        return self

    async def stop(self) -> None:
        """Disconnect. What nobody awaits any more may not have been sent."""
        await self._producer.stop()

    @property
    def unacknowledged_s(self) -> float:
        """For how long the oldest write has not been acknowledged; 0 where all are."""
        return max((monotonic() - since_s for since_s in self._waiting.values()), default=0.0)

    async def reachable(self) -> bool:
        """Whether a broker answers within a few seconds."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                return bool(await self._producer.client.force_metadata_update())
        except TimeoutError:
            return False

    async def send(
        self, topic: str, partition: int, records: Sequence[KeyValue], timestamp_ms: int | None = None
    ) -> int | None:
        """Send all, in this order; returns when the broker has them: the last one's offset (None where it does not say).

        One batch after the other: aiokafka gives up on a batch that waits too long behind another.
        """
        last: int | None = None
        builder = self._producer.create_batch()
        for key, value in records:
            if builder.append(timestamp=timestamp_ms, key=key, value=value) is None:  # full
                await self._send_batch(builder, topic, partition)
                builder = self._producer.create_batch()
                builder.append(timestamp=timestamp_ms, key=key, value=value)
        if builder.record_count():
            last = await self._send_batch(builder, topic, partition)
        return last

    async def send_anywhere(self, topic: str, records: Sequence[KeyValue]) -> None:
        """Send to whichever partitions; for records whose order does not matter. Returns when the broker has them."""
        with self._seen():
            await asyncio.gather(*[await self._producer.send(topic, value, key=key) for key, value in records])

    async def _send_batch(self, builder: Any, topic: str, partition: int) -> int | None:
        count = builder.record_count()
        with self._seen():
            future = await self._producer.send_batch(builder, topic, partition=partition)
            sent = await future
        # A batch that the broker already had, from a try whose answer was lost, comes without an offset.
        return None if sent.offset < 0 else sent.offset + count - 1

    @contextmanager
    def _seen(self) -> Iterator[None]:
        write = object()
        self._waiting[write] = monotonic()
        try:
            yield
        finally:
            del self._waiting[write]
