"""Line protocol: what is written is read back exactly, by a reader of its own; what cannot be written is said."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings

from metering.gasday import GasDays
from metering.ledger import AnyRecord
from metering.messages import LedgerMessage
from storage.influx_lines import CannotWrite, Lines, decode_row, decode_tag, encode_tag
from storage.influx_schema import MEASUREMENTS, NULLS, OFFSET, PARTITION, VOID, Kind
from tests.storage.ledger_contract import (
    ACTUAL,
    EVERY_KIND,
    MESSAGES,
    TEXT,
    TOLERANCE,
    changed,
    put,
    void,
)

LINES = Lines(GasDays())

_TOKEN = r"(?:\\[,= ]|[^,= \n])+"
_VALUE = r'(?:"(?:\\["\\]|[^"\\])*"|-?[0-9]+i|true|false)'
_LINE = re.compile(
    rf"(?P<name>\w+)(?P<tags>(?:,{_TOKEN}={_TOKEN})*) (?P<fields>\w+={_VALUE}(?:,\w+={_VALUE})*) (?P<time>-?\d+)", re.DOTALL
)


def parsed(line: str) -> tuple[str, dict[str, Any], int]:
    """Measurement, tags and fields, and time of a line, as InfluxDB's documentation says."""
    found = _LINE.fullmatch(line)
    assert found is not None, line
    row: dict[str, Any] = {}
    for name, value in re.findall(rf",({_TOKEN})=({_TOKEN})", found["tags"]):
        row[name] = re.sub(r"\\([,= ])", r"\1", value)
    for name, value in re.findall(rf"(\w+)=({_VALUE})", found["fields"], re.DOTALL):
        row[name] = _value(value)
    return found["name"], row, int(found["time"])


def _value(text: str) -> Any:
    if text.startswith('"'):
        return re.sub(r'\\(["\\])', r"\1", text[1:-1])
    return text == "true" if text in ("true", "false") else int(text[:-1])


@settings(max_examples=300, deadline=None)
@given(MESSAGES)
def test_a_line_is_read_back_as_the_record(messages: list[LedgerMessage]) -> None:
    for message in messages:
        name, row, _ = parsed(LINES.line(message))
        assert name == message.key[0]
        assert (row[PARTITION], row[OFFSET]) == (message.partition, message.offset)
        assert decode_row(name, row) == message.record


@settings(max_examples=300, deadline=None)
@given(TEXT, TEXT)
def test_tags_differ_where_texts_do_and_hold_nothing_unsafe(one: str, other: str) -> None:
    assert decode_tag(encode_tag(one)) == one
    assert (encode_tag(one) == encode_tag(other)) == (one == other)
    assert encode_tag(one).isprintable()
    assert not set('\\"$') & set(encode_tag(one))


@pytest.mark.parametrize("text", ["2100042607", "SMP-0001", "a b", "é", "Gas/1_2.3", "ß€🔥"])
def test_usual_names_stand_as_they_are(text: str) -> None:
    assert encode_tag(text) == text


@pytest.mark.parametrize("record", EVERY_KIND)
def test_the_table_has_every_attribute_of_a_record_once_and_says_which_can_be_null(record: AnyRecord) -> None:
    name = record.key()[0]
    measurement = MEASUREMENTS[name]
    assert measurement.record is type(record)
    held = ["meter_point", *measurement.tags, *(field.attribute for field in measurement.fields)]
    assert sorted(held) == sorted(record.__struct_fields__)
    annotations = {key: str(value) for key, value in type(record).__annotations__.items()}
    for field in measurement.fields:
        assert field.nullable == bool({"None", "UnsetType"} & {*annotations[field.attribute].split(" | ")}), field
    names = [field.name for field in measurement.fields]
    assert len({*names, VOID, NULLS, PARTITION, OFFSET}) == len(names) + 4


def test_every_field_is_written_or_named_as_null_each_time() -> None:
    bare = changed(ACTUAL, start_index=None, volume_m3=None, valid_at=None)
    for record in (*EVERY_KIND, bare):
        name, row, _ = parsed(LINES.line(put(record)))
        nulls = row[NULLS].strip(",").split(",") if row[NULLS] != "," else []
        assert {*row, *nulls} >= {field.name for field in MEASUREMENTS[name].fields}
        assert not {*row} & {*nulls}


def test_a_null_stands_whatever_an_older_version_left_in_its_field() -> None:
    bare = changed(ACTUAL, volume_m3=None, since=None)
    _, older, _ = parsed(LINES.line(put(changed(ACTUAL, since=datetime(2026, 1, 9, tzinfo=UTC)))))
    _, newer, _ = parsed(LINES.line(put(bare)))
    assert decode_row("day", older | newer) == bare  # InfluxDB merges the fields of a point


@pytest.mark.parametrize(
    ("day", "start"),
    [
        (date(2026, 1, 1), datetime(2026, 1, 1, 5, tzinfo=UTC)),
        (date(2026, 3, 28), datetime(2026, 3, 28, 5, tzinfo=UTC)),
        (date(2026, 3, 29), datetime(2026, 3, 29, 4, tzinfo=UTC)),
        (date(2026, 10, 25), datetime(2026, 10, 25, 5, tzinfo=UTC)),
        (date(2015, 9, 30), datetime(2015, 9, 30, 5, tzinfo=UTC)),
        (date(2015, 10, 1), datetime(2015, 10, 1, 4, tzinfo=UTC)),
    ],
)
def test_the_time_is_the_start_of_the_gas_day_in_utc(day: date, start: datetime) -> None:
    for message in (put(changed(ACTUAL, gas_day=day)), void(changed(ACTUAL, gas_day=day))):
        assert parsed(LINES.line(message))[2] == int(start.timestamp())


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (changed(ACTUAL, volume_m3=Decimal("1.0005")), "1.0005 has more than 3 decimal places"),
        (changed(ACTUAL, volume_m3=Decimal("1e-40")), "has more than 3 decimal places"),
        (changed(ACTUAL, volume_m3=Decimal("1." + "0" * 70 + "1")), "day of 2026-01-01: .*Inexact"),
        (changed(ACTUAL, start_index=2**63), "9223372036854775808 does not fit in 64 bits"),
        (changed(ACTUAL, quantity_kwh=Decimal(10) ** 18), "does not fit in 64 bits"),
        (changed(ACTUAL, quantity_kwh=Decimal("NaN")), "day of 2026-01-01"),
        (changed(TOLERANCE, deviation=Decimal("Infinity")), "tolerance of 2026-01-01"),
        (changed(ACTUAL, gas_day=date(1, 1, 1)), "Gas Day 0001-01-01: InfluxDB's time goes from"),
        (changed(ACTUAL, gas_day=date(9999, 12, 31)), "Gas Day 9999-12-31: InfluxDB's time goes from"),
    ],
)
def test_what_influxdb_cannot_hold_is_said_not_rounded(record: AnyRecord, said: str) -> None:
    with pytest.raises(CannotWrite, match=said):
        LINES.line(put(record))


@pytest.mark.parametrize("record", EVERY_KIND)
def test_a_point_of_which_fields_are_missing_is_no_record(record: AnyRecord) -> None:
    name, row, _ = parsed(LINES.line(put(record)))
    fields = {each.name for each in MEASUREMENTS[name].fields if each.kind is not Kind.TEXT}.union((VOID, NULLS)) & row.keys()
    assert fields
    for field in sorted(fields):
        for rest in ({key: value for key, value in row.items() if key != field}, row | {field: None}):
            with pytest.raises(ValueError, match=f"there is no {field}$"):
                decode_row(name, rest)
