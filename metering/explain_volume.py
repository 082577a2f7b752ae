"""How a Day's volume came about, step by step: advances, deemed and assumed volumes, and the sharing of a run.

The figures are the ledger's; the steps are computed beside them from the same facts, and `accounted` says whether they lead
to the ledger's figure. Sources: M1.4.4, 2.4.4(c), 4.2.6, 4.3, 4.4.2, 4.4.5, 4.8.8 to 4.8.10; the rules page, sections 3 and 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime
from decimal import Decimal

from metering.explain_evidence import Evidence, latest_by
from metering.explain_readings import boundary
from metering.explanation import Advance, Determination, Origin, Quantity, Run, Share
from metering.facts import BypassUsed
from metering.gasday import to_datetime, to_us
from metering.ledger import Day
from metering.meters import Meter
from metering.volumes import apportion, daily_share_wh, litres_of, volume_of_wh
from metering.wire import received_us

WEEK = 7
MILLI = Decimal("0.001")
CLAUSES = {"restored": "4.4.5(a)", "apportioned": "4.4.5(b)", "revised": "4.8.10"}


def quantity(evidence: Evidence, day: int) -> Quantity:
    """The calorific values of the Day."""
    registered, values = evidence.registered(day), evidence.calorific_values(day)
    return Quantity(
        ldz=None if registered is None else registered.ldz,
        calorific_values=tuple(values),
        mj_per_m3=values[-1].mj_per_m3 if values else None,
    )


def origins(evidence: Evidence, day: int) -> Iterator[Origin]:
    """Where the Day's volume comes from, and, of what it rests on, where that comes from; the Day itself first."""
    resting: int | None = day
    while resting is not None and (record := evidence.day(resting)) is not None:
        found = _origin(evidence, resting, record)
        yield found
        resting = None if found.rests_on is None else found.rests_on.toordinal()


def _origin(evidence: Evidence, day: int, record: Day) -> Origin:
    if record.status == "actual":
        return _measured(evidence, day, record)
    if record.status == "deemed" or (record.status == "provisional" and evidence.in_deemed_week(day)):
        return _deemed(evidence, day, record)
    before = evidence.day(day - WEEK)
    expected = None  # of a Day that is closed out only what was closed out counts
    if before is not None and before.volume_m3 is not None and before.closed_out >= record.closed_out:
        expected = before.volume_m3 - _by_bypass(evidence, day - WEEK, before)
    return _made(record, "4.4.2", expected == record.volume_m3, rests_on=date.fromordinal(day - WEEK))


