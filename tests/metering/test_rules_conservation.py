"""No gas is lost and none invented: over any period between two standing boundary readings the Days' final volumes sum to
the index advance, to the litre, once every Day is closed out; and every record is the difference it says it is (4.3, 4.4)."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.book import OPEN
from metering.facts import (
    BypassUsed,
    CalorificValue,
    EquipmentFault,
    MeterFitted,
    MeterRemoved,
    Readings,
    Registered,
    Withdrawn,
)
from metering.gasday import to_us
from metering.ledger import Day, Reconciliation
from metering.point import Point
from metering.replay import FactsByPoint, Ledger, point_ledger, replay
from metering.rules import Rules
from tests.metering.scenarios import Life, Scenario, as_of
from tests.metering.truthful import Truthful

RULES = Rules()
LONG_AFTER_US = 20 * 86_400_000_000
MEASURING = (Registered, Readings, CalorificValue, Withdrawn, EquipmentFault)


# --- whatever is wrong with the facts, at one meter ---------------------------------------------------------------------------


def a_point(seed: int) -> Point:
    """A point of random facts; with one fitting, since another register is another measure, and without by-passes and Daily
    Read Errors, which put estimates in the place of readings."""
    dice = random.Random(seed)
    facts = Scenario(dice, days=dice.choice([10, 24])).facts
    fittings = [fact for fact in facts if isinstance(fact, MeterFitted)]
    facts = [fact for fact in facts if fact in fittings[:1] or isinstance(fact, MEASURING)]
    now_us = to_us(as_of(dice, facts)) + dice.choice([0, LONG_AFTER_US])
    known = FactsByPoint(facts)
    return point_ledger("MP0", known.concerning("MP0"), now_us, RULES, RULES.calendar())[0]


def final_l(point: Point, day: int) -> int | None:
    """The Day's final volume: what was determined of it, else what it was closed out with. None where there is none yet, or
    where nothing measured it: deemed, or assumed without determination because the run's volumes are not all known."""
    book = point.books.get(day)
    if book is None or book.closed == OPEN or (book.failed_day and book.determined_l is None):
        return None
    return book.closed_l if book.determined_l is None else book.determined_l


def advance_l(point: Point, first: int, end: int) -> int | None:
    """The index advance between two boundaries in litres, with as many roll-overs as the standing readings between show; None
    where a turn of the register is no whole litres, and the Days of a roll-over need not add up."""
    register = point.reference.meters[0].register
    ticks = [start.ticks for day in range(first, end + 1) if (start := point.start(day)) is not None]
    turns = sum(after < before for before, after in pairwise(ticks))
    if turns and (register.k * 1000 * register.modulus).denominator != 1:
        return None
    return register.litres(ticks[-1] + turns * register.modulus) - register.litres(ticks[0])


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32))
def test_4_4_5_final_volumes_sum_to_the_index_advance(seed: int) -> None:
    point = a_point(seed)
    stands = [day for day in sorted(point.books) if point.bounds(day)]
    for first, end in combinations(stands, 2):
        finals = [final_l(point, day) for day in range(first, end)]
        advance = advance_l(point, first, end)
        if None not in finals and advance is not None:
            assert sum(each or 0 for each in finals) == advance, (date.fromordinal(first), end - first)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32))
def test_4_4_5_between_standing_readings_only_open_days_and_unknown_volumes_are_without_a_final_one(seed: int) -> None:
    """So the sum above is not empty: a Failed Day between standing readings is determined unless something is missing."""
    point = a_point(seed)
    stands = [day for day in sorted(point.books) if point.bounds(day)]
    for first, end in pairwise(stands):
        books = [point.books.get(day) for day in range(first, end)]
        if any(book is None or book.closed == OPEN or book.closed_l is None for book in books):
            continue
        assert None not in [final_l(point, day) for day in range(first, end)]


# --- whatever happens to true facts, with any number of meters ----------------------------------------------------------------


def litres(life: Life, index: int) -> int:
    """R of an index that is not wrapped, by the meter's tick (with a convertor)."""
    return int(index * Fraction(life.tick) * 1000 + Fraction(1, 2))


def measured_l(site: Truthful, first: int, end: int) -> int:
    """What the meters advanced between two Days' starts, each between its own indexes; by-pass aside."""
    total = 0
    for life in site.lives:
        low, high = max(site.bounds[first], life.since), site.bounds[end]
        high = high if life.until is None else min(high, life.until)
        if low < high:
            total += litres(life, site.shows(life, high)) - litres(life, site.shows(life, low))
    return total


def read(site: Truthful, n: int) -> bool:
    """Whether an index of the Day's start is known: read and not withdrawn since, or told at a fitting or a removal."""
    at = site.instant(site.bounds[n])
    withdrawn = [fact for fact in site.facts if isinstance(fact, Withdrawn)]
    for fact in site.facts:
        if isinstance(fact, (MeterFitted, MeterRemoved)) and fact.at == at:
            return True
        if isinstance(fact, Readings) and at in (fact.at or ()):
            taken = [each for each in withdrawn if (each.meter, each.gas_day) == (fact.meter, fact.gas_day)]
            if all(each.received_at <= fact.received_at for each in taken if each.received_at and fact.received_at):
                return True
    return False


def faulty(site: Truthful, n: int) -> bool:
    at = site.instant(site.bounds[n])
    return any(
        fact.part == "capture" and fact.from_ <= at and (fact.until is None or at < fact.until)
        for fact in site.facts
        if isinstance(fact, EquipmentFault)
    )


