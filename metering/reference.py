"""The reference facts of a Supply Meter Point as far as they were received: who it is registered to, its meters, calorific
values, by-pass estimates, faults of its equipment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from metering.batch import Setting
from metering.book import Book
from metering.facts import (
    AnyFact,
    BypassUsed,
    CalorificValue,
    EquipmentFault,
    MeterFitted,
    MeterRemoved,
    Registered,
)
from metering.gasday import GasDays, to_us
from metering.meters import Meter, in_turn
from metering.rules import Rules
from metering.wire import canonical

NEVER = 2**62  # after all Days
DEEMED_DAYS = 7  # the registration date and the six Days after it (4.2.6)

Value = tuple[int, Decimal]  # a calorific value: when it was received, and MJ/m³
ReferenceFact = Registered | MeterFitted | MeterRemoved | BypassUsed | EquipmentFault


class Reference:
    """All of them, and what follows from them alone. `packed` keeps the state's bytes of all but the calorific values, which
    the state has with the Days: they are looked for in `kept`."""

    def __init__(self, meter_point: str, rules: Rules, days: GasDays) -> None:
        self.meter_point, self.rules, self.days = meter_point, rules, days
        self.registrations: list[Registered] = []
        self.fitted: list[MeterFitted] = []
        self.removed: list[MeterRemoved] = []
        self.bypasses: list[BypassUsed] = []
        self.faults: list[EquipmentFault] = []
        self.values: dict[tuple[str, int], list[Value]] = {}  # by LDZ and Day, in the order of receipt
        self.kept: Mapping[int, Book] = {}
        self.packed: bytes | None = None
        self.ldzs: frozenset[str] = frozenset()  # those of all registrations
        self.registered: int | None = None  # the registration date: the smallest Gas Day that was registered
        self._last_from = NEVER  # the date of the last registration: what holds from then on is looked for once
        self._known_close_out: int | None = None
        self._of_day: dict[int, Registered | None] = {}
        self._close_out_us: dict[int, int] = {}
        self.meters: tuple[Meter, ...] = ()  # in the order of their fitting
        self.current: Meter | None = None  # the meter in place now
        self.steady_from = NEVER  # from this Day on it has been the only one
        self._settings: tuple[Setting, ...] | None = None

    def take(self, fact: ReferenceFact | CalorificValue) -> bool:
        """Add a fact, in the order of receipt; whether it changes anything."""
        if isinstance(fact, CalorificValue):
            return self._take_value(fact)
        if isinstance(fact, Registered):
            self.registrations.append(fact)
            self.registrations.sort(key=lambda each: (each.gas_day, *order(each)))
            self.follow_registrations()
        elif isinstance(fact, MeterFitted):
            self.fitted.append(fact)
        elif isinstance(fact, MeterRemoved):
            self.removed.append(fact)
        elif isinstance(fact, BypassUsed):
            self.bypasses = [each for each in self.bypasses if each.at != fact.at] + [fact]
        else:
            self.faults = [each for each in self.faults if (each.part, each.from_) != (fact.part, fact.from_)] + [fact]
        self.packed = None
        self._of_day.clear()
        self._close_out_us.clear()
        if isinstance(fact, (MeterFitted, MeterRemoved)):
            self.follow_meters()
        self._settings = None
        return True

    def follow_registrations(self) -> None:
        """Find the registration dates, and the LDZs, from the facts about them."""
        self.ldzs = frozenset(each.ldz for each in self.registrations)
        self._known_close_out = None
        if self.registrations:
            self.registered = self.registrations[0].gas_day.toordinal()
            self._last_from = self.registrations[-1].gas_day.toordinal()

    def follow_meters(self) -> None:
        """Find the meters from the facts about them."""
        self.meters = in_turn(self.fitted, self.removed, self.days, order)
        self.current, self.steady_from = None, NEVER
        if self.meters and self.meters[-1].to_us is None:
            self.current = last = self.meters[-1]
            self.steady_from = 0
            if last.number > 0:
                day = self.days.day_of(last.from_us)
                self.steady_from = day + (self.days.start_us(day) < last.from_us)

    def _take_value(self, fact: CalorificValue) -> bool:
        key = (fact.ldz, fact.gas_day.toordinal())
        known = self._known_values(key) or self.values.setdefault(key, [])
        if any(mj_per_m3 == fact.mj_per_m3 for _, mj_per_m3 in known):
            return False  # a copy counts at the earliest receipt
        known.append((0 if fact.received_at is None else to_us(fact.received_at), fact.mj_per_m3))
        if len(known) > 1:  # of one instant in the order of their canonical encodings, however they came
            known.sort(key=lambda value: (value[0], canonical(msgspec.structs.replace(fact, mj_per_m3=value[1]))))
        return True

    def forget_values_before(self, day: int) -> None:
        """Let go of the calorific values of earlier Days."""
        for key in [key for key in self.values if key[1] < day]:
            del self.values[key]

    def values_of(self, day: int) -> Sequence[Value]:
        """The calorific values of the Day's LDZ, in the order of receipt."""
        registered = self.of(day)
        return self._known_values((registered.ldz, day)) or () if registered is not None else ()

    def _known_values(self, key: tuple[str, int]) -> list[Value] | None:
        known = self.values.get(key)
        if known is None and (book := self.kept.get(key[1])) is not None and book.values:
            known = self.values[key] = list(book.values)
        return known

    def of(self, day: int) -> Registered | None:
        """Users, LDZ, Annual Quantity and equipment on a Day."""
        if day >= self._last_from:
            return self.registrations[-1]
        if day not in self._of_day:
            found = [each for each in self.registrations if each.gas_day.toordinal() <= day]
            self._of_day[day] = found[-1] if found else None
        return self._of_day[day]

    def close_out_us(self, day: int) -> int:
        """When the Day is closed out: its Exit Close-Out, or that of the Day in which we came to know of it, the later."""
        known = self._close_out_us.get(day)
        if known is None:
            known = self._close_out_us[day] = max(self.days.exit_close_out_us(day), self._known_close_out_us(day))
        return known

    def _known_close_out_us(self, day: int) -> int:
        """The Exit Close-Out of the Day in which we came to know of the Day's registration."""
        if day >= self._last_from and self._known_close_out is not None:
            return self._known_close_out
        known_us = min(
            to_us(each.received_at)
            for each in self.registrations
            if each.gas_day.toordinal() <= day and each.received_at is not None
        )
        close_out_us = self.days.exit_close_out_us(self.days.day_of(known_us))
        if day >= self._last_from:
            self._known_close_out = close_out_us
        return close_out_us

    def calorific_value(self, day: int) -> Decimal | None:
        """The calorific value of the Day's LDZ, MJ/m³, as last received; None where none was."""
        known = self.values_of(day)
        return known[-1][1] if known else None

    # --- meters -----------------------------------------------------------------------------------------------------

    def meter_up_to(self, instant_us: int) -> Meter | None:
        """The meter in place until an instant."""
        return next((meter for meter in self.meters if meter.up_to(instant_us)), None)

    def setting(self, meter: Meter | None) -> Setting:
        """What the batches of a meter are judged by."""
        if self._settings is None:
            self._settings = tuple(
                Setting(self.meter_point, each, self.registered, self.rules, self.days) for each in self.meters
            )
        if meter is None:
            return Setting(self.meter_point, None, self.registered, self.rules, self.days)
        return self._settings[meter.number]

    def settings(self, day: int) -> list[Setting]:
        """What the pieces of a Day are judged by: for each serial number the meter in place on it, or nearest to it."""
        if not self.meters:
            return [self.setting(None)]
        start_us, end_us = self.days.start_us(day), self.days.end_us(day)
        best: dict[str, tuple[int, Meter]] = {}
        for meter in self.meters:
            away_us = max(0, meter.from_us - end_us, start_us - (end_us if meter.to_us is None else meter.to_us))
            if meter.serial not in best or away_us <= best[meter.serial][0]:
                best[meter.serial] = away_us, meter
        return [self.setting(meter) for _, meter in best.values()]

    def changes_of_meter(self) -> set[int]:
        """The Days in which a meter was fitted or removed; a removal at a Day's end is of that Day."""
        days = self.days
        fitted = {days.day_of(meter.from_us) for meter in self.meters}
        return fitted | {days.day_of(meter.to_us - 1) for meter in self.meters if meter.to_us is not None}

    def faulty(self, instant_us: int) -> bool:
        """Whether what captures the index did not work at an instant (4.4.5)."""
        return any(
            fault.part == "capture" and to_us(fault.from_) <= instant_us
            and (fault.until is None or instant_us < to_us(fault.until))
            for fault in self.faults
        )  # fmt: skip

    def in_deemed_week(self, day: int) -> bool:
        """Whether the Day is the registration date or one of the six Days after it (4.2.6)."""
        registered = self.registered
        return registered is not None and registered <= day < registered + DEEMED_DAYS


def order(fact: AnyFact) -> tuple[int, bytes]:
    """The order of facts: by receipt, then by canonical encoding."""
    return (0 if fact.received_at is None else to_us(fact.received_at), canonical(fact))
