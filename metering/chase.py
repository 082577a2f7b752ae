"""Before 11:00: which equipment has no Valid readings yet for the Day that ended last, and which of it to chase first.

Pure: how each item of equipment stood on each Day in (`EquipmentDay`), a `Chase` out. 97.5% of the Days of a User's equipment
in a month are to be Valid by 11:00 (5.2.1), and from the fifth failing Day in a row on each costs (5.2.3): so an item is worth
what its Day would cost, and how many Users count it. The order is ours; the rules page tells it.
"""

from __future__ import annotations

from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Literal, NamedTuple

from metering.facts import AnyFact, PollFailed, Readings
from metering.gasday import GasDays, to_datetime, to_us
from metering.ledger import Day

REQUIRED = Fraction(975, 1000)  # 5.2.1
CONSECUTIVE_DAYS = 4  # 5.2.3: each failing Day after so many in a row costs
CONSECUTIVE_GBP = Decimal(75)
HISTORY_DAYS = 28
LIKELY, UNLIKELY = Fraction(2, 3), Fraction(1, 3)
UNKNOWN_CHANCE = Fraction(1, 2)

Outlook = Literal["likely", "uncertain", "unlikely"]


class EquipmentDay(NamedTuple):
    """An item of equipment on a Gas Day, with all meters that it serves: they count as one (5.1.1(c)).

    `provided`: all were Valid by the Day's 11:00; of a Day whose 11:00 is to come, all are Valid now. `valid_at` is when the
    last of them became so, null where one is not. `excluded` says why M5 does not count the Day; empty: it does.
    """

    equipment: str
    gas_day: date
    meter_points: tuple[str, ...]
    users: tuple[str, ...]
    provided: bool
    valid_at: datetime | None
    lacking: tuple[Day, ...] = ()
    excluded: str = ""


class Contact(NamedTuple):
    """What is known of a meter point's line: when its readings were last received, and how often it was asked in vain for the
    Day that is chased, with what the last of these polls found."""

    heard_at: datetime | None = None
    failed_polls: int = 0
    reason: str = ""


class History(NamedTuple):
    """Of an item's last counted Days (`HISTORY_DAYS` at most): how many were Valid by 11:00, on how many it was still missing
    as long before 11:00 as it is now, and how many of these came by 11:00 all the same."""

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
    """Equipment to chase. `run`: how many counted Days before this one failed in a row; `charge_gbp`: what this Day costs under
    5.2.3 if it fails, for all its Users together; `short_users`: its Users that are below 97.5% on this Day."""

    day: EquipmentDay
    run: int
    charge_gbp: Decimal
    short_users: int
    history: History
    contact: Contact


class Need(NamedTuple):
    """What a User's standard needs: of the Day, and of its month, if the equipment stays the same until its end.

    `a`, `b`: the Day's equipment, and how much of it is Valid; `needed`: how many more make 97.5% of it. `month_a`, `month_b`:
    the month's Days before. `bearable`: how many failing Days, this one's included, the month still bears; below 0: none, and
    the standard cannot be met any more.
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
    missing equipment that M5 does not count."""

    gas_day: date
    as_of: datetime
    eleven: datetime
    items: tuple[Item, ...]
    needs: tuple[Need, ...]
    excluded: tuple[EquipmentDay, ...]

    @property
    def is_over(self) -> bool:
        """Whether 11:00 has passed: what is missing has failed."""
        return self.as_of > self.eleven


def target_day(as_of: datetime, calendar: GasDays) -> date:
    """The Gas Day that ended last."""
    return date.fromordinal(calendar.day_of(to_us(as_of)) - 1)


def chase(
    days: Iterable[EquipmentDay],
    as_of: datetime,
    calendar: GasDays,
    contacts: Mapping[str, Contact] | None = None,
    *,
    consecutive_gbp: Decimal = CONSECUTIVE_GBP,
) -> Chase:
    """What to chase as of an instant. `days` are those of the ledger as of it; `contacts` are by meter point."""
    target = target_day(as_of, calendar)
    counted, today, excluded = _sorted_out(days, target)
    needs = {user: _need(user, target, today, counted) for user in sorted({u for day in today for u in day.users})}
    items = [
        Item(
            day=day,
            run=max(_runs(day, counted[day.equipment]).values()),
            charge_gbp=_charge(day, counted[day.equipment], consecutive_gbp),
            short_users=sum(needs[user].needed > 0 for user in day.users),
            history=_history(counted[day.equipment], as_of, target, calendar),
            contact=_contact(day, contacts or {}),
        )
        for day in today
        if not day.provided
    ]
    eleven = to_datetime(calendar.eleven_us(target.toordinal()))
    return Chase(target, as_of, eleven, tuple(sorted(items, key=_worth)), tuple(needs.values()), tuple(excluded))


def equipment_days(days: Iterable[Day], excluded: Mapping[tuple[str, date], str]) -> list[EquipmentDay]:
    """The ledger's Days by equipment. `excluded` tells by equipment and Gas Day why M5 does not count it."""
    groups: defaultdict[tuple[str, date], list[Day]] = defaultdict(list)
    for day in days:
        groups[day.equipment, day.gas_day].append(day)
    return [_together(group, excluded.get(key, "")) for key, group in groups.items()]


