"""What is said of a point's Days from outside their readings: by DM Check Reads and adjusted meter error (4.7, 1.10.1(b)), and
by Daily Read Errors (4.8).

Few points have any of it, so nothing here is incremental: `review` finds all of it again where a Day that it reaches has
changed, or one of its own facts came.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from metering.book import ACTUAL, ASSUMED, DEEMED, NOT_DETERMINED, OPEN, REVISED, WITHDRAWN
from metering.check_periods import Read, Setting
from metering.check_read import DayFound, Share, SharedSince, check_reads, keep_since, reconciliation
from metering.facts import (
    AdjustmentAgreed,
    AnyFact,
    CheckRead,
    EquipmentFault,
    EstimateAccepted,
    ExpertDetermination,
    Inspection,
    MeterErrorAdjusted,
    Provided,
    ReadErrorNotice,
    RejectionNotice,
)
from metering.gasday import to_us
from metering.ledger import AnyRecord, CheckReadFound, Rejected, Tolerance
from metering.read_error import ADJUSTED_DAYS, DayView, Deemed, Effects, Instead, read_errors
from metering.volumes import quantity_wh

if TYPE_CHECKING:
    from metering.held import Held

CHECKS = (CheckRead, MeterErrorAdjusted)
ERRORS = (ReadErrorNotice, Inspection, EstimateAccepted, RejectionNotice, ExpertDetermination, AdjustmentAgreed)
NOWHERE = -1  # before all Days


class Review:
    """The facts about check reads and read errors, and what follows from them. `reaches` is the last Day that has to do with
    them; `before` are the shares of a check read's difference as they stood before this instant."""

    def __init__(self) -> None:
        self.checks: list[Read] = []
        self.errors: list[AnyFact] = []
        self.provided: dict[tuple[int, str], int] = {}
        self.reaches = NOWHERE
        self.due_us: int | None = None
        self.shared: dict[int, SharedSince] = {}
        self.before: dict[int, SharedSince] = {}
        self.revised: dict[int, Instead] = {}
        self.valid: dict[int, Deemed] = {}
        self.records: dict[int, list[AnyRecord]] = {}

    def take(self, fact: AnyFact, point: Held) -> None:
        """Keep a fact, in the order of receipt."""
        if isinstance(fact, CHECKS):
            self.checks.append(fact)
            self.reaches = max(self.reaches, point.days.day_of(to_us(fact.at)))
        elif isinstance(fact, ERRORS):
            self.errors.append(fact)
            self.reaches = max(self.reaches, fact.gas_day.toordinal() + ADJUSTED_DAYS)
        elif isinstance(fact, EquipmentFault):
            self.errors.append(fact)
        elif isinstance(fact, Provided) and fact.received_at is not None:
            key = fact.gas_day.toordinal(), fact.user
            self.provided[key] = min(self.provided.get(key, to_us(fact.received_at)), to_us(fact.received_at))


def review(point: Held) -> None:
    """Find what check reads and read errors say as of now, and what is different of it."""
    held = point.review
    effects = effects_of(point)
    _revise(point, effects.revised)
    later = effects.next_due_us is not None and effects.next_due_us > point.now_us
    held.valid, held.due_us = effects.valid, effects.next_due_us if later else None
    records: dict[int, list[AnyRecord]] = {}
    shares = []
    for found in check_reads(held.checks, _setting(point), lambda day: _found(point, day)):
        if isinstance(found, Share):
            shares.append(found)
        else:
            records.setdefault(_day_of(found), []).append(found)
    held.shared = keep_since(held.before, shares, point.now_us)
    for day, shared in held.shared.items():
        records.setdefault(day, []).append(reconciliation(point.meter_point, shared))
    for record in effects.records:
        records.setdefault(record.gas_day.toordinal(), []).append(record)
    for day in records.keys() | held.records.keys():
        if records.get(day) != held.records.get(day):
            point.book(day)
            point.show(day)
    held.records = records


def effects_of(point: Held) -> Effects:
    """What follows from the notices of read errors as of now."""
    held = point.review
    if not held.errors:
        return Effects([], {}, {}, {}, None)
    return read_errors(
        point.meter_point, held.errors, lambda day, user: _view(point, day, user), point.now_us, point.days, point.rules
    )


def _revise(point: Held, revised: dict[int, Instead]) -> None:
    """Put the Error Revised Quantity beside the closed-out volume, or take it away (4.8.10)."""
    for day in revised.keys() | point.review.revised.keys():
        book, instead = point.books.get(day), revised.get(day)
        if book is None or book.closed != ACTUAL:
            continue
        now = (NOT_DETERMINED, None, None) if instead is None else (REVISED, instead.litres, instead.since_us)
        if now != (book.determined, book.determined_l, book.since_us):
            book.determined, book.determined_l, book.since_us = now
            point.show(day)
    point.review.revised = revised


def _view(point: Held, day: int, user: str) -> DayView | None:
    registered, book = point.reference.of(day), point.books.get(day)
    if registered is None or user not in registered.users or book is None or point.days.start_us(day) > point.now_us:
        return None
    if book.closed in (ACTUAL, WITHDRAWN):
        litres = book.closed_l if book.read_l is None else book.read_l
    else:
        litres = point.advance_l(day, day + 1) if book.valid else None
    published = point.rules.standard(date.fromordinal(day)).provided_by == "published"
    provided_us = point.review.provided.get((day, user), None if published else book.valid_at_us)
    return DayView(litres, book.closed in (DEEMED, ASSUMED), point.reference.close_out_us(day), provided_us)


def _found(point: Held, day: int) -> DayFound | None:
    """The Day's volume and quantity as found so far, without what went by the by-pass."""
    book, value = point.books.get(day), point.reference.calorific_value(day)
    if book is None:
        return None
    litres = book.closed_l if book.determined_l is None else book.determined_l
    deemed_wh = book.deemed_wh if book.determined_l is None else None
    wh = deemed_wh if deemed_wh is not None or litres is None or value is None else quantity_wh(litres, value)
    return DayFound(day, book.closed != OPEN, litres, wh, value)


def _setting(point: Held) -> Setting:
    def standing(day: int) -> int | None:
        start = point.start(day)
        return None if start is None else start.ticks

    reference = point.reference
    return Setting(point.meter_point, reference.meters, standing, reference.registered, point.days, point.rules)


def _day_of(record: CheckReadFound | Tolerance | Rejected) -> int:
    return (record.day if isinstance(record, Tolerance) else record.gas_day).toordinal()
