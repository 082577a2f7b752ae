"""Before 11:00: which equipment has no Valid readings yet for the Day that ended last, and which of it to chase first.

Pure: facts and the ledger in, as `performance` takes them, a `Chase` out. 97.5% of the Days of a User's equipment in a month
are to be Valid by 11:00 (5.2.1), and after four failing Days in a row each further one costs (5.2.3). So an item is worth what
its Day would cost, and how many Users count it; what will hardly answer comes last. The order is ours: the rules page tells it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Literal, NamedTuple, TypeAlias

from metering.facts import AnyFact, PollFailed, Readings
from metering.gasday import GasDays, to_datetime, to_us
from metering.ledger import AnyRecord, Day
from metering.performance import ReadErrors, StatementLine, statement_lines
from metering.replay import once
from metering.rules import Rules
from metering.wire import received_us

HISTORY_DAYS = 28
LIKELY, UNLIKELY = Fraction(2, 3), Fraction(1, 3)
UNKNOWN_CHANCE = Fraction(1, 2)

Outlook = Literal["likely", "uncertain", "unlikely"]
_Days: TypeAlias = Mapping[tuple[str, date], Day]  # by meter point and Gas Day


class Contact(NamedTuple):
    """What is known of a meter point's line: when its readings were last received, and how often it was asked in vain for the
    Day that is chased, with what the last of these polls found."""

    heard_at: datetime | None = None
    failed_polls: int = 0
    reason: str = ""


class History(NamedTuple):
    """Of an item's last counted Days (`HISTORY_DAYS` at most): how many had Valid readings by 11:00, on how many it was still
    missing as long before 11:00 as it is now, and how many of these came by 11:00 all the same."""

    days: int = 0
    by_11: int = 0
    missing_then: int = 0
    recovered: int = 0

    @property
    def chance(self) -> Fraction:
        """How likely it is to come by 11:00: the share of such Days on which it did, beside which its share of all Days weighs
        as much as one Day."""
        share = Fraction(self.by_11, self.days) if self.days else UNKNOWN_CHANCE
        return (self.recovered + share) / (self.missing_then + 1)

    @property
    def outlook(self) -> Outlook:
        """The chance in a word."""
        return "likely" if self.chance >= LIKELY else "unlikely" if self.chance < UNLIKELY else "uncertain"


class Item(NamedTuple):
    """Equipment to chase, for all Users that count it.

    `lacking` are the Days of the points that are not Valid (none where they became so too late, or are not published yet).
    `run`: how many Days before this one failed in a row. `charge_gbp`: what this Day costs under 5.2.3 where it fails, for all
    its Users together. `short_users`: how many of its Users are below their share on this Day.
    """

    equipment: str
    points: tuple[str, ...]
    users: tuple[str, ...]
    lacking: tuple[Day, ...]
    run: int
    charge_gbp: Decimal
    short_users: int
    history: History
    contact: Contact


class Need(NamedTuple):
    """What a User's standard needs: of the Day, and of its month, if the equipment stays the same until its end.

    `a`, `b`: the Day's equipment, and how much of it is Valid; `needed`: how many more make the required share.
    `month_a`, `month_b`: the month's Days before. `bearable`: how many failing Days, this one's included, the month still
    bears; below 0: the standard cannot be met any more, and by how many Days.
    """

    user: str
    a: int
    b: int
    needed: int
    month_a: int
    month_b: int
    bearable: int


class Chase(NamedTuple):
    """The Gas Day that ended last, its 11:00, what is missing (most valuable first), and what each User needs. `excluded` is
    missing equipment that performance does not count, with the reason."""

    gas_day: date
    as_of: datetime
    eleven: datetime
    items: tuple[Item, ...]
    needs: tuple[Need, ...]
    excluded: tuple[tuple[str, str], ...]

    @property
    def is_over(self) -> bool:
        """Whether 11:00 has passed: what is missing has failed."""
        return self.as_of > self.eleven


def target_day(as_of_us: int, calendar: GasDays) -> date:
    """The Gas Day that ended last."""
    return date.fromordinal(calendar.day_of(as_of_us) - 1)


def chase(
    facts: Iterable[AnyFact], ledger: Iterable[AnyRecord], as_of_us: int, rules: Rules, read_errors: ReadErrors | None = None
) -> Chase:
    """What to chase as of an instant. `ledger` is that of the facts, as of the same instant."""
    calendar = rules.calendar()
    target = target_day(as_of_us, calendar)
    eleven_us = calendar.eleven_us(target.toordinal())
    told = [fact for fact in facts if received_us(fact) <= as_of_us]
    days = {(day.meter_point, day.gas_day): day for day in ledger if isinstance(day, Day) and day.gas_day <= target}
    # As if it were 11:00 and nothing more had come: so the Day's own lines say what it costs if it fails.
    lines = list(statement_lines(told, days.values(), max(as_of_us, eleven_us), rules, read_errors=read_errors))
    required = Fraction(rules.standard(target.replace(day=1)).required)
    needs = {user: _need(user, of_user, target, required) for user, of_user in _by_user(lines).items()}
    contact_of = contacts(told, target)
    left_us = max(0, eleven_us - as_of_us)
    items = [
        _item(group, of_equipment, days, needs, _history(of_equipment, days, left_us, calendar), contact_of)
        for group, of_equipment in _missing(lines, target)
    ]
    return Chase(
        gas_day=target,
        as_of=to_datetime(as_of_us),
        eleven=to_datetime(eleven_us),
        items=tuple(sorted(items, key=_worth)),
        needs=tuple(need for need in needs.values() if need.a),
        excluded=_excluded(lines, target),
    )


def contacts(facts: Iterable[AnyFact], gas_day: date) -> dict[str, Contact]:
    """What the facts tell of each meter point's line. A copy of readings that was sent again is no sign of life; failed polls
    are all counted, for two that failed alike look like copies."""
    heard: dict[str, datetime] = {}
    failed: defaultdict[str, list[PollFailed]] = defaultdict(list)
    facts = sorted(facts, key=received_us)
    for fact in once(fact for fact in facts if isinstance(fact, Readings) and fact.source == "dre"):
        assert isinstance(fact, Readings)
        assert fact.received_at is not None
        heard[fact.meter_point] = max(fact.received_at, heard.get(fact.meter_point, fact.received_at))
    for fact in facts:
        if isinstance(fact, PollFailed) and fact.gas_day == gas_day:
            failed[fact.meter_point].append(fact)
    return {
        point: Contact(heard.get(point), len(failed[point]), failed[point][-1].reason if failed[point] else "")
        for point in sorted({*heard, *failed})
    }


def _by_user(lines: Iterable[StatementLine]) -> dict[str, list[StatementLine]]:
    found: defaultdict[str, list[StatementLine]] = defaultdict(list)
    for line in lines:
        found[line.user].append(line)
    return found


def _missing(lines: Iterable[StatementLine], target: date) -> list[tuple[list[StatementLine], list[StatementLine]]]:
    """For each item that lacks on the target: its lines of that Day, one a User that counts it, and those of Days before."""
    of_day: defaultdict[str, list[StatementLine]] = defaultdict(list)
    before: defaultdict[str, list[StatementLine]] = defaultdict(list)
    for line in lines:
        if line.in_a:
            (of_day if line.gas_day == target else before)[line.equipment].append(line)
    return [(group, before[name]) for name, group in of_day.items() if not all(line.in_b for line in group)]


def _excluded(lines: Iterable[StatementLine], target: date) -> tuple[tuple[str, str], ...]:
    found = {
        (line.equipment, str(line.reason))
        for line in lines
        if line.gas_day == target and not line.in_a and not all(point.provided for point in line.points)
    }
    return tuple(sorted(found))


def _item(
    group: Sequence[StatementLine], before: Sequence[StatementLine], days: _Days, needs: Mapping[str, Need], history: History,
    contact_of: Mapping[str, Contact],
) -> Item:  # fmt: skip
    missing = sorted({point for line in group for point in line.missing})
    lacking = tuple(day for point in missing if not (day := days[point, group[0].gas_day]).valid)
    charge = sum((Fraction(line.charge_gbp) / line.sharing for line in group), Fraction(0))
    return Item(
        equipment=group[0].equipment,
        points=tuple(sorted({point.meter_point for line in group for point in line.points})),
        users=tuple(line.user for line in group),
        lacking=lacking,
        run=max(0, *(line.run - 1 for line in group)),
        charge_gbp=(Decimal(charge.numerator) / charge.denominator).quantize(Decimal("0.01")),
        short_users=sum(needs[line.user].needed > 0 for line in group),
        history=history,
        contact=_worst(contact_of.get(point, Contact()) for point in missing),
    )


def _need(user: str, lines: Sequence[StatementLine], target: date, required: Fraction) -> Need:
    of_day = [line.in_b for line in lines if line.gas_day == target and line.in_a]
    month = target.isoformat()[:7]
    before = [line.in_b for line in lines if line.month == month and line.gas_day < target and line.in_a]
    days_left = ((target.replace(day=1) + timedelta(days=32)).replace(day=1) - target).days
    may_fail = int((len(before) + len(of_day) * days_left) * (1 - required))
    return Need(
        user=user,
        a=len(of_day),
        b=sum(of_day),
        needed=max(0, _up(len(of_day) * required) - sum(of_day)),
        month_a=len(before),
        month_b=sum(before),
        bearable=may_fail - (len(before) - sum(before)),
    )


def _up(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


def _history(before: Iterable[StatementLine], days: _Days, left_us: int, calendar: GasDays) -> History:
    """How the item's last Days went, seen from as long before their 11:00 as `left_us`."""
    by_day: defaultdict[date, list[StatementLine]] = defaultdict(list)
    for line in before:
        by_day[line.gas_day].append(line)
    history = History()
    for gas_day in sorted(by_day, reverse=True)[:HISTORY_DAYS]:
        then_us = calendar.eleven_us(gas_day.toordinal()) - left_us
        by_11 = all(line.in_b for line in by_day[gas_day])
        points = {point.meter_point for line in by_day[gas_day] for point in line.points if point.excluded is None}
        missing = not by_11 or any(_valid_after(days[point, gas_day], then_us) for point in points)
        history = History(
            days=history.days + 1,
            by_11=history.by_11 + by_11,
            missing_then=history.missing_then + missing,
            recovered=history.recovered + (missing and by_11),
        )
    return history


def _valid_after(day: Day, then_us: int) -> bool:
    return day.valid_at is None or to_us(day.valid_at) > then_us


def _worst(of_points: Iterable[Contact]) -> Contact:
    """Of several meters: the one heard longest ago, all their failed polls, and the reason of one."""
    known = list(of_points)
    heard = [contact.heard_at for contact in known if contact.heard_at is not None]
    return Contact(
        heard_at=min(heard) if heard and len(heard) == len(known) else None,
        failed_polls=sum(contact.failed_polls for contact in known),
        reason=next((contact.reason for contact in known if contact.reason), ""),
    )


def _worth(item: Item) -> tuple[bool, Decimal, int, int, int, int, Fraction, int, str]:
    """What will hardly answer comes last; then the cost of the Day, who needs it, who counts it, its meters, the run, the
    chance, the polls that it has not answered today."""
    return (
        item.history.outlook == "unlikely",
        -item.charge_gbp,
        -item.short_users,
        -len(item.users),
        -len(item.points),
        -item.run,
        -item.history.chance,
        item.contact.failed_polls,
        item.equipment,
    )
