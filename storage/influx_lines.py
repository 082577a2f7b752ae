"""Line protocol: a ledger message as a line, and what a query gives back as the record again, exactly.

A line carries every field of its measurement each time, because InfluxDB merges the fields of points with the same
measurement, tags and time. What is null is left out and named in the field `nulls`; a void is `void=true` alone. The time
is the start of the Gas Day in UTC, in whole seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal, Inexact, InvalidOperation
from hashlib import blake2b
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from metering.gasday import SECOND_US, GasDays, to_datetime, to_us
from metering.ledger import AnyRecord, Key, Record
from metering.messages import LedgerMessage
from storage.influx_schema import MEASUREMENTS, NULLS, OFFSET, PARTITION, READING, VOID, Field, Kind

# What InfluxDB can hold: signed 64 bits, and times of signed 64 bits of nanoseconds less a few at the ends.
INTEGER_MAX = 2**63 - 1
FIRST_DAY, LAST_DAY = date(1678, 1, 1), date(2261, 12, 31)

# A backslash at the end of a tag, a newline in one, an empty one: line protocol has no way to write them. `"` and `$` are
# taken along so that a tag can stand in a Flux string as it is; U+FFFD because servers that validate keys refuse it.
_UNSAFE = re.compile(r'[%\\"$\ufffd]')
_EMPTY = "%"
_ESCAPES = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})
_FIELD_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\""})
# A query's answer makes \r\n of every \n and drops every \r, so line breaks stand in a text as `\n` and `\r`.
_BREAKS = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r"})
_BREAK = re.compile(r"\\(.)")
_BROKEN = {"\\": "\\", "n": "\n", "r": "\r"}


_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation])


class CannotWrite(ValueError):
    """InfluxDB has no way to hold this record; the message says which value and why."""


def encode_tag(value: str) -> str:
    """The value as it stands in InfluxDB: what a tag cannot hold is %-encoded, all else is as it is."""
    if value.isascii() and value.isalnum():
        return value
    if not value:
        return _EMPTY
    return "".join(quote(c, safe="") if _UNSAFE.match(c) or not c.isprintable() else c for c in value)


def decode_tag(value: str) -> str:
    """The text of a tag of ours."""
    return "" if value == _EMPTY else unquote(value, errors="strict")


def encode_text(value: str) -> str:
    """The text as it stands in a string field."""
    return value.translate(_BREAKS)


def decode_text(value: str | None) -> str:
    """The text of a string field of ours. A query's answer has "" and null alike; what is null stands in `nulls`."""
    return _BREAK.sub(lambda found: _BROKEN[found[1]], value or "")


def _quoted(value: str) -> str:
    return f'"{value.translate(_FIELD_ESCAPES)}"'


def _integer(value: int) -> str:
    if not -INTEGER_MAX <= value <= INTEGER_MAX:
        raise CannotWrite(f"{value} does not fit in 64 bits")
    return f"{value}i"


def _scaled(places: int) -> Callable[[Decimal], str]:
    factor = Decimal(10) ** places

    def encode(value: Decimal) -> str:
        count = _EXACT.multiply(value, factor)
        whole = int(count)
        if count != whole:
            raise CannotWrite(f"{value} has more than {places} decimal places")
        return _integer(whole)

    return encode


def _json(value: Any) -> str:
    return _quoted(msgspec.json.encode(value).decode())


_ENCODERS: dict[Kind, Callable[[Any], str]] = {
    Kind.BOOLEAN: lambda value: "true" if value else "false",
    Kind.COUNT: _integer,
    Kind.LITRES: _scaled(3),
    Kind.WATT_HOURS: _scaled(3),
    Kind.MILLIONTHS: _scaled(6),
    Kind.INSTANT: lambda value: f"{to_us(value)}i",
    Kind.DAY: lambda value: f'"{value.isoformat()}"',
    Kind.TEXT: lambda value: _quoted(encode_text(value)),
    Kind.JSON: _json,
}
_DECODERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.BOOLEAN: bool,
    Kind.COUNT: int,
    Kind.LITRES: lambda value: Decimal(value).scaleb(-3),
    Kind.WATT_HOURS: lambda value: Decimal(value).scaleb(-3),
    Kind.MILLIONTHS: lambda value: Decimal(value).scaleb(-6),
    Kind.INSTANT: to_datetime,
    Kind.DAY: date.fromisoformat,
    Kind.TEXT: decode_text,
    Kind.JSON: msgspec.json.decode,
}


