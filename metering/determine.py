"""The specification: the ledger as a function of the facts, found from scratch (the rules page, section 1).

    ledger = determine(facts, as_of)

Nothing here is incremental: at every instant at which something was received, or a Day is closed out, all that was known by
then is judged again, whole. What must outlive an instant is only what the rules say stays: how a Day was closed out, the
readings fixed by it, and since when a belief stands. It is slow, and plain; `point.py` must agree with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from metering.batch import BIT, Batch, judge
from metering.book import ACTUAL, APPORTIONED, ASSUMED, DEEMED, NOT_DETERMINED, RESTORED, Book, Reference
from metering.facts import AnyFact, CalorificValue, MeterFitted, Readings, Registered
from metering.gasday import GasDays
from metering.point import WEEK, Point, received_us
from metering.records import changes_of
from metering.replay import FactsByPoint, Ledger, fold, once
from metering.rules import Rules
from metering.standing import NO_BATCH, Standing, intervals, offers, stand
from metering.volumes import apportion, daily_share_wh, volume_of_wh
from metering.wire import canonical


def determine(facts: Sequence[AnyFact], as_of_us: int, rules: Rules) -> Ledger:
    """The ledger of these facts as of an instant."""
    days = rules.calendar()
    known = FactsByPoint(once(facts))
    ledger: Ledger = {}
    for meter_point in sorted(known.of_point):
        own = [fact for fact in known.concerning(meter_point) if received_us(fact) <= as_of_us]
        if own:
            ledger |= _Determination(meter_point, own, rules, days).ledger(as_of_us)
    return ledger


class _Determination:
    """One Supply Meter Point: what it is believed to be at one instant after the other."""

    def __init__(self, meter_point: str, facts: Sequence[AnyFact], rules: Rules, days: GasDays) -> None:
        self.meter_point, self.rules, self.days = meter_point, rules, days
        self.facts = sorted(facts, key=lambda fact: (received_us(fact), canonical(fact)))
        self.kept: dict[int, Book] = {}  # of each Day what stays: its close-out, its beliefs
        self.fixed: dict[int, Standing] = {}
        self.now_us = 0

    def ledger(self, as_of_us: int) -> Ledger:
        close_outs = self._close_outs(as_of_us)
        closing: defaultdict[int, list[int]] = defaultdict(list)
        for day, at_us in close_outs.items():
            closing[at_us].append(day)
        for at_us in sorted({received_us(fact) for fact in self.facts} | {at for at in closing if at <= as_of_us}):
            point = self._believe(at_us, closing.get(at_us, []))
        self.now_us = as_of_us
        point.first_day, point.last_day = point.reference.registered, self.days.day_of(as_of_us)
        for day in range(point.first_day, point.last_day + 1) if point.first_day is not None else ():
            point.books.setdefault(day, Book())
        return fold({}, (change for day in sorted(point.books) for change in changes_of(point, day)))

    def _close_outs(self, as_of_us: int) -> dict[int, int]:
        """When each Day is closed out, by all registrations."""
        reference = self._reference(as_of_us)
        first = reference.registered
        if first is None:
            return {}
        return {day: reference.close_out_us(day) for day in range(first, self.days.day_of(as_of_us) + 1)}

    def _reference(self, at_us: int) -> Reference:
        reference = Reference(self.meter_point, self.rules, self.days)
        for fact in self.facts:
            if received_us(fact) <= at_us and isinstance(fact, (Registered, MeterFitted, CalorificValue)):
                reference.take(fact)
        return reference

    def _believe(self, at_us: int, closing: Iterable[int]) -> Point:
        """All that is known at an instant, judged from scratch; then the Days that are closed out at it."""
        self.now_us = at_us
        point = Point(self.meter_point, self.rules, self.days)
        point.reference = self._reference(at_us)
        pieces: defaultdict[int, list[Readings]] = defaultdict(list)
        for fact in self.facts:
            if isinstance(fact, Readings) and received_us(fact) <= at_us:
                pieces[fact.gas_day.toordinal()].append(fact)
        self._judge(point, pieces)
        for day in sorted(closing):
            self._close_out(point, day)
        self._fill(point)
        self._determine(point)
        return point

    def _judge(self, point: Point, pieces: dict[int, list[Readings]]) -> None:
        """Every batch, what stands at every boundary, and which Days are Valid."""
        setting, fitted = point.reference.setting, point.reference.fitted_day
        held = {*pieces, *self.kept, *self.fixed, *([fitted] if fitted is not None else [])}
        books = point.books = {day: Book() for day in sorted({*held, *(day + n for day in held for n in (-1, 1))})}
        for day, book in books.items():
            book.batch = judge(day, pieces.get(day, []), setting)
            book.ran, book.failed, book.tolerances = book.batch.ran, book.batch.failed, book.batch.tolerances
            self._carry(day, book)
        fitting = point.reference.fitting()
        offered = {
            day: offers(
                day, self._batch(point, day - 1), self._batch(point, day), fitting if day == fitted else None,
                self.fixed.get(day), setting,
            )
            for day in books
        }  # fmt: skip
        stood = stand(offered, self.fixed, None, setting)
        for day, standing in stood.standing.items():
            books[day].start = standing
        for day, book in books.items():
            rejected, flagged = stood.rejected.get(day, []), stood.flagged.get(day, [])
            end = point.start(day + 1)
            batch = book.batch or NO_BATCH
            within = intervals(day, batch, book.start, end, [*rejected, *flagged], setting)
            book.rejected = [*batch.rejected, *rejected, *within.rejected]
            for record in (*rejected, *flagged, *within.rejected, *within.flagged):
                book.flagged |= BIT[record.rule]
            spoiled = batch.spoiled or bool(rejected)
            self._believe_valid(day, book, book.start is not None and end is not None and not spoiled)

    def _batch(self, point: Point, day: int) -> Batch:
        book = point.books.get(day)
        return NO_BATCH if book is None or book.batch is None else book.batch

    def _carry(self, day: int, book: Book) -> None:
        """Take over what stays of the Day from before."""
        kept = self.kept.get(day)
        if kept is not None:
            book.closed, book.closed_l, book.deemed_wh = kept.closed, kept.closed_l, kept.deemed_wh
            book.valid, book.valid_at_us, book.by_11 = kept.valid, kept.valid_at_us, kept.by_11
            book.determined, book.determined_l, book.since_us = kept.determined, kept.determined_l, kept.since_us
        self.kept[day] = book

    def _believe_valid(self, day: int, book: Book, valid: bool) -> None:
        if book.closed == ACTUAL:
            return
        if not (valid and book.valid):
            book.valid_at_us = self.now_us if valid else None
        book.valid = valid
        if self.now_us <= self.days.eleven_us(day):
            book.by_11 = valid

    def _close_out(self, point: Point, day: int) -> None:
        book = point.books.get(day)
        if book is None:
            book = point.books[day] = self.kept[day] = Book()
        start, end = book.start, point.start(day + 1)
        if book.valid and start is not None and end is not None:
            book.closed, book.closed_l = ACTUAL, point.volume_l(start, end, day)
            self.fixed |= {day: start._replace(fixed=True), day + 1: end._replace(fixed=True)}
            book.start, point.books[day + 1].start = self.fixed[day], self.fixed[day + 1]
        elif point.reference.in_deemed_week(day):
            registered = point.reference.of(day)
            book.closed = DEEMED
            book.deemed_wh = 0 if registered is None else daily_share_wh(registered.annual_quantity_kwh)
        else:
            book.closed = ASSUMED

    def _fill(self, point: Point) -> None:
        """Volumes of Failed Days that have none yet, as far as what they rest on is known."""
        for day in sorted(point.books):
            book = point.books[day]
            if not book.failed_day or book.closed_l is not None:
                continue
            value, week_before = point.reference.calorific_value(day), point.books.get(day - WEEK)
            if book.closed == DEEMED and value is not None and book.deemed_wh is not None:
                book.closed_l = volume_of_wh(book.deemed_wh, value)
            elif book.closed == ASSUMED and week_before is not None:
                book.closed_l = week_before.closed_l

    def _determine(self, point: Point) -> None:
        """What is known by now of the Failed Days (4.4.5)."""
        found: dict[int, tuple[int, int]] = {}
        stands = [day for day in sorted(point.books) if point.start(day) is not None]
        for first, end in pairwise(stands):
            start, stop = point.start(first), point.start(end)
            books = [point.books.get(day, Book()) for day in range(first, end)]
            if start is None or stop is None or not all(book.failed_day for book in books):
                continue
            volume_l = point.volume_l(start, stop, end - 1)
            weights = [book.closed_l for book in books if book.closed_l is not None]
            if len(books) == 1:
                found[first] = RESTORED, volume_l
            elif len(weights) == len(books):
                found |= {
                    day: (APPORTIONED, share)
                    for day, share in zip(range(first, end), apportion(volume_l, weights), strict=True)
                }
        for day, book in point.books.items():
            how, litres = found.get(day, (NOT_DETERMINED, None))
            if (how, litres) != (book.determined, book.determined_l):
                book.determined, book.determined_l = how, litres
                book.since_us = None if how == NOT_DETERMINED else self.now_us
