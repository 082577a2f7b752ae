"""Moves one meter's clock towards the right time, a small step at a time, between the polls (`meter_clock.py` says when)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from collectors.alarms import described
from collectors.meter_clock import MARGIN_S, ClockSettings, may_step, next_step_us
from collectors.reader import MeterSettings, Reader, Unable
from collectors.reading import PollError
from metering.gasday import GasDays, to_us

log = logging.getLogger(__name__)
STEP_WITHIN_S = MARGIN_S / 2  # or the boundary that it keeps away from could come meanwhile


class ClockMover:
    """One meter's clock. `step_us`: when `move` is to be called; None: it is not."""

    def __init__(self, meter: MeterSettings, settings: ClockSettings, days: GasDays) -> None:
        self.step_us: int | None = None
        self._meter, self._settings, self._days = meter, settings, days
        self._ahead_s = 0.0
        self._moved_us: int | None = None
        self._moves = settings.set

    def leave_alone(self) -> None:
        """It is never moved: it cannot be, or it is another meter's too, with which it moves."""
        self._moves, self.step_us = False, None

    def was_read(self, ahead_s: float, now_us: int) -> None:
        """It was so far ahead of ours, which is right: plan a step where one is due."""
        self._ahead_s, self.step_us = ahead_s, None
        if self._moves:
            step_max_s, interval_s = self._settings.step_max_s, self._meter.interval_s
            self.step_us = next_step_us(now_us, self._moved_us, ahead_s, step_max_s, interval_s, self._days)

    async def move(self, reader: Reader, now: Callable[[], datetime]) -> bool:
        """One step; hold the line's lock. False where the time for it has passed, or the meter did not take it: then the
        next time that it is read is planned anew."""
        self.step_us, before_s, now_us = None, self._ahead_s, to_us(now())
        named = self._meter.meter_point, self._meter.meter
        if not may_step(now_us, before_s, self._settings.step_max_s, self._meter.interval_s, self._days):
            self.was_read(before_s, now_us)  # somebody had the line for long
            return False
        self._moved_us = now_us  # even where no answer comes: the meter may have taken it
        ahead_s = await self._set(reader, now)
        if ahead_s is None:
            return False
        log.info("%s: the clock of meter %s was %s, and is %s", *named, described(before_s), described(ahead_s))
        if abs(ahead_s) < abs(before_s):
            self.was_read(ahead_s, now_us)
        return True

    async def _set(self, reader: Reader, now: Callable[[], datetime]) -> float | None:
        named = self._meter.meter_point, self._meter.meter
        try:
            async with asyncio.timeout(STEP_WITHIN_S):
                return await reader.set_clock(now, self._settings.step_max_s)
        except Unable as error:
            self.leave_alone()
            log.warning("%s: the clock of meter %s cannot be set: %s", *named, error.cause)
        except PollError as error:
            log.warning("%s: the clock of meter %s was not set: %s", *named, error.cause)
        except TimeoutError:
            log.warning("%s: the clock of meter %s was not set within %g s", *named, STEP_WITHIN_S)
        except Exception:  # a fault of ours with one meter's clock must not end the others' polls
            log.exception("%s: setting the clock of meter %s failed unexpectedly", *named)
        return None
