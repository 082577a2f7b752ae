"""Words for tests of the rules: a Supply Meter Point, what was received about it and when, and its ledger.

Local times are written as people write them ("2026-01-02 06:00"), Gas Days as "2026-01-02". Unless a test says otherwise:
registered and fitted long known, 8 digits of 0.1 m³, a convertor (so k = 0.1 m³), a calorific value of 36 MJ/m³ (10 kWh a
m³), an Annual Quantity of 365,000 kWh (1,000 kWh or 100 m³ a Day), at most 1,000 m³/h, readings received at 06:00 after the
Day. Every ledger that a test asks for is found three ways: by the engine, by the specification, and shuffled.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

from metering.determine import determine
from metering.facts import (
    AnyFact,
    BypassUsed,
    CalorificValue,
    EquipmentFault,
    MeterFitted,
    MeterRemoved,
    Readings,
    Registered,
    Tick,
    Withdrawn,
)
from metering.gasday import GasDays, to_datetime, to_us
from metering.ledger import Day, Reconciliation, Rejected, Tolerance
from metering.replay import Ledger, replay, shuffled
from metering.rules import Rules

LONDON = ZoneInfo("Europe/London")
DAYS = GasDays()
RULES = Rules()
LONG_AFTER = timedelta(days=13)
HOUR = timedelta(hours=1)


def local(text: str | datetime) -> datetime:
    """A local time, as "2026-01-02 06:00" or with seconds, as an instant in UTC."""
    if isinstance(text, datetime):
        return text
    return datetime.fromisoformat(text).replace(tzinfo=LONDON).astimezone(UTC)


def gas_day(text: str) -> date:
    return date.fromisoformat(text)


def start(day: str, days: int = 0, seconds: float = 0) -> datetime:
    """The instant at which a Gas Day (or the one so many Days later) begins, and some seconds."""
    return to_datetime(DAYS.start_us(gas_day(day).toordinal() + days)) + timedelta(seconds=seconds)


def later(day: str, days: int) -> str:
    """The Gas Day so many Days later."""
    return (gas_day(day) + timedelta(days=days)).isoformat()


def hours(day: str, *, step: int = 1) -> list[datetime]:
    """Every hour of the Gas Day, both boundaries included."""
    first, last = start(day), start(day, 1)
    return [first + timedelta(hours=n) for n in range(0, round((last - first) / timedelta(hours=1)) + 1, step)]


class Site:
    """One Supply Meter Point and the facts about it, in the order in which a test tells them."""

    def __init__(
        self, registered: str = "2026-01-01", *, known: str = "2025-09-01 12:00", aq: str = "365000",
        users: Sequence[str] = ("U",), digits: int = 8, tick: str = "0.1", factor: str | None = None,
        q_max: str = "1000", fitted: str | None = None, index: int | None = 0, values: int | None = 60, value: str = "36",
        rules: Rules = RULES, unconverted: tuple[int, str] | None = None,
    ) -> None:  # fmt: skip
        """`index` is shown at the fitting, at the start of the registration date unless `fitted` says when; None: no meter.
        Calorific values of `values` Days from the registration date are known from the beginning."""
        self.rules = rules
        self.facts: list[AnyFact] = []
        self.register(registered, known=known, aq=aq, users=users)
        if index is not None:
            self.fit(
                start(registered) if fitted is None else fitted, index, meter="M", known=known, digits=digits, tick=tick,
                factor=factor, q_max=q_max, unconverted=unconverted,
            )  # fmt: skip
        for n in range(values or 0):
            self.value(later(registered, n), value, received=known)

    def register(
        self, day: str, *, known: str, aq: str = "365000", users: Sequence[str] = ("U",), ldz: str = "EA", equipment: str = "E"
    ) -> None:
        registered = Registered(
            meter_point="MP", gas_day=gas_day(day), users=tuple(users), ldz=ldz, annual_quantity_kwh=Decimal(aq),
            equipment=equipment, received_at=local(known),
        )  # fmt: skip
        self.facts.append(registered)

    def fit(
        self, at: str | datetime, index: int, *, meter: str = "N", known: str | datetime | None = None, digits: int = 6,
        tick: str = "1", factor: str | None = None, q_max: str = "1000", unconverted: tuple[int, str] | None = None,
    ) -> None:  # fmt: skip
        """A meter is fitted, by default N of 6 digits of 1 m³, and we are told an hour later unless `known` says when."""
        fitted = MeterFitted(
            meter_point="MP", meter=meter, at=local(at), index=index, digits=digits, m3_per_tick=Decimal(tick),
            conversion_factor=None if factor is None else Decimal(factor), q_max_m3_per_h=Decimal(q_max),
            received_at=local(at) + HOUR if known is None else local(known),
            unconverted_digits=unconverted[0] if unconverted else None,
            unconverted_m3_per_tick=Decimal(unconverted[1]) if unconverted else None,
        )  # fmt: skip
        self.facts.append(fitted)

    def remove(self, at: str | datetime, index: int, *, meter: str = "M", known: str | datetime | None = None) -> None:
        """A meter is removed, and we are told an hour later unless `known` says when."""
        received = local(at) + HOUR if known is None else local(known)
        self.facts.append(MeterRemoved(meter_point="MP", meter=meter, at=local(at), index=index, received_at=received))

    def bypass(self, at: str, until: str | datetime, m3: str, *, known: str | datetime) -> None:
        """Gas went by the by-pass: so much, by estimate."""
        used = BypassUsed(
            meter_point="MP", at=local(at), until=local(until), estimated_m3=Decimal(m3), received_at=local(known)
        )  # fmt: skip
        self.facts.append(used)

    def withdraw(self, day: str, *, received: str | datetime, meter: str = "M", reason: str = "wrong meter read") -> None:
        """An operator takes out what was received so far of a meter's Day."""
        withdrawn = Withdrawn(
            meter_point="MP", meter=meter, gas_day=gas_day(day), reason=reason, by="an operator",
            received_at=local(received),
        )  # fmt: skip
        self.facts.append(withdrawn)

    def fault(
        self, from_: str | datetime, until: str | datetime | None, *, known: str | datetime,
        part: Literal["capture", "comms"] = "capture",
    ) -> None:  # fmt: skip
        """Equipment did not work, by default the part that captures the index; `until` None while it lasts."""
        fault = EquipmentFault(
            meter_point="MP", part=part, from_=local(from_), until=None if until is None else local(until),
            received_at=local(known),
        )  # fmt: skip
        self.facts.append(fault)

    def value(self, day: str, mj_per_m3: str, *, received: str, ldz: str = "EA") -> None:
        known = CalorificValue(ldz=ldz, gas_day=gas_day(day), mj_per_m3=Decimal(mj_per_m3), received_at=local(received))
        self.facts.append(known)

    def read(
        self, day: str, index: Sequence[Any], *, at: Sequence[datetime] | None = None, received: str | datetime | None = None,
        meter: str = "M", **more: Any,
    ) -> None:  # fmt: skip
        """Readings of a Day: of its two boundaries, or of the instants given."""
        fact = Readings(
            meter_point="MP", meter=meter, gas_day=gas_day(day), index=tuple(index),
            at=(start(day), start(day, 1)) if at is None else tuple(at),
            received_at=start(day, 1) + timedelta(hours=1) if received is None else local(received), **more,
        )  # fmt: skip
        self.facts.append(fact)

    def days(self, first: str, boundaries: Sequence[int], *, meter: str = "M") -> None:
        """A batch of its two boundary readings for each Day from `first` on, all in time."""
        for n in range(len(boundaries) - 1):
            self.read(later(first, n), boundaries[n : n + 2], meter=meter)

    def index(self, at: str | datetime, index: Any, day: str, *, received: str | datetime, meter: str = "M") -> None:
        """One reading of a Day, at an instant."""
        self.read(day, [index], at=[local(at)], received=received, meter=meter)

    def tick(self, now: str) -> None:
        self.facts.append(Tick(now=local(now), received_at=local(now)))

    def ledger(self, as_of: str | datetime | None = None) -> View:
        """The ledger as of an instant; long after the last fact, and after its Day was closed out, unless given."""
        latest = max(fact.received_at for fact in self.facts if fact.received_at is not None)
        as_of_us = to_us(latest + LONG_AFTER if as_of is None else local(as_of))
        found = replay(self.facts, as_of_us, self.rules)
        assert found == determine(self.facts, as_of_us, self.rules)
        assert found == shuffled(self.facts, as_of_us, self.rules, len(self.facts))
        return View(found)

    def day(self, day: str, as_of: str | datetime | None = None) -> Day:
        """A Day's record as of an instant."""
        return self.ledger(as_of).day(day)


