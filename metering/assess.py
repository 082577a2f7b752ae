"""Which readings of a point stand, which Days are Valid, and what is determined of Failed Days, after something changed.

The functions here work on a `Point` and on as few of its Days as a change can reach: a fixed reading bounds what stands, a
standing one what is determined. Sources: M1.5, 4.2.3, 4.4.4, 4.4.5; the rules page, sections 4 and 5.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from metering.batch import READING_RULES
from metering.book import ACTUAL, APPORTIONED, NOT_DETERMINED, OPEN, RESTORED, WITHDRAWN, Book
from metering.ledger import Rejected
from metering.meters import Meter
from metering.standing import Offer, Place, Standing, Stood, boundary, inside, intervals, offers, stand, told
from metering.validation import BIT
from metering.volumes import apportion
from metering.wire import PackedReadings

if TYPE_CHECKING:
    from metering.point import Point


def assess(point: Point, changed: set[int]) -> None:
    """Judge the changed batches, find what stands around them, and what follows for the Days."""
    boundaries = _between_fixed(point, min(changed), max(changed) + 1)
    first, last = boundaries[0], boundaries[-1]
    starts: dict[int, Standing] = {}
    places: dict[int, dict[tuple[str, int, int], Standing]] = {}
    rejected: dict[int, list[Rejected]] = {}
    flagged: dict[int, list[Rejected]] = {}
    spoiled: set[int] = set()
    for meter in point.reference.meters:
        stood = _stand(point, meter, boundaries)
        for place, standing in stood.standing.items():
            if place.at_us == point.days.start_us(place.judged + 1) and meter.at(place.at_us):
                starts[place.judged + 1] = standing
            else:
                places.setdefault(place.judged, {})[(*meter.stay, place.at_us)] = standing
        spoiled |= stood.spoiled
        for day, records in stood.rejected.items():
            rejected.setdefault(day, []).extend(records)
        for day, records in stood.flagged.items():
            flagged.setdefault(day, []).extend(records)
    for day in boundaries:
        if starts.get(day) != point.start(day):
            _believe_start(point, day, starts.get(day))
        held = point.books.get(day)
        if held is not None and day < last and (held.places or day in places):
            _believe_places(point, day, held, places.get(day, {}))
    for day in boundaries:
        if day < last and (book := point.books.get(day)) is not None:
            _judge_day(point, day, book, rejected.get(day, []), flagged.get(day, []), day in spoiled)
    determine_around(point, first, last)


def _stand(point: Point, meter: Meter, boundaries: Sequence[int]) -> Stood:
    """Which of a meter's readings stand at these boundaries, and at its fitting and removal between them."""
    days, reference = point.days, point.reference
    offered: dict[Place, list[Offer]] = {}
    fixed: dict[Place, Standing] = {}
    for day in boundaries:
        if not meter.reads(days.start_us(day)):
            continue
        place = boundary(day, days)
        held = point.standing(meter, place)
        if held is not None and held.fixed:
            fixed[place] = held
        before, after = point.batch(day - 1, meter), point.batch(day, meter)
        offered[place] = offers(place, before, after, told(meter, place, days), fixed.get(place))
    for day in reference.changes_of_meter():
        if boundaries[0] <= day < boundaries[-1]:
            for place in inside(meter, day, days):
                held = point.standing(meter, place)
                if held is not None and held.fixed:
                    fixed[place] = held
                offered[place] = told(meter, place, days)
    return stand(offered, fixed, _standing_before(point, meter, boundaries[0]), reference.setting(meter))


def _believe_places(point: Point, day: int, book: Book, places: dict[tuple[str, int, int], Standing]) -> None:
    apart = {
        key: standing for key, standing in book.places.items()
        if standing.fixed and key not in places and not point.can_read(key)
    }  # fmt: skip
    if places | apart != book.places:  # what is fixed of a meter that we think elsewhere now is kept, should it come back
        book.places = places | apart
        point.touch(day)


def _believe_start(point: Point, day: int, start: Standing | None) -> None:
    point.book(day).start = start
    point.touch(day - 1)
    for later in range(day, day + point.rules.stuck_days):
        point.touch(later)  # `stuck_register` looks that far back


def extend(point: Point, readings: PackedReadings, packed: bytes) -> bool:
    """Take a piece that does nothing but continue what stands; False where it may do anything else, and is not taken.

    It is the first piece of a Day that is in the ledger, regular, from boundary to boundary; it begins with the very reading
    that stands, every step of it is within the limits, and nothing is known of later Days. Then all its readings stand,
    whatever was rejected before: the chain with the most readings only gains by it.
    """
    day = readings.gas_day
    book, meter = point.books.get(day), point.reference.current
    if book is None or book.pieces or book.closed != OPEN or book.start is None or meter is None or book.withdrawn:
        return False
    if day < point.reference.steady_from:
        return False
    if not point.appeared(day) or day + point.rules.history_days < (point.last_day or 0):
        return False
    if _known_later(point, day):
        return False
    end = _regular_end(point, meter, readings, book.start)
    if end is None:
        return False
    book.pieces.append((point.now_us, packed))
    book.ran, book.failed = READING_RULES, 0
    point.batches.pop(day, None)
    point.book(day + 1).start = end
    point.touch(day)
    point.touch(day + 1)
    _believe_valid(point, day, book, True)
    return True


