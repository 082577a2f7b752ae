"""Loggers' payloads: the two forms say the same, readings come to their Gas Days, and what is no payload is never a reading."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.mqtt_payloads import (
    BadPayload,
    Columns,
    PushedAlarm,
    columns,
    compact,
    compact_columns,
    decoded,
    to_alarm,
    to_facts,
)
from collectors.outbox import FACT_BYTES_MAX
from metering.facts import Readings
from metering.gasday import GasDays
from metering.wire import encode_fact

DAYS = GasDays()
FIVE = datetime(2026, 10, 23, 4, tzinfo=UTC)  # the start of the Gas Day of the 23rd, in summer time
HOUR = timedelta(hours=1)
DOCUMENT = (Path(__file__).parents[2] / "collectors" / "mqtt.md").read_text()


def hourly(first: datetime, *index: int | None) -> Columns:
    return Columns("M", [first + n * HOUR for n in range(len(index))], list(index))


def test_the_documents_example_is_right_in_both_forms() -> None:
    (example,) = re.findall(r"```json\n(.*)\n```", DOCUMENT)
    (packed,) = re.findall(r'^`(\["GWF.*\])`: 30 bytes', DOCUMENT, re.MULTILINE)
    read = columns(example.encode())
    assert read.index == (104512, 104529, None, 104561)
    assert read.at[0] == datetime(2026, 10, 23, 5, tzinfo=UTC)
    message = msgspec.msgpack.encode(json.loads(packed.replace("nil", "null")))
    assert len(message) == 30
    again = compact_columns(message)
    assert (again.meter, list(again.at), list(again.index)) == (read.meter, list(read.at), list(read.index))


def test_readings_come_to_their_days_and_one_at_a_boundary_to_both() -> None:
    facts = to_facts(hourly(FIVE - 2 * HOUR, 1, 2, 3, 4), "A", DAYS)
    assert [(fact.gas_day, fact.at, fact.index) for fact in facts] == [
        (date(2026, 10, 22), (FIVE - 2 * HOUR, FIVE - HOUR, FIVE), (1, 2, 3)),
        (date(2026, 10, 23), (FIVE, FIVE + HOUR), (3, 4)),
    ]
    assert all((fact.meter_point, fact.meter, fact.clock_offset_s) == ("A", "M", None) for fact in facts)


def test_unconverted_and_status_are_kept_in_both_forms() -> None:
    at = "2026-10-23T04:00:00Z"
    text = f'{{"meter": "M", "first_at": "{at}", "interval_s": 360, "index": [5, null, 9], "unconverted": [1, 2, null]'
    read = columns((text + ', "status": ["tamper", "bypass_open"]}').encode())
    for pushed in (read, compact_columns(compact(read))):
        (_, fact) = to_facts(pushed, "A", DAYS)
        assert (fact.index, fact.unconverted) == ((5, None, 9), (1, 2, None))
        assert fact.status == ("tamper", "bypass_open")


INDEX = st.none() | st.integers(0, 10**9)


@settings(max_examples=60, deadline=None)
@given(st.lists(INDEX, min_size=1, max_size=50), st.integers(360, 86_400), st.integers(0, 4_000_000_000))
def test_what_is_packed_comes_out_as_it_was(index: list[int | None], interval_s: int, first_s: int) -> None:
    first = datetime.fromtimestamp(first_s, UTC)
    at = [first + n * timedelta(seconds=interval_s) for n in range(len(index))]
    assert compact_columns(compact(Columns("M", at, index))) == Columns("M", at, index)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("{}", "missing required field `meter`"),
        ('{"meter": "M", "index": [1]}', "give either `at` or `first_at`"),
        ('{"meter": "M", "index": [1], "at": ["2026-10-23T05:00:00Z"], "first_at": "2026-10-23T05:00:00Z"}', "one of the two"),
        ('{"meter": "M", "index": [1, 2], "at": ["2026-10-23T05:00:00Z"]}', "1 instants for 2 entries"),
        ('{"meter": "M", "index": [1, 2], "first_at": "2026-10-23T05:00:00Z"}', "interval_s: missing"),
        ('{"meter": "M", "index": [1], "at": ["2026-10-23T05:00:00"]}', "without an offset from UTC"),
        ('{"meter": "M", "index": [], "at": []}', "0 entries; allowed: 1 to 10000"),
        ('{"meter": "M", "index": [1.5], "at": ["2026-10-23T05:00:00Z"]}', "Expected `int | null`"),
        ('{"meter": "M", "index": [1], "at": ["2026-10-23T05:00:00Z"], "unconverted": []}', "unconverted: 0 entries for 1"),
        ('{"meter": "M", "index": [1], "at": ["2026-10-23T05:00:00Z"], "indx": 5}', "unknown field `indx`"),
        ('{"meter": "M", "index": [1], "at": ["1969-12-30T05:00:00Z"]}', "is not between"),
        ('{"meter": "M", "index": [1, 2], "first_at": "9999-12-31T23:00:00Z", "interval_s": 86400}', "first_at"),
        (" " * 200_000, "200000 bytes; allowed: at most"),
    ],
)
def test_what_is_wrong_is_said(payload: str, reason: str) -> None:
    with pytest.raises(BadPayload, match=re.escape(reason)):
        to_facts(columns(payload.encode()), "A", DAYS)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_a_payload_or_a_bad_one(payload: bytes) -> None:
    for form in (columns, compact_columns):
        try:
            facts = to_facts(form(payload), "A", DAYS)
        except BadPayload:
            continue
        assert all(isinstance(fact, Readings) for fact in facts)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_payload_with_a_few_bytes_changed_is_a_payload_or_a_bad_one(data: st.DataObject) -> None:
    payload = bytearray(compact(hourly(FIVE, 5, None, 7, 8)))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BadPayload):
        assert to_facts(compact_columns(bytes(payload)), "A", DAYS)


def test_the_largest_payload_still_fits_a_frame() -> None:
    wild = [(n * 2_654_435_761) % 2**31 for n in range(10_000)]
    packed = compact(Columns("M", [FIVE + n * timedelta(seconds=1) for n in range(10_000)], wild, wild))
    assert len(packed) < 128 * 1024
    assert all(len(encode_fact(fact)) < FACT_BYTES_MAX for fact in to_facts(compact_columns(packed), "A", DAYS))


def test_an_alarm_of_an_unknown_kind_is_another_and_says_which() -> None:
    payload = b'{"meter": "M", "at": "2026-10-23T05:00:00Z", "kind": "flood", "detail": "30 cm"}'
    alarm = to_alarm(decoded(payload, PushedAlarm), "A")
    assert (alarm.kind, alarm.detail, alarm.at) == ("other", "flood: 30 cm", datetime(2026, 10, 23, 5, tzinfo=UTC))
    naive = payload.replace(b"Z", b"")
    with pytest.raises(BadPayload, match="offset"):
        to_alarm(decoded(naive, PushedAlarm), "A")
