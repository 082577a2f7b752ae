"""What is held of a Supply Meter Point: its reference facts, its Days, and what its meters measured between the readings that
stand. Nothing here decides what stands; the engine (`point.py`) and the specification (`determine.py`) do.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from metering.batch import Batch, Judged, judge_day
from metering.book import Book
from metering.gasday import GasDays
from metering.meters import Meter
from metering.reference import Reference
from metering.review import Review
from metering.rules import Rules
from metering.standing import NO_BATCH, Place, Standing, boundary, inside
from metering.volumes import daily_share_wh, volume_of_wh

BEGINNING_US = -(2**62)
WEEK = 7


class NeedsHistory(Exception):
    """The facts reach behind what this point holds: make it anew from all its facts."""


class Held:
    """The reference facts, the Days by their ordinal, and the instant as of which they are."""

    def __init__(self, meter_point: str, rules: Rules, days: GasDays) -> None:
        self.meter_point, self.rules, self.days = meter_point, rules, days
        self.reference = Reference(meter_point, rules, days)
        self.books: MutableMapping[int, Book] = {}
        self.last_held = -1  # the latest of them
        self.batches: dict[int, Judged] = {}  # as far as they have been judged
        self.packed: dict[int, bytes] = {}  # the Days' bytes in the state, as they were when last asked for
        self.stale: set[int] = set()  # the Days that have changed since
        self.now_us = BEGINNING_US
        self.first_day: int | None = None  # the Days from this one
        self.last_day: int | None = None  # to this one have appeared in the ledger
        self.review = Review()
        self.touched: set[int] = set()  # the Days whose records are due

    def owner(self, day: int) -> tuple[str, int] | None:
        """The meter in place at the Day's start, and from then on, by its `stay`."""
        at_us = self.days.start_us(day)
        return next((meter.stay for meter in self.reference.meters if meter.at(at_us)), None)

    def can_read(self, key: tuple[str, int, int]) -> bool:
        """Whether the meter of a key of `places` could be read at its instant, as we know the meters now."""
        return any(meter.stay == key[:2] and meter.reads(key[2]) for meter in self.reference.meters)

    def book(self, day: int) -> Book:
        """What is held of a Day, made where it is missing."""
        book = self.books.get(day)
        if book is None:
            book = self.books[day] = Book()
            if day > self.last_held:
                self.last_held = day
            self.stale.add(day)
        return book

    def start(self, day: int) -> Standing | None:
        """The standing reading of the Day's start."""
        book = self.books.get(day)
        return None if book is None else book.start

    def batch(self, day: int, meter: Meter) -> Batch:
        """The meter's batch of the Day as judged."""
        book = self.books.get(day)
        return NO_BATCH if book is None else self.judged(day, book).of.get(meter.number, NO_BATCH)

    def judged(self, day: int, book: Book) -> Judged:
        """The Day's batch as judged; it is judged if it has not been. Of a Day without pieces what is known remains: of a Day
        that was closed out as actual the state does not keep them."""
        found = self.batches.get(day)
        if found is None:
            if not book.pieces:
                return Judged({}, (), book.ran, book.failed, book.tolerances)
            found = self.batches[day] = judge_day(day, book.in_order(), self.reference.settings(day))
            book.ran, book.failed, book.tolerances = found.ran, found.failed, found.tolerances
            self.stale.add(day)
        return found

    def standing(self, meter: Meter, place: Place) -> Standing | None:
        """What stands of a meter at a boundary, its fitting or its removal."""
        begins = place.judged + 1
        if place.at_us == self.days.start_us(begins) and meter.at(place.at_us):
            return self.start(begins)
        book = self.books.get(place.judged)
        return None if book is None else book.places.get((*meter.stay, place.at_us))

    def keep(self, meter: Meter, place: Place, standing: Standing) -> None:
        """Note what stands of a meter at a boundary, its fitting or its removal."""
        begins = place.judged + 1
        if place.at_us == self.days.start_us(begins) and meter.at(place.at_us):
            self.book(begins).start = standing
            self.stale.add(begins)
        else:
            self.book(place.judged).places[(*meter.stay, place.at_us)] = standing
            self.stale.add(place.judged)

    def end(self, day: int) -> Standing | None:
        """The standing reading of the Day's end, of the meter that was in place until then."""
        if day >= self.reference.steady_from:
            return self.start(day + 1)
        place = boundary(day + 1, self.days)
        meter = self.reference.meter_up_to(place.at_us)
        return self.start(day + 1) if meter is None else self.standing(meter, place)

    def begin(self, day: int) -> Standing | None:
        """The standing reading of the Day's beginning: of the meter in place from then on, or else until then."""
        if day >= self.reference.steady_from or self.owner(day) is not None:
            return self.start(day)
        place = boundary(day, self.days)
        meter = self.reference.meter_up_to(place.at_us)
        return None if meter is None else self.standing(meter, place)

    def spans(self, first: int, end: int) -> list[tuple[Meter, Place, Place]]:
        """The meters in place from the start of the Day `first` to that of `end`, each from where to where. One that was
        removed at the very start, or fitted at the very end, is among them where no other was there then."""
        low, high = boundary(first, self.days), boundary(end, self.days)
        found = []
        for meter in self.reference.meters:
            from_us = max(meter.from_us, low.at_us)
            to_us = high.at_us if meter.to_us is None else min(meter.to_us, high.at_us)
            at_start = to_us == low.at_us and from_us <= to_us and self.owner(first) is None
            at_end = from_us == high.at_us and from_us <= to_us and self.reference.meter_up_to(from_us) is None
            if from_us < to_us or at_start or at_end:
                found.append((meter, self._place(from_us, low, high), self._place(to_us, low, high)))
        return found

    def _place(self, at_us: int, *known: Place) -> Place:
        for place in known:
            if place.at_us == at_us:
                return place
        return Place(at_us, self.days.day_of(at_us - 1))

    def anchors(self, meter: Meter, day: int) -> list[Standing]:
        """A meter's standing readings at the Day's boundaries, and at its fitting and removal on it."""
        places = [boundary(day, self.days), *inside(meter, day, self.days), boundary(day + 1, self.days)]
        found = [self.standing(meter, place) for place in places if meter.reads(place.at_us)]
        return [standing for standing in found if standing is not None]

    def complete(self, day: int) -> bool:
        """Whether a reading stands at both ends of the Day, and of each meter that was in place on it."""
        if day >= self.reference.steady_from:
            return self.start(day) is not None and self.start(day + 1) is not None
        return self.advance_l(day, day + 1) is not None

    def faulty(self, day: int) -> bool:
        """Whether the reading at the Day's start is of an instant at which the equipment did not capture the index."""
        start = self.begin(day)
        return start is not None and self.reference.faulty(start.at_us)

    def bounds(self, day: int) -> bool:
        """Whether a reading stands at the Day's start that may bound a run of Failed Days: one that the equipment took while it
        did not capture the index only where the Day before or after did not fail (4.4.5)."""
        if self.begin(day) is None or self.end(day - 1) is None:
            return False
        if not self.reference.faults or not self.faulty(day):
            return True
        around = [self.books.get(day - 1), self.books.get(day)]
        return not all(book is not None and book.failed_day for book in around)

    def show(self, day: int) -> None:
        """Its records are due, and its part of the state, but nothing that check reads and read errors rest on."""
        self.touched.add(day)
        self.stale.add(day)

    def appeared(self, day: int) -> bool:
        """Whether the Day is in the ledger yet."""
        return self.first_day is not None and self.last_day is not None and self.first_day <= day <= self.last_day

    def annual_share_wh(self, day: int) -> int:
        registered = self.reference.of(day)
        return 0 if registered is None else daily_share_wh(registered.annual_quantity_kwh)

    def deemed_l(self, day: int, deemed_wh: int | None) -> int | None:
        value = self.reference.calorific_value(day)
        return None if value is None or deemed_wh is None else volume_of_wh(deemed_wh, value)

    def advance_l(self, first: int, end: int) -> int | None:
        """The volume that the meters measured from the start of the Day `first` to that of `end`, by the rules of the last of
        these Days; None where a reading is missing at either end, or of a meter that was fitted or removed between."""
        meter = self.reference.current
        if meter is not None and first >= self.reference.steady_from:
            begun, ended = self.books.get(first), self.books.get(end)
            if begun is None or ended is None or begun.start is None or ended.start is None:
                return None
            return self.volume_l(meter, begun.start, ended.start, end - 1)
        spans = self.spans(first, end)
        if not spans or spans[0][1].at_us != self.days.start_us(first) or spans[-1][2].at_us != self.days.start_us(end):
            return None
        litres = 0
        for meter, low, high in spans:
            start, stop = self.standing(meter, low), self.standing(meter, high)
            if start is None or stop is None:
                return None
            litres += self.volume_l(meter, start, stop, end - 1)
        return litres

    def volume_l(self, meter: Meter, start: Standing, end: Standing, day: int) -> int:
        """The volume between two standing readings of a meter, by the rules of a Day."""
        register = meter.register
        if end.ticks >= start.ticks:
            return register.volume_l(start.ticks, end.ticks)
        validation = self.rules.of(day)
        may_go_down = not validation.rejects("negative_advance")
        if may_go_down and register.verdict(start.ticks, end.ticks, end.at_us - start.at_us, validation.excess_factor):
            return register.litres(end.ticks) - register.litres(start.ticks)  # flagged, and no roll-over
        return register.volume_l(start.ticks, end.ticks)

    def value_l(self, day: int) -> int | None:
        """The Day's volume as it is now: closed out, or by Valid readings, or what the substitution would give; without
        what went by the by-pass."""
        book = self.books.get(day)
        if book is None or book.closed:
            return None if book is None else book.closed_l
        litres = self.advance_l(day, day + 1) if book.valid else None
        if litres is not None:
            return litres
        if self.reference.in_deemed_week(day):
            return self.deemed_l(day, self.annual_share_wh(day))
        return self.value_l(day - WEEK)

    def deemed_wh(self, day: int) -> int | None:
        """The deemed quantity of a Day that has one (4.2.6)."""
        book = self.books[day]
        if book.closed:
            return book.deemed_wh
        return self.annual_share_wh(day) if not book.valid and self.reference.in_deemed_week(day) else None
