"""Words for tests of Daily Read Errors: what was received about the notices of one meter point, and what follows from it.

Unless a test says otherwise: the readings of every Day say 100 m³, were provided at 06:00 after the Day, and Days are
closed out as actual. 8 January 2026 is a Thursday; its Exit Close-Out is the start of the 14th.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from metering.facts import (
    AdjustmentAgreed,
    AnyFact,
    EquipmentFault,
    EstimateAccepted,
    ExpertDetermination,
    Inspection,
    ReadErrorNotice,
    RejectionNotice,
)
from metering.gasday import to_datetime, to_us
from metering.ledger import ReadError
from metering.read_error import DayView, Deemed, Effects, read_errors
from metering.rules import Rules
from tests.metering.domain import DAYS, local, start

DAY = "2026-01-08"
FRIDAY = "2026-01-09 10:00"  # the Day after
MICROSECOND = timedelta(microseconds=1)
Received = str | datetime


class Found:
    """What follows as of an instant."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects

    def record(self, day: str = DAY, user: str = "U") -> ReadError:
        (found,) = [one for one in self.effects.records if (one.gas_day.isoformat(), one.user) == (day, user)]
        return found

    def state(self, day: str = DAY, user: str = "U") -> str:
        return self.record(day, user).state

    def volume(self, day: str = DAY, user: str = "U") -> str | None:
        volume = self.record(day, user).volume_m3
        return None if volume is None else str(volume)

    def substitute(self, day: str = DAY) -> tuple[int, str] | None:
        """Litres and clause."""
        found = self.effects.substitutes.get(_ordinal(day))
        return found and (found.litres, found.clause)

    def revised(self, day: str = DAY) -> tuple[int, datetime] | None:
        """Litres, and since when."""
        found = self.effects.revised.get(_ordinal(day))
        return found and (found.litres, to_datetime(found.since_us))

    def deemed(self, day: str = DAY) -> Deemed | None:
        return self.effects.valid.get(_ordinal(day))

    @property
    def next_due(self) -> datetime | None:
        return None if self.effects.next_due_us is None else to_datetime(self.effects.next_due_us)


class Errors:
    """The facts about a point's Daily Read Errors, and what is known of its Days."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.facts: list[AnyFact] = []
        self.litres: dict[str, int] = {}
        self.failed: set[str] = set()
        self.provided: dict[str, Received | None] = {}
        self.close_out: dict[str, Received] = {}  # of a point that became known late
        self.users: Sequence[str] = ("U", "V")

    def notice(self, received: Received, volume: str = "120", day: str = DAY, user: str = "U") -> None:
        self._tell(ReadErrorNotice, received, day, user=user, volume_estimate_m3=Decimal(volume))

    def inspected(
        self, received: Received, *, works: bool, estimate: str | None = None, meter_works: bool = True, day: str = DAY,
        at: Received | None = None,
    ) -> None:  # fmt: skip
        """The transporter's statement; it inspected an hour before, unless `at` says when."""
        self._tell(
            Inspection, received, day, at=local(received) - timedelta(hours=1) if at is None else local(at),
            equipment_works=works, reed_switch_works=True, meter_works=meter_works,
            volume_estimate_m3=None if estimate is None else Decimal(estimate),
        )  # fmt: skip

    def accepted(self, received: Received, day: str = DAY, user: str = "U") -> None:
        self._tell(EstimateAccepted, received, day, user=user)

    def rejected(self, received: Received, day: str = DAY, user: str = "U") -> None:
        self._tell(RejectionNotice, received, day, user=user)

    def expert(self, received: Received, *, works: bool, volume: str, day: str = DAY) -> None:
        self._tell(ExpertDetermination, received, day, equipment_works=works, volume_m3=Decimal(volume))

    def agreed(self, received: Received, volume: str, day: str = DAY) -> None:
        self._tell(AdjustmentAgreed, received, day, volume_m3=Decimal(volume))

    def fault(
        self, received: Received, since: Received, until: Received | None = None, part: Literal["capture", "comms"] = "capture"
    ) -> None:
        """A fault of the part that captures the index, or of the other."""
        fact = EquipmentFault(
            meter_point="MP", part=part, from_=local(since), until=None if until is None else local(until),
            received_at=local(received),
        )  # fmt: skip
        self.facts.append(fact)

    def at(self, now: Received, facts: Sequence[AnyFact] | None = None) -> Found:
        """What follows as of an instant, from the facts told (or from these)."""
        now_us = to_us(local(now))
        given = self.facts if facts is None else facts
        return Found(read_errors("MP", given, lambda day, user: self._view(day, user, now_us), now_us, DAYS, self.rules))

    def _tell(self, kind: type[Any], received: Received, day: str, **more: Any) -> None:
        fact = kind(meter_point="MP", gas_day=date.fromisoformat(day), received_at=local(received), **more)
        self.facts.append(fact)

    def _view(self, day: int, user: str, now_us: int) -> DayView | None:
        name = date.fromordinal(day).isoformat()
        close_out_us = to_us(local(self.close_out.get(name, start(name, 6))))
        if user not in self.users or now_us < DAYS.start_us(day):
            return None
        provided = self.provided.get(name, start(name, 1, 3600))
        provided_us = None if provided is None else to_us(local(provided))
        failed = name in self.failed or provided_us is None or provided_us > close_out_us
        known = provided_us is not None and provided_us <= now_us
        return DayView(
            litres=self.litres.get(name, 100_000) if known and not (failed and now_us >= close_out_us) else None,
            failed_day=failed and now_us >= close_out_us, close_out_us=close_out_us,
            provided_us=provided_us if known else None,
        )  # fmt: skip


def _ordinal(day: str) -> int:
    return date.fromisoformat(day).toordinal()


def noticed(volume: str = "120", received: str = FRIDAY, rules: Rules | None = None) -> Errors:
    """A notice about DAY, given on the Friday."""
    errors = Errors(rules)
    errors.notice(received, volume)
    return errors


def rejected(works: bool, estimate: str | None, user: str = "120", meter_works: bool = True) -> Errors:
    """The notice, the transporter's statement on the Monday, and the User's rejection on the Tuesday."""
    errors = noticed(user)
    errors.inspected("2026-01-12 12:00", works=works, estimate=estimate, meter_works=meter_works)
    errors.rejected("2026-01-13 12:00")
    return errors
