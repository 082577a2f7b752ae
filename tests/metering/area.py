"""Words for tests of performance: Supply Meter Points with their Days as marks, and what is said of their Users.

A mark a Day: `.` readings received at 06:00 after the Day; `l` at 11:00:01, too late; `x` none.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from metering.facts import AnyFact, Excluded, MeterFitted, Provided, Readings, Registered
from metering.gasday import to_us
from metering.ledger import Performance
from metering.performance import StatementLine, performance, statement_lines
from metering.replay import replay
from metering.rules import Rules, Standard
from tests.metering.domain import RULES, gas_day, later, local, start

LONG_BEFORE = "2025-09-01 12:00"
PUBLISHED = Rules(performance=(Standard(provided_by="published"),))
RECEIVED_AT = {".": timedelta(hours=1), "l": timedelta(hours=6, seconds=1)}  # after the Day's end
Reason = Literal["force_majeure", "no_access", "reed_switch"]


def index_at(day: str) -> int:
    """What every meter shows at a Gas Day's start: 10 ticks a Day."""
    return 10 * (gas_day(day) - date(2015, 1, 1)).days


class Area:
    """Some Supply Meter Points, each with equipment of its own unless said otherwise."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules = rules
        self.facts: list[AnyFact] = []

    def point(
        self, name: str = "MP", marks: str = "", *, users: str = "U", equipment: str | None = None, first: str = "2026-01-01",
        known: str = LONG_BEFORE, **more: Any,
    ) -> None:  # fmt: skip
        """A point registered from its first Day on, long known; `users` a letter each, `marks` its Days from that on."""
        self.register(name, first, users=users, equipment=equipment, known=known, **more)
        fitted = MeterFitted(
            meter_point=name, meter="M", at=start(first), index=index_at(first), digits=8, m3_per_tick=Decimal("0.1"),
            q_max_m3_per_h=Decimal(100), received_at=local(known),
        )  # fmt: skip
        self.facts.append(fitted)
        self.days(name, marks, first)

    def register(
        self, name: str, day: str, *, users: str = "U", equipment: str | None = None, known: str = LONG_BEFORE,
        telemetry: bool = False, notice: str | None = None,
    ) -> None:  # fmt: skip
        registered = Registered(
            meter_point=name, gas_day=gas_day(day), users=tuple(users), ldz="EA", annual_quantity_kwh=Decimal(365_000),
            equipment=equipment or f"E-{name}", telemetry=telemetry, received_at=local(known),
            operational_notice=None if notice is None else gas_day(notice),
        )  # fmt: skip
        self.facts.append(registered)

    def days(self, name: str, marks: str, first: str = "2026-01-01") -> None:
        for n, mark in enumerate(marks):
            if mark in RECEIVED_AT:
                self.read(name, later(first, n), start(first, n + 1) + RECEIVED_AT[mark])

    def read(self, name: str, day: str, received: Any) -> None:
        """A Day's two boundary readings."""
        index = index_at(day)
        read = Readings(
            meter_point=name, meter="M", gas_day=gas_day(day), at=(start(day), start(day, 1)), index=(index, index + 10),
            received_at=local(received),
        )  # fmt: skip
        self.facts.append(read)

    def exclude(
        self, from_: str, until: str | None, reason: Reason = "no_access", *, name: str = "MP", known: str = LONG_BEFORE
    ) -> None:
        excluded = Excluded(
            meter_point=name, reason=reason, from_=gas_day(from_), until=None if until is None else gas_day(until),
            received_at=local(known),
        )  # fmt: skip
        self.facts.append(excluded)

    def provide(self, day: str, received: str, *, user: str = "U", version: int = 1, name: str = "MP") -> None:
        fact = Provided(meter_point=name, user=user, gas_day=gas_day(day), version=version, received_at=local(received))
        self.facts.append(fact)

    def records(
        self, until: str | datetime = "2026-02-01 11:00", read_errors: Any = None
    ) -> dict[tuple[str, str], Performance]:
        """The records as of an instant, by User and month."""
        now_us = to_us(local(until))
        ledger = replay(self.facts, now_us, self.rules).values()
        found = performance(self.facts, ledger, now_us, self.rules, read_errors)
        assert [each.key()[1:] for each in found] == sorted(each.key()[1:] for each in found)
        return {(each.user, each.month): each for each in found}

    def january(self, until: str = "2026-02-01 11:00", user: str = "U", read_errors: Any = None) -> Performance:
        return self.records(until, read_errors)[user, "2026-01"]

    def lines(self, until: str = "2026-02-01 11:00", user: str = "U") -> list[StatementLine]:
        now_us = to_us(local(until))
        ledger = replay(self.facts, now_us, self.rules).values()
        return list(statement_lines(self.facts, ledger, now_us, self.rules, user=user))

    def reasons(self, until: str = "2026-02-01 11:00", user: str = "U") -> list[str | None]:
        return [line.reason for line in self.lines(until, user)]


def an_area(*marks: str, rules: Rules = RULES, **more: Any) -> Area:
    """Points MP, MP1, MP2, ... of these marks."""
    area = Area(rules)
    for n, each in enumerate(marks):
        area.point(f"MP{n or ''}", each, **more)
    return area


def money(found: Performance) -> tuple[int, str]:
    return found.consecutive_days, str(found.consecutive_gbp)


def rules(*entries: dict[str, Any]) -> Rules:
    """Settings of performance, from the beginning or from the Gas Day `since` on."""
    return Rules(
        performance=tuple(
            Standard(**{**each, "since": date.fromisoformat(each.get("since", "0001-01-01"))}) for each in entries
        )
    )
