"""Words for tests of check reads: a Supply Meter Point as it is known at an instant; what its Days are is given, not found.

Unless a test says otherwise: registered and fitted on 1 January at index 0, 8 digits of 0.1 m³, a convertor, a calorific value
of 36 MJ/m³ (10 kWh a m³), check reads at 14:00 and told at 15:00.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from metering.check_periods import Read, Setting
from metering.check_read import DayFound, Found, Share, SharedSince, check_reads, reconciliation
from metering.facts import CheckRead, MeterErrorAdjusted, MeterFitted
from metering.gasday import to_us
from metering.ledger import CheckReadFound, Rejected, Tolerance
from metering.meters import Index, Meter
from metering.rules import Rules
from metering.volumes import Register, quantity_wh, register_of
from tests.metering.domain import DAYS, RULES, gas_day, local, start

FIRST = "2026-01-01"


def ordinal(day: str) -> int:
    return gas_day(day).toordinal()


def register(digits: int, tick: str, factor: str | None) -> Register:
    fitted = MeterFitted(
        meter_point="MP", meter="M", at=start(FIRST), index=0, digits=digits, m3_per_tick=Decimal(tick),
        conversion_factor=None if factor is None else Decimal(factor), q_max_m3_per_h=Decimal(1000),
    )  # fmt: skip
    return register_of(fitted)


class Checked:
    """A Supply Meter Point as it is known: its meters, its Days, its check reads."""

    def __init__(
        self, registered: str | None = FIRST, *, fitted: str = FIRST, index: int = 0, digits: int = 8, tick: str = "0.1",
        factor: str | None = None, rules: Rules = RULES,
    ) -> None:  # fmt: skip
        self.registered, self.rules = registered, rules
        self.meters: list[Meter] = []
        self.fit(start(fitted), index, "M", digits=digits, tick=tick, factor=factor)
        self.known: dict[int, DayFound] = {}
        self.boundaries: dict[int, int] = {}
        self.facts: list[Read] = []

    def remove(self, at: str, index: int | None) -> None:
        """The meter in place is removed."""
        at_us = to_us(local(at))
        removal = None if index is None else Index(at_us, index, at_us)
        self.meters[-1] = self.meters[-1]._replace(to_us=at_us, removal=removal)

    def fit(
        self,
        at: str | datetime,
        index: int,
        meter: str = "M2",
        *,
        digits: int = 8,
        tick: str = "0.1",
        factor: str | None = None,
    ) -> None:
        at_us, number = to_us(local(at)), len(self.meters)
        fitting = Index(at_us, index, at_us)
        self.meters.append(Meter(number, meter, at_us, at_us, None, fitting, None, register(digits, tick, factor)))

    def days(self, first: str, volumes: Sequence[str | None], *, value: str | None = "36", closed: bool = True) -> None:
        """Days from `first` on, with their volumes in m³ and the quantities that follow."""
        for n, volume in enumerate(volumes):
            litres = None if volume is None else int(Decimal(volume) * 1000)
            wh = None if litres is None or value is None else quantity_wh(litres, Decimal(value))
            day = ordinal(first) + n
            self.known[day] = DayFound(day, closed, litres, wh, None if value is None else Decimal(value))

    def quantity(self, day: str, kwh: str) -> None:
        self.known[ordinal(day)] = self.known[ordinal(day)]._replace(wh=int(Decimal(kwh) * 1000))

    def boundary(self, day: str, index: int) -> None:
        self.boundaries[ordinal(day)] = index

    def check(
        self,
        day: str,
        index: int,
        equipment: int | None = None,
        *,
        meter: str = "M",
        at: str = "14:00",
        told: str | None = None,
    ) -> None:
        fact = CheckRead(
            meter_point="MP", meter=meter, at=local(f"{day} {at}"), index=index, equipment_index=equipment,
            received_at=local(told or f"{day} 15:00"),
        )  # fmt: skip
        self.facts.append(fact)

    def adjusted(self, day: str, index: int, *, meter: str = "M", at: str = "14:00", told: str | None = None) -> None:
        fact = MeterErrorAdjusted(
            meter_point="MP", meter=meter, at=local(f"{day} {at}"), index=index, received_at=local(told or f"{day} 15:00")
        )
        self.facts.append(fact)

    def found(self) -> View:
        """What the check reads say; whatever the order of the facts, and with copies."""
        registered = None if self.registered is None else ordinal(self.registered)
        setting = Setting("MP", self.meters, self.boundaries.get, registered, DAYS, self.rules)
        found = check_reads(self.facts, setting, self.known.get)
        assert check_reads([*reversed(self.facts), *self.facts], setting, self.known.get) == found
        return View(found)


class View:
    """What was found, to look up what a test asks for."""

    def __init__(self, found: Sequence[Found | Rejected]) -> None:
        self.shares = {date.fromordinal(each.day).isoformat(): each for each in found if isinstance(each, Share)}
        self.records = {each.gas_day.isoformat(): each for each in found if isinstance(each, CheckReadFound)}
        self.tolerances = {each.day.isoformat(): each for each in found if isinstance(each, Tolerance)}
        self.rejections = [each for each in found if isinstance(each, Rejected)]

    def record(self, day: str) -> tuple[str, str, str, str, str, bool]:
        """From, check volume and quantity, previous quantity, difference, and whether it is shared out."""
        each = self.records[day]
        kwh = str(each.check_kwh), str(each.previous_kwh), str(each.difference_kwh)
        return (each.from_.isoformat(), str(each.check_m3), *kwh, each.reconciled)

    def shared(self) -> list[tuple[str, str]]:
        """What each Day has of the difference, in the order of Days: m³ and kWh."""
        each = [reconciliation("MP", SharedSince(self.shares[day], 0)) for day in sorted(self.shares)]
        return [(str(record.volume_m3), str(record.quantity_kwh)) for record in each]

    def rejected(self) -> list[tuple[str, str, int, str]]:
        return [(each.gas_day.isoformat(), each.rule, each.index, each.detail) for each in self.rejections]
