"""When a meter's clock may be moved, and in what steps. Pure: instants are integers (`*_us`), offsets are the meter's clock
less the gateway's.

A step makes one recorded interval longer or shorter, so it is small, there is at most one in each, and none is taken so
near to a boundary that it could cross it: a meter would log that boundary twice, or not at all. Around the end of the
Gas Day, by the meter's clock or by ours, nothing is moved: it is the boundary that a Day's volume rests on.
"""

from __future__ import annotations

from typing import Protocol

from metering.gasday import SECOND_US, GasDays

SET_FROM_S = 2.0  # what is nearer is as good as right: a question takes as long over a slow line
MARGIN_S = 60  # from each boundary of the recording interval, before and after the step
QUIET_S = 1800  # from the Gas Day's boundary at 05:00
TRY_EVERY_S = 30
LOOK_AHEAD_S = 2 * 86_400


class ClockSettings(Protocol):
    """What is done about meters' clocks (`dailyread.config.MeterClocksConfig`)."""

    @property
    def set(self) -> bool: ...
    @property
    def step_max_s(self) -> float: ...
    @property
    def alarm_s(self) -> float: ...


def may_step(now_us: int, offset_s: float, step_max_s: float, interval_s: int, days: GasDays) -> bool:
    """Whether a meter that records every `interval_s` may now be moved by a step towards the right time."""
    shows_us = now_us + _us(offset_s)
    moved_us = shows_us - _us(max(-step_max_s, min(offset_s, step_max_s)))
    low_us, high_us = min(shows_us, moved_us), max(shows_us, moved_us)
    if any(_near_a_days_start(instant_us, days) for instant_us in (now_us, low_us, high_us)):
        return False
    start_us = days.start_us(days.day_of(low_us))
    first, last = low_us - MARGIN_S * SECOND_US - start_us, high_us + MARGIN_S * SECOND_US - start_us
    return first // (interval_s * SECOND_US) == last // (interval_s * SECOND_US)


def next_step_us(
    now_us: int, last_us: int | None, offset_s: float, step_max_s: float, interval_s: int, days: GasDays
) -> int | None:
    """When the next step may be taken, where the last was at `last_us`; None where none is needed, or none ever fits."""
    if abs(offset_s) < SET_FROM_S:
        return None
    first_us = now_us if last_us is None else max(now_us, last_us + interval_s * SECOND_US)
    tries = range(first_us, first_us + LOOK_AHEAD_S * SECOND_US, TRY_EVERY_S * SECOND_US)
    return next((at_us for at_us in tries if may_step(at_us, offset_s, step_max_s, interval_s, days)), None)


def _near_a_days_start(instant_us: int, days: GasDays) -> bool:
    return days.day_of(instant_us - QUIET_S * SECOND_US) != days.day_of(instant_us + QUIET_S * SECOND_US)


def _us(seconds: float) -> int:
    return round(seconds * SECOND_US)