def day_of(site: Truthful, ledger: Ledger, n: int) -> Day:
    record = ledger["day", "MP0", date.fromordinal(site.first + n).isoformat()]
    assert isinstance(record, Day)
    return record


def failed(record: Day) -> bool:
    """Whether it is a Failed Day, by what the record says of it (4.4.3)."""
    return not record.ratchet_day or record.determined_status is not None


def bounding(site: Truthful, ledger: Ledger) -> list[int]:
    """The Days whose start bounds a run: known, and not in a fault between Failed Days (4.4.5)."""
    return [
        n
        for n in range(site.days)
        if read(site, n)
        and not (faulty(site, n) and failed(day_of(site, ledger, n)) and (n == 0 or failed(day_of(site, ledger, n - 1))))
    ]


def bypassed_l(site: Truthful, ledger: Ledger) -> dict[int, int]:
    """By Day, what is added: each estimate to the first actual Day that ends, and is closed out, late enough (2.4.4(c))."""
    added: dict[int, int] = {}
    for fact in site.facts:
        if not isinstance(fact, BypassUsed):
            continue
        for n in range(site.days):
            closed_out = site.start(site.first + n + 6)
            late_enough = site.start(site.first + n + 1) >= fact.until and closed_out >= (fact.received_at or closed_out)
            if late_enough and day_of(site, ledger, n).status == "actual":
                added[n] = added.get(n, 0) + int(Fraction(fact.estimated_m3) * 1000 + Fraction(1, 2))
                break
    return added


def long_after(site: Truthful) -> datetime:
    return max(fact.received_at for fact in site.facts if fact.received_at) + timedelta(days=20 + site.days)


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32))
def test_3_9_1b_4_4_5_with_exchanges_between_final_volumes_sum_to_the_advance_of_all_meters(seed: int) -> None:
    """Every Day between two known indexes has a final volume; over any period these sum to what the meters counted, and to what
    went by the by-pass."""
    site = Truthful(random.Random(seed), days=random.Random(seed).choice([9, 16, 30]))
    ledger = replay(site.facts, to_us(long_after(site)), RULES)
    bypassed = bypassed_l(site, ledger)
    finals: list[Decimal | None] = []
    for n in range(site.days):
        record = day_of(site, ledger, n)
        assert record.closed_out
        undetermined = failed(record) and record.determined_m3 is None
        finals.append(None if undetermined else record.volume_m3 if record.determined_m3 is None else record.determined_m3)
    for first, end in combinations(bounding(site, ledger), 2):
        period = [final for final in finals[first:end] if final is not None]
        assert len(period) == end - first
        by_bypass = sum(bypassed.get(n, 0) for n in range(first, end))
        assert sum(period) * 1000 == measured_l(site, first, end) + by_bypass, (
            date.fromordinal(site.first + first),
            end - first,
        )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_4_3_a_day_between_two_readings_is_what_the_meters_counted_on_it(seed: int) -> None:
    """Actual or restored, and the by-pass aside; with what was closed out of it as it was, whatever came later."""
    site = Truthful(random.Random(seed), days=12)
    ledger = replay(site.facts, to_us(long_after(site)), RULES)
    bypassed, bounds = bypassed_l(site, ledger), set(bounding(site, ledger))
    for n in range(site.days - 1):
        record = day_of(site, ledger, n)
        expected = Decimal(measured_l(site, n, n + 1) + bypassed.get(n, 0)) / 1000
        if record.status == "actual":
            assert record.volume_m3 == expected
        if {n, n + 1} <= bounds and record.determined_status == "restored":
            assert record.determined_m3 == expected


# --- records ------------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_4_4_4b_every_reconciliation_is_the_difference_of_its_two_sides(seed: int) -> None:
    """And every Failed Day that is determined has one, as far as its volume and quantities are known."""
    dice = random.Random(seed)
    facts = Scenario(dice, days=dice.choice([10, 24])).facts
    ledger = replay(facts, to_us(as_of(dice, facts)) + dice.choice([0, LONG_AFTER_US]), RULES)
    for record in ledger.values():
        if not isinstance(record, Day) or record.determined_status not in ("restored", "apportioned"):
            continue
        sides = (record.volume_m3, record.determined_m3, record.quantity_kwh, record.determined_kwh)
        found = ledger.get(("reconciliation", "MP0", record.gas_day.isoformat(), "failed_daily_read"))
        if None in sides:
            assert found is None or None in (found.quantity_kwh, record.determined_kwh)  # type: ignore[union-attr]
            continue
        assert isinstance(found, Reconciliation)
        assert found.volume_m3 == sides[0] - sides[1]  # type: ignore[operator]
        assert found.quantity_kwh == sides[2] - sides[3]  # type: ignore[operator]
        assert found.since == record.since


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_4_4_4b_and_there_is_none_but_for_a_failed_day_that_is_determined(seed: int) -> None:
    dice = random.Random(seed)
    facts = Scenario(dice, days=dice.choice([10, 24])).facts
    ledger = replay(facts, to_us(as_of(dice, facts)) + dice.choice([0, LONG_AFTER_US]), RULES)
    for record in ledger.values():
        if isinstance(record, Reconciliation) and record.kind == "failed_daily_read":
            day = ledger["day", "MP0", record.gas_day.isoformat()]
            assert isinstance(day, Day)
            assert day.closed_out
            assert day.determined_status is not None
