"""A meter's clock, read and set, and its recording interval, set and read back; within a session.

The clock is two registers, 0.9.2 (date) and 0.9.1 (time), or one of both (`clock_code`, as LIS200's `1:400.0`). It is written
as the meter itself writes it: the same number of digits, the same signs between them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta

from collectors.iec62056_21 import Malformed
from collectors.iec62056_21_data import split_stamp
from collectors.iec62056_21_lis200 import TIME_FORM, time_shown
from collectors.iec62056_21_session import Iec62056Meter, Session
from collectors.reader import Unable
from collectors.reading import PollError

DATE, TIME = "0.9.2", "0.9.1"
AFTER_MIDNIGHT = "000500"
LIS200_ARGUMENT = "1"  # R1 of one value
_UNITS_S = {"s": 1, "min": 60, "h": 3600}


async def clock_offset_s(session: Session, now: Callable[[], datetime]) -> float:
    """The meter's clock less ours, in seconds; to the second, as the meter tells it."""
    if session.meter.clock_code is not None:
        text = await session.value(session.meter.clock_code, LIS200_ARGUMENT)
        return offset_s(session.meter, "", time_shown(text), now())
    date, time = await session.value(DATE), await session.value(TIME)
    at = now()
    if digits(TIME, time)[-6:] < AFTER_MIDNIGHT:
        date = await session.value(DATE)  # midnight may have come between
    return offset_s(session.meter, *date_and_time(date, time), at)


def date_and_time(date: str, time: str) -> tuple[str, datetime]:
    """What 0.9.2 and 0.9.1 say together: S or nothing, and a time without zone."""
    date, time = digits(DATE, date), digits(TIME, time)
    return split_stamp((time[:-6] or date[:-6]) + date[-6:] + time[-6:])


def digits(code: str, text: str) -> str:
    """A date's or a time's digits, six, and S before them perhaps."""
    found = re.sub(r"[:.-]", "", text)
    if not re.fullmatch("[012]?[0-9]{6}", found):
        raise Malformed(f"{code}: {text[:32]!r} is no date and no time")
    return found


def offset_s(meter: Iec62056Meter, season: str, local: datetime, now: datetime) -> float:
    """How far the meter's clock, which shows this, is ahead of `now`; in the hour that comes twice, the smaller of two."""
    return min(((instant - now).total_seconds() for instant in meter.time.instants(season, local)), key=abs)


async def set_clock(session: Session, now: Callable[[], datetime], step_max_s: float) -> float:
    """Move the meter's clock towards ours by `step_max_s` at most, in whole seconds; the offset that is read afterwards."""
    ahead_s = await clock_offset_s(session, now)
    step_s = max(-step_max_s, min(step_max_s, -ahead_s))
    if abs(step_s) < 1:
        return ahead_s
    to_show = timedelta(seconds=ahead_s + math.trunc(step_s))
    if session.meter.clock_code is not None:
        text = session.meter.time.shown(now() + to_show).strftime(TIME_FORM)
        await session.write(session.meter.clock_code, text)
    else:
        await _set_time_of_day(session, lambda: now() + to_show)
    return await clock_offset_s(session, now)


async def _set_time_of_day(session: Session, to_show: Callable[[], datetime]) -> None:
    """Write the time alone: between a new date and a new time the clock would be a day off, whatever is logged meanwhile."""
    date, time = await session.value(DATE), await session.value(TIME)
    to = to_show()  # at 300 Bd what was asked before took seconds
    stamp = session.meter.time.stamp(to)
    if digits(DATE, date)[-6:] != stamp[1:7]:
        raise PollError(session.meter.site, "its clock cannot be moved across midnight")
    local = session.meter.time.shown(to).strftime("%H%M%S")
    await session.write(TIME, _in_the_form_of(time, stamp[0] + local if len(digits(TIME, time)) > 6 else local))


def _in_the_form_of(text: str, new: str) -> str:
    fresh = iter(new)
    return re.sub("[0-9]", lambda _: next(fresh), text)


async def set_interval(session: Session, interval_s: int) -> int:
    """Write the recording interval; what the meter then says that it is, in seconds."""
    meter = session.meter
    assert meter.interval_code is not None
    count, rest = divmod(interval_s, meter.interval_unit_s)
    if rest:
        raise Unable(meter.site, f"an interval of {interval_s} s is no multiple of its {meter.interval_unit_s} s")
    await session.write(meter.interval_code, str(count))
    said = await session.value(meter.interval_code, "" if meter.formatted else LIS200_ARGUMENT)
    number, _, unit = said.partition("*")
    if not re.fullmatch("[0-9]{1,7}", number) or unit.lower() not in ("", *_UNITS_S):
        raise Malformed(f"{meter.interval_code}: {said[:32]!r} is no interval")
    return int(number) * _UNITS_S.get(unit.lower(), meter.interval_unit_s)
