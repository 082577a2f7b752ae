"""What is read of a COSEM meter (IEC 62056-6-2): data (class 1), register (3), extended register (4), profile generic (7) and
clock (8), as their attributes come; and the selections by range and by entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from collectors.dlms_base import LocalError, Malformed
from collectors.dlms_data import NULL, Data, Kind, array, long_unsigned, octet_string, structure
from collectors.dlms_time import OCTETS, CosemTime, cosem_time, decode_time, encode_time
from collectors.dlms_xdlms import Member, Selection

DATA, REGISTER, EXTENDED_REGISTER, PROFILE, CLOCK, ASSOCIATION = 1, 3, 4, 7, 8, 15
VALUE, SCALER_UNIT = 2, 3  # attributes of registers; VALUE of data and clock too
STATUS, CAPTURED_AT = 4, 5  # of an extended register
BUFFER, CAPTURE_OBJECTS, CAPTURE_PERIOD, SORT_METHOD, ENTRIES_IN_USE, ENTRIES = 2, 3, 4, 5, 7, 8  # of a profile
BY_RANGE, BY_ENTRY = 1, 2
PROVE = 1  # method of the association: the HLS proof
UNITS = {9: "°C", 13: "m³", 14: "m³ converted", 15: "m³/h", 16: "m³/h converted", 23: "Pa", 24: "bar", 255: ""}
CUBIC_METRES = (13, 14)
ASSOCIATION_NAME = bytes([0, 0, 40, 0, 0, 255])
CLOCK_NAME = bytes([0, 0, 1, 0, 0, 255])
CLOCK_TIME = Member(CLOCK, CLOCK_NAME, VALUE)
_NAME = re.compile(r"(\d+)-(\d+):(\d+)\.(\d+)\.(\d+)(?:[*.](\d+))?")
SCALE_MAX = 30


def logical_name(text: str) -> bytes:
    """Six octets of a code like `7-0:13.2.0` or `7-0:13.26.0*1`; the last group is 255 where it is left out. ValueError."""
    found = _NAME.fullmatch(text)
    groups = [int(group) for group in found.groups(default="255")] if found else []
    if not groups or max(groups) > 255:
        raise ValueError(f"found {text!r}, which is no OBIS code; allowed: one like 7-0:13.2.0")
    return bytes(groups)


def code_of(name: bytes) -> str:
    """A logical name as people write it."""
    a, b, c, d, e, f = name
    return f"{a}-{b}:{c}.{d}.{e}" + ("" if f == 255 else f"*{f}")


@dataclass(frozen=True, slots=True)
class ScalerUnit:
    """What a register's number is worth: times ten to the power of `scaler`, of unit `unit` (COSEM's number)."""

    scaler: int
    unit: int

    def value(self, number: int) -> Decimal:
        """A number in this unit, exact."""
        return Decimal(number).scaleb(self.scaler)


def scaler_unit(data: Data) -> ScalerUnit:
    """Attribute 3 of a register. Raises Malformed."""
    match data.items:
        case (Data(Kind.INTEGER, int(scaler)), Data(Kind.ENUM | Kind.UNSIGNED, int(unit))) if abs(scaler) <= SCALE_MAX:
            return ScalerUnit(scaler, unit)
    raise Malformed("scaler and unit that are none")


def time_of(data: Data) -> CosemTime:
    """A date-time, as a clock or a profile's row has it: tagged as one, or an octet string. Raises Malformed."""
    octets = data.octets
    if len(octets) != OCTETS:
        raise Malformed(f"a date-time of {len(octets)} octets")
    return decode_time(octets)


@dataclass(frozen=True, slots=True)
class CaptureObject:
    """A column of a profile: an attribute of an object, and which element of it (0: all of it)."""

    class_id: int
    name: bytes
    attribute: int
    index: int = 0

    def data(self) -> Data:
        """As attribute 3 of a profile, and selections by range, have it."""
        number = Data(Kind.INTEGER, self.attribute)
        return structure(long_unsigned(self.class_id), octet_string(self.name), number, long_unsigned(self.index))

    @property
    def is_clock(self) -> bool:
        """Whether the column is the time of the row."""
        return self.class_id == CLOCK and self.attribute == VALUE


