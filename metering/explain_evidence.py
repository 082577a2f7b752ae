"""What an explanation rests on: a point's facts as of an instant, looked up by what they are about, and its ledger.

Nothing here decides about a Day: that a reading stands, or a volume, is for the engine, and is taken from its records.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from datetime import date
from functools import cached_property
from typing import TypeVar

from metering.facts import (
    AnyFact,
    CalorificValue,
    EquipmentFault,
    MeterFitted,
    MeterRemoved,
    Readings,
    Registered,
    Withdrawn,
)
from metering.gasday import SECOND_US, to_us
from metering.ledger import AnyRecord, Day, Rejected
from metering.meters import Meter, in_turn
from metering.read_error import Instead
from metering.replay import FactsByPoint, Ledger, once
from metering.rules import Rules
from metering.wire import canonical, identity, received_us

F = TypeVar("F")


def order(fact: AnyFact) -> tuple[int, bytes]:
    """The order of facts: by receipt, then by canonical encoding."""
    return received_us(fact), canonical(fact)


class Evidence:
    """The facts about a meter point that were received by `as_of_us`, each once and in order, and the ledger made of them.

    `copies` counts how often each fact came, by its identity. `ledger`, the Days as they were `closed_out`, and the
    `substitutes` for their readings (4.8.8, 4.8.9) are filled by `explain_history.py`.
    """

    def __init__(self, meter_point: str, facts: Iterable[AnyFact], as_of_us: int, rules: Rules) -> None:
        self.meter_point, self.as_of_us, self.rules, self.days = meter_point, as_of_us, rules, rules.calendar()
        known = [fact for fact in FactsByPoint(facts).concerning(meter_point) if received_us(fact) <= as_of_us]
        self.copies = Counter(identity(fact) for fact in known)
        self.facts = sorted(once(known), key=order)
        self.ledger: Ledger = {}
        self.closed_out: dict[int, Day] = {}
        self.substitutes: dict[int, Instead] = {}
        self._meters: dict[int | None, tuple[Meter, ...]] = {}
        self._of: dict[type, list[AnyFact]] = {}
        for fact in self.facts:
            self._of.setdefault(type(fact), []).append(fact)
        self._readings: dict[int, list[Readings]] = {}
        for piece in self.of(Readings):
            self._readings.setdefault(piece.gas_day.toordinal(), []).append(piece)

    def of(self, kind: type[F]) -> list[F]:
        """The facts of one kind in the order of their receipt."""
        return self._of.get(kind, [])  # type: ignore[return-value]

    def day(self, day: int) -> Day | None:
        """The Day's record; None where the Day is not in the ledger."""
        record = self.ledger.get(("day", self.meter_point, date.fromordinal(day).isoformat()))
        assert record is None or isinstance(record, Day)
        return record

    def records_of(self, day: int) -> list[AnyRecord]:
        """All records kept under the Day."""
        text = date.fromordinal(day).isoformat()
        return [record for key, record in sorted(self.ledger.items()) if key[2] == text]

    def rejected_of(self, day: int) -> list[Rejected]:
        """What was rejected of the Day's batch, by instant."""
        found = [record for record in self.records_of(day) if isinstance(record, Rejected)]
        return sorted(found, key=lambda each: (each.at is not None, each.at or each.received_at, str(each.index)))

    def pieces(self, day: int) -> list[Readings]:
        """The pieces of the Day's batch, in the order of their receipt."""
        return self._readings.get(day, [])

    def withdrawn(self, piece: Readings) -> Withdrawn | None:
        """What took the piece back: received after it; what comes with it stands in for what it takes back."""
        for fact in self.of(Withdrawn):
            if (fact.meter, fact.gas_day) == (piece.meter, piece.gas_day) and received_us(fact) > received_us(piece):
                return fact
        return None

    def near_boundary(self, at_us: int, boundary: int) -> bool:
        """Whether an instant is near enough to the start of a Day to count for it."""
        return abs(at_us - self.days.start_us(boundary)) <= self.rules.boundary_s * SECOND_US

    @cached_property
    def registration_day(self) -> int | None:
        """The registration date."""
        return min((fact.gas_day.toordinal() for fact in self.of(Registered)), default=None)

    def registered(self, day: int, by_us: int | None = None) -> Registered | None:
        """The registration in force on a Day, as known by an instant: the latest Day's, of that the latest received."""
        found = [
            fact
            for fact in self.of(Registered)
            if fact.gas_day.toordinal() <= day and (by_us is None or received_us(fact) <= by_us)
        ]
        return max(found, key=lambda fact: (fact.gas_day, order(fact)), default=None)

    def in_deemed_week(self, day: int) -> bool:
        """Whether the Day is the registration date or one of the six Days after it (4.2.6)."""
        first = self.registration_day
        return first is not None and first <= day < first + 7

    def calorific_values(self, day: int, by_us: int | None = None) -> list[CalorificValue]:
        """The calorific values of the Day's LDZ (as known by an instant) in the order of receipt; one that was said before is
        no news."""
        registered = self.registered(day, by_us) or self.registered(day)
        found: dict[object, CalorificValue] = {}
        for fact in self._values.get(day, []):
            if registered is not None and fact.ldz == registered.ldz:
                found.setdefault(fact.mj_per_m3, fact)
        return list(found.values())

    @cached_property
    def _values(self) -> dict[int, list[CalorificValue]]:
        found: dict[int, list[CalorificValue]] = {}
        for fact in self.of(CalorificValue):
            found.setdefault(fact.gas_day.toordinal(), []).append(fact)
        return found

    def close_out_us(self, day: int) -> int:
        """When the Day is closed out: its Exit Close-Out, or that of the Day in which its point became known, the later."""
        known = [received_us(fact) for fact in self.of(Registered) if fact.gas_day.toordinal() <= day]
        own = self.days.exit_close_out_us(day)
        return max(own, self.days.exit_close_out_us(self.days.day_of(min(known)))) if known else own

    def meters(self, by_us: int | None = None) -> tuple[Meter, ...]:
        """The point's meters in the order of their fitting, as known by an instant."""
        known = self._meters.get(by_us)
        if known is None:
            fitted, removed = self.of(MeterFitted), self.of(MeterRemoved)
            if by_us is not None:
                fitted = [fact for fact in fitted if received_us(fact) <= by_us]
                removed = [fact for fact in removed if received_us(fact) <= by_us]
            known = self._meters[by_us] = in_turn(fitted, removed, self.days, order)
        return known

    def fitting(self, meter: Meter) -> MeterFitted:
        """The fact by which a meter is known."""
        return next(
            fact
            for fact in reversed(self.of(MeterFitted))
            if (fact.meter, received_us(fact)) == (meter.serial, meter.fitting.received_us)
            and to_us(fact.at) <= self._fitted_by_us(meter)
        )

    def _fitted_by_us(self, meter: Meter) -> int:
        # The first meter counts as fitted at the start of the Day that holds its fitting.
        return meter.from_us if meter.number else self.days.end_us(self.days.day_of(meter.from_us)) - 1

    def meters_of(self, first: int, end: int, by_us: int | None = None) -> list[Meter]:
        """The meters in place at some time from the start of a Day to the start of another, as known by an instant."""
        start_us, end_us = self.days.start_us(first), self.days.start_us(end)
        return [each for each in self.meters(by_us) if each.from_us < end_us and (each.to_us is None or each.to_us > start_us)]

    def capture_faults(self) -> list[EquipmentFault]:
        """When what captures the index did not work; of one beginning the latest received counts."""
        return list({fact.from_: fact for fact in self.of(EquipmentFault) if fact.part == "capture"}.values())

    def capture_failed(self, boundary: int) -> bool:
        """Whether what captures the index did not work at the start of a Day (4.4.5)."""
        at_us = self.days.start_us(boundary)
        return any(
            to_us(fact.from_) <= at_us and (fact.until is None or at_us < to_us(fact.until)) for fact in self.capture_faults()
        )


def latest_by(values: list[CalorificValue], by_us: int) -> CalorificValue | None:
    """The value that counted at an instant, or else at the first one after it at which any was received."""
    if not values:
        return None
    received = [received_us(each) for each in values]
    return values[bisect_right(received, max(by_us, received[0])) - 1]
