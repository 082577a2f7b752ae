"""The periods of DM Check Reads: from which index to which, on which meters, over which Days (M4.7.3, M1.10.1(b)).

This does not depend on what the Days are; `check_read.py` goes on from here. Indexes are ticks, Gas Days ordinals, instants
microseconds. The rules page, section 6, has the decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from metering.batch import rejected
from metering.facts import CheckRead, MeterErrorAdjusted
from metering.gasday import SECOND_US, GasDays, to_us
from metering.ledger import Key, Rejected
from metering.meters import Meter
from metering.rules import Rules
from metering.validation import TOO_OLD
from metering.volumes import Register
from metering.wire import canonical

Read: TypeAlias = CheckRead | MeterErrorAdjusted


class Setting(NamedTuple):
    """What a Supply Meter Point's check reads are judged by, as it is known at an instant.

    `meters`: in the order of their fitting, one in place at a time. `standing`: the standing boundary reading at a Day's start.
    `registered`: the registration date.
    """

    meter_point: str
    meters: Sequence[Meter]
    standing: Callable[[int], int | None]
    registered: int | None
    days: GasDays
    rules: Rules

    def meter_at(self, serial: str, at_us: int) -> int | None:
        """The number of the meter that is in place under that name at an instant, its removal included."""
        for number, meter in enumerate(self.meters):
            if meter.serial == serial and meter.reads(at_us):
                return number
        return None

    def own_index(self, day: int, number: int) -> Opening | None:
        """What a meter itself showed at a Day's start: the standing reading, or its index when it was fitted or removed."""
        meter, start_us = self.meters[number], self.days.start_us(day)
        if meter.from_us >= start_us:
            ticks: int | None = meter.fitting.ticks
        elif meter.to_us is not None and meter.to_us <= start_us:
            ticks = None if meter.removal is None else meter.removal.ticks
        else:
            ticks = self.standing(day)
        return None if ticks is None else Opening(day, number, ticks)


class Opening(NamedTuple):
    """The meter's own index from which a period goes on: the Day, the meter's number, and what the equipment showed."""

    day: int
    meter: int
    ticks: int
    equipment: int | None = None


class Span(NamedTuple):
    """What one register showed at the beginning and the end of its part of a period, and which Days that part is: from `first`
    up to, and without, `until`."""

    register: Register
    start: int
    end: int
    first: int
    until: int


class Compared(NamedTuple):
    """The equipment's index beside the meter's own, over a period of one meter."""

    meter: Span
    equipment_start: int
    equipment_end: int


class Period(NamedTuple):
    """The Days from `first` up to, and without, `day`, which is the check read's; each meter's part; and the comparison."""

    first: int
    day: int
    spans: tuple[Span, ...]
    compared: Compared | None

    @property
    def days(self) -> range:
        """The Days on which what is found of it rests."""
        return range(self.first, self.day)


class _OfDay:
    """What counts of one Day: the check read, the adjusted index, each with the number of its meter."""

    def __init__(self) -> None:
        self.check: tuple[int, CheckRead] | None = None
        self.adjusted: tuple[int, MeterErrorAdjusted] | None = None

    def take(self, fact: Read, meter: int) -> None:
        if isinstance(fact, CheckRead):
            self.check = meter, fact
        else:
            self.adjusted = meter, fact


def periods(facts: Iterable[Read], setting: Setting) -> tuple[list[Period], list[Rejected]]:
    """The periods of the check reads in the order of Days, none overlapping; and the check reads that cannot be used.

    A check read without a period (the index at one of its ends, or of a meter's removal, is not known; no Day before it) is in
    neither.
    """
    counting, refused = _counting(facts, setting)
    opening = _first_opening(setting)
    found: list[Period] = []
    for day, of_day in sorted(counting.items()):
        period = None if opening is None else _period(opening, day, of_day, setting)
        if period is not None:
            found.append(period)
        opening = _next_opening(day, of_day, setting)
    return found, refused


def _counting(facts: Iterable[Read], setting: Setting) -> tuple[dict[int, _OfDay], list[Rejected]]:
    """Of each Day what counts, the latest received of its kind; and what is rejected, one record a key."""
    counting: dict[int, _OfDay] = {}
    refused: dict[Key, Rejected] = {}
    for received_us, fact in _once(facts):
        at_us = to_us(fact.at)
        day, number = setting.days.day_of(at_us), setting.meter_at(fact.meter, at_us)
        refusal = _refusal(fact, day, received_us, number, setting)
        if refusal is not None:
            record = rejected(setting.meter_point, day, *refusal, at_us, fact.index, received_us)
            refused.setdefault(record.key(), record)
        elif number is not None:
            counting.setdefault(day, _OfDay()).take(fact, number)
    return counting, list(refused.values())


