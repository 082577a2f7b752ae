"""What a ledger amounts to: sums by status, the share of Days Valid by 11:00, the grid of sites and Days.

Pure: records and `as_of` in, a `Summary` out. Sums are exact; a volume that is not known is counted
apart, never as zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum

from metering.gasday import GasDays, to_datetime, to_us
from metering.ledger import AnyRecord, CheckReadFound, Day, Key, ReadError, Reconciliation, Rejected, Tolerance, day_of

REQUIRED_PER_MILLE = 975  # 5.2.1
STATUSES = ("actual", "assumed", "deemed", "provisional")
ZERO = Decimal("0.000")


class Kind(Enum):
    """How a Day's volume stands, for grid and plots: one glyph, one word, one sentence each."""

    BY_11 = ("·", "read", "read, Valid by 11:00")
    LATE = ("L", "late", "read, Valid after 11:00")
    ASSUMED = ("A", "assumed", "assumed, not yet determined (4.4.2)")
    DEEMED = ("D", "deemed", "deemed, not yet determined (4.2.6)")
    RESTORED = ("R", "restored", "substituted, then restored by readings (4.4.5(a))")
    APPORTIONED = ("P", "apportioned", "substituted, then apportioned from a run (4.4.5(b))")
    REVISED = ("V", "revised", "read, then revised for a Daily Read Error (4.8.10)")
    PROVISIONAL = ("~", "provisional", "not Valid yet, before the Exit Close-Out")

    def __init__(self, glyph: str, word: str, meaning: str) -> None:
        self.glyph = glyph
        self.word = word
        self.meaning = meaning


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum over Days: m³ and kWh of what is known, and how many Days' values are not known yet."""

    days: int = 0
    volume_m3: Decimal = ZERO
    quantity_kwh: Decimal = ZERO
    volumes_unknown: int = 0
    quantities_unknown: int = 0

    @property
    def unknown(self) -> str:
        """How many volumes and quantities are not in the sums, in words; empty where all are."""
        counts = ((self.volumes_unknown, "volume", "volumes"), (self.quantities_unknown, "quantity", "quantities"))
        return ", ".join(f"{count:,} {one if count == 1 else several}" for count, one, several in counts if count)

    @property
    def known_m3(self) -> Decimal | None:
        """The sum in m³; None where there are Days, and no volume of theirs is known."""
        return None if self.days and self.volumes_unknown == self.days else self.volume_m3

    @property
    def known_kwh(self) -> Decimal | None:
        """The same in kWh."""
        return None if self.days and self.quantities_unknown == self.days else self.quantity_kwh

    def plus(self, volume_m3: Decimal | None, quantity_kwh: Decimal | None) -> Sum:
        """This sum and one more Day."""
        return Sum(
            self.days + 1,
            self.volume_m3 + (volume_m3 if volume_m3 is not None else ZERO),
            self.quantity_kwh + (quantity_kwh if quantity_kwh is not None else ZERO),
            self.volumes_unknown + (volume_m3 is None),
            self.quantities_unknown + (quantity_kwh is None),
        )

    def and_(self, other: Sum) -> Sum:
        """The two sums together."""
        return Sum(
            self.days + other.days,
            self.volume_m3 + other.volume_m3,
            self.quantity_kwh + other.quantity_kwh,
            self.volumes_unknown + other.volumes_unknown,
            self.quantities_unknown + other.quantities_unknown,
        )


@dataclass(frozen=True, slots=True)
class Share:
    """Of `due` Days of equipment whose 11:00 has passed, `by_11` were Valid by then (5.2.1)."""

    due: int = 0
    by_11: int = 0

    @property
    def met(self) -> bool:
        """Whether it is 97.5% or more, in whole numbers; with nothing due it is."""
        return self.by_11 * 1000 >= self.due * REQUIRED_PER_MILLE

    @property
    def percent(self) -> str:
        """Per cent with one decimal, cut off and not rounded, so that what is below 97.5% never reads as 97.5%."""
        if not self.due:
            return "–"
        tenths = self.by_11 * 1000 // self.due
        return f"{tenths // 10}.{tenths % 10}%"


