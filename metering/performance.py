"""Performance: what was provided to each User by 11:00 in a month, and what is due to it (5, 4.1.7, 4.9.2).

Facts and the ledger's Days in, statement lines out: a line is one Day of one item of a User's Daily Read Equipment, with why
it counts or does not. A `Performance` record is the sum of a User's lines in a month, and nothing else. Where the ledger is
as of an instant, so are these.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Literal, NamedTuple, TypeAlias

from metering.facts import AnyFact, CalorificValue, Excluded, Provided, ReadErrorNotice, Registered, meter_point_of
from metering.gasday import GasDays, to_us
from metering.ledger import AnyRecord, Day, Performance
from metering.replay import FactsByPoint, once, point_ledger
from metering.review import effects_of
from metering.rules import Rules, Standard
from metering.wire import canonical, received_us

Exclusion = Literal["telemetry", "not_operational", "force_majeure", "no_access", "reed_switch"]
EXCLUSIONS: tuple[Exclusion, ...] = ("telemetry", "not_operational", "force_majeure", "no_access", "reed_switch")
CLAUSES: dict[str, str] = {
    "telemetry": "4.9.2", "not_operational": "4.1.7", "force_majeure": "5.1.1(d)", "no_access": "5.1.2",
    "reed_switch": "5.1.3", "consecutive": "5.2.3",
}  # fmt: skip
ONE_DAY = timedelta(days=1)

ReadErrors: TypeAlias = Mapping[tuple[str, int], bool]  # by meter point and Gas Day (ordinal): what 4.8.12 says of its readings


class PointDay(NamedTuple):
    """A Supply Meter Point on a Gas Day: whether a Valid Meter Reading was provided by 11:00, and why it is not asked.

    `read_error` is what 4.8.12 makes of the readings, whatever validation found: false, they are not Valid; true, they are
    deemed Valid for 5.2.1 and 5.2.2, and not for 5.2.3; null, nothing.
    """

    meter_point: str
    provided: bool
    excluded: Exclusion | None = None
    read_error: bool | None = None

    @property
    def counts(self) -> bool:
        """Whether the Day has its Valid Meter Reading, for 5.2.1 and 5.2.2."""
        return self.provided if self.read_error is None else self.read_error

    @property
    def ends_run(self) -> bool:
        """Whether it has it for 5.2.3."""
        return self.provided and self.read_error is not False


class StatementLine(NamedTuple):
    """A Gas Day of one item of Daily Read Equipment of a User, with the User's points that it serves: they count as one.

    `in_a`, `in_b`: whether it counts in A and B of 5.2.1. `reason` says why it is not in A, or (`consecutive`) why it is not in
    that of 5.2.2, the shortfall's. `run`: failing Days in a row up to this one. `charge_gbp` is due for this Day (5.2.3),
    divided between `sharing` Users.
    """

    user: str
    equipment: str
    gas_day: date
    points: tuple[PointDay, ...]
    in_a: bool
    in_b: bool
    reason: Exclusion | Literal["consecutive"] | None
    run: int
    charge_gbp: Decimal
    sharing: int

    @property
    def month(self) -> str:
        """The calendar month, as 2026-01."""
        return self.gas_day.isoformat()[:7]

    @property
    def missing(self) -> tuple[str, ...]:
        """The points that were to be provided by 11:00, and were not."""
        return tuple(point.meter_point for point in self.points if point.excluded is None and not point.counts)


class Statement(NamedTuple):
    """A User's month: the record (null where no Day of the User is due in it), and the lines that make it up."""

    record: Performance | None
    lines: list[StatementLine]


def performance(
    facts: Iterable[AnyFact], ledger: Iterable[AnyRecord], as_of_us: int, rules: Rules, read_errors: ReadErrors | None = None
) -> list[Performance]:
    """The record of every User and month, by User and month. `ledger` is that of the facts, as of the same instant."""
    return summed(statement_lines(facts, ledger, as_of_us, rules, read_errors=read_errors), rules)


def statement(
    user: str, month: str, facts: Iterable[AnyFact], ledger: Iterable[AnyRecord], as_of_us: int, rules: Rules,
    read_errors: ReadErrors | None = None,
) -> Statement:  # fmt: skip
    """How a User's record of a month came about. `month` as 2026-01."""
    lines = statement_lines(facts, ledger, as_of_us, rules, user=user, read_errors=read_errors)
    of_month = sorted((line for line in lines if line.month == month), key=lambda line: (line.gas_day, line.equipment))
    return Statement(next(iter(summed(of_month, rules)), None), of_month)


def statement_lines(
    facts: Iterable[AnyFact], ledger: Iterable[AnyRecord], as_of_us: int, rules: Rules, *, user: str | None = None,
    read_errors: ReadErrors | None = None,
) -> Iterator[StatementLine]:  # fmt: skip
    """Every Day whose 11:00 has passed, of every item of every User (or of one), by User, equipment and Day. What 4.8.12 makes
    of readings is found from the facts, where it is not given."""
    facts = list(facts)
    if read_errors is None:
        read_errors = of_read_errors(facts, as_of_us, rules)
    known = _Known(facts, as_of_us, rules, read_errors)
    known.take_days(record for record in ledger if isinstance(record, Day))
    served: defaultdict[tuple[str, str], list[_Point]] = defaultdict(list)
    for _, point in sorted(known.points.items()):
        for key in sorted({(each, day.equipment) for day in point.days for each in day.users}):
            served[key].append(point)
    for key in sorted(served):
        if user is None or key[0] == user:
            yield from _lines(*key, served[key], known)


