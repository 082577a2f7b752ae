"""The engine: one Supply Meter Point, facts in, ledger records out.

`Point.apply` takes facts in the order of their receipt and keeps what it needs of them; time enters as `received_at` and
`advance` only. It is the incremental form of `determine.py`, which is the specification; a property test holds them equal.

A point works in one of two ways. With its whole history it can take any fact that is not older than the last. Pruned, for a
stream job, it holds the last few weeks (`state.py`), and raises NeedsHistory for a fact that reaches behind them: then the
point is made anew from the fact store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby

from metering.assess import assess, determine_around, extend
from metering.book import ACTUAL, ASSUMED, DEEMED, OPEN, Belief, Book
from metering.facts import (
    AnyFact,
    BypassUsed,
    CalorificValue,
    EquipmentFault,
    MeterFitted,
    MeterRemoved,
    Provided,
    Readings,
    Registered,
    Withdrawn,
)
from metering.gasday import GasDays, to_us
from metering.held import WEEK, Held, NeedsHistory
from metering.ledger import Change
from metering.read_error import Instead
from metering.records import changes_of
from metering.reference import ReferenceFact
from metering.review import CHECKS, ERRORS, effects_of, review
from metering.rules import Rules
from metering.standing import Standing
from metering.volumes import litres_of
from metering.wire import PackedReadings, canonical, encode_fact, identity, pack_readings, received_us, unpack
from metering.withdrawal import unfix, withdraw

REFERENCE = (Registered, MeterFitted, MeterRemoved, BypassUsed, EquipmentFault)


class Point(Held):
    """One Supply Meter Point. Not to be used after NeedsHistory was raised half-way: throw it away."""

    def __init__(self, meter_point: str, rules: Rules, days: GasDays) -> None:
        super().__init__(meter_point, rules, days)
        self.floor: int | None = None  # pruned: the first Day held
        self.anchor: int | None = None  # pruned: the first Day that may still change
        self.prune_from = 0  # the oldest open Day at which it is to be pruned again
        self.closed_out = 0  # how many Days were: for who counts them, and sets it back
        self.open_days: list[int] = []  # appeared, not closed out, in the order of their close-outs
        self.settled = False  # a Day was closed out, or got its volume, at now_us itself
        self.before: dict[int, Belief] = {}  # what was believed before now_us, of the Days that changed at it
        self.bypassed: set[int] = set()  # the by-passes, by their beginning, that are part of a closed-out Day's volume
        self.seen: set[bytes] = set()  # reference facts and withdrawals, by their identity
        self._review_due = False
        self._valued: set[int] = set()  # deemed Days with a new calorific value
        self._due_us: int | None = None  # what `next_due_us` found

    # --- facts in ---------------------------------------------------------------------------------------------------

    def apply(self, facts: Iterable[AnyFact]) -> list[Change]:
        """Take facts, each with its `received_at`, in any order among themselves; the records that changed.

        Raises NeedsHistory where a fact is older than the last one taken and not without effect; of a pruned point also for
        registrations, meters, and what speaks of Days that are closed out.
        """
        ordered = sorted(facts, key=received_us)
        for at_us, group in groupby(ordered, key=received_us):
            if at_us < self.now_us:
                self._late(group)
            else:
                together = list(group)
                if len(together) > 1:  # one alone need not be put in order, which takes long
                    together.sort(key=canonical)
                self._take(at_us, together)
        return self._changes()

    def apply_readings(self, received_at: datetime, readings: PackedReadings, packed: bytes) -> list[Change]:
        """What `apply` does, for one piece as it stands in a frame: quick where it continues what stands, as most do."""
        at_us = to_us(received_at)
        if at_us > self.now_us:
            self._pass_until(at_us)
            if extend(self, readings, packed):
                self._happen(at_us)
                return self._changes()
        return self.apply([unpack(readings, received_at)])

    def advance(self, now_us: int) -> list[Change]:
        """It is that late, and nothing else happened; the records that changed. Raises NeedsHistory as `apply` does."""
        if now_us > self.now_us:
            self._take(now_us, ())
        return self._changes()

    def next_due_us(self) -> int | None:
        """The next instant at which something happens by itself: a Day begins or is closed out, a check read or a read error
        is due. None where nothing is to come."""
        if self._due_us is None:
            self._due_us = self._next_due_us()
        return self._due_us

    def _next_due_us(self) -> int | None:
        if self.last_day is None:
            registered = self.reference.registered
            return None if registered is None else self.days.start_us(registered)
        due = self.days.start_us(self.last_day + 1)
        if self.open_days:
            due = min(due, self.reference.close_out_us(self.open_days[0]))
        review_us = self.review.due_us
        return due if review_us is None else min(due, max(review_us, self.now_us + 1))

    def _late(self, facts: Iterator[AnyFact]) -> None:
        """Facts older than the last one taken: copies and what changes no Day. NeedsHistory for all others."""
        for fact in facts:
            known = isinstance(fact, Readings) and self._known(fact)
            if isinstance(fact, (*REFERENCE, *CHECKS, *ERRORS, CalorificValue, Readings, Withdrawn)) and not known:
                raise NeedsHistory(fact)
            if isinstance(fact, Provided):
                self._put_provided(fact)

    def _known(self, fact: Readings) -> bool:
        """Whether the very same readings were received before, no later than this copy."""
        book = self.books.get(fact.gas_day.toordinal())
        return book is not None and bool(book.pieces or book.withdrawn) and book.knows(fact, received_us(fact))

    def _take(self, at_us: int, facts: Sequence[AnyFact]) -> None:
        if at_us > self.now_us:
            self._pass_until(at_us)
            if len(facts) == 1 and isinstance(facts[0], Readings) and extend(self, *pack_readings(facts[0])):
                self._happen(at_us)
                return
        changed: set[int] = set()
        for fact in sorted(facts, key=lambda fact: not isinstance(fact, Withdrawn)):  # of what was received before this instant
            changed |= self._put(fact)
        for day in {fact.gas_day.toordinal() for fact in facts if isinstance(fact, Withdrawn)}:
            changed |= unfix(self, day) | unfix(self, day + 1)
        rare = any(isinstance(fact, (BypassUsed, Withdrawn, *CHECKS, *ERRORS)) for fact in facts)
        if (changed or self._valued or rare) and self.settled:
            raise NeedsHistory("a Day was closed out, or got its volume, at this very instant")
        if changed:
            assess(self, changed)
        for day in sorted(self._valued):
            self._fill(day)
        self._valued.clear()
        self._happen(at_us)

    def _happen(self, at_us: int) -> None:
        """Let happen what is due at this very instant."""
        if at_us >= (self.next_due_us() or at_us + 1):
            self._close_and_begin(at_us)

    def _pass_until(self, at_us: int) -> None:
        """Let everything happen that is due before an instant, then be at it."""
        if self._review_due:
            self._find_review()
        while (due := self.next_due_us()) is not None and due < at_us:
            self._be_at(due)
            self._close_and_begin(due)
            if self._review_due:
                self._find_review()
        self._be_at(at_us)

    def _be_at(self, at_us: int) -> None:
        if at_us > self.now_us:
            self.now_us = at_us
            self.settled = False
            self.before.clear()
            self.review.before = self.review.shared

    def _put(self, fact: AnyFact) -> set[int]:
        """Keep a fact; the Days whose batch must be judged again."""
        if isinstance(fact, Readings):
            return self._put_readings(fact)
        if isinstance(fact, CalorificValue):
            self._put_calorific_value(fact)
        elif isinstance(fact, REFERENCE):
            return self._put_reference(fact)
        elif isinstance(fact, Withdrawn):
            return withdraw(self, fact)
        elif isinstance(fact, (*CHECKS, *ERRORS)):
            self._put_review(fact)
        elif isinstance(fact, Provided):
            self._put_provided(fact)
        return set()

    def _put_readings(self, fact: Readings) -> set[int]:
        day = fact.gas_day.toordinal()
        book = self.books.get(day)
        if self.floor is not None and (book is None or book.closed or book.withdrawn or not self.reference.told.fitted):
            raise NeedsHistory(fact)
        if self._known(fact):
            return set()
        book = self.book(day)
        book.pieces.append((received_us(fact), encode_fact(fact)))
        self.batches.pop(day, None)
        self.touch(day)
        return {day}

    def _put_calorific_value(self, fact: CalorificValue) -> None:
        day = fact.gas_day.toordinal()
        registered = self.reference.of(day)
        if self.floor is not None and (registered is None or registered.ldz != fact.ldz):
            return
        if self.anchor is not None and day < self.anchor:
            raise NeedsHistory(fact)
        if self.reference.take(fact) and registered is not None and registered.ldz == fact.ldz:
            book = self.book(day)
            book.values = tuple(self.reference.values_of(day))
            self.touch(day)
            if book.closed == DEEMED:
                self._valued.add(day)

    def _put_reference(self, fact: ReferenceFact) -> set[int]:
        if self.floor is not None:
            raise NeedsHistory(fact)
        if (digest := identity(fact)) in self.seen:
            return set()
        self.seen.add(digest)
        owners = {day: self.owner(day) for day, book in self.books.items() if book.start is not None}
        self.reference.take(fact)
        if isinstance(fact, BypassUsed):
            return set()  # it counts when a Day is closed out
        if isinstance(fact, EquipmentFault):
            self.review.take(fact, self)
        self._review_due = self._review_due or self.review.reaches >= 0
        self._due_us = None
        self.batches.clear()
        if self.reference.registered is not None:
            self._begin(self.now_us)
        self._valued.update(day for day, book in self.books.items() if book.closed == DEEMED)
        for day in self.reference.changes_of_meter():
            self.book(day)
        for day, owner in owners.items():
            if owner != self.owner(day):
                self._change_owner(day, owner)
        for ldz, day in self.reference.values:  # received before the registration: the state keeps them with the Day
            registered = self.reference.of(day)
            if registered is not None and registered.ldz == ldz:
                self.book(day)
        for day, book in self.books.items():
            book.values = tuple(self.reference.values_of(day))
        self.touched.update(self.books)
        self.stale.update(self.books)
        return set(self.books)

    def _put_review(self, fact: AnyFact) -> None:
        if self.floor is not None:
            raise NeedsHistory(fact)
        self.review.take(fact, self)
        self._review_due = True

    def _put_provided(self, fact: Provided) -> None:
        if self.floor is None:
            self.review.take(fact, self)
        self._reviewed(fact.gas_day.toordinal())

    def _reviewed(self, day: int) -> None:
        """Something about the Day changed: what check reads and read errors say may be different."""
        if day <= self.review.reaches:
            if self.floor is not None:
                raise NeedsHistory(f"Day {day} is one of a check read, or before one of a read error")
            self._review_due = True

    def _find_review(self) -> None:
        self._review_due = False
        review(self)
        self._due_us = None

    def _change_owner(self, day: int, was: tuple[str, int] | None) -> None:
        """Another meter was in place at the Day's start than we thought: what stood there was of the other."""
        book, before, at_us = self.books[day], self.book(day - 1), self.days.start_us(day)
        if book.start is not None and was is not None:
            before.places[(*was, at_us)] = book.start
        owner = self.owner(day)
        book.start = None if owner is None else before.places.pop((*owner, at_us), None)

    def touch(self, day: int) -> None:
        """Something about the Day changed: its records are due, and its part of the state."""
        if day <= self.review.reaches:
            self._reviewed(day)
        self.touched.add(day)
        self.stale.add(day)

    # --- time: Days begin and are closed out ------------------------------------------------------------------------

    def _close_and_begin(self, at_us: int) -> None:
        self._due_us = None
        if self.review.due_us is not None and self.review.due_us <= at_us:
            self.review.due_us = None
            self._reviewed(self.review.reaches)
        closing: list[int] = []
        for day in self.open_days:  # in the order of their close-outs
            if self.reference.close_out_us(day) > at_us:
                break
            closing.append(day)
        if closing:
            self.settled = True
            del self.open_days[: len(closing)]
            self.closed_out += len(closing)
            closing.sort()
            substitutes = effects_of(self).substitutes if self.review.errors else {}
            for day in closing:
                self._close_out(day, substitutes.get(day))
            failed = [day for day in closing if self.books[day].failed_day]
            for day in closing:
                self._fill(day)
            if failed:
                determine_around(self, min(failed), max(failed) + 1)
        self._begin(at_us)

    def _begin(self, at_us: int) -> None:
        """Let the Days appear that have begun by an instant."""
        first = self.reference.registered
        if first is None:
            return
        today, start_us = first - 1 if self.last_day is None else self.last_day, self.days.start_us
        while start_us(today + 1) <= at_us:
            today += 1
        if self.last_day is None or self.first_day is None:
            fresh = [*range(first, today + 1)]
        else:
            fresh = [*range(self.last_day + 1, today + 1)]
            if first < self.first_day:
                fresh = [*range(first, self.first_day), *fresh]
        if not fresh:
            return
        for day in fresh:
            self.book(day)
            self.touch(day)
        self.first_day, self.last_day = first, today
        self.open_days += fresh
        if len(fresh) > 1 or self.reference.registered != self.reference.last_from:
            self.open_days.sort(key=lambda day: (self.reference.close_out_us(day), day))

    def _close_out(self, day: int, instead: Instead | None) -> None:
        """Fix the Day's volume with what is known now (4.3, 4.2.6, 4.4.2, 4.8.8)."""
        book = self.books[day]
        litres = self.advance_l(day, day + 1) if book.valid else None
        if litres is not None:
            book.closed, book.closed_l = ACTUAL, litres
            if instead is not None:
                book.read_l, book.closed_l = litres, instead.litres
            if self.reference.bypasses:
                book.bypass_l = self._bypass_l(day)
            self._fix(day, book)
        elif self.reference.in_deemed_week(day):
            book.closed = DEEMED
            book.deemed_wh = self.annual_share_wh(day)
        else:
            book.closed = ASSUMED
        self.touch(day)

    def _fix(self, day: int, book: Book) -> None:
        """Fix the readings on which the Day is closed out as actual."""
        if day >= self.reference.steady_from:
            for at, begun in ((day, book), (day + 1, self.book(day + 1))):
                if begun.start is not None and not begun.start.fixed:
                    begun.start = Standing(begun.start.at_us, begun.start.ticks, True)
                    self.stale.add(at)
            return
        for meter, low, high in self.spans(day, day + 1):
            for place in (low, high):
                standing = self.standing(meter, place)
                if standing is not None and not standing.fixed:
                    self.keep(meter, place, Standing(standing.at_us, standing.ticks, True))

    def _bypass_l(self, day: int) -> int:
        """What went by the meter until the Day's end and is not yet part of any Day's volume, in litres (2.4.4(c))."""
        litres = 0
        for bypass in self.reference.bypasses:
            at_us = to_us(bypass.at)
            if at_us not in self.bypassed and to_us(bypass.until) <= self.days.end_us(day):
                self.bypassed.add(at_us)
                litres += litres_of(bypass.estimated_m3)
        return litres

    def _fill(self, day: int) -> None:
        """Give a closed-out Day its volume once that is known, and the Days of the weeks after that rest on it."""
        while (book := self.books.get(day)) is not None and book.closed != OPEN:
            if book.failed_day and book.closed_l is None:
                book.closed_l = self.deemed_l(day, book.deemed_wh) if book.closed == DEEMED else self._closed_l(day - WEEK)
                if book.closed_l is None:
                    return
                self.settled = True
                self.touch(day)
                determine_around(self, day, day + 1)
            day += WEEK

    def _closed_l(self, day: int) -> int | None:
        book = self.books.get(day)
        return None if book is None else book.closed_l

    # --- records out ------------------------------------------------------------------------------------------------

    def _changes(self) -> list[Change]:
        if self._review_due:
            self._find_review()
        books, touched = self.books, self.touched
        for day in list(touched):  # what is provisional rests on the week before
            later = day + WEEK
            while (book := books.get(later)) is not None and book.closed == OPEN and later not in touched:
                touched.add(later)
                later += WEEK
        changes: list[Change] = []
        for day in sorted(touched):
            if day in books:
                changes += changes_of(self, day)
        touched.clear()
        return changes
