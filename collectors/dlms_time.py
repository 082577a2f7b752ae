"""COSEM date-time (IEC 62056-6-2, 4.1.6.1): twelve octets with a deviation from UTC and a status, any field of which may be
left unspecified; to instants and back.

The deviation is minutes from local time to UTC, so that UTC+1 is -60. Some makes write it the other way round. A meter that
leaves it out keeps local time of a zone that its map names; then the hour that October has twice is one or the other by the
summer-time bit of the status, or both where the status does not say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from collectors.dlms_base import Cursor, LocalError, Malformed

OCTETS = 12
UNSPECIFIED = 0xFF
YEAR_UNSPECIFIED = 0xFFFF
DEVIATION_UNSPECIFIED = -0x8000
DEVIATION_MAX = 840  # the standard says 720; there are zones at UTC+14
SUMMER_BIT, INVALID_BIT, DOUBTFUL_BIT = 0x80, 0x01, 0x02
SUMMER_BEGIN, SUMMER_END = 0xFE, 0xFD  # as a month
LAST_DAY, LAST_DAY_BUT_ONE = 0xFE, 0xFD  # as a day
_RANGES = {
    "month": (1, 12, (SUMMER_BEGIN, SUMMER_END)),
    "day": (1, 31, (LAST_DAY, LAST_DAY_BUT_ONE)),
    "weekday": (1, 7, ()),
    "hour": (0, 23, ()),
    "minute": (0, 59, ()),
    "second": (0, 59, ()),
    "hundredths": (0, 99, ()),
}


@dataclass(frozen=True, slots=True)
class CosemTime:
    """A date and time as a meter says it; None for what it leaves unspecified. `weekday` 1 is Monday."""

    year: int | None = None
    month: int | None = None
    day: int | None = None
    weekday: int | None = None
    hour: int | None = None
    minute: int | None = None
    second: int | None = None
    hundredths: int | None = None
    deviation_minutes: int | None = None
    status: int | None = None

    @property
    def is_invalid(self) -> bool:
        """Whether the meter says itself that its clock is wrong, or may be."""
        return self.status is not None and bool(self.status & (INVALID_BIT | DOUBTFUL_BIT))

    @property
    def is_summer(self) -> bool | None:
        """Whether summer time was in force; None where it does not say."""
        return None if self.status is None else bool(self.status & SUMMER_BIT)

    def instants(self, zone: ZoneInfo | None = None, east_is_positive: bool = False) -> tuple[datetime, ...]:
        """The instants (UTC) that this may be: one, or two in the hour that comes twice. Raises Malformed where it is none.

        `zone`: where it stands, for a meter that does not say its deviation.
        """
        local = self._local()
        if self.deviation_minutes is not None:
            sign = -1 if east_is_positive else 1
            return (_shifted(local.replace(tzinfo=UTC), timedelta(minutes=sign * self.deviation_minutes)),)
        if zone is None:
            raise Malformed(f"{local} without its deviation from UTC")
        try:
            found = _instants_in(zone, local, self.is_summer)
        except OverflowError as error:
            raise Malformed(f"{local} is out of range") from error
        if not found:
            raise Malformed(f"{local} does not exist in {zone.key}")
        return found

    def _local(self) -> datetime:
        try:
            return datetime(  # noqa: DTZ001 - local, until its deviation is known
                _said(self.year), _said(self.month), _said(self.day), _said(self.hour), _said(self.minute),
                self.second or 0, 10_000 * (self.hundredths or 0),
            )  # fmt: skip
        except ValueError as error:
            raise Malformed(f"no instant: {error}") from error


def _said(field: int | None) -> int:
    if field is None:
        raise ValueError("a field that it needs is not specified")
    return field


def _shifted(instant: datetime, by: timedelta) -> datetime:
    try:
        return instant + by
    except OverflowError as error:
        raise Malformed(f"{instant} is out of range") from error


def _instants_in(zone: ZoneInfo, local: datetime, is_summer: bool | None) -> tuple[datetime, ...]:
    found = []
    for fold in (0, 1):
        aware = local.replace(tzinfo=zone, fold=fold)
        instant = aware.astimezone(UTC)
        if instant.astimezone(zone).replace(tzinfo=None) == local and instant not in found:
            found.append(instant)
    if len(found) == 2 and is_summer is not None:
        found = [instant for instant in found if bool(instant.astimezone(zone).dst()) is is_summer] or found
    return tuple(found)


def decode_time(data: bytes) -> CosemTime:
    """What these twelve octets say. Raises Malformed."""
    cursor = Cursor(data)
    year = cursor.unsigned(2)
    fields = {name: cursor.unsigned() for name in ("month", "day", "weekday", "hour", "minute", "second", "hundredths")}
    deviation, status = cursor.signed(2), cursor.unsigned()
    cursor.end("a date-time")
    for name, field in fields.items():
        low, high, special = _RANGES[name]
        if field != UNSPECIFIED and field not in special and not low <= field <= high:
            raise Malformed(f"{name} {field}")
    if deviation != DEVIATION_UNSPECIFIED and abs(deviation) > DEVIATION_MAX:
        raise Malformed(f"deviation {deviation} minutes")
    return CosemTime(
        year=None if year == YEAR_UNSPECIFIED else year,
        **{name: None if field == UNSPECIFIED else field for name, field in fields.items()},
        deviation_minutes=None if deviation == DEVIATION_UNSPECIFIED else deviation,
        status=None if status == UNSPECIFIED else status,
    )


def encode_time(time: CosemTime) -> bytes:
    """Twelve octets. LocalError where a field does not fit."""
    fields = (time.month, time.day, time.weekday, time.hour, time.minute, time.second, time.hundredths)
    deviation = DEVIATION_UNSPECIFIED if time.deviation_minutes is None else time.deviation_minutes
    try:
        return (
            (YEAR_UNSPECIFIED if time.year is None else time.year).to_bytes(2, "big")
            + bytes(UNSPECIFIED if field is None else field for field in fields)
            + deviation.to_bytes(2, "big", signed=True)
            + bytes([UNSPECIFIED if time.status is None else time.status])
        )
    except (OverflowError, ValueError) as error:
        raise LocalError(f"{time} cannot be written") from error


def cosem_time(instant: datetime, zone: ZoneInfo | None = None, east_is_positive: bool = False) -> CosemTime:
    """The instant in UTC, or as the zone's local time, with deviation and the summer-time bit."""
    local = instant.astimezone(zone or UTC)
    east = int((local.utcoffset() or timedelta()).total_seconds()) // 60
    return CosemTime(
        year=local.year,
        month=local.month,
        day=local.day,
        weekday=local.isoweekday(),
        hour=local.hour,
        minute=local.minute,
        second=local.second,
        hundredths=local.microsecond // 10_000,
        deviation_minutes=east if east_is_positive else -east,
        status=SUMMER_BIT if local.dst() else 0,
    )


def same_form(said: CosemTime, instant: datetime, zone: ZoneInfo | None = None, east_is_positive: bool = False) -> CosemTime:
    """The instant as a meter that `said` a time would say it: with its deviation, or in local time of `zone` without one;
    hundredths where it has them. Its clock is not doubtful any more."""
    if said.deviation_minutes is None:
        time = replace(cosem_time(instant, zone, east_is_positive), deviation_minutes=None)
    else:
        east = said.deviation_minutes if east_is_positive else -said.deviation_minutes
        summer = SUMMER_BIT if said.is_summer else 0
        shows = cosem_time(instant.astimezone(UTC) + timedelta(minutes=east))
        time = replace(shows, deviation_minutes=said.deviation_minutes, status=summer)
    return replace(
        time,
        hundredths=None if said.hundredths is None else time.hundredths,
        status=None if said.status is None else time.status,
    )
