"""Rows of a load profile as readings: which columns are what, and what their numbers are worth. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from collectors.dlms_base import Malformed
from collectors.dlms_data import NULL, Data, Kind
from collectors.dlms_objects import VALUE, CaptureObject, ProfileRow, code_of
from collectors.reading import DayReadings
from metering.facts import ReferenceIndex, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class DlmsMeter:
    """What to know of a meter to read its log. Names are those of objects in the profile, six octets.

    `m3_per_tick` is what a tick of the index and of the reference is worth, as the meter's registration has it; the meter's own
    scaler is read and used, and what it gives must be whole ticks. `zone`: of a meter that does not say its deviation from
    UTC; with `asks_local` the range is asked for in its local time. `status_name`: a column whose bits are `status_bits`.
    `by_entry`: it takes no range of times, but numbers of rows. `events`: the log of
    events, a profile whose column `event_code` has one of `event_codes`.
    """

    m3_per_tick: Decimal
    profile: bytes
    index: bytes
    unconverted: bytes | None = None
    unconverted_m3_per_tick: Decimal | None = None
    reference: bytes | None = None
    status_name: bytes | None = None
    status_bits: tuple[tuple[int, Status], ...] = ()
    interval_s: int = 3600
    zone: ZoneInfo | None = None
    asks_local: bool = False
    east_is_positive: bool = False
    by_entry: bool = False
    events: bytes | None = None
    event_code: bytes = b""
    event_codes: tuple[tuple[int, Status], ...] = ()

    def registers(self) -> list[tuple[bytes, Decimal]]:
        """The names of the registers, and what a tick of each is worth."""
        found = [(self.index, self.m3_per_tick)]
        if self.unconverted is not None:
            found.append((self.unconverted, self.unconverted_m3_per_tick or self.m3_per_tick))
        if self.reference is not None:
            found.append((self.reference, self.m3_per_tick))
        return found


def column_of(columns: Sequence[CaptureObject], name: bytes) -> int | None:
    """Where the value of the object with this name stands in a row; None where it does not."""
    return next((n for n, column in enumerate(columns) if column.name == name and column.attribute == VALUE), None)


def day_readings(
    meter: DlmsMeter,
    first: datetime,
    last: datetime,
    rows: Iterable[ProfileRow],
    columns: Sequence[CaptureObject],
    m3_per_count: Mapping[bytes, Decimal],
    clock_offset_s: float,
    said: Iterable[Status] = (),
) -> DayReadings:
    """Readings at the boundaries, every interval between, and where else there is a row. Where two rows of one instant differ,
    nobody knows which is right, and the reading is missing. `said`: status that is not in the rows. Raises Malformed."""
    if column_of(columns, meter.index) is None:
        raise Malformed(f"the profile has no column {code_of(meter.index)}")
    by_instant: dict[datetime, ProfileRow | None] = {}
    for row in rows:
        if first <= row.at <= last:
            known = by_instant.get(row.at, row)
            by_instant[row.at] = row if known is not None and known.values == row.values else None
    at = tuple(sorted({last, *by_instant, *_grid(first, last, timedelta(seconds=meter.interval_s))}))
    held = [by_instant.get(instant) for instant in at]
    series = {name: ticks(held, column_of(columns, name), m3_per_count.get(name), tick) for name, tick in meter.registers()}
    reference = series.get(meter.reference) if meter.reference is not None else None
    return DayReadings(
        at=at,
        index=series[meter.index] or (None,) * len(at),
        unconverted=series[meter.unconverted] if meter.unconverted is not None else None,
        reference_index=_reference(reference),
        status=statuses(meter, by_instant.values(), columns, said),
        clock_offset_s=clock_offset_s,
    )


def _grid(first: datetime, last: datetime, interval: timedelta) -> Iterator[datetime]:
    while first < last:
        yield first
        first += interval


def ticks(
    rows: Sequence[ProfileRow | None], column: int | None, m3_per_count: Decimal | None, m3_per_tick: Decimal
) -> tuple[int | None, ...] | None:
    """A register's column in ticks, None where one is missing; None where all are. `m3_per_count`: what its numbers are
    worth. Raises Malformed."""
    if column is None or m3_per_count is None:
        return None
    values = [None if row is None or row.values[column] == NULL else row.values[column] for row in rows]
    if all(value is None for value in values):
        return None
    return tuple(None if value is None else _whole_ticks(value.number * m3_per_count, m3_per_tick) for value in values)


def _whole_ticks(value_m3: Decimal, m3_per_tick: Decimal) -> int:
    found = value_m3 / m3_per_tick
    if found != int(found) or found < 0:
        raise Malformed(f"{value_m3} m³ is not whole ticks of {m3_per_tick} m³")
    return int(found)


def _reference(index: Sequence[int | None] | None) -> ReferenceIndex | None:
    if index is None or index[0] is None or index[-1] is None:
        return None
    return ReferenceIndex(start=index[0], end=index[-1])


def statuses(
    meter: DlmsMeter, rows: Iterable[ProfileRow | None], columns: Sequence[CaptureObject], already: Iterable[Status] = ()
) -> tuple[Status, ...]:
    """What the rows' status says, and their times' own, beside what was said already. Raises Malformed."""
    said = set(already)
    column = None if meter.status_name is None else column_of(columns, meter.status_name)
    for row in rows:
        if row is None:
            continue
        if row.time.is_invalid:
            said.add("clock_invalid")
        if column is not None:
            word = _status_word(row.values[column])
            said.update(status for bit, status in meter.status_bits if word >> bit & 1)
    return tuple(sorted(said))


def _status_word(data: Data) -> int:
    """A status, as a number or as a bit string, whose first bit is bit 0."""
    if data.kind is Kind.BIT_STRING and isinstance(data.value, str):
        return int(data.value[::-1] or "0", 2)
    return 0 if data == NULL else data.number


def event_statuses(
    meter: DlmsMeter, first: datetime, last: datetime, rows: Iterable[ProfileRow], columns: Sequence[CaptureObject]
) -> set[Status]:
    """What the log of events says of [first, last). Codes that the map does not name say nothing. Raises Malformed."""
    column, names = column_of(columns, meter.event_code), dict(meter.event_codes)
    if column is None:
        raise Malformed(f"the log of events has no column {code_of(meter.event_code)}")
    codes = {row.values[column].number for row in rows if first <= row.at < last}
    return {names[code] for code in codes if code in names}