@dataclass(frozen=True, slots=True)
class RuleCount:
    """One validation rule: on how many Days it failed, and how many readings or batches it rejected."""

    rule: str
    clause: str
    days_failed: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Summary:
    """All that tables and page show. `gas_days` are those that the ledger has, in order; so are the `meter_points`."""

    as_of: datetime
    calendar: GasDays
    meter_points: tuple[str, ...]
    gas_days: tuple[date, ...]
    days: dict[tuple[str, date], Day]
    sums: dict[str, Sum]
    determined: Sum
    reconciled: Sum
    share: Share
    share_of_day: dict[date, Share]
    share_of_point: dict[str, Share]
    reconciliations: tuple[Reconciliation, ...]
    rejections: tuple[Rejected, ...]
    tolerances: tuple[Tolerance, ...]
    check_reads: tuple[CheckReadFound, ...]
    read_errors: tuple[ReadError, ...]
    rules: tuple[RuleCount, ...]

    @property
    def total(self) -> Sum:
        """All Days, as closed out or provisional."""
        total = Sum()
        for part in self.sums.values():
            total = total.and_(part)
        return total

    @property
    def substituted(self) -> tuple[Day, ...]:
        """The Days that were closed out without Valid readings, or whose volume was determined later."""
        return tuple(d for d in self.days.values() if d.status in ("assumed", "deemed") or d.determined_status)

    @property
    def undetermined(self) -> int:
        """How many of the substituted Days have no determined volume yet."""
        return sum(d.determined_status is None for d in self.substituted)

    def kind(self, meter_point: str, gas_day: date) -> Kind | None:
        """What the grid shows there; None where the ledger has no Day."""
        day = self.days.get((meter_point, gas_day))
        return None if day is None else kind_of(day, is_due(self.calendar, gas_day, self.as_of))

    def is_due(self, gas_day: date) -> bool:
        """Whether the Day's 11:00 has passed."""
        return is_due(self.calendar, gas_day, self.as_of)

    def clock_changes(self) -> dict[date, int]:
        """The Days that do not last 24 hours, with the hours they last."""
        lengths = {day: hours_of(self.calendar, day) for day in self.gas_days}
        return {day: hours for day, hours in lengths.items() if hours != 24}


def summarise(records: Iterable[AnyRecord], as_of: datetime, calendar: GasDays | None = None) -> Summary:
    """Sum up a ledger as of an aware instant; of records with one key the last counts."""
    calendar = calendar or GasDays()
    latest: dict[Key, AnyRecord] = {record.key(): record for record in records}
    days = sorted((r for r in latest.values() if isinstance(r, Day)), key=_place)
    reconciliations = sorted((r for r in latest.values() if isinstance(r, Reconciliation)), key=_place)
    rejections = sorted((r for r in latest.values() if isinstance(r, Rejected)), key=_place)
    share, of_day, of_point = _shares(days, as_of, calendar)
    return Summary(
        as_of=as_of,
        calendar=calendar,
        meter_points=tuple(sorted({r.meter_point for r in latest.values()})),
        gas_days=tuple(sorted({day_of(r) for r in latest.values()})),
        days={(d.meter_point, d.gas_day): d for d in days},
        sums=_sums_by_status(days),
        determined=_sum((d.determined_m3, d.determined_kwh) for d in days if d.determined_status),
        reconciled=_sum((r.volume_m3, r.quantity_kwh) for r in reconciliations),
        share=share,
        share_of_day=of_day,
        share_of_point=of_point,
        reconciliations=tuple(reconciliations),
        rejections=tuple(rejections),
        tolerances=tuple(sorted((r for r in latest.values() if isinstance(r, Tolerance)), key=_place)),
        check_reads=tuple(sorted((r for r in latest.values() if isinstance(r, CheckReadFound)), key=_place)),
        read_errors=tuple(sorted((r for r in latest.values() if isinstance(r, ReadError)), key=_place)),
        rules=_rules(days, rejections),
    )


