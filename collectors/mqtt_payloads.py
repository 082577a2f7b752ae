"""What loggers push, as facts: payloads in JSON and in a compact form. Pure; `mqtt.md` beside this file is their description.

A payload that is not one is a BadPayload with the reason, never a reading. Readings are shared out to their Gas Days; one at
a boundary belongs to both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta

from metering.facts import Alarm, Readings, Status
from metering.gasday import GasDays, to_datetime, to_us
from metering.limits import INTERVAL_S_MAX

READINGS_MAX = 10_000
PAYLOAD_BYTES_MAX = 128 * 1024
INTERVAL_S_MIN = 360  # M4.1.3
STATUS_BITS: tuple[Status, ...] = get_args(Status)
Interval = Annotated[int, Meta(ge=1, le=INTERVAL_S_MAX)]
Seconds = Annotated[int, Meta(ge=0, lt=7_258_118_400)]  # until the year 2200
Text = Annotated[str, Meta(min_length=1, max_length=64)]


class BadPayload(ValueError):
    """Not what a logger may push; the message says why."""


class Pushed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Readings in JSON: at the instants `at`, or from `first_at` every `interval_s` seconds."""

    meter: Text
    at: tuple[datetime, ...] | None = None
    first_at: datetime | None = None
    interval_s: Interval | None = None
    index: tuple[int | None, ...]
    unconverted: tuple[int | None, ...] | None = None
    status: tuple[Status, ...] = ()