def of_read_errors(facts: Iterable[AnyFact], as_of_us: int, rules: Rules) -> ReadErrors:
    """What Daily Read Errors make of readings, as of an instant (4.8.12). The points concerned, few, are gone through again."""
    facts, days = list(facts), rules.calendar()
    concerned = {fact.meter_point for fact in facts if isinstance(fact, ReadErrorNotice) and received_us(fact) <= as_of_us}
    known = FactsByPoint(fact for fact in facts if meter_point_of(fact) in concerned or isinstance(fact, CalorificValue))
    found: dict[tuple[str, int], bool] = {}
    for meter_point in sorted(concerned):
        point, _ = point_ledger(meter_point, known.concerning(meter_point), as_of_us, rules, days)
        found |= {(meter_point, day): deemed.valid for day, deemed in effects_of(point).valid.items()}
    return found


def summed(lines: Iterable[StatementLine], rules: Rules) -> list[Performance]:
    """The records that lines sum to, by User and month."""
    months: defaultdict[tuple[str, str], _Sums] = defaultdict(_Sums)
    for line in lines:
        months[line.user, line.month].add(line)
    return [sums.record(*key, rules.standard(date.fromisoformat(f"{key[1]}-01"))) for key, sums in sorted(months.items())]


class _Terms(NamedTuple):
    """What a registration says of the equipment: from which Day on, by telemetry or not, and since when it was notified."""

    since: date
    telemetry: bool
    notice: date


class _Point:
    """A Supply Meter Point: what was told of it, and its Days."""

    def __init__(self) -> None:
        self.terms: list[_Terms] = []
        self.excluded: list[Excluded] = []
        self.days: list[Day] = []
        self.first_valid: dict[str, date] = {}  # by equipment

    def exclusion(self, day: Day) -> Exclusion | None:
        """Why the point is no Performance Relevant Supply Meter on a Day; None where it is one."""
        found = bisect_right(self.terms, day.gas_day, key=lambda terms: terms.since)
        terms = self.terms[found - 1] if found else None
        if terms is not None and terms.telemetry:
            return "telemetry"
        first = self.first_valid.get(day.equipment)
        if first is None or day.gas_day < first or (terms is not None and day.gas_day < terms.notice):
            return "not_operational"
        reasons = {
            each.reason for each in self.excluded
            if each.from_ <= day.gas_day and (each.until is None or day.gas_day <= each.until)
        }  # fmt: skip
        return min(reasons, key=EXCLUSIONS.index, default=None)


class _Known:
    """What the facts received by an instant say for paragraph 5, and the Days that are due then, by point."""

    def __init__(self, facts: Iterable[AnyFact], as_of_us: int, rules: Rules, read_errors: ReadErrors) -> None:
        self.as_of_us, self.rules, self.read_errors = as_of_us, rules, read_errors
        self.calendar: GasDays = rules.calendar()
        self.points: defaultdict[str, _Point] = defaultdict(_Point)
        self.published: dict[tuple[str, str, date], datetime] = {}
        kinds: tuple[type[AnyFact], ...] = (Registered, Excluded)
        if any(_published(each) for each in rules.performance):
            kinds = (*kinds, Provided)
        told = once(fact for fact in facts if isinstance(fact, kinds) and received_us(fact) <= as_of_us)
        self._take_facts(sorted(told, key=lambda fact: (received_us(fact), canonical(fact))))

    def _take_facts(self, told: list[AnyFact]) -> None:
        """Sort in what was told, in the order of receipt: the latest counts."""
        registered: defaultdict[str, dict[date, Registered]] = defaultdict(dict)
        excluded: defaultdict[str, dict[tuple[str, date], Excluded]] = defaultdict(dict)
        for fact in told:
            if isinstance(fact, Registered):
                registered[fact.meter_point][fact.gas_day] = fact
            elif isinstance(fact, Excluded):
                excluded[fact.meter_point][fact.reason, fact.from_] = fact
            elif isinstance(fact, Provided) and received_us(fact) <= self.calendar.eleven_us(fact.gas_day.toordinal()):
                assert fact.received_at is not None
                self.published[fact.meter_point, fact.user, fact.gas_day] = fact.received_at
        for meter_point, by_day in registered.items():
            self.points[meter_point].terms = _terms([by_day[day] for day in sorted(by_day)])
        for meter_point, spans in excluded.items():
            self.points[meter_point].excluded = list(spans.values())

    def take_days(self, days: Iterable[Day]) -> None:
        """Sort in the ledger's Days."""
        for day in days:
            point = self.points[day.meter_point]
            if day.valid or day.by_11:
                first = point.first_valid.get(day.equipment)
                point.first_valid[day.equipment] = day.gas_day if first is None else min(first, day.gas_day)
            if self.calendar.eleven_us(day.gas_day.toordinal()) <= self.as_of_us:
                point.days.append(day)

    def on(self, day: Day, user: str) -> PointDay:
        """How a point stands on a Day for one of its Users."""
        read_error = self.read_errors.get((day.meter_point, day.gas_day.toordinal())) if self.read_errors else None
        return PointDay(
            day.meter_point, self._provided(day, user), self.points[day.meter_point].exclusion(day), read_error
        )  # fmt: skip

    def _provided(self, day: Day, user: str) -> bool:
        """Whether Valid readings were provided by 11:00; published ones were Valid where they had become so before."""
        if not day.by_11 or not _published(self.rules.standard(day.gas_day)):
            return day.by_11
        at, valid_at = self.published.get((day.meter_point, user, day.gas_day)), day.valid_at
        if at is None or valid_at is None or valid_at <= at:
            return at is not None
        return to_us(valid_at) > self.calendar.eleven_us(day.gas_day.toordinal())  # Valid anew, after a break since 11:00


