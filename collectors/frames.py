"""Facts packed into Kafka messages: which topic, which partition, with what timestamp; frames within the size allowed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec

from collectors.outbox import FACT_BYTES_MAX, StoredFact
from metering.facts import meter_point_of
from metering.gasday import to_us
from metering.wire import encode_frame, partition_of


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where facts go. `simulated`: the message's timestamp is the instant at which the fact was put."""

    facts_topic: str
    broadcast_topic: str
    partitions: int
    gateway: str
    simulated: bool = False


class Message(msgspec.Struct, frozen=True):
    """A frame to send without a key; `ids` are the facts in it. `timestamp_ms` null: the broker's time."""

    topic: str
    partition: int
    timestamp_ms: int | None
    value: bytes
    ids: tuple[int, ...]


class _Open:
    """The frame of one partition that still takes facts."""

    def __init__(self, timestamp_ms: int | None) -> None:
        self.timestamp_ms = timestamp_ms
        self.stored: list[StoredFact] = []
        self.size = 0


def pack(stored: Iterable[StoredFact], route: Route) -> Iterator[Message]:
    """The facts as messages; within a partition, and so for a meter point, in the order given.

    What is of no meter point goes to the broadcast topic, where it waits for those it concerns. In simulated time a frame
    holds facts of one instant, because it has one timestamp.
    """
    open_frames: dict[tuple[str, int], _Open] = {}
    for entry in stored:
        place = _place(entry, route)
        timestamp_ms = _milliseconds(entry.committed_at) if route.simulated else None
        frame = open_frames.get(place)
        if frame and (frame.size + entry.size > FACT_BYTES_MAX or frame.timestamp_ms != timestamp_ms):
            yield _message(place, frame, route)
            frame = None
        if frame is None:
            frame = open_frames[place] = _Open(timestamp_ms)
        frame.stored.append(entry)
        frame.size += entry.size
    for place, frame in open_frames.items():
        yield _message(place, frame, route)


def _place(entry: StoredFact, route: Route) -> tuple[str, int]:
    point = meter_point_of(entry.fact)
    if point is None:
        return route.broadcast_topic, 0
    return route.facts_topic, partition_of(point, route.partitions)


def _message(place: tuple[str, int], frame: _Open, route: Route) -> Message:
    value = encode_frame((entry.fact for entry in frame.stored), route.gateway)
    return Message(*place, frame.timestamp_ms, value, tuple(entry.id for entry in frame.stored))


def _milliseconds(instant: datetime) -> int:
    return to_us(instant) // 1000
