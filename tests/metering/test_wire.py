"""Frames, canonical encoding and partitions."""

import random
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest
from kafka.partitioner.default import murmur2

from metering.facts import AnyFact, CalorificValue, Readings, Tick
from metering.wire import (
    NOT_A_FACT,
    FrameError,
    PackedReadings,
    UnknownVersion,
    canonical,
    decode_fact,
    decode_frame,
    encode_fact,
    encode_frame,
    identity,
    partition_of,
    read_entry,
)

BASE = {
    "fact": "readings", "received_at": "2026-01-02T05:10:00Z", "meter_point": "1", "meter": "m", "gas_day": "2026-01-01",
}  # fmt: skip


def readings(**fields: object) -> Readings:
    return msgspec.convert({**BASE, **fields}, Readings, strict=False)


HOURLY = readings(first_at="2026-01-01T05:00:00Z", interval_s=3600, index=[1, 2, 4])


@pytest.mark.parametrize(
    "fact",
    [
        HOURLY,
        readings(at=["2026-01-01T05:00:00Z", "2026-01-01T06:00:30Z"], index=[1, 2]),
        readings(at=["2026-01-01T06:00:00Z", "2026-01-01T05:00:00Z"], index=[1, 2]),
        readings(at=["2026-01-01T05:00:00Z", "2026-01-01T05:00:00Z"], index=[1, 2]),
        readings(first_at="2026-01-01T05:00:00Z", interval_s=3600, index=[1, None, "x", 1.5, [2]]),
        readings(at=[], index=[]),
        readings(first_at="2026-01-01T05:00:00.250Z", index=[7], status=["tamper"], clock_offset_s=-3.5),
        readings(at=["2026-01-01T05:00:00Z"], index=[7], unconverted=[None], source="on_site", sequence=4, outbox="o"),
        CalorificValue(ldz="EA", gas_day=date(2026, 1, 1), mj_per_m3=Decimal("39.50")),
        Tick(now=datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_fact_comes_out_of_a_frame_as_it_went_in(fact: AnyFact) -> None:
    frame = decode_frame(encode_frame([fact], "gw"))
    assert frame.gateway == "gw"
    assert frame.broken == []
    assert [canonical(each) for each in frame.facts] == [canonical(fact)]
    assert encode_fact(decode_fact(encode_fact(fact))) == encode_fact(fact)


def test_identity_leaves_out_the_way_a_fact_came() -> None:
    other = msgspec.structs.replace(HOURLY, gateway="g", outbox="o", sequence=9, received_at=datetime(2027, 1, 1, tzinfo=UTC))
    assert identity(other) == identity(HOURLY)


def test_identity_does_not_depend_on_spelling() -> None:
    spelled = readings(at=["2026-01-01T05:00:00Z", "2026-01-01T07:00:00+01:00", "2026-01-01T07:00:00Z"], index=[1, 2, 4])
    assert identity(spelled) == identity(HOURLY)
    east = timezone(timedelta(hours=2))
    assert identity(Tick(now=datetime(2026, 1, 1, 2, tzinfo=east))) == identity(Tick(now=datetime(2026, 1, 1, tzinfo=UTC)))
    values = [
        msgspec.json.decode(
            b'{"fact":"calorific_value","ldz":"EA","gas_day":"2026-01-01","mj_per_m3":"%s"}' % text, type=CalorificValue
        )
        for text in (b"39.5", b"39.50", b"3.95E1")
    ]
    assert len({identity(value) for value in values}) == 1


def test_identity_differs_where_a_value_does() -> None:
    assert identity(readings(first_at="2026-01-01T05:00:00Z", interval_s=3600, index=[1, 2, 5])) != identity(HOURLY)
    assert identity(msgspec.structs.replace(HOURLY, status=("tamper",))) != identity(HOURLY)


def test_one_broken_fact_leaves_the_others() -> None:
    envelope = msgspec.msgpack.decode(encode_frame([HOURLY, HOURLY], "gw"))
    payload = msgspec.msgpack.decode(envelope[3])
    payload[1][0] = {"fact": "forgotten"}
    envelope[3] = msgspec.msgpack.encode(payload)
    frame = decode_frame(msgspec.msgpack.encode(envelope))
    assert frame.facts == [msgspec.structs.replace(HOURLY, received_at=None)]
    assert [(each.number, "forgotten" in each.reason) for each in frame.broken] == [(0, True)]


@pytest.mark.parametrize("column", ["index", "unconverted"])
def test_what_json_has_no_form_for_is_no_reading(column: str) -> None:
    """Such a value would have no canonical bytes."""
    at = datetime(2026, 3, 1, 5, tzinfo=UTC)
    columns = {"index": (1, 2), "unconverted": (1, 2)} | {column: ("1", {7: 2})}
    sound = Readings(meter_point="A", meter="m", gas_day=at.date(), first_at=at, interval_s=3600, **columns)
    frame = decode_frame(encode_frame([sound], "gw"))
    assert [broken.reason for broken in frame.broken] == [f"{column}: holds what JSON has no form for"]


@pytest.mark.parametrize("index", [(1, "a"), ("a", "b"), ([1], [2]), (1, 1.5), ({7: 1},), (1, True), (1, None)])
def test_differences_are_integers_or_it_is_no_fact(index: tuple[object, ...]) -> None:
    """Whoever packs readings says that they are differences, and could say so of anything."""
    packed = PackedReadings("A", "m", date(2026, 3, 1).toordinal(), 1_772_341_200_000_000, 3_600_000_000, True, index)
    entry = msgspec.msgpack.encode(packed)
    with pytest.raises(NOT_A_FACT, match="index: differences that are no integers"):
        read_entry(entry, datetime(2026, 3, 2, tzinfo=UTC))
    with pytest.raises(NOT_A_FACT, match="index: differences that are no integers"):
        decode_fact(entry)


def test_an_unknown_version_says_so() -> None:
    with pytest.raises(UnknownVersion, match="frame version 2"):
        decode_frame(msgspec.msgpack.encode([2, "gw", "", b"", b"", "more"]))


def test_whatever_comes_is_a_frame_or_a_frame_error() -> None:
    good = encode_frame([HOURLY], "gw")
    dice = random.Random(1)
    for _ in range(3000):
        bad = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            bad[dice.randrange(len(bad))] = dice.randrange(256)
        try:
            decode_frame(bytes(bad[: dice.randint(0, len(bad))]))
        except FrameError:
            continue


@pytest.mark.parametrize("partitions", [1, 4, 7, 12])
def test_partition_is_kafkas_own(partitions: int) -> None:
    dice = random.Random(2)
    for length in range(40):
        point = "".join(chr(dice.choice([65, 200, 0x20AC, 0x1F600])) for _ in range(length))
        assert partition_of(point, partitions) == (murmur2(point.encode()) & 0x7FFFFFFF) % partitions
