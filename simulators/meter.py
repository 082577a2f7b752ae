"""A simulated meter with its Daily Read Equipment: what truly passed, and what the equipment says of it.

The truth is the meter: `true_index_at`, `true_volume_l`. The equipment logs the index every hour by its own clock, keeps the
log for some Days, and answers, or not, as its faults have it. A log row is what it says at `now` about an instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

import msgspec

from metering.gasday import GasDays, to_datetime
from simulators.consumption import HOUR, MICRO, Consumption
from simulators.faults import (
    RESYNCHRONISED_AFTER,
    AnyFault,
    Corrupt,
    Late,
    NotLogged,
    ReadsLow,
    StartDiffers,
    answers,
    clock_offset_s,
    of_kind,
    statuses,
)


class Register(msgspec.Struct, frozen=True):
    """A counter of `digits` digits that shows `start_index` when nothing has passed; `m3_per_tick` in whole micro-m³."""

    digits: int
    m3_per_tick: Decimal
    start_index: int

    def __post_init__(self) -> None:
        if self.m3_per_tick <= 0 or self.m3_per_tick * MICRO % 1:
            raise ValueError(f"m3_per_tick: {self.m3_per_tick} is not a positive number of micro-m³")
        if not 0 <= self.start_index < 10**self.digits:
            raise ValueError(f"start_index: {self.start_index} does not fit {self.digits} digits")

    def ticks(self, um3: int) -> int:
        """The count as if it never rolled over."""
        return self.start_index + um3 // int(self.m3_per_tick * MICRO)

    def shown(self, ticks: int) -> int:
        """The digits that the register shows of a count."""
        return int(ticks % 10**self.digits)


class LogRow(msgspec.Struct, frozen=True):
    """One row of the equipment's log: the registers at an instant of the equipment's clock."""

    at: datetime
    index: int
    unconverted: int | None
    reference: int
    status: tuple[str, ...] = ()


class SimulatedMeter:
    """A meter and its equipment. All instants are aware; `now` is virtual, true time.

    `factor` is the conversion factor, 1 with a convertor. `drift_ppm` is how fast the equipment's clock gains.
    """

    def __init__(
        self,
        *,
        name: str,
        consumption: Consumption,
        register: Register,
        factor: Decimal = Decimal(1),
        unconverted: Register | None = None,
        fitted_at: datetime,
        faults: Sequence[AnyFault] = (),
        days: GasDays | None = None,
        log_days: int = 60,
        drift_ppm: int = 0,
    ) -> None:
        self.name = name
        self.register = register
        self.unconverted = unconverted
        self.factor = factor
        self.fitted_at = fitted_at
        self.faults = tuple(faults)
        self.days = days or GasDays()
        self.log_for = timedelta(days=log_days)
        self._consumption = consumption
        self._drift_ppm = drift_ppm
        self._answered = 0
        self._moved: list[tuple[datetime, timedelta]] = []  # the clock, when and by how much

    # The truth.

    def true_index_at(self, instant: datetime) -> int:
        """What the meter's own register shows."""
        return self.register.shown(self._true_ticks(instant))

    reference_index_at = true_index_at

    def true_volume_l(self, day: date) -> int:
        """The Gas Day's volume in litres at reference conditions: R(end × k) - R(start × k), the end unwrapped."""
        start, end = self._boundaries(day)
        start_ticks = self.true_index_at(start)
        return self._litres(start_ticks + self._true_ticks(end) - self._true_ticks(start)) - self._litres(start_ticks)

    def _true_ticks(self, instant: datetime) -> int:
        return self.register.ticks(self._consumption.total_um3(instant))

    def _litres(self, ticks: int) -> int:
        exact = ticks * self.register.m3_per_tick * self.factor * 1000
        return int(exact.quantize(Decimal(1), ROUND_HALF_UP))

    def _boundaries(self, day: date) -> tuple[datetime, datetime]:
        ordinal = day.toordinal()
        return to_datetime(self.days.start_us(ordinal)), to_datetime(self.days.end_us(ordinal))

    # The equipment.

    def answers(self, now: datetime) -> bool:
        """Whether the equipment answers at all."""
        return answers(self.faults, now)

    def spoils_answer(self) -> Literal["", "wrong_check", "short"]:
        """How the answer about to be sent is spoiled, if it is. Counts the answers: ask once for each."""
        self._answered += 1
        for fault in of_kind(self.faults, Corrupt):
            if self._answered % fault.every == 0:
                return fault.how
        return ""

    def clock(self, now: datetime) -> datetime:
        """What the equipment's clock shows, in UTC."""
        return now.astimezone(UTC) + self._ahead(now)

    def set_clock(self, shown: datetime, now: datetime) -> None:
        """The equipment's clock shows `shown` from now on; what it has logged stays as it is."""
        self._moved.append((now, shown - self.clock(now)))

    def row_now(self, now: datetime) -> LogRow:
        """What the registers show now, stamped by the equipment's clock."""
        return self._row(self.clock(now), now)

    def log(self, first: datetime, last: datetime, now: datetime, every: timedelta = HOUR) -> list[LogRow]:
        """The rows of the whole hours (or of every so much time) in [first, last] that the log holds at `now`, oldest first."""
        shows = self.clock(now)
        stamp = max(first, self.fitted_at, shows - self.log_for).astimezone(UTC)
        stamp = datetime.min.replace(tzinfo=UTC) + -(-(stamp - datetime.min.replace(tzinfo=UTC)) // every) * every
        rows = []
        while stamp <= min(last, shows):
            if self._is_logged(stamp, now):
                rows.append(self._row(stamp, now))
            stamp += every
        return rows

    def _ahead(self, instant: datetime) -> timedelta:
        drift = (instant - self.fitted_at) * self._drift_ppm / MICRO
        moved = sum((by for at, by in self._moved if at <= instant), timedelta())
        return timedelta(seconds=clock_offset_s(self.faults, instant)) + drift + moved

    def _row(self, stamp: datetime, now: datetime) -> LogRow:
        recorded_at = min(stamp - self._ahead(stamp), now)
        ticks = self._true_ticks(recorded_at) - self._missed(recorded_at, now) + self._added(stamp, now)
        return LogRow(
            at=stamp,
            index=self.register.shown(ticks),
            unconverted=self._unconverted_at(recorded_at),
            reference=self.true_index_at(recorded_at),
            status=statuses(self.faults, stamp, now),
        )

    def _unconverted_at(self, instant: datetime) -> int | None:
        register = self.unconverted
        return None if register is None else register.shown(register.ticks(self._consumption.unconverted_um3(instant)))

    def _is_logged(self, stamp: datetime, now: datetime) -> bool:
        for gap in of_kind(self.faults, NotLogged):
            if self._boundaries(gap.first_day)[0] < stamp < self._boundaries(gap.last_day)[1]:
                return False
        for late in of_kind(self.faults, Late):
            start, end = self._boundaries(late.day)
            if start < stamp <= end and now < late.available_from:
                return False
        return True

    def _missed(self, instant: datetime, now: datetime) -> int:
        """Ticks that the equipment has missed so far, less what it was told since."""
        missed = 0
        for low in of_kind(self.faults, ReadsLow):
            start, end = self._boundaries(low.first_day)[0], self._boundaries(low.last_day)[1]
            in_step_again = instant >= end and now >= end + RESYNCHRONISED_AFTER
            if instant > start and not in_step_again:
                missed += (self._true_ticks(min(instant, end)) - self._true_ticks(start)) * low.percent // 100
        return missed

    def _added(self, stamp: datetime, now: datetime) -> int:
        added = 0
        for differs in of_kind(self.faults, StartDiffers):
            start = self._boundaries(differs.day)[0]
            if stamp == start and now >= start + RESYNCHRONISED_AFTER:
                added += differs.ticks
        return added
