"""The engine: one Supply Meter Point, facts in, ledger records out.

`Point.apply` takes facts in the order of their receipt and keeps what it needs of them; time enters as `received_at` and
`advance` only. It is the incremental form of `determine.py`, which is the specification; a property test holds them equal.

A point works in one of two ways. With its whole history it can take any fact that is not older than the last. Pruned, for a
stream job, it holds the last few weeks (`state.py`), and raises NeedsHistory for a fact that reaches behind them: then the
point is made anew from the fact store.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise

from metering.batch import BIT, Batch, judge
from metering.book import (
    ACTUAL,
    APPORTIONED,
    ASSUMED,
    DEEMED,
    NOT_DETERMINED,
    RESTORED,
    Belief,
    Book,
    Reference,
)
from metering.facts import AnyFact, CalorificValue, MeterFitted, Readings, Registered
from metering.gasday import GasDays, to_us
from metering.ledger import Change, Rejected
from metering.records import changes_of
from metering.rules import Rules
from metering.standing import NO_BATCH, Standing, intervals, offers, stand
from metering.volumes import apportion, daily_share_wh, volume_of_wh
from metering.wire import canonical, identity

BEGINNING_US = -(2**62)
WEEK = 7


class NeedsHistory(Exception):
    """The facts reach behind what this point holds: make it anew from all its facts."""


class Point:
    """One Supply Meter Point. Not safe to use after NeedsHistory was raised half-way: throw it away."""

    def __init__(self, meter_point: str, rules: Rules, days: GasDays) -> None:
        self.meter_point, self.rules, self.days = meter_point, rules, days
        self.reference = Reference(meter_point, rules, days)
        self.books: dict[int, Book] = {}
        self.now_us = BEGINNING_US
        self.first_day: int | None = None  # the Days from this one
        self.last_day: int | None = None  # to this one have appeared in the ledger
        self.floor: int | None = None  # pruned: the first Day held
        self.anchor: int | None = None  # pruned: the first Day that may still change
        self.open_days: list[int] = []  # appeared, not closed out, in the order of their close-outs
        self.closed_now = False  # a Day was closed out at now_us itself
        self.before: dict[int, Belief] = {}  # what was believed before now_us, of the Days that changed at it
        self._touched: set[int] = set()
        self._valued: set[int] = set()  # deemed Days with a new calorific value
        self._seen: set[bytes] = set()

    # --- facts in ---------------------------------------------------------------------------------------------------

    def apply(self, facts: Iterable[AnyFact]) -> list[Change]:
        """Take facts, each with its `received_at`, in any order among themselves; the records that changed.

        Raises NeedsHistory where a fact is older than the last one taken and not without effect, or speaks of Days that
        are closed out and no longer held.
        """
        ordered = sorted(facts, key=received_us)
        for at_us, group in groupby(ordered, key=received_us):
            if at_us < self.now_us:
                self._late(group)
            else:
                self._take(at_us, sorted(group, key=canonical))
        return self._changes()

    def advance(self, now_us: int) -> list[Change]:
        """It is that late, and nothing else happened; the records that changed."""
        if now_us > self.now_us:
            self._take(now_us, ())
        return self._changes()

    def next_due_us(self) -> int | None:
        """The next instant at which something happens by itself: a Day begins, or is closed out."""
        if self.last_day is None:
            registered = self.reference.registered
            return None if registered is None else self.days.start_us(registered)
        due = self.days.end_us(self.last_day)
        return min(due, self.reference.close_out_us(self.open_days[0])) if self.open_days else due

    def _late(self, facts: Iterator[AnyFact]) -> None:
        for fact in facts:
            if isinstance(fact, (Registered, MeterFitted, CalorificValue)) or (
                isinstance(fact, Readings) and not self._known(fact)
            ):
                raise NeedsHistory(fact)

    def _known(self, fact: Readings) -> bool:
        """Whether the very same readings were received before, no later than this copy."""
        book = self.books.get(fact.gas_day.toordinal())
        return book is not None and any(
            received_us(piece) <= received_us(fact) and identity(piece) == identity(fact) for piece in book.pieces
        )

    def _take(self, at_us: int, facts: Sequence[AnyFact]) -> None:
        if at_us > self.now_us:
            self._pass_until(at_us)
        changed: set[int] = set()
        for fact in facts:
            changed |= self._put(fact)
        if changed or self._valued:
            if self.closed_now:
                raise NeedsHistory("a Day was closed out, or got its volume, at this very instant")
        if changed:
            self._assess(changed)
        for day in sorted(self._valued):
            self._fill(day)
        self._valued.clear()
        if at_us >= (self.next_due_us() or at_us + 1):
            self._close_and_begin(at_us)

    def _pass_until(self, at_us: int) -> None:
        """Let everything happen that is due before an instant, then be at it."""
        while (due := self.next_due_us()) is not None and due < at_us:
            self._be_at(due)
            self._close_and_begin(due)
        self._be_at(at_us)

    def _be_at(self, at_us: int) -> None:
        if at_us > self.now_us:
            self.now_us = at_us
            self.closed_now = False
            self.before.clear()

    def _put(self, fact: AnyFact) -> set[int]:
        """Keep a fact; the Days whose batch must be judged again."""
        if isinstance(fact, Readings):
            return self._put_readings(fact)
        if isinstance(fact, CalorificValue):
            self._put_calorific_value(fact)
        elif isinstance(fact, (Registered, MeterFitted)):
            return self._put_reference(fact)
        return set()

    def _put_readings(self, fact: Readings) -> set[int]:
        day = fact.gas_day.toordinal()
        book = self.books.get(day)
        if self.floor is not None and (book is None or book.closed or self.reference.fitted is None):
            raise NeedsHistory(fact)
        if book is None:
            book = self.books[day] = Book()
        if self._known(fact):
            return set()
        book.pieces.append(fact)
        book.batch = None
        return {day}

    def _put_calorific_value(self, fact: CalorificValue) -> None:
        day = fact.gas_day.toordinal()
        registered = self.reference.of(day)
        if self.floor is not None and (registered is None or registered.ldz != fact.ldz):
            return
        if self.anchor is not None and day < self.anchor:
            raise NeedsHistory(fact)
        if self.reference.take(fact) and registered is not None and registered.ldz == fact.ldz and day in self.books:
            self._touch(day)
            if self.books[day].closed == DEEMED:
                self._valued.add(day)

    def _put_reference(self, fact: Registered | MeterFitted) -> set[int]:
        if self.floor is not None:
            raise NeedsHistory(fact)
        if (digest := identity(fact)) in self._seen:
            return set()
        self._seen.add(digest)
        self.reference.take(fact)
        for book in self.books.values():
            book.batch = None
        if self.reference.registered is not None:
            self._begin(self.now_us)
        self._valued.update(day for day, book in self.books.items() if book.closed == DEEMED)
        if (fitted := self.reference.fitted_day) is not None:
            self._book(fitted)
        return set(self.books)

    # --- which readings stand, which Days are Valid -----------------------------------------------------------------

    def _assess(self, changed: set[int]) -> None:
        """Judge the changed batches, find what stands around them, and what follows for the Days."""
        setting = self.reference.setting
        for day in changed:
            self.batch(day)
        boundaries = self._between_fixed(min(changed), max(changed) + 1)
        fitted, fitting = self.reference.fitted_day, self.reference.fitting()
        offered = {
            boundary: offers(
                boundary, self.batch(boundary - 1), self.batch(boundary), fitting if boundary == fitted else None, setting
            )
            for boundary in boundaries
        }  # fmt: skip
        fixed = {day: start for day in boundaries if (start := self._start(day)) is not None and start.fixed}
        first, last = boundaries[0], boundaries[-1]
        stood = stand(offered, fixed, self._standing_before(first), setting)
        for boundary in boundaries:
            start = stood.standing.get(boundary)
            if start != self._start(boundary):
                self._book(boundary).start = start
                self._touch(boundary - 1)
                self._touch(boundary)
        for day in boundaries:
            if day < last and (book := self.books.get(day)) is not None:
                self._judge_day(day, book, stood.rejected.get(day, []), stood.flagged.get(day, []))
        self._determine(first, last)

    def _judge_day(self, day: int, book: Book, rejected: list[Rejected], flagged: list[Rejected]) -> None:
        batch = self.batch(day)
        within = intervals(day, batch, book.start, self._start(day + 1), [*rejected, *flagged], self.reference.setting)
        everything = [*batch.rejected, *rejected, *within]
        flags = 0
        for record in (*rejected, *flagged, *within):
            flags |= BIT[record.rule]
        if everything != book.rejected or flags != book.flagged:
            book.rejected, book.flagged = everything, flags
            self._touch(day)
        spoiled = batch.boundary_rejected or batch.refused or bool(rejected)
        valid = book.start is not None and self._start(day + 1) is not None and not spoiled
        self._believe_valid(day, book, valid)

    def _believe_valid(self, day: int, book: Book, valid: bool) -> None:
        if book.closed == ACTUAL:
            return
        was, since_us, *_ = self.before.setdefault(day, book.belief())
        at_us = (since_us if was else self.now_us) if valid else None
        by_11 = valid if self.now_us <= self.days.eleven_us(day) else book.by_11
        if (valid, at_us, by_11) != (book.valid, book.valid_at_us, book.by_11):
            book.valid, book.valid_at_us, book.by_11 = valid, at_us, by_11
            self._touch(day)

    def batch(self, day: int) -> Batch:
        """The Day's batch as judged."""
        book = self.books.get(day)
        if book is None:
            return NO_BATCH
        if book.batch is None:
            book.pieces.sort(key=lambda piece: (received_us(piece), canonical(piece)))
            book.batch = judge(day, book.pieces, self.reference.setting)
            self._touch(day)
        return book.batch

    def _between_fixed(self, first: int, last: int) -> list[int]:
        """The boundaries with offers, widened from a range to where a fixed reading, or the end of what is held, bounds it."""
        held = sorted({*self.books, *(day + 1 for day in self.books)})
        low, high = bisect_left(held, first), bisect_left(held, last)
        while low > 0 and not self._fixed(held[low]):
            low -= 1
        while high < len(held) - 1 and not self._fixed(held[high]):
            high += 1
        return held[low : high + 1]

    def _standing_before(self, boundary: int) -> Standing | None:
        for day in sorted((day for day in self.books if day < boundary), reverse=True):
            if (start := self._start(day)) is not None:
                return start
        return None

    def _fixed(self, day: int) -> bool:
        start = self._start(day)
        return start is not None and start.fixed

    def _start(self, day: int) -> Standing | None:
        book = self.books.get(day)
        return None if book is None else book.start

    def _book(self, day: int) -> Book:
        book = self.books.get(day)
        if book is None:
            book = self.books[day] = Book()
        return book

    def _touch(self, day: int) -> None:
        self._touched.add(day)

    # --- time: Days begin and are closed out ------------------------------------------------------------------------

    def _close_and_begin(self, at_us: int) -> None:
        closing = [day for day in self.open_days if self.reference.close_out_us(day) <= at_us]
        for day in closing:
            self._close_out(day)
        if closing:
            self.closed_now = True
            self.open_days = [day for day in self.open_days if day not in closing]
            for day in closing:
                self._fill(day)
            self._determine(closing[0], closing[-1] + 1)
        self._begin(at_us)

    def _begin(self, at_us: int) -> None:
        """Let the Days appear that have begun by an instant."""
        first, today = self.reference.registered, self.days.day_of(at_us)
        if first is None or today < first:
            return
        if self.last_day is None or self.first_day is None:
            fresh = [*range(first, today + 1)]
        else:
            fresh = [*range(first, self.first_day), *range(self.last_day + 1, today + 1)]
        if not fresh:
            return
        for day in fresh:
            self._book(day)
            self._touch(day)
        self.first_day, self.last_day = first, today
        self.open_days = sorted({*self.open_days, *fresh}, key=lambda day: (self.reference.close_out_us(day), day))

    def _close_out(self, day: int) -> None:
        """Fix the Day's volume with what is known now (4.3, 4.2.6, 4.4.2)."""
        book, after = self.books[day], self._book(day + 1)
        if book.valid and book.start is not None and after.start is not None:
            book.closed = ACTUAL
            book.closed_l = self.volume_l(book.start, after.start)
            book.start = book.start._replace(fixed=True)
            after.start = after.start._replace(fixed=True)
        elif self.reference.in_deemed_week(day):
            book.closed = DEEMED
            book.deemed_wh = self._annual_share_wh(day)
        else:
            book.closed = ASSUMED
        self._touch(day)

    def _fill(self, day: int) -> None:
        """Give a closed-out Day its volume once that is known, and the Days of the weeks after that rest on it."""
        while (book := self.books.get(day)) is not None:
            if book.failed and book.closed_l is None:
                book.closed_l = self._deemed_l(day, book.deemed_wh) if book.closed == DEEMED else self._closed_l(day - WEEK)
                if book.closed_l is None:
                    return
                self.closed_now = True
                self._touch(day)
                self._determine(day, day + 1)
            day += WEEK

    def _closed_l(self, day: int) -> int | None:
        book = self.books.get(day)
        return None if book is None else book.closed_l

    def _annual_share_wh(self, day: int) -> int:
        registered = self.reference.of(day)
        return 0 if registered is None else daily_share_wh(registered.annual_quantity_kwh)

    def _deemed_l(self, day: int, deemed_wh: int | None) -> int | None:
        value = self.reference.calorific_value(day)
        return None if value is None or deemed_wh is None else volume_of_wh(deemed_wh, value)

    # --- what is learned after the close-out (4.4.4, 4.4.5) ---------------------------------------------------------

    def _determine(self, first: int, last: int) -> None:
        """Determine the Failed Days between the standing readings around these boundaries."""
        least, most = min(self.books, default=first), max(self.books, default=last) + 1
        while first > least and self._start(first) is None:
            first -= 1
        while last < most and self._start(last) is None:
            last += 1
        stands = [day for day in range(first, last + 1) if self._start(day) is not None]
        for day in range(first, stands[0] if stands else last):
            self._believe_determined(day, NOT_DETERMINED, None)
        for start, end in pairwise(stands):
            self._determine_run(start, end)
        for day in range(stands[-1], last) if stands else ():
            self._believe_determined(day, NOT_DETERMINED, None)

    def _determine_run(self, first: int, end: int) -> None:
        """Determine the Days from one standing boundary reading to the next."""
        run = range(first, end)
        books = [self.books.get(day) for day in run]
        weights = [book.closed_l for book in books if book is not None and book.failed and book.closed_l is not None]
        start, stop = self._start(first), self._start(end)
        how = NOT_DETERMINED
        shares: list[int | None] = [None] * len(books)
        if start is not None and stop is not None:
            if len(books) == 1 and books[0] is not None and books[0].failed:
                how, shares = RESTORED, [self.volume_l(start, stop)]
            elif len(weights) == len(books) > 1:
                how, shares = APPORTIONED, [*apportion(self.volume_l(start, stop), weights)]
        for day, share in zip(run, shares, strict=True):
            self._believe_determined(day, how, share)

    def _believe_determined(self, day: int, how: int, litres: int | None) -> None:
        book = self.books.get(day)
        if book is None or not book.failed:
            return
        _, _, _, was, was_l, since_us = self.before.setdefault(day, book.belief())
        same = how != NOT_DETERMINED and (was, was_l) == (how, litres)
        at_us = since_us if same else None if how == NOT_DETERMINED else self.now_us
        if (how, litres, at_us) != (book.determined, book.determined_l, book.since_us):
            book.determined, book.determined_l, book.since_us = how, litres, at_us
            self._touch(day)

    # --- volumes, and records out -----------------------------------------------------------------------------------

    def volume_l(self, start: Standing, end: Standing) -> int:
        """The volume between two standing readings of the meter."""
        register = self.reference.setting.register
        assert register is not None
        return register.volume_l(start.ticks, end.ticks)

    def start(self, day: int) -> Standing | None:
        """The standing reading of the Day's start."""
        return self._start(day)

    def value_l(self, day: int) -> int | None:
        """The Day's volume as it is now: closed out, or by Valid readings, or what the substitution would give."""
        book = self.books.get(day)
        if book is None or book.closed:
            return None if book is None else book.closed_l
        start, end = book.start, self._start(day + 1)
        if book.valid and start is not None and end is not None:
            return self.volume_l(start, end)
        if self.reference.in_deemed_week(day):
            return self._deemed_l(day, self._annual_share_wh(day))
        return self.value_l(day - WEEK)

    def deemed_wh(self, day: int) -> int | None:
        """The deemed quantity of a Day that has one (4.2.6)."""
        book = self.books[day]
        if book.closed:
            return book.deemed_wh
        return self._annual_share_wh(day) if not book.valid and self.reference.in_deemed_week(day) else None

    def appeared(self, day: int) -> bool:
        """Whether the Day is in the ledger yet."""
        return self.first_day is not None and self.last_day is not None and self.first_day <= day <= self.last_day

    def _changes(self) -> list[Change]:
        touched = set(self._touched)
        for day in self._touched:  # what is provisional rests on the week before
            while (book := self.books.get(day + WEEK)) is not None and not book.closed:
                day += WEEK
                touched.add(day)
        self._touched.clear()
        changes: list[Change] = []
        for day in sorted(touched):
            if day in self.books:
                changes += changes_of(self, day)
        return changes


def received_us(fact: AnyFact) -> int:
    """When the fact was received. Every fact that reaches the engine says so."""
    if fact.received_at is None:
        raise ValueError(f"a fact without received_at: {fact}")
    return to_us(fact.received_at)
