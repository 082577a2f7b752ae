"""Which readings of a point stand, which Days are Valid, and what is determined of Failed Days, after something changed.

The functions here work on a `Point` and on as few of its Days as a change can reach: a fixed reading bounds what stands, a
standing one what is determined. Sources: M1.5, 4.2.3, 4.4.4, 4.4.5; the rules page, sections 4 and 5.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from metering.batch import BIT, READING_RULES
from metering.book import ACTUAL, APPORTIONED, NOT_DETERMINED, OPEN, RESTORED, Book
from metering.ledger import Rejected
from metering.standing import Standing, intervals, offers, stand
from metering.volumes import apportion
from metering.wire import PackedReadings

if TYPE_CHECKING:
    from metering.point import Point


def assess(point: Point, changed: set[int]) -> None:
    """Judge the changed batches, find what stands around them, and what follows for the Days."""
    boundaries = _between_fixed(point, min(changed), max(changed) + 1)
    setting, fitted, fitting = point.reference.setting, point.reference.fitted_day, point.reference.fitting()
    fixed = {day: start for day in boundaries if (start := point.start(day)) is not None and start.fixed}
    offered = {
        boundary: offers(
            boundary, point.batch(boundary - 1), point.batch(boundary), fitting if boundary == fitted else None,
            fixed.get(boundary), setting,
        )
        for boundary in boundaries
    }  # fmt: skip
    first, last = boundaries[0], boundaries[-1]
    stood = stand(offered, fixed, _standing_before(point, first), setting)
    for boundary in boundaries:
        start = stood.standing.get(boundary)
        if start != point.start(boundary):
            point.book(boundary).start = start
            point.touch(boundary - 1)
            for day in range(boundary, boundary + point.rules.stuck_days):
                point.touch(day)  # `stuck_register` looks that far back
    for day in boundaries:
        if day < last and (book := point.books.get(day)) is not None:
            _judge_day(point, day, book, stood.rejected.get(day, []), stood.flagged.get(day, []))
    determine_around(point, first, last)


def extend(point: Point, readings: PackedReadings, packed: bytes) -> bool:
    """Take a piece that does nothing but continue what stands; False where it may do anything else, and is not taken.

    It is the first piece of a Day that is in the ledger, regular, from boundary to boundary; it begins with the very reading
    that stands, every step of it is within the limits, and nothing is known of later Days. Then all its readings stand,
    whatever was rejected before: the chain with the most readings only gains by it.
    """
    day = readings.gas_day
    book, register = point.books.get(day), point.reference.setting.register
    if book is None or book.pieces or book.closed != OPEN or book.start is None or register is None:
        return False
    if not point.appeared(day) or day + point.rules.history_days < (point.last_day or 0):
        return False
    for later, other in point.books.items():
        if later > day and (other.pieces or other.start is not None):
            return False
    end = _regular_end(point, readings, book.start)
    if end is None:
        return False
    book.pieces.append((point.now_us, packed))
    book.batch, book.ran, book.failed = None, READING_RULES, 0
    point.book(day + 1).start = end
    point.touch(day)
    point.touch(day + 1)
    _believe_valid(point, day, book, True)
    return True


def _regular_end(point: Point, readings: PackedReadings, start: Standing) -> Standing | None:
    """The end-of-Day reading of a piece that is regular and begins with the standing reading; None for any other."""
    setting, index, step = point.reference.setting, readings.index, readings.step
    register = setting.register
    if register is None or readings.meter != setting.meter or type(step) is not int or step <= 0 or not readings.plain:
        return None
    last_us = readings.first_us + step * (len(index) - 1)
    if readings.first_us != start.at_us or index[0] != start.ticks or not _spans_day(point, readings, last_us):
        return None
    validation = point.rules.of(readings.gas_day)
    offset_s = readings.clock_offset_s
    if offset_s is not None and abs(offset_s) > validation.clock_offset_s:
        return None
    steps = index[1:]
    last = start.ticks + sum(steps)
    possible = register.limit_ticks(step, validation.excess_factor) - 1
    if last >= register.modulus or min(steps) < 0 or max(steps) > possible:
        return None
    return Standing(last_us, last)


def _spans_day(point: Point, readings: PackedReadings, last_us: int) -> bool:
    """Whether the readings go from the Day's start to its end, which has been."""
    day, start_us = readings.gas_day, point.days.start_us
    return readings.first_us == start_us(day) and last_us == start_us(day + 1) <= point.now_us


