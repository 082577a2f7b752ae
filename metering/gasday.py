"""The Gas Day: which instants belong to which Day, and when a Day's deadlines fall.

Here and in all of `metering`, an instant is an integer count of microseconds since 1970-01-01T00:00:00Z (``*_us``), and a
Gas Day is the proleptic ordinal of its date (``date.toordinal()``), so that both are cheap to compare and to store.
Sources: Section M 1.4.3(e), 4.2.1, 4.4.1, 5.2.1; the rules page, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US = 1_000_000
_US = timedelta(microseconds=1)
_EXACT_US = 2**32 * SECOND_US  # up to here seconds as a float tell every microsecond


def to_us(instant: datetime) -> int:
    """An aware datetime as microseconds since the epoch."""
    return (instant - EPOCH) // _US


def to_datetime(instant_us: int) -> datetime:
    """Microseconds since the epoch as an aware datetime in UTC."""
    if 0 <= instant_us < _EXACT_US:
        return datetime.fromtimestamp(instant_us / SECOND_US, UTC)  # in half the time of an addition
    return EPOCH + timedelta(microseconds=instant_us)


class DayStart(msgspec.Struct, frozen=True):
    """From the Gas Day `since` on, Days begin at `at`, local time."""

    since: date
    at: time


BRITISH_DAY_STARTS = (DayStart(date(1, 1, 1), time(6)), DayStart(date(2015, 10, 1), time(5)))


class GasDays:
    """The calendar of Gas Days in one time zone; starts are computed once each and kept."""

    def __init__(
        self,
        zone: str = "Europe/London",
        day_starts: Sequence[DayStart] = BRITISH_DAY_STARTS,
        close_out_days: int = 5,
    ) -> None:
        self.zone = ZoneInfo(zone)
        self.day_starts = tuple(sorted(day_starts, key=lambda entry: entry.since))
        self.close_out_days = close_out_days
        self._start_us: dict[int, int] = {}
        self._eleven_us: dict[int, int] = {}

    def start_us(self, day: int) -> int:
        """The instant at which the Day begins, which is the end of the Day before."""
        try:
            return self._start_us[day]
        except KeyError:
            self._start_us[day] = known = self._local_us(day, self._starts_at(day))
            return known

    def end_us(self, day: int) -> int:
        """The instant at which the Day ends."""
        return self.start_us(day + 1)

    def eleven_us(self, day: int) -> int:
        """11:00 local time on the date after the Day's: Valid readings received by then, inclusive, count (5.2.1)."""
        known = self._eleven_us.get(day)
        if known is None:
            known = self._eleven_us[day] = self._local_us(day + 1, time(11))
        return known

    def exit_close_out_us(self, day: int) -> int:
        """The Exit Close-Out of the Day: the end of the Day `close_out_days` later, inclusive (4.4.1)."""
        return self.start_us(day + self.close_out_days + 1)

    def day_of(self, instant_us: int) -> int:
        """The Gas Day that holds the instant; a Day's start belongs to that Day."""
        day = to_datetime(instant_us).toordinal()
        while instant_us < self.start_us(day):
            day -= 1
        while instant_us >= self.start_us(day + 1):
            day += 1
        return day

    def _starts_at(self, day: int) -> time:
        found = self.day_starts[0].at
        for entry in self.day_starts:
            if entry.since.toordinal() <= day:
                found = entry.at
        return found

    def _local_us(self, day: int, at: time) -> int:
        local = datetime.combine(date.fromordinal(day), at, tzinfo=self.zone)
        return to_us(local.astimezone(UTC))
