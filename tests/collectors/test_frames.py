"""Packing facts into messages."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from collectors.frames import Route, pack
from collectors.outbox import StoredFact
from metering.facts import AnyFact, CalorificValue, PollFailed
from metering.wire import FRAME_BYTES_MAX, decode_frame, encode_fact, partition_of

DAY = date(2026, 2, 28)
NOW = datetime(2026, 3, 1, 5, tzinfo=UTC)


def stored(number: int, point: str | None, size: int, milliseconds: int) -> StoredFact:
    fact: AnyFact = CalorificValue(ldz="NW", gas_day=DAY, mj_per_m3=Decimal(number + 1))
    if point is not None:
        fact = PollFailed(meter_point=point, meter="m", gas_day=DAY, reason=f"{number} " + "x" * size, attempts=1)
    return StoredFact(number, NOW + timedelta(milliseconds=milliseconds), fact, len(encode_fact(fact)))


FACTS = st.lists(
    st.tuples(st.sampled_from([None, "A", "B", "C"]), st.sampled_from([1, 1, 90_000]), st.integers(0, 2)), max_size=12
)


@given(FACTS, st.booleans())
def test_every_fact_is_in_one_message_in_order_where_it_belongs(
    entries: list[tuple[str | None, int, int]], simulated: bool
) -> None:
    facts = [stored(number, *entry) for number, entry in enumerate(entries)]
    route = Route(facts_topic="f", broadcast_topic="b", partitions=2, gateway="gw", simulated=simulated)
    order: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for message in pack(facts, route):
        frame = decode_frame(message.value)
        assert len(message.value) <= FRAME_BYTES_MAX
        assert frame.received_at is None
        assert frame.facts == [facts[number].fact for number in message.ids]
        order[message.topic, message.partition] += message.ids
        for number in message.ids:
            point, at = entries[number][0], facts[number].committed_at
            assert (message.topic, message.partition) == (("b", 0) if point is None else ("f", partition_of(point, 2)))
            assert message.timestamp_ms == (round(at.timestamp() * 1000) if simulated else None)
    assert sorted(number for numbers in order.values() for number in numbers) == list(range(len(facts)))
    assert all(numbers == sorted(numbers) for numbers in order.values())


def test_facts_of_a_partition_share_a_message() -> None:
    route = Route(facts_topic="f", broadcast_topic="b", partitions=1, gateway="gw")
    messages = list(pack([stored(number, f"P{number}", 10, number) for number in range(100)], route))
    assert [len(message.ids) for message in messages] == [100]
