"""COSEM data and date-times: golden bytes, round trips; damaged bytes give a value or a typed error, in bounded time."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.dlms_base import Cursor, LocalError, Malformed, RemoteError, TooLong, length
from collectors.dlms_data import (
    DEPTH_MAX,
    INTEGERS,
    NULL,
    Data,
    Kind,
    array,
    decode,
    encode,
    long_unsigned,
    octet_string,
    structure,
)
from collectors.dlms_time import CosemTime, cosem_time, decode_time, encode_time

LONDON = ZoneInfo("Europe/London")
GOLDEN = [
    ("00", NULL),
    ("0600001391", Data(Kind.DOUBLE_LONG_UNSIGNED, 5009)),
    ("05fffffffe", Data(Kind.DOUBLE_LONG, -2)),
    ("1202d0", long_unsigned(720)),
    ("0ffd", Data(Kind.INTEGER, -3)),
    ("160e", Data(Kind.ENUM, 14)),
    ("0301", Data(Kind.BOOLEAN, True)),
    ("0906070101010dff", octet_string(bytes.fromhex("070101010dff"))),
    ("0a03414243", Data(Kind.VISIBLE_STRING, "ABC")),
    ("0c02c2b3", Data(Kind.UTF8_STRING, "³")),
    ("0409a180", Data(Kind.BIT_STRING, "101000011")),
    ("1700000000", Data(Kind.FLOAT32, 0.0)),
    ("173fc00000", Data(Kind.FLOAT32, 1.5)),
    ("02020f00161b", structure(Data(Kind.INTEGER, 0), Data(Kind.ENUM, 27))),
    ("0100", array()),
    ("010212000112ffff", array(long_unsigned(1), long_unsigned(65535))),
]


@pytest.mark.parametrize(("octets", "data"), GOLDEN)
def test_golden_bytes_both_ways(octets: str, data: Data) -> None:
    assert decode(bytes.fromhex(octets)) == data
    assert encode(data) == bytes.fromhex(octets)


def test_a_published_quality_structure_of_five_numbers() -> None:
    items = decode(bytes.fromhex("0205 1202d0 120ca8 111 2111e0fc0".replace(" ", ""))).items
    assert [item.number for item in items] == [720, 3240, 18, 30, -64]


def test_a_compact_array_is_the_array_that_it_stands_for() -> None:
    rows = decode(bytes.fromhex("13 0202 12 06 0c 0001 00000a0b 0002 00000a0c".replace(" ", "")))
    assert rows == array(
        structure(long_unsigned(1), Data(Kind.DOUBLE_LONG_UNSIGNED, 0x0A0B)),
        structure(long_unsigned(2), Data(Kind.DOUBLE_LONG_UNSIGNED, 0x0A0C)),
    )


@pytest.mark.parametrize(
    ("octets", "error"),
    [
        ("", Malformed),
        ("07", Malformed),  # no such type
        ("0600", Malformed),
        ("1200010203", Malformed),  # octets behind the value
        ("01ff", Malformed),  # length of five octets
        ("0184ffffffff", Malformed),  # more elements than octets
        ("0c01ff", Malformed),  # not UTF-8
        ("0102" * DEPTH_MAX + "0101" * 4 + "00", RemoteError),
        ("13 00 01 00", Malformed),  # elements without octets
        ("13 01ffff 01ffff 00 01 00", TooLong),  # 4 thousand million nulls in 11 octets
        ("13 01ffff 11 02 0000", Malformed),
    ],
)
def test_what_is_no_value_is_a_typed_error(octets: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        decode(bytes.fromhex(octets))


@pytest.mark.parametrize(
    "data", [Data(Kind.UNSIGNED, 256), Data(Kind.UNSIGNED, "a"), Data(Kind.NULL, 1), Data(Kind.BIT_STRING, "2")]
)
def test_a_value_that_does_not_fit_its_type_is_not_written(data: Data) -> None:
    with pytest.raises(LocalError):
        encode(data)


def integers() -> st.SearchStrategy[Data]:
    def of(kind: Kind) -> st.SearchStrategy[Data]:
        size, signed = INTEGERS[kind]
        low = -(1 << 8 * size - 1) if signed else 0
        return st.builds(Data, st.just(kind), st.integers(low, low + (1 << 8 * size) - 1))

    return st.sampled_from(sorted(INTEGERS)).flatmap(of)


scalars = st.one_of(
    st.just(NULL),
    integers(),
    st.builds(Data, st.just(Kind.BOOLEAN), st.booleans()),
    st.builds(Data, st.just(Kind.OCTET_STRING), st.binary(max_size=300)),
    st.builds(Data, st.just(Kind.UTF8_STRING), st.text(max_size=20)),
    st.builds(Data, st.just(Kind.BIT_STRING), st.text("01", max_size=40)),
    st.builds(Data, st.just(Kind.FLOAT64), st.floats(allow_nan=False)),
    st.builds(Data, st.just(Kind.DATE_TIME), st.binary(min_size=12, max_size=12)),
)
values = st.recursive(
    scalars,
    lambda inner: st.builds(Data, st.sampled_from([Kind.ARRAY, Kind.STRUCTURE]), st.lists(inner, max_size=5).map(tuple)),
    max_leaves=12,
)


@given(values)
def test_what_is_written_is_read(data: Data) -> None:
    assert decode(encode(data)) == data


@given(st.binary(max_size=120))
def test_any_bytes_give_a_value_or_a_typed_error(octets: bytes) -> None:
    try:
        decode(octets)
    except RemoteError:
        return


@given(values, st.data())
def test_a_value_cut_short_is_an_error(data: Data, draw: st.DataObject) -> None:
    octets = encode(data)
    with pytest.raises(RemoteError):
        decode(octets[: draw.draw(st.integers(0, len(octets) - 1))])


@given(st.integers(0, 0xFFFF_FFFF))
def test_lengths_are_read_back(count: int) -> None:
    assert Cursor(length(count)).length() == count


# Date-times.

PUBLISHED = [
    ("07e40101ff00030000ff8800", "2019-12-31T22:03:00+00:00"),  # 00:03, two hours east
    ("07e40106ff00030000ffc400", "2020-01-05T23:03:00+00:00"),
    ("07e10a010700000000ffc480", "2017-09-30T23:00:00+00:00"),
    ("07e10a010700000000ff0000", "2017-09-30T19:44:00+00:00"),
]


@pytest.mark.parametrize(("octets", "instant"), PUBLISHED)
def test_deviation_is_from_local_time_to_utc(octets: str, instant: str) -> None:
    time = decode_time(bytes.fromhex(octets))
    assert time.instants() == (datetime.fromisoformat(instant),)
    assert encode_time(time) == bytes.fromhex(octets)


def test_a_make_that_writes_the_deviation_the_other_way_round() -> None:
    time = decode_time(bytes.fromhex("07e9070106060000ff003c80"))
    assert time.instants(east_is_positive=True) == (datetime(2025, 7, 1, 5, tzinfo=UTC),)
    instant = datetime(2025, 7, 1, 5, tzinfo=UTC)
    assert cosem_time(instant, LONDON, east_is_positive=True).deviation_minutes == 60
    assert cosem_time(instant, LONDON).deviation_minutes == -60


@pytest.mark.parametrize(
    ("status", "hours"),
    [("80", [0]), ("00", [1]), ("ff", [0, 1])],  # 01:30 on 26 October 2025: summer time, winter time, not said
)
def test_the_hour_that_october_has_twice(status: str, hours: list[int]) -> None:
    time = decode_time(bytes.fromhex("07e90a1a07011e00ff8000" + status))
    assert [instant.hour for instant in time.instants(LONDON)] == hours


def test_the_hour_that_march_does_not_have() -> None:
    time = decode_time(bytes.fromhex("07e9031e07011e00ff800000"))
    with pytest.raises(Malformed, match="does not exist"):
        time.instants(LONDON)


@pytest.mark.parametrize(
    "octets",
    [
        "ffff0101ff00030000ff8800",  # any year
        "07e4ff01ff00030000ff8800",  # any month
        "07e4fe01ff00030000ff8800",  # the month in which summer time begins
        "07e402ffff00030000ff8800",
        "07e4021eff00030000ff8800",  # 30 February
        "07e40201ffff030000ff8800",
        "0001 0101ff00000000ff8800".replace(" ", ""),  # before any instant
        "07e40201ff0003000080 0000".replace(" ", ""),  # no deviation, and no zone known
    ],
)
def test_what_is_no_instant_is_not_made_one(octets: str) -> None:
    with pytest.raises(Malformed):
        decode_time(bytes.fromhex(octets)).instants()


@pytest.mark.parametrize(
    "octets", ["", "07e4", "07e40d01ff00030000ff8800", "07e40101ff18030000ff8800", "07e40101ff00030000200000"]
)
def test_fields_out_of_range_are_refused(octets: str) -> None:
    with pytest.raises(Malformed):
        decode_time(bytes.fromhex(octets))


def test_status_bits() -> None:
    assert CosemTime(status=0x82).is_invalid
    assert CosemTime(status=0x82).is_summer
    assert not CosemTime(status=0x80).is_invalid
    assert CosemTime().is_summer is None


@given(st.datetimes(datetime(1970, 1, 1), datetime(2199, 1, 1)), st.sampled_from([None, LONDON]))  # noqa: DTZ001
def test_an_instant_comes_back(naive: datetime, zone: ZoneInfo | None) -> None:
    instant = naive.replace(tzinfo=UTC, microsecond=0)
    assert decode_time(encode_time(cosem_time(instant, zone))).instants() == (instant,)


@settings(max_examples=300)
@given(st.binary(min_size=12, max_size=12))
def test_twelve_octets_are_a_time_that_is_written_back_or_an_error(octets: bytes) -> None:
    try:
        time = decode_time(octets)
    except Malformed:
        return
    assert encode_time(time) == octets
    try:
        assert all(instant.tzinfo is UTC for instant in time.instants(LONDON))
    except Malformed:
        return