WEEK = (0, 100, 210, 330, 430, 500, 560, 620)  # indexes at the starts of 1 to 8 January 2026: 10, 11, 12, 10, 7, 6 and 6 m³


def a_week_read(**more: Any) -> Site:
    """A point registered on 1 January 2026 whose first week was read in time; then nothing. So 8 to 14 January, where they
    fail, are assumed to be 10, 11, 12, 10, 7, 6 and 6 m³; 8 January is closed out at 05:00 on the 14th."""
    site = Site("2026-01-01", **more)
    site.days("2026-01-01", WEEK)
    return site


EXCHANGED_AT = "2026-01-08 14:00"


def exchanged(
    *, removed: str | datetime = EXCHANGED_AT, fitted: str | datetime = EXCHANGED_AT, removal: int = 680, fitting: int = 5,
    known: str | None = None, **register: Any,
) -> Site:  # fmt: skip
    """After a week that was read, M (at 620 on 8 January) is removed and N fitted, and what N shows at the end of the 8th and
    of the 9th is read in time."""
    site = a_week_read()
    site.remove(removed, removal, known=known)
    site.fit(fitted, fitting, known=known, **register)
    site.index(start("2026-01-09"), 25, "2026-01-08", received="2026-01-09 06:00", meter="N")
    site.read("2026-01-09", [25, 60], meter="N")
    return site


