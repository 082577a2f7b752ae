"""How much gas a simulated site uses: by month, weekday and hour of local time, with some noise; exact and repeatable.

All in whole micro-m³ at the register's own conditions. Hourly amounts are made once each, in order, from the seed, and
kept as running totals; within an hour the flow is even. So the total at any instant is exact and never falls.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import msgspec

HOUR = timedelta(hours=1)
MICRO = 1_000_000
HOURS_A_YEAR = 8766
LOCAL = ZoneInfo("Europe/London")


class Profile(msgspec.Struct, frozen=True):
    """Weights in thousandths: 12 months, 7 weekdays from Monday, 24 local hours. Each set has the mean 1000."""

    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    hours: tuple[int, ...]


FLAT_MONTHS = (1000,) * 12
HEATING_MONTHS = (2000, 1800, 1500, 1000, 500, 300, 200, 200, 500, 900, 1400, 1700)
MIXED_MONTHS = (1500, 1400, 1250, 1000, 750, 650, 600, 600, 750, 950, 1200, 1350)
WORKING_WEEK = (1250, 1250, 1250, 1250, 1200, 450, 350)
LONG_WEEK = (1050, 1050, 1050, 1050, 1050, 950, 800)
DAYTIME = (
    400, 400, 400, 400, 400, 900, 1600, 2400, 2300, 1600, 1400, 1300,
    1200, 1200, 1200, 1200, 1200, 1000, 800, 700, 600, 500, 450, 450,
)  # fmt: skip
NIGHT_SHIFT = (
    1800, 1900, 2000, 2000, 1900, 1600, 1200, 900, 700, 600, 500, 500,
    500, 500, 500, 500, 500, 500, 600, 700, 800, 900, 1100, 1300,
)  # fmt: skip
PROFILES = {
    "office": Profile(HEATING_MONTHS, WORKING_WEEK, DAYTIME),
    "hospital": Profile(HEATING_MONTHS, (1000,) * 7, DAYTIME),
    "factory": Profile(MIXED_MONTHS, WORKING_WEEK, DAYTIME),
    "bakery": Profile(MIXED_MONTHS, LONG_WEEK, NIGHT_SHIFT),
    "process": Profile(FLAT_MONTHS, LONG_WEEK, (1000,) * 24),
}


class Consumption:
    """The gas that has passed since `since` (a whole hour), at any instant.

    `ratio`: where a convertor works, converted volume over unconverted volume, as a percentage; it varies by some per cent.
    """

    def __init__(self, profile: Profile, annual_um3: int, seed: int, since: datetime, ratio_percent: int = 100) -> None:
        if since.astimezone(UTC).replace(minute=0, second=0, microsecond=0) != since:
            raise ValueError(f"since: {since.isoformat()} is not a whole hour")
        self._profile = profile
        self._annual_um3 = annual_um3
        self._since = since.astimezone(UTC)
        self._ratio_percent = ratio_percent
        self._random = Random(seed)
        self._total = [0]
        self._unconverted = [0]

    def total_um3(self, instant: datetime) -> int:
        """What has passed, in micro-m³ as the (converted) register counts them; 0 before the meter was fitted."""
        return self._at(self._total, instant)

    def unconverted_um3(self, instant: datetime) -> int:
        """The same at metering conditions."""
        return self._at(self._unconverted, instant)

    def _at(self, totals: list[int], instant: datetime) -> int:
        if instant <= self._since:
            return 0
        hour, within = divmod(instant - self._since, HOUR)
        while len(self._total) < hour + 2:
            self._grow()
        low, high = totals[hour], totals[hour + 1]
        return low + (high - low) * (within // timedelta(microseconds=1)) // (3600 * MICRO)

    def _grow(self) -> None:
        """The next hour's amounts."""
        local = (self._since + (len(self._total) - 1) * HOUR).astimezone(LOCAL)
        weights = self._profile.months[local.month - 1] * self._profile.weekdays[local.weekday()]
        weights *= self._profile.hours[local.hour] * self._random.randint(900, 1100)
        amount = self._annual_um3 * weights // (HOURS_A_YEAR * 1000**4)
        ratio_percent = self._ratio_percent * self._random.randint(97, 103)
        self._total.append(self._total[-1] + amount)
        self._unconverted.append(self._unconverted[-1] + amount * 10_000 // ratio_percent)
