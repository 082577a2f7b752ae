"""When a meter's clock may be moved: never over a boundary, of the Day or of an interval, whatever it shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.clock_mover import ClockMover
from collectors.meter_clock import MARGIN_S, QUIET_S, SET_FROM_S, may_step, next_step_us
from collectors.reader import Unanswered
from metering.gasday import SECOND_US, GasDays, to_datetime, to_us
from simulators.serve import ServedClocks, ServedMeter

DAYS = GasDays()
START_US = DAYS.start_us(date(2026, 10, 28).toordinal())  # 05:00 UTC
STEP_S = 20.0
INTERVALS = [360, 900, 1800, 3600, 7200, 86_400]


def at(clock: str) -> int:
    return to_us(datetime.fromisoformat(f"2026-10-28T{clock}").replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("clock", "offset_s", "allowed"),
    [
        ("12:30:00", 30, True),
        ("12:30:00", -30, True),
        ("12:59:30", 10, False),  # it shows 12:59:40
        ("12:59:30", 90, False),  # it shows 13:01:00, and 13:00:40 afterwards
        ("12:58:00", 90, False),  # it shows 12:59:30
        ("12:00:30", -10, False),
        ("04:45:00", 30, False),  # near the end of the Gas Day
        ("05:15:00", 30, False),
        ("05:31:30", 30, True),
        ("04:28:00", 30, True),
        ("12:30:00", 7 * 3600 * 24, True),  # a week off: it shows the same time of the day
        ("12:30:00", -7.5 * 3600, False),  # it shows 05:00
    ],
)
def test_times_at_which_a_clock_may_be_moved(clock: str, offset_s: float, allowed: bool) -> None:
    assert may_step(at(clock), offset_s, STEP_S, 3600, DAYS) is allowed


@settings(max_examples=300, deadline=None)
@given(
    second=st.integers(0, 3 * 86_400),
    offset_s=st.floats(-100_000, 100_000),
    interval_s=st.sampled_from(INTERVALS),
    step_max_s=st.floats(1, 60),
)
def test_a_step_is_never_over_a_boundary_nor_near_one(second: int, offset_s: float, interval_s: int, step_max_s: float) -> None:
    now_us = DAYS.start_us(date(2026, 10, 24).toordinal()) + second * SECOND_US  # the clocks go back on the 25th
    step_us = next_step_us(now_us, None, offset_s, step_max_s, interval_s, DAYS)
    if step_us is None:
        assert abs(offset_s) < SET_FROM_S or interval_s == 360
        return
    shows = to_datetime(step_us) + timedelta(seconds=offset_s)
    moved = shows - timedelta(seconds=max(-step_max_s, min(offset_s, step_max_s)))
    low, high = sorted((to_us(shows), to_us(moved)))
    for instant_us in (step_us, low, high):
        day = DAYS.day_of(instant_us)
        assert min(instant_us - DAYS.start_us(day), DAYS.end_us(day) - instant_us) >= (QUIET_S - 1) * SECOND_US
    start_us, interval_us = DAYS.start_us(DAYS.day_of(low)), interval_s * SECOND_US
    assert (low - start_us) // interval_us == (high - start_us) // interval_us
    assert (low - start_us) % interval_us >= (MARGIN_S - 1) * SECOND_US
    assert (high - start_us) % interval_us <= interval_us - (MARGIN_S - 1) * SECOND_US


def test_there_is_one_step_at_most_in_an_interval() -> None:
    now_us = at("12:30:00")
    assert next_step_us(now_us, now_us, 300, STEP_S, 3600, DAYS) == at("13:30:00")
    assert next_step_us(now_us, at("09:00:00"), 300, STEP_S, 3600, DAYS) == now_us


@pytest.mark.parametrize("offset_s", [0.0, 1.9, -1.9])
def test_a_clock_that_is_as_good_as_right_is_left_alone(offset_s: float) -> None:
    assert next_step_us(at("12:30:00"), None, offset_s, STEP_S, 3600, DAYS) is None


class Deaf:
    """Takes what it is told, perhaps, and never answers."""

    async def set_clock(self, _now: Callable[[], datetime], _step_max_s: float) -> float:
        raise Unanswered("MP1", "no answer")


def test_a_step_that_was_not_answered_counts_as_one_for_the_meter_may_have_taken_it() -> None:
    meter = ServedMeter(meter_point="MP1", meter="M-1", protocol="dlms", address="tcp://127.0.0.1:1", device=1, map="x")
    mover = ClockMover(meter, ServedClocks(set=True, step_max_s=20), DAYS)
    now_us = at("12:30:00")
    mover.was_read(90.0, now_us)
    assert mover.step_us == now_us
    assert asyncio.run(mover.move(Deaf(), lambda: to_datetime(now_us))) is False  # type: ignore[arg-type]
    mover.was_read(90.0, now_us + 60 * SECOND_US)
    assert mover.step_us is not None
    assert mover.step_us >= now_us + 3600 * SECOND_US
