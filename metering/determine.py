"""The specification: the ledger as a function of the facts, found from scratch (the rules page, section 1).

    ledger = determine(facts, as_of)

Nothing here is incremental: at every instant at which something was received, or a Day is closed out, all that was known by
then is judged again, whole. What must outlive an instant is only what the rules say stays: how a Day was closed out, the
readings fixed by it, and since when a belief stands. It is slow, and plain; `point.py` must agree with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise

from metering.batch import judge_day
from metering.book import ACTUAL, APPORTIONED, ASSUMED, DEEMED, NOT_DETERMINED, RESTORED, WITHDRAWN, Book
from metering.facts import AnyFact, CalorificValue, Readings, Withdrawn
from metering.gasday import GasDays, to_us
from metering.held import WEEK, Held
from metering.ledger import Rejected
from metering.meters import Meter
from metering.point import REFERENCE
from metering.read_error import Instead
from metering.records import changes_of
from metering.reference import Reference
from metering.replay import FactsByPoint, Ledger, fold, once
from metering.review import Review, effects_of, review
from metering.rules import Rules
from metering.standing import Offer, Place, Standing, Stood, boundary, inside, intervals, offers, stand, told
from metering.validation import BIT
from metering.volumes import apportion, daily_share_wh, litres_of, volume_of_wh
from metering.wire import canonical, received_us


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
    """One Supply Meter Held: what it is believed to be at one instant after the other."""

    def __init__(self, meter_point: str, facts: Sequence[AnyFact], rules: Rules, days: GasDays) -> None:
        self.meter_point, self.rules, self.days = meter_point, rules, days
        self.facts = sorted(facts, key=lambda fact: (received_us(fact), canonical(fact)))
        self.kept: dict[int, Book] = {}  # of each Day what stays: its close-out, its beliefs
        self.fixed: dict[tuple[tuple[str, int], Place], Standing] = {}
        self.bypassed: set[datetime] = set()
        self.review = Review()
        self.now_us = 0

    def ledger(self, as_of_us: int) -> Ledger:
        close_outs = self._close_outs(as_of_us)
        closing: defaultdict[int, list[int]] = defaultdict(list)
        for day, at_us in close_outs.items():
            closing[at_us].append(day)
        instants = {received_us(fact) for fact in self.facts} | {at for at in closing if at <= as_of_us}
        at_us = min(instants)
        point = self._believe(at_us, closing.get(at_us, []))
        while later := [us for us in {*instants, self.review.due_us or as_of_us} if at_us < us <= as_of_us]:
            at_us = min(later)
            point = self._believe(at_us, closing.get(at_us, []))
        self.now_us = as_of_us
        point.first_day, point.last_day = point.reference.registered, self.days.day_of(as_of_us)
        for day in range(point.first_day, point.last_day + 1) if point.first_day is not None else ():
            point.books.setdefault(day, Book())
        for day in self.review.records:
            point.book(day)
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
            if received_us(fact) <= at_us and isinstance(fact, (*REFERENCE, CalorificValue)):
                reference.take(fact)
        return reference

    def _believe(self, at_us: int, closing: Iterable[int]) -> Held:
        """All that is known at an instant, judged from scratch; then the Days that are closed out at it."""
        self.now_us = at_us
        point = Held(self.meter_point, self.rules, self.days)
        point.reference = self._reference(at_us)
        self._judge(point, self._pieces(at_us))
        point.now_us, point.review = at_us, self.review
        for fact in self.facts:
            if received_us(fact) == at_us:
                self.review.take(fact, point)
        substitutes = effects_of(point).substitutes
        for day in sorted(closing):
            self._close_out(point, day, substitutes.get(day))
        self._fill(point)
        self._determine(point)
        self.review.before = self.review.shared
        review(point)
        return point

    def _pieces(self, at_us: int) -> dict[int, list[Readings]]:
        """By Day the pieces received by an instant, but for those that were withdrawn after they came."""
        pieces: defaultdict[int, list[Readings]] = defaultdict(list)
        withdrawn = [fact for fact in self.facts if isinstance(fact, Withdrawn) and received_us(fact) <= at_us]
        for fact in self.facts:
            gone = isinstance(fact, Readings) and any(
                (each.meter, each.gas_day) == (fact.meter, fact.gas_day) and received_us(fact) < received_us(each)
                for each in withdrawn
            )
            if isinstance(fact, Readings) and received_us(fact) <= at_us and not gone:
                pieces[fact.gas_day.toordinal()].append(fact)
        return pieces

    def _judge(self, point: Held, pieces: dict[int, list[Readings]]) -> None:
        """Every batch, what stands at every boundary, fitting and removal, and which Days are Valid."""
        reference = point.reference
        fixed = {day for _, place in self.fixed for day in (place.judged, place.judged + 1)}
        held = {*pieces, *self.kept, *fixed, *reference.changes_of_meter()}
        books = point.books = {day: Book() for day in sorted({*held, *(day + n for day in held for n in (-1, 1))})}
        for day, book in books.items():
            found = point.batches[day] = judge_day(day, pieces.get(day, []), reference.settings(day))
            book.ran, book.failed, book.tolerances = found.ran, found.failed, found.tolerances
            self._carry(day, book)
        self._unfix(point)
        rejected: defaultdict[int, list[Rejected]] = defaultdict(list)
        flagged: defaultdict[int, list[Rejected]] = defaultdict(list)
        spoiled: set[int] = set()
        for meter in reference.meters:
            stood = self._stand(point, meter)
            spoiled |= stood.spoiled
            for place, standing in stood.standing.items():
                point.keep(meter, place, standing)
            for day in books:
                rejected[day] += stood.rejected.get(day, [])
                flagged[day] += stood.flagged.get(day, [])
        for day, book in books.items():
            self._find_valid(point, day, book, rejected[day], flagged[day], day in spoiled)

    def _stand(self, point: Held, meter: Meter) -> Stood:
        offered: dict[Place, list[Offer]] = {}
        fixed = {place: standing for (stay, place), standing in self.fixed.items() if stay == meter.stay}
        for day in point.books:
            place = boundary(day, self.days)
            if meter.reads(place.at_us):
                before, after = point.batch(day - 1, meter), point.batch(day, meter)
                offered[place] = offers(place, before, after, told(meter, place, self.days), fixed.get(place))
            for place in inside(meter, day, self.days):
                offered[place] = told(meter, place, self.days)
        fixed = {place: standing for place, standing in fixed.items() if place in offered}
        return stand(offered, fixed, None, point.reference.setting(meter))

    def _find_valid(
        self, point: Held, day: int, book: Book, rejected: Sequence[Rejected], flagged: Sequence[Rejected], spoiled: bool
    ) -> None:
        judged = point.judged(day, book)
        book.rejected = [*judged.rejected]
        found = [*rejected, *flagged]
        for number, batch in judged.of.items():
            meter = point.reference.meters[number]
            within = intervals(day, batch, point.anchors(meter, day), [*rejected, *flagged], point.reference.setting(meter))
            book.rejected += [*batch.rejected, *within.rejected]
            found += [*within.rejected, *within.flagged]
        book.rejected += rejected  # of two records with one key the last is shown: what was told with a fitting or removal
        for record in found:
            book.flagged |= BIT[record.rule]
        self._believe_valid(day, book, point.complete(day) and not judged.spoiled and not spoiled)

    def _unfix(self, point: Held) -> None:
        """What was fixed and is withdrawn now stands no more, and the Days that were closed out on it are Failed Days."""
        now = [fact for fact in self.facts if isinstance(fact, Withdrawn) and received_us(fact) == self.now_us]
        touched = {boundary(fact.gas_day.toordinal() + n, self.days) for fact in now for n in (0, 1)}
        for meter in point.reference.meters:
            for place in touched:
                held = self.fixed.get((meter.stay, place))
                if held is None or not meter.reads(place.at_us):
                    continue
                batches = [point.batch(day, meter) for day in (place.judged, place.judged + 1)]
                said = [reading for batch in batches for reading in batch.readings()]
                said += [offer.reading for offer in told(meter, place, self.days)]
                if not any((reading.at_us, reading.ticks) == (held.at_us, held.ticks) for reading in said):
                    del self.fixed[meter.stay, place]
                    for day, concerned in ((place.judged, meter.up_to(place.at_us)), (place.judged + 1, meter.at(place.at_us))):
                        if concerned and self.kept[day].closed == ACTUAL:
                            self.kept[day].closed = WITHDRAWN

    def _carry(self, day: int, book: Book) -> None:
        """Take over what stays of the Day from before."""
        kept = self.kept.get(day)
        if kept is not None:
            book.closed, book.closed_l, book.deemed_wh = kept.closed, kept.closed_l, kept.deemed_wh
            book.valid, book.valid_at_us, book.by_11 = kept.valid, kept.valid_at_us, kept.by_11
            book.determined, book.determined_l, book.since_us = kept.determined, kept.determined_l, kept.since_us
            book.bypass_l, book.read_l = kept.bypass_l, kept.read_l
        self.kept[day] = book

    def _believe_valid(self, day: int, book: Book, valid: bool) -> None:
        if book.closed in (ACTUAL, WITHDRAWN):
            return
        if not (valid and book.valid):
            book.valid_at_us = self.now_us if valid else None
        book.valid = valid
        if self.now_us <= self.days.eleven_us(day):
            book.by_11 = valid

    def _close_out(self, point: Held, day: int, instead: Instead | None) -> None:
        book = point.books.get(day)
        if book is None:
            book = point.books[day] = self.kept[day] = Book()
        litres = point.advance_l(day, day + 1) if book.valid else None
        if litres is not None:
            book.closed, book.closed_l = ACTUAL, litres
            if instead is not None:
                book.read_l, book.closed_l = litres, instead.litres
            book.bypass_l = self._bypass_l(point, day)
            for meter, low, high in point.spans(day, day + 1):
                for place in (low, high):
                    standing = point.standing(meter, place)
                    if standing is not None:
                        self.fixed[meter.stay, place] = standing._replace(fixed=True)
                        point.keep(meter, place, self.fixed[meter.stay, place])
        elif point.reference.in_deemed_week(day):
            registered = point.reference.of(day)
            book.closed = DEEMED
            book.deemed_wh = 0 if registered is None else daily_share_wh(registered.annual_quantity_kwh)
        else:
            book.closed = ASSUMED

    def _bypass_l(self, point: Held, day: int) -> int:
        ended = [
            fact for fact in point.reference.bypasses
            if fact.at not in self.bypassed and to_us(fact.until) <= self.days.end_us(day)
        ]  # fmt: skip
        self.bypassed |= {fact.at for fact in ended}
        return sum(litres_of(fact.estimated_m3) for fact in ended)

    def _fill(self, point: Held) -> None:
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

    def _determine(self, point: Held) -> None:
        """What is known by now of the Failed Days (4.4.5)."""
        found: dict[int, tuple[int, int]] = {}
        stands = [day for day in sorted(point.books) if self._bounds(point, day)]
        for first, end in pairwise(stands):
            books = [point.books.get(day, Book()) for day in range(first, end)]
            volume_l = point.advance_l(first, end)
            if volume_l is None or not all(book.failed_day for book in books):
                continue
            weights = [book.closed_l for book in books if book.closed_l is not None]
            if len(books) == 1 and not point.faulty(first) and not point.faulty(end):
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

    def _bounds(self, point: Held, day: int) -> bool:
        """Whether a reading at the Day's start may bound a run of Failed Days."""
        start, before, after = point.begin(day), point.books.get(day - 1, Book()), point.books.get(day, Book())
        if start is None or point.end(day - 1) is None:
            return False
        return not (point.reference.faulty(start.at_us) and before.failed_day and after.failed_day)
