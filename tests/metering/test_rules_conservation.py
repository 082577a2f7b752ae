"""No gas is lost and none invented: over any period between two standing boundary readings the Days' final volumes sum to
the index advance, to the litre, once every Day is closed out (4.3, 4.4.5)."""

from __future__ import annotations

import random
from datetime import date
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.book import OPEN
from metering.facts import MeterFitted
from metering.gasday import to_us
from metering.point import Point
from metering.replay import FactsByPoint, point_ledger
from metering.rules import Rules
from tests.metering.scenarios import Scenario, as_of

RULES = Rules()
LONG_AFTER_US = 20 * 86_400_000_000


def a_point(seed: int) -> Point:
    """A point of random facts; with one fitting, since another register is another measure."""
    dice = random.Random(seed)
    facts = Scenario(dice, days=dice.choice([10, 24])).facts
    fittings = [fact for fact in facts if isinstance(fact, MeterFitted)]
    facts = [fact for fact in facts if fact not in fittings[1:]]
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
    register = point.reference.setting.register
    assert register is not None
    ticks = [start.ticks for day in range(first, end + 1) if (start := point.start(day)) is not None]
    turns = sum(after < before for before, after in pairwise(ticks))
    if turns and (register.k * 1000 * register.modulus).denominator != 1:
        return None
    return register.litres(ticks[-1] + turns * register.modulus) - register.litres(ticks[0])


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_4_4_5_final_volumes_sum_to_the_index_advance(seed: int) -> None:
    point = a_point(seed)
    stands = [day for day in sorted(point.books) if point.start(day) is not None]
    for n, first in enumerate(stands):
        for end in stands[n + 1 :]:
            finals = [final_l(point, day) for day in range(first, end)]
            advance = advance_l(point, first, end)
            if None not in finals and advance is not None:
                assert sum(each or 0 for each in finals) == advance, (date.fromordinal(first), end - first)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_4_4_5_between_standing_readings_only_open_days_and_unknown_volumes_are_without_a_final_one(seed: int) -> None:
    """So the sum above is not empty: a Failed Day between standing readings is determined unless something is missing."""
    point = a_point(seed)
    stands = [day for day in sorted(point.books) if point.start(day) is not None]
    for first, end in pairwise(stands):
        books = [point.books.get(day) for day in range(first, end)]
        if any(book is None or book.closed == OPEN or book.closed_l is None for book in books):
            continue
        assert None not in [final_l(point, day) for day in range(first, end)]