CLOCK_COLUMN = CaptureObject(CLOCK, CLOCK_NAME, VALUE)


def capture_objects(data: Data) -> tuple[CaptureObject, ...]:
    """Attribute 3 of a profile. Raises Malformed."""
    return tuple(_capture_object(item) for item in data.items)


def _capture_object(data: Data) -> CaptureObject:
    if len(data.items) != 4 or len(data.items[1].octets) != 6:
        raise Malformed("a column of a profile that is none")
    class_id, name, attribute, index = data.items
    return CaptureObject(class_id.number, name.octets, attribute.number, index.number)


def by_range(
    first: datetime,
    last: datetime,
    zone: ZoneInfo | None = None,
    east_is_positive: bool = False,
    column: CaptureObject = CLOCK_COLUMN,
) -> Selection:
    """The rows whose time is in [first, last], all columns. Times are in UTC, or the zone's local time."""
    ends = (octet_string(encode_time(cosem_time(instant, zone, east_is_positive))) for instant in (first, last))
    return Selection(BY_RANGE, structure(column.data(), *ends, array()))


def by_entry(first: int, last: int, first_column: int = 1, last_column: int = 0) -> Selection:
    """The rows from the `first` to the `last`, counted from 1; 0 as the last is the end. LocalError where they cannot be."""
    if not 1 <= first <= 0xFFFF_FFFF or (last and not first <= last <= 0xFFFF_FFFF):
        raise LocalError(f"rows {first} to {last}; allowed: from 1, the last not before the first, or 0 for the end")
    rows = (Data(Kind.DOUBLE_LONG_UNSIGNED, first), Data(Kind.DOUBLE_LONG_UNSIGNED, last))
    return Selection(BY_ENTRY, structure(*rows, long_unsigned(first_column), long_unsigned(last_column)))


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """A row of a profile: when, by the meter (UTC), and the values of its columns, the time's among them."""

    at: datetime
    values: tuple[Data, ...]
    time: CosemTime


def profile_rows(
    buffer: Data, columns: Sequence[CaptureObject], period_s: int, zone: ZoneInfo | None = None, east_is_positive: bool = False
) -> Iterator[ProfileRow]:
    """The rows of a buffer, in its order, oldest first or newest first. Raises Malformed.

    A time that a row leaves out (null) is a period after the one before; another value that it leaves out is the same as in
    the row before, as the standard lets a meter shorten them. `period_s`: the capture period; 0 where there is none.
    """
    at = next((n for n, column in enumerate(columns) if column.is_clock), None)
    if at is None:
        raise Malformed("a profile without a column for the time")
    before: ProfileRow | None = None
    for row in buffer.items:
        values = list(row.items)
        if len(values) != len(columns):
            raise Malformed(f"a row of {len(values)} values, under {len(columns)} columns")
        row_time, instant = _row_time(values[at], before, period_s, zone, east_is_positive)
        if before is not None:
            values = [
                old if new == NULL and n != at else new for n, (new, old) in enumerate(zip(values, before.values, strict=True))
            ]
        before = ProfileRow(instant, tuple(values), row_time)
        yield before


def _row_time(
    cell: Data, before: ProfileRow | None, period_s: int, zone: ZoneInfo | None, east_is_positive: bool
) -> tuple[CosemTime, datetime]:
    if cell != NULL:
        time = time_of(cell)
        instants = time.instants(zone, east_is_positive)
        if before is None:
            return time, instants[0]
        return time, min(instants, key=lambda instant: _step(instant, before.at, period_s))
    if before is None or not period_s:
        raise Malformed("a row without a time")
    try:
        return before.time, before.at + timedelta(seconds=period_s)
    except OverflowError as error:
        raise Malformed("a row whose time is out of range") from error


def _step(instant: datetime, before: datetime, period_s: int) -> float:
    """How far a row is from where it should be, one period from the last."""
    return abs(abs((instant - before).total_seconds()) - period_s)