def _published(standard: Standard) -> bool:
    return standard.provided_by == "published"


def _terms(registrations: list[Registered]) -> list[_Terms]:
    """What registrations say, in the order of their Days. One that is silent about the notice leaves it as it was, as long as
    the equipment is the same; before any notice it is the registration date (4.1.7(a))."""
    found: list[_Terms] = []
    notice, equipment = date.min, None
    for each in registrations:
        if each.operational_notice is not None:
            notice = each.operational_notice
        elif each.equipment != equipment:
            notice = registrations[0].gas_day
        equipment = each.equipment
        found.append(_Terms(each.gas_day, each.telemetry, notice))
    return found


def _lines(user: str, equipment: str, points: list[_Point], known: _Known) -> Iterator[StatementLine]:
    """The lines of one item of one User, in the order of Days."""
    by_day: defaultdict[date, list[Day]] = defaultdict(list)
    for point in points:
        for day in point.days:
            if day.equipment == equipment and user in day.users:
                by_day[day.gas_day].append(day)
    run, before = 0, date.min
    for gas_day in sorted(by_day):
        if gas_day - before > ONE_DAY:  # the equipment was not the User's
            run = 0
        before = gas_day
        line = _line(user, by_day[gas_day], known, run)
        run = line.run
        yield line


def _line(user: str, days: list[Day], known: _Known, run: int) -> StatementLine:
    """One Day of an item, after so many failing Days in a row. `days` are those of its points."""
    gas_day, standard = days[0].gas_day, known.rules.standard(days[0].gas_day)
    points = tuple(known.on(day, user) for day in days)
    relevant = [point for point in points if point.excluded is None]
    reason: Exclusion | Literal["consecutive"] | None = None
    sharing = {each for day, point in zip(days, points, strict=True) if point.excluded is None for each in day.users}
    charge_gbp = Decimal(0)
    if not relevant:
        reason = min((point.excluded for point in points if point.excluded is not None), key=EXCLUSIONS.index)
    elif all(point.ends_run for point in relevant):
        run = 0
    else:
        run += 1
        if run > standard.consecutive_days:
            reason, charge_gbp = "consecutive", standard.consecutive_gbp
    return StatementLine(
        user, days[0].equipment, gas_day, points, in_a=bool(relevant),
        in_b=bool(relevant) and all(point.counts for point in relevant), reason=reason, run=run, charge_gbp=charge_gbp,
        sharing=len(sharing),
    )  # fmt: skip


class _Sums:
    """What the lines of a User's month add up to. `short_a`, `short_b` are A and B of 5.2.2."""

    def __init__(self) -> None:
        self.a = self.b = self.short_a = self.short_b = self.further = 0
        self.gbp = Fraction(0)

    def add(self, line: StatementLine) -> None:
        """Count a line in."""
        self.a += line.in_a
        self.b += line.in_b
        if line.reason == "consecutive":
            self.further += 1
            self.gbp += Fraction(line.charge_gbp) / line.sharing
        else:
            self.short_a += line.in_a
            self.short_b += line.in_b

    def record(self, user: str, month: str, standard: Standard) -> Performance:
        """The record, by the standard of the month."""
        required, rate = standard.required, standard.shortfall_gbp
        met = self.b >= required * self.a
        shortfall = required * 0 if met else max(required * 0, required * self.short_a - self.short_b)
        return Performance(
            user=user, month=month, a=self.a, b=self.b, ratio=_rounded(Fraction(self.b, self.a), 6) if self.a else None,
            required=required, met=met, shortfall=shortfall,
            shortfall_gbp=None if rate is None else _rounded(Fraction(shortfall) * Fraction(rate), 2),
            consecutive_days=self.further, consecutive_gbp=_rounded(self.gbp, 2),
        )  # fmt: skip


def _rounded(value: Fraction, places: int) -> Decimal:
    """A number of 0 or more, half up to so many places."""
    return Decimal((2 * value.numerator * 10**places + value.denominator) // (2 * value.denominator)).scaleb(-places)
