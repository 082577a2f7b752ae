"""The rules in force: the calendar's settings, the validation rules with their actions and parameters, and the standard of
performance with its charges, dated by Gas Day.

The validation rules themselves are in `validation.py`. A TOML file may change a rule's action and parameters from a Gas Day on
(`load`); entries of the past stay as they are.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import date
from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from metering.business_days import BusinessDays
from metering.gasday import BRITISH_DAY_STARTS, DayStart, GasDays
from metering.validation import BIT, RULE_IDS, RULES, Action

GBP_MAX = 1_000_000  # a charge, for one reading or Day


def _at_least(field: str, value: int | Decimal, least: int) -> None:
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError(f"{field}: {value} is not a number")
    if value < least:
        raise ValueError(f"{field}: {value} is not {least} or more")


class Validation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The validation rules from the Gas Day `since` on: the actions that differ from the table's, and the parameters; and from
    how great a difference on a check read is shared out (4.7.4)."""

    since: date = date(1, 1, 1)
    action: dict[str, Action] = {}
    future_s: int = 60
    clock_offset_s: int = 300
    excess_factor: Decimal = Decimal("1.01")
    tolerance: Decimal = Decimal("0.01")
    convertor_ratio_min: Decimal = Decimal("0.5")
    convertor_ratio_max: Decimal = Decimal(100)
    unusual_factor: Decimal = Decimal(5)
    stuck_days: int = 7
    stuck_ticks: int = 10
    check_read_threshold_kwh: Decimal = Decimal(100_000)

    def __post_init__(self) -> None:
        for rule, action in self.action.items():
            if rule not in RULE_IDS:
                raise ValueError(f"action.{rule}: no such rule; there are {', '.join(RULE_IDS)}")
            allowed = RULES[RULE_IDS.index(rule)].allowed
            if action not in allowed:
                raise ValueError(f"action.{rule}: found {action}; allowed: {', '.join(allowed)}")
        for field in ("future_s", "clock_offset_s", "stuck_ticks"):
            _at_least(field, getattr(self, field), 0)
        _at_least("stuck_days", self.stuck_days, 1)
        for field in ("excess_factor", "tolerance", "convertor_ratio_min", "convertor_ratio_max", "unusual_factor"):
            _at_least(field, getattr(self, field), 0)
        _at_least("check_read_threshold_kwh", self.check_read_threshold_kwh, 0)
        if self.convertor_ratio_min > self.convertor_ratio_max:
            raise ValueError(f"convertor_ratio_min: {self.convertor_ratio_min} is above convertor_ratio_max")

    def rejects(self, rule: str) -> bool:
        """Whether a reading that fails the rule is rejected, rather than flagged."""
        return self.action.get(rule, RULES[RULE_IDS.index(rule)].action) == "reject"

    def runs(self, rule: str) -> bool:
        """Whether the rule is looked at."""
        return self.action.get(rule) != "off"

    def running(self, rules: int) -> int:
        """Those of a bit set of rules that are not off."""
        for rule, action in self.action.items():
            if action == "off":
                rules &= ~BIT[rule]
        return rules