class Compact(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Readings in MessagePack: a count first, then by how much each differs from the last one that was there."""

    meter: Text
    first_s: Seconds
    interval_s: Interval
    index: tuple[int | None, ...]
    unconverted: tuple[int | None, ...] | None = None
    status: Annotated[int, Meta(ge=0, lt=1 << len(STATUS_BITS))] = 0


class PushedAlarm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An alarm in JSON: the fields of the `alarm` fact but for the meter point."""

    meter: Text
    at: datetime
    kind: Annotated[str, Meta(max_length=64)]
    detail: Annotated[str, Meta(max_length=1000)] = ""


class Confirmation(msgspec.Struct, frozen=True, kw_only=True):
    """A logger's word that it did what the command `id` says: from now on it reads every `interval_s`."""

    id: str = ""
    interval_s: Interval


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a logger is told: the interval of its readings, or to push again what its own log has from `resend_from` on."""

    id: str
    interval_s: int | None = None
    meter: str | None = None
    resend_from: datetime | None = None
    resend_until: datetime | None = None


class IntervalRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody asks the gateway to set the interval of a logger, or of the equipment of a meter that is polled (its serial
    number)."""

    logger: Text | None = None
    meter: Text | None = None
    interval_s: Annotated[int, Meta(ge=INTERVAL_S_MIN, le=86_400)]


class Columns(msgspec.Struct, frozen=True):
    """Readings of one meter, whatever the form they came in."""

    meter: str
    at: Sequence[datetime]
    index: Sequence[int | None]
    unconverted: Sequence[int | None] | None = None
    status: tuple[Status, ...] = ()


def decoded(payload: bytes, kind: type[Any], *, packed: bool = False) -> Any:
    """The payload as `kind`; BadPayload where it is not."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise BadPayload(f"{len(payload)} bytes; allowed: at most {PAYLOAD_BYTES_MAX}")
    try:
        return (msgspec.msgpack if packed else msgspec.json).decode(payload, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise BadPayload(str(error)) from error


def columns(payload: bytes) -> Columns:
    """The readings in a JSON payload."""
    pushed: Pushed = decoded(payload, Pushed)
    _check_length(pushed.index)
    if pushed.unconverted is not None and len(pushed.unconverted) != len(pushed.index):
        raise BadPayload(f"unconverted: {len(pushed.unconverted)} entries for {len(pushed.index)} of `index`")
    return Columns(pushed.meter, _instants(pushed), pushed.index, pushed.unconverted, pushed.status)


def compact_columns(payload: bytes) -> Columns:
    """The readings in a compact payload."""
    packed: Compact = decoded(payload, Compact, packed=True)
    _check_length(packed.index)
    if packed.unconverted is not None and len(packed.unconverted) != len(packed.index):
        raise BadPayload(f"unconverted: {len(packed.unconverted)} entries for {len(packed.index)} of index")
    at = [to_datetime((packed.first_s + n * packed.interval_s) * 1_000_000) for n in range(len(packed.index))]
    unconverted = None if packed.unconverted is None else list(_summed(packed.unconverted))
    status = tuple(name for bit, name in enumerate(STATUS_BITS) if packed.status >> bit & 1)
    return Columns(packed.meter, at, list(_summed(packed.index)), unconverted, status)


def compact(columns: Columns) -> bytes:
    """Evenly spaced readings in the compact form, as a logger sends them."""
    first = columns.at[0]
    step = columns.at[1] - first if len(columns.at) > 1 else timedelta(seconds=1)
    flags = sum(1 << bit for bit, name in enumerate(STATUS_BITS) if name in columns.status)
    unconverted = None if columns.unconverted is None else tuple(_differences(columns.unconverted))
    index = tuple(_differences(columns.index))
    packed = Compact(columns.meter, int(first.timestamp()), int(step.total_seconds()), index, unconverted, flags)
    return msgspec.msgpack.encode(packed)


def to_facts(pushed: Columns, meter_point: str, days: GasDays) -> list[Readings]:
    """The readings as facts, one for each Gas Day that they concern. BadPayload where a value cannot be."""
    rows: dict[int, list[int]] = {}
    try:
        for row, at in enumerate(pushed.at):
            at_us = to_us(at)
            day = days.day_of(at_us)
            rows.setdefault(day, []).append(row)
            if at_us == days.start_us(day):
                rows.setdefault(day - 1, []).append(row)
        return [_fact(pushed, meter_point, date.fromordinal(day), rows[day]) for day in sorted(rows)]
    except (ValueError, OverflowError) as error:
        raise BadPayload(str(error)) from error


def to_alarm(pushed: PushedAlarm, meter_point: str) -> Alarm:
    """The alarm as a fact; a kind that is not known becomes `other`, and stays in the detail."""
    if pushed.at.tzinfo is None:
        raise BadPayload("at: an instant without an offset from UTC, which could be any")
    kind, detail = pushed.kind, pushed.detail
    if kind not in ("tamper", "battery_low", "reed_switch", "bypass_open", "other"):
        kind, detail = "other", f"{kind}: {detail}"
    fields = {
        "fact": "alarm",
        "meter_point": meter_point,
        "meter": pushed.meter,
        "at": pushed.at,
        "kind": kind,
        "detail": detail,
    }
    try:
        return msgspec.convert(fields, Alarm)
    except msgspec.ValidationError as error:
        raise BadPayload(str(error)) from error


def _fact(pushed: Columns, meter_point: str, day: date, rows: Sequence[int]) -> Readings:
    def of(column: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(column[row] for row in rows)

    return Readings(
        meter_point=meter_point,
        meter=pushed.meter,
        gas_day=day,
        at=tuple(pushed.at[row] for row in rows),
        index=of(pushed.index),
        unconverted=None if pushed.unconverted is None else of(pushed.unconverted),
        status=pushed.status,
    )


def _instants(pushed: Pushed) -> tuple[datetime, ...]:
    if (pushed.at is None) == (pushed.first_at is None):
        raise BadPayload("at: give either `at` or `first_at` with `interval_s`, one of the two")
    if pushed.at is not None:
        at = pushed.at
        if len(at) != len(pushed.index):
            raise BadPayload(f"at: {len(at)} instants for {len(pushed.index)} entries of `index`")
    else:
        assert pushed.first_at is not None
        if pushed.interval_s is None and len(pushed.index) > 1:
            raise BadPayload("interval_s: missing beside `first_at`")
        step = timedelta(seconds=pushed.interval_s or 0)
        try:
            at = tuple(pushed.first_at + n * step for n in range(len(pushed.index)))
        except OverflowError as error:
            raise BadPayload(f"first_at: {error}") from error
    if any(instant.tzinfo is None for instant in at):
        raise BadPayload("an instant without an offset from UTC, which could be any")
    return at


def _check_length(index: Sequence[object]) -> None:
    if not 1 <= len(index) <= READINGS_MAX:
        raise BadPayload(f"index: {len(index)} entries; allowed: 1 to {READINGS_MAX}")


def _summed(differences: Iterable[int | None]) -> Iterator[int | None]:
    last = 0
    for difference in differences:
        if difference is not None:
            last += difference
        yield None if difference is None else last


def _differences(values: Iterable[int | None]) -> Iterator[int | None]:
    last = 0
    for value in values:
        yield None if value is None else value - last
        last = last if value is None else value