def kind_of(day: Day, due: bool) -> Kind:
    """What the grid shows of a Day; `due` says whether its 11:00 has passed."""
    if day.determined_status is not None:
        return Kind[day.determined_status.upper()]
    if day.status == "actual":
        return Kind.BY_11 if day.by_11 or not due else Kind.LATE
    return Kind[day.status.upper()]


def is_due(calendar: GasDays, gas_day: date, as_of: datetime) -> bool:
    """Whether the Day's 11:00 has passed: the Day counts for the share from then on."""
    return calendar.eleven_us(gas_day.toordinal()) <= to_us(as_of)


def hours_of(calendar: GasDays, gas_day: date) -> int:
    """How long the Day is, in hours."""
    day = gas_day.toordinal()
    return round((calendar.end_us(day) - calendar.start_us(day)) / 3_600_000_000)


def latest_instant(records: Iterable[AnyRecord], calendar: GasDays | None = None) -> datetime | None:
    """The earliest instant as of which the ledger can be: its last Day has begun, and all it speaks of has happened."""
    calendar = calendar or GasDays()
    latest: datetime | None = None
    for record in records:
        for instant in _instants(record, calendar):
            latest = instant if latest is None or instant > latest else latest
    return latest


def _instants(record: AnyRecord, calendar: GasDays) -> list[datetime]:
    match record:
        case Day():
            begun = to_datetime(calendar.start_us(record.gas_day.toordinal()))
            return [begun, *(instant for instant in (record.since, record.valid_at) if instant is not None)]
        case Reconciliation():
            return [record.since]
        case Rejected():
            return [record.received_at]
        case Tolerance() | CheckReadFound() | ReadError():
            return []


def _place(record: AnyRecord) -> tuple[str, date, Key]:
    return (record.meter_point, day_of(record), record.key())


def _sum(values: Iterable[tuple[Decimal | None, Decimal | None]]) -> Sum:
    total = Sum()
    for volume_m3, quantity_kwh in values:
        total = total.plus(volume_m3, quantity_kwh)
    return total


def _sums_by_status(days: Sequence[Day]) -> dict[str, Sum]:
    return {s: _sum((d.volume_m3, d.quantity_kwh) for d in days if d.status == s) for s in STATUSES}


def _shares(days: Sequence[Day], as_of: datetime, calendar: GasDays) -> tuple[Share, dict[date, Share], dict[str, Share]]:
    """In total, per Day and per meter point. Equipment of several meters counts once, when all are Valid (5.1.1(c))."""
    due = {gas_day: is_due(calendar, gas_day, as_of) for gas_day in {d.gas_day for d in days}}
    of_equipment: dict[tuple[date, str], bool] = defaultdict(lambda: True)
    of_point: dict[str, Share] = defaultdict(Share)
    for d in days:
        if due[d.gas_day]:
            of_equipment[d.gas_day, d.equipment] &= d.by_11
            of_point[d.meter_point] = _counted(of_point[d.meter_point], d.by_11)
    of_day: dict[date, Share] = {gas_day: Share() for gas_day in sorted(due)}
    total = Share()
    for (gas_day, _), by_11 in of_equipment.items():
        of_day[gas_day] = _counted(of_day[gas_day], by_11)
        total = _counted(total, by_11)
    return total, of_day, dict(of_point)


def _counted(share: Share, by_11: bool) -> Share:
    return Share(share.due + 1, share.by_11 + by_11)


def _rules(days: Sequence[Day], rejections: Sequence[Rejected]) -> tuple[RuleCount, ...]:
    """The rules that failed anywhere, most rejections first."""
    clauses = {r.rule: r.clause for r in rejections}
    failed: dict[str, int] = defaultdict(int)
    rejected: dict[str, int] = defaultdict(int)
    for d in days:
        for rule in d.failed:
            failed[rule] += 1
    for r in rejections:
        rejected[r.rule] += 1
    counts = [RuleCount(rule, clauses.get(rule, ""), failed[rule], rejected[rule]) for rule in {*failed, *rejected}]
    return tuple(sorted(counts, key=lambda c: (-c.rejected, -c.days_failed, c.rule)))