def _made(record: Day, clause: str, accounted: bool, **more: object) -> Origin:
    return Origin(
        gas_day=record.gas_day, status=record.status, clause=clause, closed_out=record.closed_out,
        volume_m3=record.volume_m3, quantity_kwh=record.quantity_kwh, accounted=accounted, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def _measured(evidence: Evidence, day: int, record: Day) -> Origin:
    read, by_us = record, None
    if day in evidence.closed_out:  # its readings may have been withdrawn since, or what we know of its meters corrected
        read, by_us = evidence.closed_out[day], evidence.close_out_us(day)
    found = advances(evidence, day, day + 1, (read.start_index, read.end_index), by_us)
    read_m3, bypass = sum((each.volume_m3 for each in found), Decimal(0)), bypass_of(evidence, day)
    beside_m3, parts = _estimated_m3(bypass), {"advances": tuple(found), "bypass": bypass}
    instead = evidence.substitutes.get(day) if record.closed_out else None
    if instead is not None and instead.litres * MILLI + beside_m3 == record.volume_m3:
        return _made(record, instead.clause, True, substituted_m3=instead.litres * MILLI, **parts)
    return _made(record, "4.3", bool(found) and read_m3 + beside_m3 == record.volume_m3, **parts)


def _by_bypass(evidence: Evidence, day: int, record: Day) -> Decimal:
    """What the by-pass adds to a Day that is actual."""
    return _estimated_m3(bypass_of(evidence, day)) if record.status == "actual" else Decimal(0)


def _estimated_m3(bypass: Iterable[BypassUsed]) -> Decimal:
    return sum((litres_of(each.estimated_m3) for each in bypass), 0) * MILLI


def bypass_of(evidence: Evidence, day: int) -> tuple[BypassUsed, ...]:
    """The estimates that are part of the Day's volume: of those received by its close-out the ones that no earlier Day has
    taken (2.4.4(c))."""
    if day not in evidence.closed_out:
        return ()
    latest: dict[datetime, BypassUsed] = {}
    first_us: dict[datetime, int] = {}
    for fact in evidence.of(BypassUsed):
        if received_us(fact) <= evidence.close_out_us(day):
            latest[fact.at] = fact
            first_us.setdefault(fact.at, received_us(fact))
    return tuple(
        fact for at, fact in latest.items()
        if to_us(fact.until) <= evidence.days.end_us(day) and not _taken(evidence, day, to_us(fact.until), first_us[at])
    )  # fmt: skip


def _taken(evidence: Evidence, day: int, until_us: int, received: int) -> bool:
    """Whether a Day closed out before this one, as actual and after the estimate was received, ends at or after what it is
    for."""
    mine = (evidence.close_out_us(day), day)
    return any(
        record.status == "actual" and evidence.days.end_us(other) >= until_us
        and received <= evidence.close_out_us(other) and (evidence.close_out_us(other), other) < mine
        for other, record in evidence.closed_out.items()
    )  # fmt: skip


def _deemed(evidence: Evidence, day: int, record: Day) -> Origin:
    by_us = min(evidence.as_of_us, evidence.close_out_us(day))
    registered = evidence.registered(day, by_us) or evidence.registered(day)
    annual_kwh = Decimal(0) if registered is None else registered.annual_quantity_kwh
    value = latest_by(evidence.calorific_values(day, by_us), by_us)
    share_wh = daily_share_wh(annual_kwh)
    volume_m3 = None if value is None else volume_of_wh(share_wh, value.mj_per_m3) * MILLI
    accounted = (record.quantity_kwh, record.volume_m3) == (share_wh * MILLI, volume_m3)
    return _made(record, "4.2.6", accounted, annual_quantity_kwh=annual_kwh, calorific_value=value)


def advances(
    evidence: Evidence, first: int, end: int, indexes: tuple[int | None, int | None], by_us: int | None = None
) -> list[Advance]:
    """The advances of the meters in place (as known by an instant) from the start of one Day to the start of another, from
    one index to the other; none where an index is not known."""
    index, last = indexes
    start_us, end_us = evidence.days.start_us(first), evidence.days.start_us(end)
    found: list[Advance] = []
    for meter in evidence.meters_of(first, end, by_us):
        starts = (start_us, index) if meter.from_us <= start_us else (meter.from_us, meter.fitting.ticks)
        if meter.to_us is None or meter.to_us >= end_us:
            stops = (end_us, last)
        else:
            stops = (meter.to_us, None if meter.removal is None else meter.removal.ticks)
        if starts[1] is None or stops[1] is None:
            return []
        found.append(_advance(evidence, meter, (starts[0], starts[1]), (stops[0], stops[1]), end - 1))
    return found


def _advance(evidence: Evidence, meter: Meter, starts: tuple[int, int], stops: tuple[int, int], day: int) -> Advance:
    register, fitted, (at_us, start), (until_us, end) = meter.register, evidence.fitting(meter), starts, stops
    validation = evidence.rules.of(day)
    goes_down = end < start and not validation.rejects("negative_advance")
    if goes_down:  # flagged only, where it is no roll-over
        goes_down = bool(register.verdict(start, end, until_us - at_us, validation.excess_factor))
    rolled_over = end < start and not goes_down
    start_l, end_l = register.litres(start), register.litres(end + register.modulus if rolled_over else end)
    return Advance(
        meter=meter.serial, at=to_datetime(at_us), until=to_datetime(until_us), start_index=start, end_index=end,
        rolled_over=rolled_over, digits=register.digits, m3_per_tick=fitted.m3_per_tick,
        conversion_factor=fitted.conversion_factor, start_m3=start_l * MILLI, end_m3=end_l * MILLI,
        volume_m3=(end_l - start_l) * MILLI,
    )  # fmt: skip


def determination(evidence: Evidence, day: int) -> Determination | None:
    """How a Failed Day was determined, or the run in which it waits to be; None for a Day that did not fail."""
    record = evidence.day(day)
    if record is None or not _failed(evidence, record):
        return None
    status = record.determined_status
    if status == "revised":  # not by readings: by what a Daily Read Error put in their place
        return Determination(status=status, clause=CLAUSES[status], run=None, accounted=True)
    run = _run(evidence, day)
    shares = [share for share in run.shares if share.gas_day == record.gas_day]
    if status == "apportioned":
        accounted = all(share.determined_m3 == expected for share, expected in zip(run.shares, _expected(run), strict=True))
    else:
        accounted = status is None or (status == "restored" and len(shares) == 1 and run.volume_m3 == record.determined_m3)
    return Determination(status=status, clause=CLAUSES.get(status or "", "4.4.5"), run=run, accounted=accounted)


def _failed(evidence: Evidence, record: Day) -> bool:
    """A Failed Daily Read Day: closed out, and not as actual, or on readings that do not stand any more (4.4.2)."""
    closed = evidence.closed_out.get(record.gas_day.toordinal())
    if closed is None or record.determined_status is not None:
        return record.determined_status is not None
    return closed.status != "actual" or (closed.start_index, closed.end_index) != (record.start_index, record.end_index)


def _run(evidence: Evidence, day: int) -> Run:
    """The Days around a Failed Day from one standing boundary reading to the next."""
    first = last = day
    while not _bounds(evidence, first, "start_index") and _goes_on(evidence, first - 1):
        first -= 1
    while not _bounds(evidence, last + 1, "end_index") and _goes_on(evidence, last + 1):
        last += 1
    records = [record for n in range(first, last + 1) if (record := evidence.day(n)) is not None]
    found = advances(evidence, first, last + 1, (records[0].start_index, records[-1].end_index))
    volume_m3 = sum((each.volume_m3 for each in found), Decimal(0)) if found else None
    whole = sum((_weight(record) for record in records), Decimal(0))
    return Run(
        first=date.fromordinal(first), last=date.fromordinal(last),
        start=boundary(evidence, first, records[0].start_index), end=boundary(evidence, last + 1, records[-1].end_index),
        advances=tuple(found), volume_m3=volume_m3,
        shares=tuple(_share(record, volume_m3, whole, len(records)) for record in records),
    )  # fmt: skip


def _bounds(evidence: Evidence, at: int, side: str) -> bool:
    """Whether a standing reading bounds a run there: not one from when what captures the index did not work, unless the Day
    on its other side did not fail (4.4.5(b))."""
    own = evidence.day(at if side == "start_index" else at - 1)
    other = evidence.day(at - 1 if side == "start_index" else at)
    if own is None or getattr(own, side) is None:
        return False
    return not evidence.capture_failed(at) or other is None or not _failed(evidence, other)


def _goes_on(evidence: Evidence, day: int) -> bool:
    """Whether a run may reach into a Day."""
    record = evidence.day(day)
    return record is not None and (_failed(evidence, record) or not record.valid)


def _weight(record: Day) -> Decimal:
    return max(Decimal(0), record.volume_m3 or Decimal(0))


def _share(record: Day, volume_m3: Decimal | None, whole: Decimal, days: int) -> Share:
    exact = None
    if record.determined_status == "apportioned" and volume_m3 is not None:
        exact = (volume_m3 * _weight(record) / whole if whole else volume_m3 / days).quantize(Decimal("0.000001"))
    return Share(
        gas_day=record.gas_day, status=record.status, weight_m3=record.volume_m3, exact_m3=exact,
        determined_m3=record.determined_m3,
    )  # fmt: skip


def _expected(run: Run) -> list[Decimal | None]:
    """What sharing the run's volume by its weights gives."""
    if run.volume_m3 is None:
        return [None] * len(run.shares)
    litres = [int((share.weight_m3 or Decimal(0)) / MILLI) for share in run.shares]
    return [part * MILLI for part in apportion(int(run.volume_m3 / MILLI), litres)]
