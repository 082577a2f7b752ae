"""DM Check Reads and adjusted meter error: what a meter's own index says of all the Days since the last one (M4.7, M1.10.1(b)).

Pure, and of one instant: the facts, the meters and the Days as they are known then go in as plain values. Volumes are litres,
quantities watt-hours, indexes ticks, Gas Days ordinals, instants microseconds. The rules page, section 6, has the decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from metering.check_periods import Compared, Period, Read, Setting, Span, periods
from metering.gasday import to_datetime
from metering.ledger import CheckReadFound, Reconciliation, Rejected, Tolerance
from metering.volumes import apportion, half_up, volume_of_wh

MILLI = Decimal("0.001")


class DayFound(NamedTuple):
    """A Day as found so far: the determined volume and quantity where there are any, else the closed-out ones; without by-pass.

    `closed`: it was closed out. What is not known is None.
    """

    day: int
    closed: bool
    litres: int | None
    wh: int | None
    mj_per_m3: Decimal | None


class Share(NamedTuple):
    """The DM Check Reconciliation Volume of a Day and its quantity: above 0 where the previous one was greater (4.7.4(b))."""

    day: int
    litres: int
    wh: int


class SharedSince(NamedTuple):
    """A Share, and the instant since when it stands without a break."""

    share: Share
    since_us: int


Found: TypeAlias = CheckReadFound | Tolerance | Share


def check_reads(facts: Iterable[Read], setting: Setting, found: Callable[[int], DayFound | None]) -> list[Found | Rejected]:
    """All that the check reads received by an instant say at it.

    `facts`: in any order, copies possible, each with `received_at`. `found`: a Day, None where nothing is known of it.

    A `Share` becomes a `reconciliation` record of the kind `dm_check` with the instant since when it stands, which no function
    of one instant can know. So the caller keeps a `dict[int, SharedSince]` of the point, empty at first. After every instant
    at which anything happened (a fact, a Day closed out) it replaces that by `keep_since` of it, of the Shares at that instant,
    and of the instant. `reconciliation` makes the records of it.
    """
    their_periods, refused = periods(facts, setting)
    return [*refused, *(each for period in their_periods for each in found_of(period, setting, found))]


def keep_since(held: Mapping[int, SharedSince], shares: Iterable[Share], now_us: int) -> dict[int, SharedSince]:
    """By Day, the Shares that stand now and since when: as held where the same one stood before, else from now."""
    kept = {}
    for share in shares:
        before = held.get(share.day)
        kept[share.day] = before if before is not None and before.share == share else SharedSince(share, now_us)
    return kept


def reconciliation(meter_point: str, shared: SharedSince) -> Reconciliation:
    """The record of a Day's Share."""
    share, since_us = shared
    return Reconciliation(
        meter_point=meter_point, gas_day=date.fromordinal(share.day), kind="dm_check", volume_m3=share.litres * MILLI,
        quantity_kwh=share.wh * MILLI, since=to_datetime(since_us),
    )  # fmt: skip


class _Known(NamedTuple):
    """A closed-out Day of which all is known."""

    day: int
    litres: int
    wh: int
    mj_per_m3: Decimal


def found_of(period: Period, setting: Setting, found: Callable[[int], DayFound | None]) -> list[Found]:
    """What is found of a period: nothing before every Day is closed out and its volume, quantity and calorific value known."""
    known = _known(period, found)
    if known is None:
        return []
    check_l = sum(_litres(span, known) for span in period.spans)
    check_wh, previous_wh = _check_wh(check_l, known), sum(day.wh for day in known)
    difference_wh = previous_wh - check_wh
    validation = setting.rules.of(period.day)
    reconciled = abs(difference_wh) > Fraction(validation.check_read_threshold_kwh) * 1000
    records: list[Found] = [
        CheckReadFound(
            meter_point=setting.meter_point, gas_day=date.fromordinal(period.day), from_=date.fromordinal(period.first),
            check_m3=check_l * MILLI, check_kwh=check_wh * MILLI, previous_kwh=previous_wh * MILLI,
            difference_kwh=difference_wh * MILLI, reconciled=reconciled,
        )
    ]  # fmt: skip
    if period.compared is not None:
        records.append(_tolerance(setting.meter_point, period.compared, known, validation.tolerance))
    return [*records, *_shares(difference_wh, known)] if reconciled else records


def _known(period: Period, found: Callable[[int], DayFound | None]) -> list[_Known] | None:
    known = []
    for day in period.days:
        each = found(day)
        if each is None or not each.closed or each.litres is None or each.wh is None or each.mj_per_m3 is None:
            return None
        known.append(_Known(each.day, each.litres, each.wh, each.mj_per_m3))
    return known


def _check_wh(check_l: int, known: Sequence[_Known]) -> int:
    """The check volume at what a litre of the period was worth; where no volume was found, at the mean calorific value."""
    litres = sum(day.litres for day in known)
    if litres > 0:
        return half_up(check_l * sum(day.wh for day in known), litres)
    wh = sum((Fraction(day.mj_per_m3) for day in known), Fraction()) / len(known) * check_l * 10 / 36
    return half_up(wh.numerator, wh.denominator)


def _shares(difference_wh: int, known: Sequence[_Known]) -> list[Share]:
    """The difference shared in proportion to the Days' volumes (4.7.5)."""
    sign = -1 if difference_wh < 0 else 1
    parts = apportion(abs(difference_wh), [day.litres for day in known])
    return [
        Share(day.day, volume_of_wh(sign * wh, day.mj_per_m3), sign * wh) for day, wh in zip(known, parts, strict=True)
    ]  # fmt: skip


def _litres(span: Span, known: Sequence[_Known]) -> int:
    """The volume between the two indexes of a span."""
    register = span.register
    return register.litres(span.start + _advance(span, known)) - register.litres(span.start)


def _advance(span: Span, known: Sequence[_Known]) -> int:
    """How far the register went, in ticks: with as many turns as bring it nearest to the volumes of its Days."""
    litres = sum(day.litres for day in known if span.first <= day.day < span.until)
    return _unwrapped(span.start, span.end, span.register.modulus, Fraction(litres, 1000) / span.register.k)


def _unwrapped(start: int, end: int, modulus: int, near: Fraction | int) -> int:
    """The advance from `start` to `end` that is nearest to `near`, of all numbers of turns; of two as near the greater."""
    turns = (Fraction(near) - (end - start)) / modulus + Fraction(1, 2)
    return end - start + max(0, turns.numerator // turns.denominator) * modulus


def _tolerance(meter_point: str, compared: Compared, known: Sequence[_Known], tolerance: Decimal) -> Tolerance:
    """The equipment's advance a over the period against the meter's own, b (4.8.1(d)), by the register's tick."""
    span, tick = compared.meter, compared.meter.register.m3_per_tick
    own = _advance(span, known)
    equipment = _unwrapped(compared.equipment_start, compared.equipment_end, span.register.modulus, own)
    return Tolerance(
        meter_point=meter_point, from_=date.fromordinal(span.first), until=date.fromordinal(span.until), check="check_read",
        a=_places(equipment * tick, 3), b=_places(own * tick, 3),
        deviation=None if own == 0 else _places(Fraction(equipment, own) - 1, 6),
        within=abs(equipment - own) <= max(Fraction(tolerance) * own, Fraction(1)),
    )  # fmt: skip


def _places(value: Fraction, places: int) -> Decimal:
    """A fraction rounded half up in size to so many places."""
    return Decimal(half_up(value.numerator * 10**places, value.denominator)).scaleb(-places)
