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
from metering.reference_state import InForce, Registration, Told, pack, unpack, unpack_told
from metering.rules import Rules
from metering.volumes import unpacked_register
from metering.wire import canonical

NEVER = 2**62  # after all Days
DEEMED_DAYS = 7  # the registration date and the six Days after it (4.2.6)

Value = tuple[int, Decimal]  # a calorific value: when it was received, and MJ/m³
ReferenceFact = Registered | MeterFitted | MeterRemoved | BypassUsed | EquipmentFault


class Reference:
    """All of them, and what follows from them alone. The calorific values of a point that comes from a state are with its
    Days: they are looked for in `kept`."""

    def __init__(self, meter_point: str, rules: Rules, days: GasDays) -> None:
        self.meter_point, self.rules, self.days = meter_point, rules, days
        self._told: Told | msgspec.Raw = Told()  # of a point that comes from a state unpacked when it is first asked for
        self.bypasses: list[BypassUsed] = []
        self.faults: list[EquipmentFault] = []
        self.values: dict[tuple[str, int], list[Value]] = {}  # by LDZ and Day, in the order of receipt
        self.kept: Mapping[int, Book] = {}
        self._packed: bytes | None = None  # (or msgspec.Raw) as it was last packed, or unpacked
        self.ldzs: frozenset[str] = frozenset()  # those of all registrations
        self.registered: int | None = None  # the registration date: the smallest Gas Day that was registered
        self.last_from = NEVER  # the date of the last registration, which is looked at most
        self._last: Registration | None = None
        self._known_us: int | None = None  # when we first came to know of any registration
        self._known_close_out_us: int | None = None
        self._of_day: dict[int, Registration | None] = {}
        self._close_out_us: dict[int, int] = {}
        self.current: Meter | None = None  # the meter in place now
        self.steady_from = NEVER  # from this Day on it has been the only one
        self._meters: tuple[Meter, ...] | None = None
        self._settings: tuple[Setting, ...] | None = None

    def packed(self) -> bytes:
        """All but the calorific values, for a state."""
        if self._packed is None:
            current = self.current
            in_force = InForce(
                self.registered, self.last_from, self._last, self._known_us, self.ldzs, self.bypasses, self.faults,
                self.steady_from, None if current is None else (*current[:4], current.fitting),
                b"" if current is None else current.register.packed,
            )  # fmt: skip
            self._packed = pack(in_force, self._told)
        return self._packed

    def unpack(self, packed: bytes) -> None:
        """Take what `packed` gave."""
        in_force, self._told = unpack(packed)
        self._packed = packed
        self.registered, self.last_from, self._last = in_force.registered, in_force.last_from, in_force.last
        self._known_us, self.ldzs = in_force.known_us, in_force.ldzs
        self.bypasses, self.faults = in_force.bypasses, in_force.faults
        self.steady_from = in_force.steady_from
        if in_force.current is not None:
            number, serial, fitted_us, from_us, fitting = in_force.current
            register = unpacked_register(in_force.register)
            self.current = Meter(number, serial, fitted_us, from_us, None, fitting, None, register)

    @property
    def told(self) -> Told:
        """The registrations, and the fittings and removals of meters."""
        if isinstance(self._told, msgspec.Raw):
            self._told = unpack_told(self._told)
        return self._told

    @property
    def meters(self) -> tuple[Meter, ...]:
        """The meters, in the order of their fitting."""
        if self._meters is None:
            self._meters = in_turn(self.told.fitted, self.told.removed, self.days, order)
        return self._meters

    def take(self, fact: ReferenceFact | CalorificValue) -> bool:
        """Add a fact, in the order of receipt; whether it changes anything."""
        if isinstance(fact, CalorificValue):
            return self._take_value(fact)
        if isinstance(fact, Registered):
            self.told.registrations.append(fact)
            self.told.registrations.sort(key=lambda each: (each.gas_day, *order(each)))
            self._follow_registrations()
        elif isinstance(fact, MeterFitted):
            self.told.fitted.append(fact)
        elif isinstance(fact, MeterRemoved):
            self.told.removed.append(fact)
        elif isinstance(fact, BypassUsed):
            self.bypasses = [each for each in self.bypasses if each.at != fact.at] + [fact]
        else:
            self.faults = [each for each in self.faults if (each.part, each.from_) != (fact.part, fact.from_)] + [fact]
        self._packed = None
        self._of_day.clear()
        self._close_out_us.clear()
        if isinstance(fact, (MeterFitted, MeterRemoved)):
            self._follow_meters()
        self._settings = None
        return True

    def _follow_registrations(self) -> None:
        """Find the registration dates, and the LDZs, from the facts about them."""
        registrations = self.told.registrations
        self.ldzs = frozenset(each.ldz for each in registrations)
        self._known_us = _first_known_us(registrations)
        self._known_close_out_us = None
        self.registered = registrations[0].gas_day.toordinal()
        self.last_from = registrations[-1].gas_day.toordinal()
        self._last = _registration(registrations[-1])

    def _follow_meters(self) -> None:
        """Find the meters from the facts about them."""
        self._meters, self.current, self.steady_from = None, None, NEVER
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

    def of(self, day: int) -> Registration | None:
        """Users, LDZ, Annual Quantity and equipment on a Day."""
        if day >= self.last_from:
            return self._last
        if day not in self._of_day:
            found = [each for each in self.told.registrations if each.gas_day.toordinal() <= day]
            self._of_day[day] = _registration(found[-1]) if found else None
        return self._of_day[day]

    def close_out_us(self, day: int) -> int:
        """When the Day is closed out: its Exit Close-Out, or that of the Day in which we came to know of it, the later."""
        known = self._close_out_us.get(day)
        if known is None:
            known = self._close_out_us[day] = max(self.days.exit_close_out_us(day), self._first_close_out_us(day))
        return known

    def _first_close_out_us(self, day: int) -> int:
        """The Exit Close-Out of the Day in which we came to know of the Day's registration."""
        if day < self.last_from:
            registrations = [each for each in self.told.registrations if each.gas_day.toordinal() <= day]
            return self._close_out_after_us(_first_known_us(registrations))
        if self._known_close_out_us is None:
            self._known_close_out_us = self._close_out_after_us(self._known_us)
        return self._known_close_out_us

    def _close_out_after_us(self, known_us: int | None) -> int:
        assert known_us is not None
        return self.days.exit_close_out_us(self.days.day_of(known_us))

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


def _registration(fact: Registered) -> Registration:
    return Registration(fact.users, fact.ldz, fact.annual_quantity_kwh, fact.equipment)


def _first_known_us(registrations: Sequence[Registered]) -> int | None:
    """When the first of these was received; None where that is not said of any."""
    return min((to_us(each.received_at) for each in registrations if each.received_at is not None), default=None)


def order(fact: AnyFact) -> tuple[int, bytes]:
    """The order of facts: by receipt, then by canonical encoding."""
    return (0 if fact.received_at is None else to_us(fact.received_at), canonical(fact))
