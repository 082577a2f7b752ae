"""What gateways told lately of meters beside readings, from the facts topic: alarms, failed polls, losses, intervals set."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
from kafka import KafkaConsumer, TopicPartition

from metering.facts import Alarm, AnyFact, GivenUp, IntervalSet, PollFailed
from metering.gasday import to_datetime
from metering.wire import decode_frame

LOOK_BACK = timedelta(hours=24)
FRAMES_LOOKED_AT = 500  # of each partition, from the end
LOOK_S = 5.0


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of one kind in the last 24 hours: how many, of how many meter points, and the latest in words."""

    kind: str
    facts: int
    points: int
    at: datetime
    latest: str


class _Kind:
    def __init__(self) -> None:
        self.facts, self.points = 0, set[str]()
        self.latest = (0, "")


def told_lately(client: KafkaConsumer, topic: str, partitions: int, now: datetime) -> list[Told]:
    """By kind; as far as can be looked through in some seconds."""
    tps = [TopicPartition(topic, number) for number in range(partitions)]
    _go_back(client, tps, int((now - LOOK_BACK).timestamp() * 1000))
    ends = client.end_offsets(tps)
    kinds: dict[str, _Kind] = {}
    deadline = time.monotonic() + LOOK_S
    while any(client.position(tp) < ends[tp] for tp in tps) and time.monotonic() < deadline:
        for messages in client.poll(timeout_ms=200).values():
            for message in messages:
                _count(kinds, message)
    return [
        Told(kind=name, facts=kind.facts, points=len(kind.points), at=to_datetime(kind.latest[0]), latest=kind.latest[1])
        for name, kind in sorted(kinds.items())
    ]


def _go_back(client: KafkaConsumer, tps: list[TopicPartition], since_ms: int) -> None:
    client.assign(tps)
    ends, begins = client.end_offsets(tps), client.beginning_offsets(tps)
    by_time = client.offsets_for_times(dict.fromkeys(tps, max(0, since_ms)))
    for tp in tps:
        first = by_time[tp].offset if by_time.get(tp) else ends[tp]
        client.seek(tp, max(first, begins[tp], ends[tp] - FRAMES_LOOKED_AT))


def _count(kinds: dict[str, _Kind], message: Any) -> None:
    for fact, words in _of_the_edge(message.value or b""):
        kind = kinds.setdefault(str(fact.__struct_config__.tag), _Kind())
        kind.facts += 1
        kind.points.add(fact.meter_point)
        kind.latest = max(kind.latest, (message.timestamp * 1000, f"{fact.meter_point}: {words}"))


def _of_the_edge(value: bytes) -> Iterator[tuple[Alarm | GivenUp | IntervalSet | PollFailed, str]]:
    try:
        facts: tuple[AnyFact, ...] | list[AnyFact] = decode_frame(value).facts
    except ValueError:
        return
    for fact in facts:
        match fact:
            case Alarm():
                yield fact, f"meter {fact.meter}: {fact.detail or fact.kind}"
            case GivenUp():
                yield fact, f"meter {fact.meter}, {fact.gas_day}: {fact.readings} readings; {fact.reason}"
            case PollFailed():
                yield fact, f"meter {fact.meter}, {fact.gas_day}: {fact.reason}"
            case IntervalSet():
                yield fact, f"{fact.interval_s} s, {'confirmed' if fact.confirmed else 'not confirmed'}"