def _once(facts: Iterable[Read]) -> list[tuple[int, Read]]:
    """The facts with their receipt, in its order, ties by canonical bytes; copies once, at the earliest."""
    earliest: dict[bytes, tuple[int, Read]] = {}
    for fact in facts:
        assert fact.received_at is not None
        packed, received_us = canonical(fact), to_us(fact.received_at)
        if packed not in earliest or received_us < earliest[packed][0]:
            earliest[packed] = received_us, fact
    return [earliest[packed] for packed in sorted(earliest, key=lambda packed: (earliest[packed][0], packed))]


def _refusal(fact: Read, day: int, received_us: int, number: int | None, setting: Setting) -> tuple[str, str] | None:
    """The rule by which a check read is rejected, and the values that show why."""
    rules, days = setting.rules, setting.days
    if setting.registered is None:
        return "malformed", "the meter point is not registered: no Day for it"
    if day < setting.registered:
        return "malformed", "no Day for it: it lies before the registration date"
    if day < days.day_of(received_us) - rules.history_days:
        return TOO_OLD, f"more than {rules.history_days} Days before it was received"
    if number is None:
        return "malformed", f"meter {fact.meter} was not in place at that instant"
    modulus = setting.meters[number].register.modulus
    equipment = fact.equipment_index if isinstance(fact, CheckRead) else None
    for field, index in (("index", fact.index), ("equipment_index", equipment)):
        if index is not None and index >= modulus:
            return "malformed", f"{field} {index} is not an integer in 0 .. {modulus - 1}"
    validation = rules.of(day)
    if to_us(fact.at) > received_us + validation.future_s * SECOND_US and validation.rejects("from_the_future"):
        return "from_the_future", "it was received before the instant it is stamped with"
    return None


def _first_opening(setting: Setting) -> Opening | None:
    """Where the first period begins: at the registration date, or when a meter is first fitted after it."""
    if setting.registered is None:
        return None
    start_us = setting.days.start_us(setting.registered)
    for number, meter in enumerate(setting.meters):
        if meter.to_us is None or meter.to_us > start_us:
            return setting.own_index(max(setting.registered, setting.days.day_of(meter.from_us)), number)
    return None


def _next_opening(day: int, of_day: _OfDay, setting: Setting) -> Opening | None:
    """The meter's own index, from which the period after this Day's check read goes on: never an adjusted one."""
    if of_day.check is not None:
        number, fact = of_day.check
        return Opening(day, number, fact.index, fact.equipment_index)
    return None if of_day.adjusted is None else setting.own_index(day, of_day.adjusted[0])


def _period(opening: Opening, day: int, of_day: _OfDay, setting: Setting) -> Period | None:
    end = of_day.adjusted or of_day.check
    if end is None or day <= opening.day:
        return None
    spans = _spans(opening, day, end[0], end[1].index, setting)
    return None if spans is None else Period(opening.day, day, spans, _compared(opening, day, of_day.check, setting))


def _spans(opening: Opening, day: int, last: int, ticks: int, setting: Setting) -> tuple[Span, ...] | None:
    """The part of each meter, up to its removal and from its fitting; None where an index at a removal is not known. The Day
    of an exchange is counted with the later meter."""
    meters = setting.meters
    spans = []
    first, start = opening.day, opening.ticks
    for number in range(opening.meter, last):
        meter, after = meters[number], meters[number + 1]
        if meter.removal is None:
            return None
        until = setting.days.day_of(after.from_us)
        spans.append(Span(meter.register, start, meter.removal.ticks, first, until))
        first, start = until, after.fitting.ticks
    return (*spans, Span(meters[last].register, start, ticks, first, day))


def _compared(opening: Opening, day: int, check: tuple[int, CheckRead] | None, setting: Setting) -> Compared | None:
    """The comparison with the equipment, where it was noted at both ends, and of the same meter."""
    if check is None or opening.equipment is None or check[1].equipment_index is None or check[0] != opening.meter:
        return None
    own = Span(setting.meters[opening.meter].register, opening.ticks, check[1].index, opening.day, day)
    return Compared(own, opening.equipment, check[1].equipment_index)
