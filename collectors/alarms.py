"""What becomes an `alarm` fact: a status of a Day's readings, once when it begins; a meter's clock that is too far off, when
that begins and when it ends. Pure.

What was told stands in the outbox (`Told`), so a restart tells nothing twice. Nothing here has a say in what becomes of
readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple, get_args

from collectors.outbox import Told
from metering.facts import Alarm, Status

Kind = Literal["tamper", "battery_low", "reed_switch", "bypass_open"]
KINDS: tuple[Kind, ...] = get_args(Kind)
CLOCK = "clock"  # among what was told; the fact is of the kind `other`


class Alarms(NamedTuple):
    """The facts to tell, and everything that is told then."""

    facts: tuple[Alarm, ...]
    told: frozenset[Told]


def of_day(
    meter_point: str, meter: str, day: int, at: datetime, status: Sequence[Status], told: frozenset[Told], oldest: int
) -> Alarms:
    """The alarms of what a meter's readings of Gas Day `day` (ordinal) are marked with.

    A status of several Days in a row is told once, whichever of these Days is read first. `at` is the Day's end, or now where
    it has not ended: of an ended Day the fact is the same however often it is made. What was told of Days before `oldest`
    is forgotten.
    """
    facts, seen = [], {each for each in told if each.kind == CLOCK or each.gas_day >= oldest}
    for kind in KINDS:
        if kind not in status:
            continue
        if not any(Told(kind, near) in seen for near in (day - 1, day, day + 1)):
            facts.append(Alarm(meter_point=meter_point, meter=meter, at=at, kind=kind))
        seen.add(Told(kind, day))
    return Alarms(tuple(facts), frozenset(seen))


def of_clock(
    meter_point: str, meter: str, day: int, at: datetime, offset_s: float, limit_s: float, told: frozenset[Told]
) -> Alarms:
    """The alarm that the meter's clock is more than `limit_s` from the gateway's, or is within half of that again."""
    before = frozenset(each for each in told if each.kind == CLOCK)
    if not before and abs(offset_s) > limit_s:
        detail = f"its clock is {described(offset_s)}; allowed: {limit_s:g} s"
        return Alarms((_clock_alarm(meter_point, meter, at, detail),), told | {Told(CLOCK, day)})
    if before and abs(offset_s) <= limit_s / 2:
        detail = f"its clock is right again: {described(offset_s)}"
        return Alarms((_clock_alarm(meter_point, meter, at, detail),), told - before)
    return Alarms((), told)


def described(offset_s: float) -> str:
    """An offset in words."""
    return f"{abs(offset_s):.1f} s {'ahead' if offset_s >= 0 else 'behind'}"


def _clock_alarm(meter_point: str, meter: str, at: datetime, detail: str) -> Alarm:
    return Alarm(meter_point=meter_point, meter=meter, at=at, kind="other", detail=detail)
