"""A User's month as its statement shows it: the record, and the lines that make it up by equipment and by Day. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import NamedTuple

from dailyread.report.summary import Share
from metering.ledger import Performance
from metering.performance import CLAUSES, StatementLine, summed
from metering.rules import Rules

REASONS = {
    "telemetry": "telemetry equipment",
    "not_operational": "not operational yet",
    "force_majeure": "Force Majeure",
    "no_access": "no access to the equipment",
    "reed_switch": "Reed Switch",
}


class Mark(Enum):
    """What a Day of an item of equipment is in a statement: one glyph, one word, one sentence each."""

    BY_11 = ("·", "by 11", "Valid by 11:00: in A and in B")
    FAILED = ("F", "failed", "not Valid by 11:00: in A, not in B")
    FURTHER = ("£", "further", "failed, and so many Days in a row before that it is paid for (5.2.3)")
    EXCLUDED = ("x", "excluded", "left out: neither in A nor in B")

    def __init__(self, glyph: str, word: str, meaning: str) -> None:
        self.glyph = glyph
        self.word = word
        self.meaning = meaning


class EquipmentMonth(NamedTuple):
    """An item of equipment in a User's month. `gbp` is the User's part of what its further failing Days cost; `excluded` are
    spans of Days, both included, by reason."""

    equipment: str
    points: tuple[str, ...]
    a: int
    b: int
    consecutive_days: int
    gbp: Decimal
    excluded_days: int
    excluded: tuple[tuple[str, date, date], ...]
    lines: dict[date, StatementLine]


class UserMonth(NamedTuple):
    """A User's statement of a month. `share_of_day` is B beside A, Day by Day."""

    record: Performance
    equipment: tuple[EquipmentMonth, ...]
    gas_days: tuple[date, ...]
    share_of_day: dict[date, Share]
    rate_gbp: Decimal | None

    @property
    def further(self) -> tuple[StatementLine, ...]:
        """The Days that are to be paid for under 5.2.3, by Day and equipment."""
        lines = (line for item in self.equipment for line in item.lines.values() if line.reason == "consecutive")
        return tuple(sorted(lines, key=lambda line: (line.gas_day, line.equipment)))


def user_months(lines: Iterable[StatementLine], rules: Rules) -> list[UserMonth]:
    """The statements that lines make up, by User and month."""
    groups: defaultdict[tuple[str, str], list[StatementLine]] = defaultdict(list)
    for line in lines:
        groups[line.user, line.month].append(line)
    return [_user_month(group, rules) for _, group in sorted(groups.items())]


def mark_of(line: StatementLine) -> Mark:
    """What the line's Day is in the statement."""
    if not line.in_a:
        return Mark.EXCLUDED
    if line.in_b:
        return Mark.BY_11
    return Mark.FURTHER if line.reason == "consecutive" else Mark.FAILED


def reason_of(reason: str) -> str:
    """Why a Day is left out, with the clause."""
    return f"{REASONS.get(reason, reason)} ({CLAUSES.get(reason, '')})"


def _user_month(lines: Sequence[StatementLine], rules: Rules) -> UserMonth:
    by_equipment: defaultdict[str, list[StatementLine]] = defaultdict(list)
    shares: dict[date, Share] = {}
    for line in sorted(lines, key=lambda line: line.gas_day):
        by_equipment[line.equipment].append(line)
        share = shares.get(line.gas_day, Share())
        shares[line.gas_day] = Share(share.due + line.in_a, share.by_11 + line.in_b)
    (record,) = summed(lines, rules)
    first = date.fromisoformat(f"{record.month}-01")
    return UserMonth(
        record=record,
        equipment=tuple(_equipment(name, of_it, rules) for name, of_it in sorted(by_equipment.items())),
        gas_days=tuple(shares),
        share_of_day=shares,
        rate_gbp=rules.standard(first).shortfall_gbp,
    )


def _equipment(name: str, lines: Sequence[StatementLine], rules: Rules) -> EquipmentMonth:
    (alone,) = summed(lines, rules)
    return EquipmentMonth(
        equipment=name,
        points=tuple(sorted({point.meter_point for line in lines for point in line.points})),
        a=alone.a,
        b=alone.b,
        consecutive_days=alone.consecutive_days,
        gbp=alone.consecutive_gbp,
        excluded_days=sum(not line.in_a for line in lines),
        excluded=tuple(_spans(lines)),
        lines={line.gas_day: line for line in lines},
    )


def _spans(lines: Sequence[StatementLine]) -> list[tuple[str, date, date]]:
    """Unbroken spans of Days left out for one reason."""
    spans: list[tuple[str, date, date]] = []
    for line in lines:
        if line.in_a:
            continue
        reason = str(line.reason)
        if spans and spans[-1][0] == reason and line.gas_day - spans[-1][2] == timedelta(days=1):
            spans[-1] = (reason, spans[-1][1], line.gas_day)
        else:
            spans.append((reason, line.gas_day, line.gas_day))
    return spans


def exact_share(part: int, whole: int) -> str:
    """Per cent with one decimal, cut off: what is below the standard never reads as met."""
    return Share(whole, part).percent


def exact(value: Decimal | Fraction) -> str:
    """A number without needless zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