def _known_later(point: Point, day: int) -> bool:
    """Whether anything is known of later Days. Most have one after them, which has just begun."""
    books = point.books
    after = books.get(day + 1)
    if after is not None and (after.pieces or after.start is not None):
        return True
    if point.last_held <= day + 1:
        return False
    return any(books[later].pieces or books[later].start is not None for later in books if later > day)


def _regular_end(point: Point, meter: Meter, readings: PackedReadings, start: Standing) -> Standing | None:
    """The end-of-Day reading of a piece that is regular and begins with the standing reading; None for any other."""
    register, index, step = meter.register, readings.index, readings.step
    if readings.meter != meter.serial or type(step) is not int or step <= 0 or not readings.plain:
        return None
    last_us = readings.first_us + step * (len(index) - 1)
    if readings.first_us != start.at_us or index[0] != start.ticks or not _spans_day(point, readings, last_us):
        return None
    validation = point.rules.of(readings.gas_day)
    if validation.action and "off" in validation.action.values():
        return None
    offset_s = readings.clock_offset_s
    if offset_s is not None and abs(offset_s) > validation.clock_offset_s:
        return None
    steps = index[1:]
    advance = sum(steps)
    possible = register.limit_ticks(step, validation.excess_factor) - 1
    if start.ticks + advance >= register.modulus or min(steps) < 0:
        return None
    if advance > possible and max(steps) > possible:  # no step is greater than all together
        return None
    return Standing(last_us, start.ticks + advance)


def _spans_day(point: Point, readings: PackedReadings, last_us: int) -> bool:
    """Whether the readings go from the Day's start to its end, which has been."""
    day, start_us = readings.gas_day, point.days.start_us
    return readings.first_us == start_us(day) and last_us == start_us(day + 1) <= point.now_us


def _judge_day(
    point: Point, day: int, book: Book, rejected: Sequence[Rejected], flagged: Sequence[Rejected], spoiled: bool
) -> None:
    if book.closed == ACTUAL and point.floor is not None:
        return  # nothing that a pruned point takes changes it, and its pieces are not there any more
    judged = point.judged(day, book)
    everything, flags = [*judged.rejected], 0
    for number, batch in judged.of.items():
        meter = point.reference.meters[number]
        within = intervals(day, batch, point.anchors(meter, day), [*rejected, *flagged], point.reference.setting(meter))
        everything += [*batch.rejected, *within.rejected]
        for record in (*within.rejected, *within.flagged):
            flags |= BIT[record.rule]
    everything += rejected
    for record in (*rejected, *flagged):
        flags |= BIT[record.rule]
    if everything != book.rejected or flags != book.flagged:
        book.rejected, book.flagged = everything, flags
        point.touch(day)
    _believe_valid(point, day, book, point.complete(day) and not judged.spoiled and not spoiled)


def _believe_valid(point: Point, day: int, book: Book, valid: bool) -> None:
    """Valid or not from now on; `valid_at` stays where it was Valid without a break."""
    if book.closed in (ACTUAL, WITHDRAWN):
        return
    before = point.before.setdefault(day, book.belief())
    at_us = (before[1] if before[0] else point.now_us) if valid else None
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


def _standing_before(point: Point, meter: Meter, boundary: int) -> Standing | None:
    for day in sorted((day for day in point.books if day < boundary), reverse=True):
        if not meter.at(point.days.start_us(day)):
            return None
        if (start := point.start(day)) is not None:
            return start
    return None


def _fixed(point: Point, day: int) -> bool:
    """Whether what stands at the Day's start is fixed, of each meter that could be read then."""
    start = point.begin(day)
    if start is None or not start.fixed:
        return False
    end = start if day > point.reference.steady_from else point.end(day - 1)
    return end is None or end.fixed


def determine_around(point: Point, first: int, last: int) -> None:
    """Determine the Failed Days between the standing readings around these boundaries (4.4.5)."""
    held = sorted(point.books)
    low, high = bisect_left(held, first), bisect_left(held, last)
    while low > 0 and (low == len(held) or held[low] > first or not point.bounds(held[low])):
        low -= 1
    while high < len(held) and not point.bounds(held[high]):
        high += 1
    around = held[low:high]
    stands = [day for day in held[low : high + 1] if point.bounds(day)]
    for day in around:
        if not stands or day < stands[0] or day >= stands[-1]:
            _believe_determined(point, day, NOT_DETERMINED, None)
    for start, end in pairwise(stands):
        _determine_run(point, start, end, around[bisect_left(around, start) : bisect_left(around, end)])


def _determine_run(point: Point, first: int, end: int, days: Sequence[int]) -> None:
    """Determine the Days held from one boundary with a standing reading to the next: a run, where all are there and failed."""
    failed = [book for day in days if (book := point.books[day]).failed_day]
    weights = [book.closed_l for book in failed if book.closed_l is not None]
    how = NOT_DETERMINED
    shares: list[int | None] = [None] * len(days)
    volume_l = point.advance_l(first, end) if len(failed) == end - first else None
    if volume_l is not None:
        faulty = point.reference.faults and any(point.faulty(day) for day in (first, end))
        if len(failed) == 1 and not faulty:
            how, shares = RESTORED, [volume_l]
        elif len(weights) == len(failed):
            how, shares = APPORTIONED, [*apportion(volume_l, weights)]
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
