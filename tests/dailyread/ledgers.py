"""Ledgers for the report's tests, made from a table of troubles.

They hold every status, rejections, reconciliations, several Users and a 25-hour Day. They obey the rules' outcomes (sums
of runs, rounding) but are made here and not by the engine, so that the report is tested on all that a ledger may hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import msgspec

from metering.gasday import GasDays, to_datetime
from metering.ledger import AnyRecord, Day, DayStatus, DeterminedStatus, Reconciliation, Rejected, Tolerance

FIRST = date(2025, 9, 26)
DAYS = 40
AS_OF = datetime(2025, 11, 4, 12, 0, tzinfo=UTC)
CALENDAR = GasDays()
SITES = tuple(f"SMP-{n:02}" for n in range(1, 13))
MJ_PER_M3 = Decimal("39.5")


@dataclass(frozen=True)
class Trouble:
    """What the Days `first` to `last` (numbers from 0) of a site are."""

    site: str
    first: int
    last: int
    status: DayStatus = "actual"
    determined: DeterminedStatus | None = None
    late: bool = False
    failed: tuple[str, ...] = ()
    no_value: bool = False


TROUBLES = (
    Trouble("SMP-01", 0, 2, "deemed", no_value=True),
    Trouble("SMP-01", 3, 6, "deemed"),
    Trouble("SMP-02", 12, 12, "assumed", "restored", failed=("boundary_mismatch",)),
    Trouble("SMP-03", 14, 17, "assumed", "apportioned"),
    Trouble("SMP-04", 20, 23, late=True),
    Trouble("SMP-05", 30, 30, late=True),
    Trouble("SMP-06", 10, 10, "assumed", failed=("tolerance_1_percent",)),
    Trouble("SMP-06", 11, 11, "assumed", "revised", failed=("tolerance_1_percent",)),
    Trouble("SMP-07", 25, 25, failed=("unusual_volume",)),
    Trouble("SMP-08", 29, 33, "assumed"),
    Trouble("SMP-08", 34, 39, "provisional"),
    Trouble("SMP-09", 18, 18, "assumed", "restored", failed=("excess_flow",)),
    Trouble("SMP-10", 37, 38, late=True),
)


def truth() -> dict[tuple[str, date], int]:
    """Litres by site and Gas Day, for all Days but the last, which has not ended."""
    return {(site, _date(n)): _litres(s, n) for s, site in enumerate(SITES) for n in range(DAYS - 1)}


def records() -> list[AnyRecord]:
    """The ledger of 12 sites and 40 Days as of `AS_OF`."""
    made = _apportioned([_day(s, site, n) for s, site in enumerate(SITES) for n in range(DAYS)])
    return [*made, *_reconciliations(made), *_rejections(), *_tolerances()]


def lines(made: list[AnyRecord] | None = None) -> bytes:
    """The records as JSON Lines."""
    return b"".join(msgspec.json.encode(record) + b"\n" for record in (records() if made is None else made))


def kwh(volume_m3: Decimal) -> Decimal:
    """The quantity of a volume, at the tests' calorific value."""
    return (volume_m3 * MJ_PER_M3 / Decimal("3.6")).quantize(Decimal("0.001"))


def _date(n: int) -> date:
    return FIRST + timedelta(days=n)


def _litres(s: int, n: int) -> int:
    """A site's use: a level of its own, less at week-ends, more towards winter, a little of everything else."""
    day = _date(n)
    week_end = 0.45 if day.weekday() >= 5 and s % 3 else 1.0
    season = 1 + 0.9 * n / DAYS
    return round(40_000 * (1 + s) * week_end * season * (1 + 0.13 * math.sin(n * 1.7 + s))) // 100 * 100


def _trouble(site: str, n: int) -> Trouble:
    found = next((t for t in TROUBLES if t.site == site and t.first <= n <= t.last), None)
    if found is None:
        status: DayStatus = "provisional" if n == DAYS - 1 else "actual"
        found = Trouble(site, n, n, status)
    return found


