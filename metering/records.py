"""Ledger records as they are made from what the engine holds of a Gas Day."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from metering.book import ACTUAL, APPORTIONED, ASSUMED, DEEMED, OPEN, RESTORED, REVISED, WITHDRAWN, Book
from metering.gasday import to_datetime
from metering.ledger import AnyRecord, Change, Day, DayStatus, DeterminedStatus, Reconciliation, Void
from metering.standing import Standing
from metering.validation import BIT, RULE_IDS, stuck_register, unusual_volume
from metering.volumes import quantity_wh

if TYPE_CHECKING:
    from metering.held import Held

STATUS: dict[int, DayStatus] = {
    ACTUAL: "actual", WITHDRAWN: "actual", DEEMED: "deemed", ASSUMED: "assumed", OPEN: "provisional",
}  # fmt: skip
DETERMINED: dict[int, DeterminedStatus] = {RESTORED: "restored", APPORTIONED: "apportioned", REVISED: "revised"}
MILLI = Decimal("0.001")
UNUSUAL_VOLUME, STUCK_REGISTER = BIT["unusual_volume"], BIT["stuck_register"]
BOUNDARY_RULES = BIT["boundary_mismatch"] | BIT["negative_advance"] | BIT["excess_flow"]


def changes_of(point: Held, day: int) -> list[Change]:
    """The records of a Day as they are now, and a void for each that was there before and no longer holds."""
    book = point.books[day]
    if not (book.rejected or book.tolerances or book.shown or point.review.records or book.determined_l is not None):
        return [day_record(point, day, book)] if point.appeared(day) else []
    beside: list[AnyRecord] = [*book.rejected, *book.tolerances]
    changes: list[Change] = []
    if point.appeared(day):
        changes.append(day_record(point, day, book))
        if book.determined_l is not None and (reconciliation := reconciliation_record(point, day, book)) is not None:
            beside.append(reconciliation)
    if point.review.records:
        beside += point.review.records.get(day, ())
    if beside or book.shown:
        keys = frozenset(record.key() for record in beside)
        gone = [key for key in book.shown if key not in keys]
        book.shown = tuple(sorted(keys))
        point.stale.add(day)
        changes += beside
        changes += [Void(key) for key in gone]
    return changes


def day_record(point: Held, day: int, book: Book) -> Day:
    """The `day` record."""
    reference = point.reference
    registered = reference.of(day)
    assert registered is not None
    if day >= reference.steady_from:
        after = point.books.get(day + 1)
        start, end = book.start, None if after is None else after.start
    else:
        start, end = point.begin(day), point.end(day)
    actual = book.valid if book.closed == OPEN else book.closed == ACTUAL
    litres = book.closed_l if book.closed else point.value_l(day)
    if book.bypass_l and litres is not None:
        litres += book.bypass_l
    value = reference.calorific_value(day)
    quantity = None if actual else point.deemed_wh(day)
    if quantity is None and litres is not None and value is not None:
        quantity = quantity_wh(litres, value)
    validation, ran, failed = point.rules.of(day), book.ran, book.failed | book.flagged
    if start is not None and end is not None:
        moved = start.ticks != end.ticks and day >= reference.steady_from
        still = False if moved else _stands_still(point, day, start, end)
        if still is not None:
            ran |= STUCK_REGISTER
            failed |= STUCK_REGISTER if still else 0
        ran |= BOUNDARY_RULES
        if actual and quantity is not None:
            ran |= UNUSUAL_VOLUME
            measured = _measured_wh(book, quantity, value) if book.bypass_l or book.read_l is not None else quantity
            if unusual_volume(measured, _usual_wh(registered.annual_quantity_kwh, validation.unusual_factor)):
                failed |= UNUSUAL_VOLUME
    if validation.action:
        ran, failed = validation.running(ran), validation.running(failed)
    determined_l = book.determined_l
    if book.bypass_l and determined_l is not None:
        determined_l += book.bypass_l
    return Day(
        meter_point=point.meter_point, gas_day=date.fromordinal(day), users=registered.users, equipment=registered.equipment,
        status="actual" if actual else STATUS[book.closed],
        start_index=None if start is None else start.ticks, end_index=None if end is None else end.ticks,
        volume_m3=None if litres is None else litres * MILLI, quantity_kwh=None if quantity is None else quantity * MILLI,
        closed_out=book.closed != OPEN,
        determined_status=DETERMINED.get(book.determined), determined_m3=None if determined_l is None else determined_l * MILLI,
        determined_kwh=None if determined_l is None or value is None else quantity_wh(determined_l, value) * MILLI,
        since=None if book.since_us is None else to_datetime(book.since_us),
        valid=book.valid, valid_at=None if book.valid_at_us is None else to_datetime(book.valid_at_us), by_11=book.by_11,
        ratchet_day=actual or book.determined == RESTORED, failed=_names(failed) if failed else (), ran=_names(ran),
    )  # fmt: skip


def reconciliation_record(point: Held, day: int, book: Book) -> Reconciliation | None:
    """The Failed Daily Read Reconciliation Volume of a Day that was determined (4.4.4(b)), or what its Error Revised Quantity
    makes (4.8.10)."""
    if book.determined_l is None or book.closed_l is None or book.since_us is None:
        return None
    value, closed_l, determined_l = point.reference.calorific_value(day), book.closed_l, book.determined_l
    if book.bypass_l:
        closed_l, determined_l = closed_l + book.bypass_l, determined_l + book.bypass_l
    quantity = None
    if value is not None:
        closed = quantity_wh(closed_l, value) if book.deemed_wh is None else book.deemed_wh
        quantity = closed - quantity_wh(determined_l, value)
    return Reconciliation(
        meter_point=point.meter_point, gas_day=date.fromordinal(day),
        kind="error_revised" if book.determined == REVISED else "failed_daily_read",
        volume_m3=(closed_l - determined_l) * MILLI, quantity_kwh=thousandths(quantity),
        since=to_datetime(book.since_us),
    )  # fmt: skip


def _measured_wh(book: Book, quantity: int, value: Decimal | None) -> int:
    """The quantity on readings alone of a Day on them: without what went by the by-pass, or was put in their place (4.8.8)."""
    litres = book.closed_l if book.read_l is None else book.read_l
    return quantity if value is None or litres is None else quantity_wh(litres, value)


@lru_cache(maxsize=4096)
def _usual_wh(annual_quantity_kwh: Decimal, factor: Decimal) -> int:
    """The greatest quantity of a Day that is not unusual."""
    limit = Fraction(factor) * Fraction(annual_quantity_kwh) * 1000 / 365
    return limit.numerator // limit.denominator


def _stands_still(point: Held, day: int, start: Standing, end: Standing) -> bool | None:
    """Whether the register did not move for `stuck_days` Days up to this one, at a point that takes enough gas; None where
    that cannot be said."""
    validation = point.rules.of(day)
    first = day - validation.stuck_days + 1
    only = first >= point.reference.steady_from
    starts = [point.start(boundary) for boundary in range(first, day + 1)]
    if any(each is None for each in starts):
        return None
    if only:
        moved: bool | None = any(each is not None and each.ticks != end.ticks for each in starts)
    else:
        advance_l = point.advance_l(first, day + 1)
        moved = None if advance_l is None else advance_l != 0
    registered, value = point.reference.of(day), point.reference.calorific_value(day)
    meter = point.reference.meter_up_to(point.days.end_us(day))
    if moved is None or registered is None or meter is None:
        return None
    mean_m3 = None if value is None else Fraction(registered.annual_quantity_kwh) / 365 * Fraction(18, 5) / Fraction(value)
    return stuck_register(moved, mean_m3, meter.register, validation.stuck_ticks)


def thousandths(value: int | None) -> Decimal | None:
    """Litres as m³, or watt-hours as kWh, with three places."""
    return None if value is None else value * MILLI


@lru_cache(maxsize=4096)
def _names(bits: int) -> tuple[str, ...]:
    return tuple(rule for n, rule in enumerate(RULE_IDS) if bits >> n & 1)