def contacts(facts: Iterable[AnyFact], gas_day: date, as_of: datetime) -> dict[str, Contact]:
    """What the facts received by then tell of each meter point's line."""
    known: defaultdict[str, Contact] = defaultdict(Contact)
    for fact in sorted(_received(facts, as_of), key=lambda fact: fact.received_at or as_of):
        if isinstance(fact, Readings) and fact.source == "dre":
            known[fact.meter_point] = known[fact.meter_point]._replace(heard_at=fact.received_at)
        elif isinstance(fact, PollFailed) and fact.gas_day == gas_day:
            before = known[fact.meter_point]
            known[fact.meter_point] = before._replace(failed_polls=before.failed_polls + 1, reason=fact.reason)
    return dict(known)


def _received(facts: Iterable[AnyFact], as_of: datetime) -> list[AnyFact]:
    return [fact for fact in facts if fact.received_at is not None and fact.received_at <= as_of]


def _together(group: Sequence[Day], excluded: str) -> EquipmentDay:
    instants = [day.valid_at for day in group if day.valid and day.valid_at is not None]
    lacking = tuple(day for day in group if not day.valid)
    return EquipmentDay(
        equipment=group[0].equipment,
        gas_day=group[0].gas_day,
        meter_points=tuple(sorted(day.meter_point for day in group)),
        users=tuple(sorted({user for day in group for user in day.users})),
        provided=all(day.by_11 for day in group),
        valid_at=max(instants, default=None) if not lacking else None,
        lacking=lacking,
        excluded=excluded,
    )


def _sorted_out(
    days: Iterable[EquipmentDay], target: date
) -> tuple[dict[str, list[EquipmentDay]], list[EquipmentDay], list[EquipmentDay]]:
    """Counted Days before the target by equipment, latest first; the target's that count; the target's that do not and lack."""
    counted: defaultdict[str, list[EquipmentDay]] = defaultdict(list)
    today: list[EquipmentDay] = []
    excluded: list[EquipmentDay] = []
    for day in sorted(days, key=lambda day: (day.gas_day, day.equipment), reverse=True):
        if day.gas_day < target and not day.excluded:
            counted[day.equipment].append(day)
        elif day.gas_day == target and not day.excluded:
            today.append(day)
        elif day.gas_day == target and not day.provided:
            excluded.append(day)
    return counted, today[::-1], excluded[::-1]


def _need(user: str, target: date, today: Sequence[EquipmentDay], counted: Mapping[str, Sequence[EquipmentDay]]) -> Need:
    of_day = [day.provided for day in today if user in day.users]
    a, b = len(of_day), sum(of_day)
    before = [
        day.provided
        for days in counted.values()
        for day in days
        if (day.gas_day.year, day.gas_day.month) == (target.year, target.month) and user in day.users
    ]
    days_left = monthrange(target.year, target.month)[1] - target.day + 1
    may_fail = int((len(before) + a * days_left) * (1 - REQUIRED))
    return Need(
        user=user,
        a=a,
        b=b,
        needed=max(0, _up(a * REQUIRED) - b),
        month_a=len(before),
        month_b=sum(before),
        bearable=may_fail - (len(before) - sum(before)),
    )


def _up(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


def _runs(today: EquipmentDay, before: Sequence[EquipmentDay]) -> dict[str, int]:
    """How many of the counted Days before failed in a row, for each User. An excluded Day neither counts nor ends a run."""
    runs = dict.fromkeys(today.users, 0)
    for user in today.users:
        for day in before:
            if user not in day.users or day.provided:
                break
            runs[user] += 1
    return runs


def _charge(today: EquipmentDay, before: Sequence[EquipmentDay], gbp: Decimal) -> Decimal:
    """What the Day costs where it fails: the amount is divided between the sharing Users (5.2.5)."""
    paid = sum(run >= CONSECUTIVE_DAYS for run in _runs(today, before).values())
    return (gbp * paid / len(today.users)).quantize(Decimal("0.01"))


def _history(before: Sequence[EquipmentDay], as_of: datetime, target: date, calendar: GasDays) -> History:
    left_us = max(0, calendar.eleven_us(target.toordinal()) - to_us(as_of))
    history = History()
    for day in before[:HISTORY_DAYS]:
        then_us = calendar.eleven_us(day.gas_day.toordinal()) - left_us
        missing = not day.provided or day.valid_at is None or to_us(day.valid_at) > then_us
        history = History(
            days=history.days + 1,
            by_11=history.by_11 + day.provided,
            missing_then=history.missing_then + missing,
            recovered=history.recovered + (missing and day.provided),
        )
    return history


def _contact(day: EquipmentDay, known: Mapping[str, Contact]) -> Contact:
    """Of the meters that lack: the one heard last longest ago, all their failed polls, and the reason of one."""
    of_lacking = [known.get(each.meter_point, Contact()) for each in day.lacking]
    if not of_lacking:
        return Contact()
    heard = [contact.heard_at for contact in of_lacking]
    return Contact(
        heard_at=None if None in heard else min(at for at in heard if at is not None),
        failed_polls=sum(contact.failed_polls for contact in of_lacking),
        reason=next((contact.reason for contact in of_lacking if contact.reason), ""),
    )


def _worth(item: Item) -> tuple[bool, Decimal, int, int, int, int, Fraction, int, str]:
    """What will hardly answer comes last; then the cost of the Day, who needs it, who counts it, the run, the chance."""
    return (
        item.history.outlook == "unlikely",
        -item.charge_gbp,
        -item.short_users,
        -len(item.day.users),
        -len(item.day.meter_points),
        -item.run,
        -item.history.chance,
        item.contact.failed_polls,
        item.day.equipment,
    )
