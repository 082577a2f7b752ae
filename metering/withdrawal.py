"""Readings that are taken back (`withdrawn`): what they fixed is let go, and Days that were closed out on them fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.book import ACTUAL, WITHDRAWN
from metering.facts import Withdrawn
from metering.held import NeedsHistory
from metering.meters import Meter
from metering.standing import Place, Standing, boundary, told
from metering.wire import identity, received_us

if TYPE_CHECKING:
    from metering.point import Point


def withdraw(point: Point, fact: Withdrawn) -> set[int]:
    """Take back the pieces of a meter's Day that were received before; the Days whose batch must be judged again."""
    if point.floor is not None:
        raise NeedsHistory(fact)
    day = fact.gas_day.toordinal()
    book = point.books.get(day)
    if book is None or (digest := identity(fact)) in point.seen:
        return set()
    point.seen.add(digest)
    known = [(piece, packed) for piece, packed in zip(book.readings(), book.pieces, strict=True)]
    gone = [piece for piece, _ in known if piece.meter == fact.meter and received_us(piece) < point.now_us]
    book.withdrawn = tuple(sorted({*book.withdrawn, *(identity(piece) for piece in gone)}))
    book.pieces = [packed for piece, packed in known if identity(piece) not in book.withdrawn]
    if not book.pieces:
        book.ran, book.failed, book.tolerances = 0, 0, ()
    point.batches.pop(day, None)
    point.touch(day)
    return {day}


def unfix(point: Point, day: int) -> set[int]:
    """Where no reading says any more what stands fixed at the Day's start, let it go; the Days closed out on it fail."""
    changed = set()
    place = boundary(day, point.days)
    for meter in point.reference.meters:
        held = point.standing(meter, place) if meter.reads(place.at_us) else None
        if held is None or not held.fixed or _said(point, meter, place, held):
            continue
        closed = [day - 1] * meter.up_to(place.at_us) + [day] * meter.at(place.at_us)
        point.keep(meter, place, held._replace(fixed=False))
        for failed in closed:
            book = point.books.get(failed)
            if book is not None and book.closed == ACTUAL:
                book.closed = WITHDRAWN
                point.touch(failed)
                changed.add(failed)
    return changed


def _said(point: Point, meter: Meter, place: Place, held: Standing) -> bool:
    """Whether some reading says what stands at a boundary."""
    batches = (point.batch(place.judged, meter), point.batch(place.judged + 1, meter))
    readings = [reading for batch in batches for reading in batch.readings()]
    readings += [offer.reading for offer in told(meter, place, point.days)]
    return any((reading.at_us, reading.ticks) == held[:2] for reading in readings)