class Standard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The standard of providing readings to Users, and what missing it costs, from the Gas Day `since` on (5.2).

    For a month that holds on its first Day: `required`, the share of Days (5.2.1), and `shortfall_gbp`, for each reading
    short of it (5.2.2; unset: no money is shown). For a Day: `consecutive_gbp` is due for each further failing Day of an item
    of equipment, after `consecutive_days` in a row (5.2.3); `provided_by` says what it is to provide readings by 11:00: that
    they were received and Valid, or also published to the User.
    """

    since: date = date(1, 1, 1)
    required: Decimal = Decimal("0.975")
    shortfall_gbp: Decimal | None = None
    consecutive_days: int = 4
    consecutive_gbp: Decimal = Decimal(75)
    provided_by: Literal["received", "published"] = "received"

    def __post_init__(self) -> None:
        for field in ("required", "consecutive_gbp"):
            _at_least(field, getattr(self, field), 0)
        if self.shortfall_gbp is not None:
            _at_least("shortfall_gbp", self.shortfall_gbp, 0)
        _at_least("consecutive_days", self.consecutive_days, 1)
        if self.required > 1 or self.required != round(self.required, 6):
            raise ValueError(f"required: {self.required} is not a share from 0 to 1 of at most 6 places")
        for field in ("shortfall_gbp", "consecutive_gbp"):
            if (getattr(self, field) or 0) > GBP_MAX:
                raise ValueError(f"{field}: {getattr(self, field)} is more than {GBP_MAX:,} pounds")


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that can be configured of the rules. `validation` and `performance` are in the order of `since`; on the Gas Days
    before the first entry the defaults hold."""

    zone: str = "Europe/London"
    day_starts: tuple[DayStart, ...] = BRITISH_DAY_STARTS
    close_out_days: int = 5
    boundary_s: int = 60
    history_days: int = 2557
    validation: tuple[Validation, ...] = (Validation(),)
    performance: tuple[Standard, ...] = (Standard(),)
    bank_holidays_added: tuple[date, ...] = ()
    bank_holidays_removed: tuple[date, ...] = ()

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"zone: {self.zone!r} is no time zone such as Europe/London") from error
        if not self.day_starts:
            raise ValueError("day_starts: at least one entry is needed")
        if both := set(self.bank_holidays_added) & set(self.bank_holidays_removed):
            raise ValueError(f"bank_holidays_added: {min(both)} is in bank_holidays_removed too")
        _at_least("close_out_days", self.close_out_days, 0)
        _at_least("history_days", self.history_days, 1)
        if not 0 < self.boundary_s < 1800:
            raise ValueError(f"boundary_s: {self.boundary_s} is not between 1 and 1799")
        if _begins_late("validation", [entry.since for entry in self.validation]):
            msgspec.structs.force_setattr(self, "validation", (Validation(), *self.validation))
        if _begins_late("performance", [entry.since for entry in self.performance]):
            msgspec.structs.force_setattr(self, "performance", (Standard(), *self.performance))

    def calendar(self) -> GasDays:
        """The calendar of Gas Days under these settings."""
        return GasDays(self.zone, self.day_starts, self.close_out_days)

    def business_days(self) -> BusinessDays:
        """The calendar of Business Days under these settings."""
        return BusinessDays(self.bank_holidays_added, self.bank_holidays_removed)

    @property
    def stuck_days(self) -> int:
        """How many Days back `stuck_register` looks at most."""
        return max(entry.stuck_days for entry in self.validation)

    @property
    def flags_advances(self) -> bool:
        """Whether on any Day an advance that is negative or excessive is only flagged."""
        return any(not entry.rejects(rule) for entry in self.validation for rule in ("negative_advance", "excess_flow"))

    def of(self, day: int) -> Validation:
        """The validation rules that hold on a Gas Day (an ordinal)."""
        if len(self.validation) == 1:
            return self.validation[0]
        found = bisect_right(self.validation, day, key=lambda entry: entry.since.toordinal())
        return self.validation[max(0, found - 1)]

    def standard(self, day: date) -> Standard:
        """The standard of performance that holds on a Gas Day."""
        if len(self.performance) == 1:
            return self.performance[0]
        return self.performance[bisect_right(self.performance, day, key=lambda entry: entry.since) - 1]


def _begins_late(field: str, since: list[date]) -> bool:
    """Whether Days lie before the first of dated entries; ValueError where the order of these is wrong."""
    if not since or since != sorted(set(since)):
        raise ValueError(f"{field}: entries must be in the order of `since`, one a Gas Day")
    return since[0] != date.min


def load(toml: bytes) -> Rules:
    """The rules of a TOML file's bytes. Raises ValueError that names the key, what was found, and what is allowed."""
    try:
        return msgspec.toml.decode(toml, type=Rules)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