def _day(s: int, site: str, n: int) -> Day:
    trouble = _trouble(site, n)
    known = Decimal(_litres(s, n)).scaleb(-3)
    volume = known if trouble.status == "actual" else Decimal(_litres(s, max(0, n - 7))).scaleb(-3)
    closed_out = CALENDAR.exit_close_out_us(_date(n).toordinal()) <= CALENDAR.eleven_us((AS_OF.date()).toordinal() - 1)
    valid = trouble.status == "actual" or trouble.determined == "restored"
    eleven = to_datetime(CALENDAR.eleven_us(_date(n).toordinal()))
    by_11 = trouble.status == "actual" and not trouble.late
    valid_at = eleven + timedelta(minutes=-290 if by_11 else 47) if valid else None
    determined = known if trouble.determined else None
    return Day(
        meter_point=site,
        gas_day=_date(n),
        users=("SHIPPER-A",) if s % 3 else ("SHIPPER-A", "SHIPPER-B"),
        equipment=f"DRE-{min(s, 10) + 1:02}",  # the last two sites share theirs
        status=trouble.status,
        start_index=100_000 + n if valid else None,
        end_index=100_001 + n if valid else None,
        volume_m3=None if trouble.no_value else volume,
        quantity_kwh=None if trouble.no_value else kwh(volume),
        closed_out=closed_out,
        determined_status=trouble.determined,
        determined_m3=determined,
        determined_kwh=kwh(determined) if determined is not None else None,
        since=eleven + timedelta(days=6) if trouble.determined else None,
        valid=valid,
        valid_at=valid_at,
        by_11=by_11,
        ratchet_day=trouble.status == "actual",
        failed=trouble.failed,
        ran=("malformed", "excess_flow"),
    )


def _apportioned(made: list[AnyRecord]) -> list[AnyRecord]:
    """Move ten litres between the first two Days of the apportioned run: its sum is the truth, its Days are not."""
    run = [r for r in made if isinstance(r, Day) and r.determined_status == "apportioned"]
    moved = {}
    for record, m3 in ((run[0], Decimal("0.010")), (run[1], Decimal("-0.010"))):
        assert record.determined_m3 is not None
        moved[record.key()] = msgspec.structs.replace(record, determined_m3=record.determined_m3 + m3)
    return [moved.get(r.key(), r) for r in made]


def _reconciliations(made: list[AnyRecord]) -> Iterator[Reconciliation]:
    for d in made:
        if isinstance(d, Day) and d.determined_m3 is not None and d.volume_m3 is not None and d.since is not None:
            volume = d.volume_m3 - d.determined_m3
            yield Reconciliation(
                meter_point=d.meter_point,
                gas_day=d.gas_day,
                kind="error_revised" if d.determined_status == "revised" else "failed_daily_read",
                volume_m3=volume,
                quantity_kwh=None if d.determined_status == "revised" else kwh(volume),
                since=d.since,
            )


def _rejections() -> Iterator[Rejected]:
    base = Rejected(
        meter_point="SMP-02",
        gas_day=_date(12),
        at=to_datetime(CALENDAR.start_us(_date(12).toordinal())),
        index=99_871,
        rule="boundary_mismatch",
        clause="M4.2.3(c)",
        detail="99871 at the start of the Day, 100012 at the end of the Day before",
        received_at=to_datetime(CALENDAR.end_us(_date(12).toordinal())) + timedelta(minutes=12),
    )
    yield base
    batch = replace_record(base, meter_point="SMP-06", at=None, index=None, rule="tolerance_1_percent", clause="M4.8.1(d)")
    for n in (10, 11):
        yield replace_record(batch, gas_day=_date(n), detail="equipment 232.800 m³, meter 240.000 m³: 3.0% low")
    for minute in range(8):
        at = base.received_at + timedelta(minutes=minute)
        yield replace_record(
            base,
            meter_point="SMP-09",
            gas_day=_date(18),
            at=at,
            index=10**7 + minute,
            rule="excess_flow",
            clause="M1.5",
        )
    hostile = "<script>alert('detail')</script>\x1b[31m"
    yield replace_record(base, meter_point="SMP-11", rule="malformed", clause="M1.4.3", index=hostile, detail=hostile)


def _tolerances() -> Iterator[Tolerance]:
    a, b = Decimal("232.800"), Decimal("240.000")
    yield Tolerance(
        meter_point="SMP-06",
        gas_day=_date(10),
        check="tolerance_1_percent",
        a=a,
        b=b,
        deviation=(a / b - 1).quantize(Decimal("0.000001")),
        within=False,
    )


def replace_record(record: Rejected, **changes: object) -> Rejected:
    """The rejection with some fields changed."""
    return msgspec.structs.replace(record, **changes)


def only(site: str, n: int, **changes: object) -> Day:
    """One ordinary Day (numbers from 0), with some fields changed."""
    return msgspec.structs.replace(_day(SITES.index(site), site, n), **changes)
