"""Ledger records as they are made from what the engine holds of a Gas Day."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from metering.batch import BIT
from metering.book import ACTUAL, APPORTIONED, ASSUMED, DEEMED, OPEN, RESTORED, Book
from metering.gasday import to_datetime
from metering.ledger import AnyRecord, Change, Day, DayStatus, DeterminedStatus, Reconciliation, Void
from metering.rules import RULE_IDS
from metering.volumes import quantity_wh

if TYPE_CHECKING:
    from metering.point import Point

STATUS: dict[int, DayStatus] = {ACTUAL: "actual", DEEMED: "deemed", ASSUMED: "assumed", OPEN: "provisional"}
DETERMINED: dict[int, DeterminedStatus] = {RESTORED: "restored", APPORTIONED: "apportioned"}
BOUNDARY_RULES = BIT["boundary_mismatch"] | BIT["negative_advance"] | BIT["excess_flow"]


def changes_of(point: Point, day: int) -> list[Change]:
    """The records of a Day as they are now, and a void for each that was there before and no longer holds."""
    book = point.books[day]
    beside: list[AnyRecord] = [*book.rejected, *book.tolerances]
    changes: list[Change] = []
    if point.appeared(day):
        changes.append(day_record(point, day, book))
        if (reconciliation := reconciliation_record(point, day, book)) is not None:
            beside.append(reconciliation)
    if beside or book.shown:
        keys = frozenset(record.key() for record in beside)
        gone = sorted(book.shown - keys)
        book.shown = keys
        changes += beside
        changes += [Void(key) for key in gone]
    return changes


def day_record(point: Point, day: int, book: Book) -> Day:
    """The `day` record."""
    registered = point.reference.of(day)
    assert registered is not None
    start, end = book.start, point.start(day + 1)
    actual = book.valid if book.closed == OPEN else book.closed == ACTUAL
    litres, value = point.value_l(day), point.reference.calorific_value(day)
    quantity = point.deemed_wh(day)
    if quantity is None and litres is not None and value is not None:
        quantity = quantity_wh(litres, value)
    ran, failed = _rules(point, day, book, quantity if actual else None)
    return Day(
        meter_point=point.meter_point, gas_day=date.fromordinal(day), users=registered.users, equipment=registered.equipment,
        status="actual" if actual else STATUS[book.closed],
        start_index=None if start is None else start.ticks, end_index=None if end is None else end.ticks,
        volume_m3=thousandths(litres), quantity_kwh=thousandths(quantity), closed_out=book.closed != OPEN,
        determined_status=DETERMINED.get(book.determined), determined_m3=thousandths(book.determined_l),
        determined_kwh=_kwh(book.determined_l, value),
        since=None if book.since_us is None else to_datetime(book.since_us),
        valid=book.valid, valid_at=None if book.valid_at_us is None else to_datetime(book.valid_at_us), by_11=book.by_11,
        ratchet_day=actual or book.determined == RESTORED, failed=_names(failed), ran=_names(ran),
    )  # fmt: skip


def reconciliation_record(point: Point, day: int, book: Book) -> Reconciliation | None:
    """The Failed Daily Read Reconciliation Volume of a Day that was determined (4.4.4(b))."""
    if book.determined_l is None or book.closed_l is None or book.since_us is None:
        return None
    value = point.reference.calorific_value(day)
    quantity = None
    if value is not None:
        closed = quantity_wh(book.closed_l, value) if book.deemed_wh is None else book.deemed_wh
        quantity = closed - quantity_wh(book.determined_l, value)
    return Reconciliation(
        meter_point=point.meter_point, gas_day=date.fromordinal(day), kind="failed_daily_read",
        volume_m3=Decimal(book.closed_l - book.determined_l).scaleb(-3), quantity_kwh=thousandths(quantity),
        since=to_datetime(book.since_us),
    )  # fmt: skip


def _rules(point: Point, day: int, book: Book, quantity: int | None) -> tuple[int, int]:
    """Which rules ran on the Day and which failed, as bit sets."""
    ran, failed = book.ran, book.failed | book.flagged
    if book.start is not None and point.start(day + 1) is not None:
        ran |= BOUNDARY_RULES
    registered = point.reference.of(day)
    validation = point.rules.of(day)
    if registered is not None and quantity is not None:
        ran |= BIT["unusual_volume"]
        if quantity * 365 > validation.unusual_factor * registered.annual_quantity_kwh * 1000:
            failed |= BIT["unusual_volume"]
    still = _stands_still(point, day)
    if still is not None:
        ran |= BIT["stuck_register"]
        failed |= BIT["stuck_register"] if still else 0
    return ran, failed


def _stands_still(point: Point, day: int) -> bool | None:
    """Whether the register did not move for `stuck_days` Days up to this one, at a point that takes enough gas; None where
    that cannot be said."""
    registered, register = point.reference.of(day), point.reference.setting.register
    value, validation = point.reference.calorific_value(day), point.rules.of(day)
    if registered is None or register is None or value is None:
        return None
    indexes = set()
    for boundary in range(day - validation.stuck_days + 1, day + 2):
        start = point.start(boundary)
        if start is None:
            return None
        indexes.add(start.ticks)
    if len(indexes) > 1:
        return False
    mean_m3 = Fraction(registered.annual_quantity_kwh) / 365 * Fraction(18, 5) / Fraction(value)
    return mean_m3 > validation.stuck_ticks * register.k


def thousandths(value: int | None) -> Decimal | None:
    """Litres as m³, or watt-hours as kWh, with three places."""
    return None if value is None else Decimal(value).scaleb(-3)


def _kwh(litres: int | None, value: Decimal | None) -> Decimal | None:
    return None if litres is None or value is None else thousandths(quantity_wh(litres, value))


@lru_cache(maxsize=4096)
def _names(bits: int) -> tuple[str, ...]:
    return tuple(rule for n, rule in enumerate(RULE_IDS) if bits >> n & 1)