def _judge_day(point: Point, day: int, book: Book, rejected: Sequence[Rejected], flagged: Sequence[Rejected]) -> None:
    batch, end = point.batch(day), point.start(day + 1)
    within = intervals(day, batch, book.start, end, [*rejected, *flagged], point.reference.setting)
    everything = [*batch.rejected, *rejected, *within.rejected]
    flags = 0
    for record in (*rejected, *flagged, *within.rejected, *within.flagged):
        flags |= BIT[record.rule]
    if everything != book.rejected or flags != book.flagged:
        book.rejected, book.flagged = everything, flags
        point.touch(day)
    spoiled = batch.spoiled or bool(rejected)
    _believe_valid(point, day, book, book.start is not None and end is not None and not spoiled)


def _believe_valid(point: Point, day: int, book: Book, valid: bool) -> None:
    """Valid or not from now on; `valid_at` stays where it was Valid without a break."""
    if book.closed == ACTUAL:
        return
    was, since_us, *_ = point.before.setdefault(day, book.belief())
    at_us = (since_us if was else point.now_us) if valid else None
    by_11 = valid if point.now_us <= point.days.eleven_us(day) else book.by_11
    if (valid, at_us, by_11) != (book.valid, book.valid_at_us, book.by_11):
        book.valid, book.valid_at_us, book.by_11 = valid, at_us, by_11
        point.touch(day)


def _between_fixed(point: Point, first: int, last: int) -> list[int]:
    """The boundaries with offers, widened from a range to where a fixed reading, or the end of what is held, bounds it."""
    held = sorted({*point.books, *(day + 1 for day in point.books)})
    low, high = bisect_left(held, first), bisect_left(held, last)
    while low > 0 and not _fixed(point, held[low]):
        low -= 1
    while high < len(held) - 1 and not _fixed(point, held[high]):
        high += 1
    return held[low : high + 1]


def _standing_before(point: Point, boundary: int) -> Standing | None:
    for day in sorted((day for day in point.books if day < boundary), reverse=True):
        if (start := point.start(day)) is not None:
            return start
    return None


def _fixed(point: Point, day: int) -> bool:
    start = point.start(day)
    return start is not None and start.fixed


def determine_around(point: Point, first: int, last: int) -> None:
    """Determine the Failed Days between the standing readings around these boundaries (4.4.5)."""
    held = sorted(point.books)
    low, high = bisect_left(held, first), bisect_left(held, last)
    while low > 0 and (low == len(held) or held[low] > first or point.start(held[low]) is None):
        low -= 1
    while high < len(held) and point.start(held[high]) is None:
        high += 1
    around = held[low:high]
    stands = [day for day in held[low : high + 1] if point.start(day) is not None]
    for day in around:
        if not stands or day < stands[0] or day >= stands[-1]:
            _believe_determined(point, day, NOT_DETERMINED, None)
    for start, end in pairwise(stands):
        _determine_run(point, start, end, around[bisect_left(around, start) : bisect_left(around, end)])


def _determine_run(point: Point, first: int, end: int, days: Sequence[int]) -> None:
    """Determine the Days held from one standing boundary reading to the next: a run, where all are there and failed."""
    failed = [book for day in days if (book := point.books[day]).failed_day]
    weights = [book.closed_l for book in failed if book.closed_l is not None]
    start, stop = point.start(first), point.start(end)
    how = NOT_DETERMINED
    shares: list[int | None] = [None] * len(days)
    if start is not None and stop is not None and len(failed) == end - first:
        if len(failed) == 1:
            how, shares = RESTORED, [point.volume_l(start, stop, first)]
        elif len(weights) == len(failed):
            how, shares = APPORTIONED, [*apportion(point.volume_l(start, stop, end - 1), weights)]
    for day, share in zip(days, shares, strict=True):
        _believe_determined(point, day, how, share)


def _believe_determined(point: Point, day: int, how: int, litres: int | None) -> None:
    """Determined so from now on; `since` stays where the value did without a break."""
    book = point.books.get(day)
    if book is None or not book.failed_day:
        return
    _, _, _, was, was_l, since_us = point.before.setdefault(day, book.belief())
    same = how != NOT_DETERMINED and (was, was_l) == (how, litres)
    at_us = since_us if same else None if how == NOT_DETERMINED else point.now_us
    if (how, litres, at_us) != (book.determined, book.determined_l, book.since_us):
        book.determined, book.determined_l, book.since_us = how, litres, at_us
        point.touch(day)
