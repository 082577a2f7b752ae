"""A meter's clock moved in steps, its recording interval set: written, and read back, over a real pty."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from collectors.iec62056_21 import Malformed
from collectors.iec62056_21_clock import date_and_time, digits
from collectors.profile_maps import Archive
from collectors.reader import Unable
from collectors.reading import PollError
from simulators.faults import ClockOffset
from simulators.iec62056_21_server import MODE_C, Make
from tests.collectors.iec62056_21_rig import SITES, Rig, rig, run

NOW = datetime(2026, 10, 6, 10, 30, tzinfo=UTC)
LIS200: dict[str, Any] = {
    "log": "lis200",
    "archive": Archive(columns={"7-0:13.2.0": 5, "7-0:13.0.0": 7}),
    "formatted": False,
    "clock_code": "1:400.0",
    "lock_code": "4:171.0",
}
WAYS = [(MODE_C, {}), (Make(lis200=True), LIS200)]
T = TypeVar("T")


async def at(it: Rig, now: datetime, work: Callable[[], Awaitable[T]]) -> T:
    it.now = now
    async with it.line.lock:
        return await work()


def ahead_s(it: Rig) -> float:
    return (it.meter.clock(it.now) - it.now).total_seconds()


@pytest.mark.parametrize("name", ["harbour-offices", "lock-infirmary"])
@pytest.mark.parametrize(("make", "known"), WAYS)
@pytest.mark.parametrize("offset_s", [600, -600, 45])
def test_the_clock_is_moved_in_steps(name: str, make: Make, known: dict[str, Any], offset_s: int, tmp_path: Path) -> None:
    async def work() -> None:
        fault = ClockOffset(from_=NOW - timedelta(days=1), until=NOW + timedelta(days=9), offset_s=offset_s)
        async with rig(tmp_path, fault, site=SITES[name], make=make, clock_may_be_set=True, **known) as it:
            left, expected = 0.0, abs(offset_s)
            while expected:
                expected = max(0, expected - 60)
                left = await at(it, NOW, lambda: it.reader().set_clock(lambda: it.now, 60))
                assert abs(left) == expected
                assert ahead_s(it) == left
            assert await at(it, NOW, lambda: it.reader().set_clock(lambda: it.now, 60)) == 0

    run(work)


def test_a_slow_line_does_not_leave_the_clock_behind(tmp_path: Path) -> None:
    """At 300 Bd each question takes seconds, and there are some before the time is written."""

    async def work() -> None:
        fault = ClockOffset(from_=NOW - timedelta(days=1), until=NOW + timedelta(days=9), offset_s=30)
        async with rig(tmp_path, fault, clock_may_be_set=True) as it:

            def takes_time() -> None:
                it.now += timedelta(seconds=2)

            it.meter.spoils_answer = takes_time  # type: ignore[method-assign]
            await at(it, NOW, lambda: it.reader().set_clock(lambda: it.now, 60))
            assert abs(ahead_s(it)) <= 2  # as long as the write takes

    run(work)


def test_a_clock_that_is_less_than_a_second_off_is_left_alone(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, clock_may_be_set=True) as it:
            left = await at(it, NOW + timedelta(seconds=0.7), lambda: it.reader().set_clock(lambda: it.now, 60))
            assert left == pytest.approx(-0.7)
            assert not any(b"W5" in frame.octets for frame in it.line.trace.frames)

    run(work)


def test_the_hour_that_comes_twice(tmp_path: Path) -> None:
    async def work() -> None:
        twice = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
        fault = ClockOffset(from_=twice - timedelta(days=1), until=twice + timedelta(days=1), offset_s=300)
        async with rig(tmp_path, fault, site=SITES["lock-infirmary"], clock_may_be_set=True) as it:
            assert await at(it, twice, lambda: it.reader().set_clock(lambda: it.now, 60)) == 240

    run(work)


def test_the_time_alone_is_not_moved_across_midnight(tmp_path: Path) -> None:
    async def work() -> None:
        midnight = datetime(2026, 10, 6, 0, 0, 20, tzinfo=UTC)
        fault = ClockOffset(from_=midnight - timedelta(days=1), until=midnight + timedelta(days=1), offset_s=60)
        async with rig(tmp_path, fault, clock_may_be_set=True, site=SITES["junction-mill"]) as it:
            now = midnight - timedelta(minutes=1)
            with pytest.raises(PollError, match="its clock cannot be moved across midnight"):
                await at(it, now, lambda: it.reader().set_clock(lambda: it.now, 60))
            assert ahead_s(it) == 60

    run(work)


@pytest.mark.parametrize(
    ("make", "known"),
    [(MODE_C, {"interval_code": "7-0:0.8.1"}), (Make(lis200=True), {**LIS200, "interval_code": "4:150.0"})],
)
def test_the_interval_is_set_and_read_back(make: Make, known: dict[str, Any], tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, site=SITES["harbour-offices"], make=make, **known) as it:
            for interval_s in (360, 3600):
                assert await at(it, NOW, lambda: it.reader().set_interval(interval_s)) == interval_s  # noqa: B023
            with pytest.raises(PollError, match=r"refused: (ER12|#0012)"):
                await at(it, NOW, lambda: it.reader().set_interval(7200))
            with pytest.raises(Unable, match="no multiple of its 60 s"):
                await at(it, NOW, lambda: it.reader().set_interval(390))

    run(work)


def test_what_the_equipment_then_has_is_what_counts(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, interval_code="7-0:0.8.1") as it:
            it.server._side._registers.write = lambda code, value: None  # type: ignore[method-assign]
            assert await at(it, NOW, lambda: it.reader().set_interval(360)) == 3600

    run(work)


def test_a_map_that_does_not_say_how_is_unable_and_nothing_is_sent(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path) as it:
            with pytest.raises(Unable, match="interval_code"):
                await it.reader().set_interval(360)
            with pytest.raises(Unable, match="clock_may_be_set"):
                await it.reader().set_clock(lambda: NOW, 60)
            assert it.line.trace.frames == []

    run(work)


def test_nothing_is_written_without_the_password(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, interval_code="7-0:0.8.1", password=None) as it:
            with pytest.raises(PollError, match=r"7-0:0\.8\.1: refused: ER03"):
                await at(it, NOW, lambda: it.reader().set_interval(360))

    run(work)


def test_dates_and_times_as_meters_write_them() -> None:
    naive = datetime.fromisoformat
    assert date_and_time("26-10-25", "01:30:15") == ("", naive("2026-10-25T01:30:15"))
    assert date_and_time("1261025", "1013015") == ("1", naive("2026-10-25T01:30:15"))
    with pytest.raises(Malformed, match=r"0\.9\.1: '25:00' is no date and no time"):
        digits("0.9.1", "25:00")