class View:
    """A ledger, to look up what a test asks for."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def day(self, day: str) -> Day:
        record = self.ledger[("day", "MP", day)]
        assert isinstance(record, Day)
        return record

    def has(self, day: str) -> bool:
        return ("day", "MP", day) in self.ledger

    def reconciliation(self, day: str) -> Reconciliation | None:
        record = self.ledger.get(("reconciliation", "MP", day, "failed_daily_read"))
        assert record is None or isinstance(record, Reconciliation)
        return record

    def tolerance(self, day: str, check: str = "tolerance_1_percent") -> Tolerance | None:
        record = self.ledger.get(("tolerance", "MP", day, check))
        assert record is None or isinstance(record, Tolerance)
        return record

    def records(self, day: str) -> list[Rejected]:
        """The rejections of a Day, by instant."""
        found = [each for each in self.ledger.values() if isinstance(each, Rejected) and each.gas_day == gas_day(day)]
        return sorted(found, key=lambda each: (each.at or datetime.min.replace(tzinfo=UTC), str(each.index)))

    def rejected(self, day: str) -> list[tuple[str, Any]]:
        """Rule and index of each rejection of a Day."""
        return [(each.rule, each.index) for each in self.records(day)]

    def statuses(self, first: str, days: int) -> list[str]:
        return [self.day(later(first, n)).status for n in range(days)]

    def volumes(self, first: str, days: int) -> list[str | None]:
        """What the Days were closed out with, or are worth now, in m³."""
        found = [self.day(later(first, n)).volume_m3 for n in range(days)]
        return [None if each is None else str(each) for each in found]

    def how(self, first: str, days: int) -> list[str | None]:
        """How each Day was determined, if it was."""
        return [self.day(later(first, n)).determined_status for n in range(days)]

    def reconciled(self, first: str, days: int) -> list[str | None]:
        """The reconciliation volumes of the Days, in m³."""
        found = [self.reconciliation(later(first, n)) for n in range(days)]
        return [None if each is None else str(each.volume_m3) for each in found]

    def final(self, first: str, days: int) -> str:
        """What the Days' final volumes sum to, in m³: what was determined, else what they were closed out with."""
        records = [self.day(later(first, n)) for n in range(days)]
        volumes = [each.volume_m3 if each.determined_m3 is None else each.determined_m3 for each in records]
        assert None not in volumes
        assert all(each.closed_out for each in records)
        return str(sum(each for each in volumes if each is not None))

    def determined(self, first: str, days: int) -> list[str | None]:
        found = [self.day(later(first, n)).determined_m3 for n in range(days)]
        return [None if each is None else str(each) for each in found]
