"""A year's facts of many meter points as JSON Lines: mostly sound hourly readings, and what goes wrong with some."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from dailyread.jsonlines import write_fact
from metering.facts import CalorificValue, MeterFitted, Readings, Registered
from metering.gasday import SECOND_US, GasDays, to_datetime

DAYS = GasDays()
FIRST = date(2025, 1, 1).toordinal()
MINUTE_US, HOUR_US, DAY_US = 60 * SECOND_US, 3600 * SECOND_US, 86_400 * SECOND_US
LDZS = ("EA", "EM", "NE", "NO", "NT", "NW", "SC", "SE", "SO", "SW", "WM", "WN", "WS")
# Shares of all batches.
LATE, VERY_LATE, COPIED, MISMATCHED, WRONG, NULLS, MISSING = 0.01, 0.002, 0.005, 0.001, 0.002, 0.005, 0.003
SILENCE = 0.005  # of Days that begin one of 2 to 6 Days, half of which is told later


class Kind(NamedTuple):
    """A kind of meter: its register, and how many ticks a Day are usual at most."""

    digits: int
    m3_per_tick: str
    factor: str | None
    q_max_m3_per_h: int
    ticks_max: int


KINDS = (
    Kind(8, "0.1", None, 1600, 9000),
    Kind(9, "0.01", None, 160, 90_000),
    Kind(6, "1", "1.02264", 1600, 3000),  # rolls over within the year, at most points
    Kind(6, "2.8316846592", "1.02264", 650, 400),  # hundreds of cubic feet
)


class Site:
    """A meter point: what it used so far, and what its gateway does with it."""

    def __init__(self, number: int, seed: int) -> None:
        self.dice = random.Random(f"{seed} {number}")
        self.meter_point, self.meter = f"74{number:08}", f"M{number:06}"
        self.kind = self.dice.choice(KINDS)
        self.ticks = self.fitted_at = self.dice.randrange(10**self.kind.digits)
        self.silent_until, self.told_later, self.sequence = FIRST, False, 0

    def reference(self, number: int) -> Iterator[bytes]:
        """The registration and the meter, known before the first Day."""
        kind, received_at = self.kind, to_datetime(DAYS.start_us(FIRST) - 9 * DAY_US + number)
        usual_m3 = Decimal(kind.m3_per_tick) * kind.ticks_max / 2
        yield write_fact(Registered(
            meter_point=self.meter_point, gas_day=date.fromordinal(FIRST), users=(f"USER{number % 40}",),
            ldz=LDZS[number % len(LDZS)], equipment=f"E{number}", annual_quantity_kwh=round(usual_m3 * 11 * 365, 0),
            received_at=received_at,
        ))  # fmt: skip
        yield write_fact(MeterFitted(
            meter_point=self.meter_point, meter=self.meter, at=to_datetime(DAYS.start_us(FIRST)), index=self.fitted_at,
            digits=kind.digits, m3_per_tick=Decimal(kind.m3_per_tick), q_max_m3_per_h=Decimal(kind.q_max_m3_per_h),
            conversion_factor=None if kind.factor is None else Decimal(kind.factor), received_at=received_at,
        ))  # fmt: skip

    def batch(self, day: int) -> Readings | None:
        """The Day's batch with its receipt; None where none ever comes."""
        dice, start_us, end_us = self.dice, DAYS.start_us(day), DAYS.start_us(day + 1)
        hours = (end_us - start_us) // HOUR_US
        used = dice.randint(self.kind.ticks_max // 5, self.kind.ticks_max)
        index = [(self.ticks + used * n // hours) % 10**self.kind.digits for n in range(hours + 1)]
        self.ticks += used
        received_us = end_us + dice.randint(5 * MINUTE_US, 4 * HOUR_US)
        if day >= self.silent_until and day > FIRST and dice.random() < SILENCE:
            self.silent_until, self.told_later = day + dice.randint(2, 6), dice.random() < 0.5
        if day < self.silent_until:
            if not self.told_later:
                return None
            received_us = DAYS.start_us(self.silent_until + 8) + dice.randint(0, DAY_US)
        elif (chance := dice.random()) < MISSING:
            return None
        elif chance < MISSING + LATE:
            received_us += dice.randint(6 * HOUR_US, 4 * DAY_US)
        elif chance < MISSING + LATE + VERY_LATE:
            received_us += dice.randint(7 * DAY_US, 30 * DAY_US)
        self._spoil(index)
        self.sequence += 1
        return Readings(
            meter_point=self.meter_point, meter=self.meter, gas_day=date.fromordinal(day), first_at=to_datetime(start_us),
            interval_s=3600, index=tuple(index), gateway="gw-01", outbox="3f2a", sequence=self.sequence,
            received_at=to_datetime(received_us),
        )  # fmt: skip

    def _spoil(self, index: list[int | None]) -> None:
        """Some batches hold a reading that is wrong, or lack one."""
        dice, chance, whole = self.dice, self.dice.random(), 10**self.kind.digits
        if chance < WRONG:
            index[dice.choice((0, -1))] = dice.randrange(whole)
        elif chance < WRONG + MISMATCHED:
            index[0] = ((index[0] or 0) + 3) % whole
        elif chance < WRONG + MISMATCHED + NULLS:
            index[dice.randrange(len(index))] = None


def calorific_values(day: int, dice: random.Random) -> Iterator[tuple[int, bytes]]:
    """Each LDZ's, in the afternoon after the Day; some are corrected later."""
    for ldz in LDZS:
        told_us = DAYS.start_us(day + 1) + 8 * HOUR_US
        for received_us in (told_us, *([told_us + dice.randint(DAY_US, 20 * DAY_US)] if dice.random() < 0.01 else ())):
            value = CalorificValue(
                ldz=ldz, gas_day=date.fromordinal(day), mj_per_m3=Decimal(dice.randint(3800, 4100)).scaleb(-2),
                received_at=to_datetime(received_us),
            )  # fmt: skip
            yield received_us, write_fact(value)


def write_facts(path: Path, points: int, days: int, seed: int) -> int:
    """Write the facts, roughly in the order of their receipt; how many batches there are."""
    sites, dice, batches = [Site(number, seed) for number in range(points)], random.Random(seed), 0
    later: defaultdict[int, list[bytes]] = defaultdict(list)  # by the Day of the receipt
    with path.open("wb") as file:
        for number, site in enumerate(sites):
            file.writelines(line + b"\n" for line in site.reference(number))
        for day in range(FIRST, FIRST + days):
            for site in sites:
                fact = site.batch(day)
                if fact is None or fact.received_at is None:
                    continue
                batches += 1
                later[fact.received_at.toordinal()].append(write_fact(fact))
                if dice.random() < COPIED:
                    at = fact.received_at + timedelta(minutes=dice.randint(1, 9000))
                    later[at.toordinal()].append(write_fact(msgspec.structs.replace(fact, received_at=at)))
            for received_us, line in calorific_values(day, dice):
                later[to_datetime(received_us).toordinal()].append(line)
            file.writelines(line + b"\n" for line in later.pop(day, ()))
        for day in sorted(later):
            file.writelines(line + b"\n" for line in later[day])
    return batches