@dataclass(frozen=True)
class Lines:
    """Makes lines; `gas_days` says when a Gas Day starts, which is the time of its points."""

    gas_days: GasDays

    def line(self, message: LedgerMessage) -> str:
        """The line of a message that `ledger_store.check` has passed. Raises CannotWrite."""
        key = message.key
        try:
            fields = _void_fields(key) if message.record is None else _fields(message.record)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise CannotWrite(f"{key[0]} of {key[2]}: {error}") from error
        rests_on = f"{PARTITION}={message.partition}i,{OFFSET}={message.offset}i"
        return f"{key[0]}{_tags(key)} {fields},{rests_on} {self.time_s(date.fromisoformat(key[2]))}"

    def time_s(self, gas_day: date) -> int:
        """The time of the Gas Day's points, in seconds since the epoch. Raises CannotWrite."""
        if not FIRST_DAY <= gas_day <= LAST_DAY:
            raise CannotWrite(f"Gas Day {gas_day}: InfluxDB's time goes from {FIRST_DAY} to {LAST_DAY}")
        return self.gas_days.start_us(gas_day.toordinal()) // SECOND_US


def _tags(key: Key) -> str:
    tags = [("meter_point", key[1]), *zip(MEASUREMENTS[key[0]].tags, key[3:], strict=False)]
    if key[0] == "rejected":
        tags.append((READING, _digest(*key[4:])))
    return "".join(f",{name}={encode_tag(value).translate(_ESCAPES)}" for name, value in tags)


def _digest(*parts: str) -> str:
    """Stands for a reading's instant and index, of which the index can be anything, of any length."""
    return blake2b("\x1f".join(parts).encode(), digest_size=8).hexdigest()


def _fields(record: AnyRecord) -> str:
    written = [f"{VOID}=false"]
    nulls = ","
    for field, encode in _WRITERS[type(record)]:
        value = getattr(record, field.attribute)
        if (value is None or value is msgspec.UNSET) and field.nullable:
            nulls += f"{field.name},"
        else:
            written.append(f"{field.name}={encode(value)}")
    written.append(f'{NULLS}="{nulls}"')
    return ",".join(written)


def _void_fields(key: Key) -> str:
    return f'{VOID}=true,gas_day="{key[2]}"'


_WRITERS: dict[type[Record], list[tuple[Field, Callable[[Any], str]]]] = {
    measurement.record: [(field, _ENCODERS[field.kind]) for field in measurement.fields]
    for measurement in MEASUREMENTS.values()
}
_ABSENT: dict[str, frozenset[str]] = {
    name: frozenset(field.name for field in msgspec.structs.fields(each.record) if field.default is msgspec.UNSET)
    for name, each in MEASUREMENTS.items()
}  # what is left out of a record, and not null


def _told(name: str, row: Mapping[str, Any], field: str) -> Any:
    value = row.get(field)
    if value is None:
        raise ValueError(f"{name} of {row.get('meter_point')} at {row.get('_time')}: there is no {field}")
    return value


def decode_row(name: str, row: Mapping[str, Any]) -> AnyRecord | None:
    """The record of a point, given as its tags and fields by name; None for a void.

    Raises ValueError where fields are missing: InfluxDB 1.8 shows those of a point that is being written one after another.
    Also that, or KeyError, where the point was not written by this module.
    """
    if _told(name, row, VOID):
        return None
    measurement = MEASUREMENTS[name]
    values: dict[str, Any] = {tag: decode_tag(row[tag]) for tag in ("meter_point", *measurement.tags)}
    nulls = _told(name, row, NULLS)
    for field in measurement.fields:
        if not (field.nullable and f",{field.name}," in nulls):
            # InfluxDB says an empty text as it says one that is not there.
            told = row.get(field.name) if field.kind is Kind.TEXT else _told(name, row, field.name)
            values[field.attribute] = _DECODERS[field.kind](told)
        elif field.attribute not in _ABSENT[name]:
            values[field.attribute] = None
    encoded = zip(measurement.record.__struct_fields__, measurement.record.__struct_encode_fields__, strict=True)
    named = {name_in_json: values[attribute] for attribute, name_in_json in encoded if attribute in values}
    # Checks the names of kinds, and makes tuples of lists.
    record: AnyRecord = msgspec.convert({"record": name, **named}, AnyRecord)
    return record
