"""Clocks: the crew of one program on one clock, and a stepped clock in another process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collectors.clock import ClockEnded, Crew, RemoteClock, SystemClock
from simulators.clock import ClockServer, SteppedClock
from tests.patience import patient

START = datetime(2026, 10, 1, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_the_machines_clock_waits_and_is_in_utc() -> None:
    async def run() -> None:
        clock = SystemClock()
        until = clock.now() + timedelta(milliseconds=30)
        await clock.wait_until(until)
        assert clock.now() >= until
        await asyncio.wait_for(clock.wait_until(START - 1000 * HOUR), 1)

    asyncio.run(run())
    assert SystemClock().now().utcoffset() == timedelta()


REFUSING = """
import ctypes, platform, struct
from collectors.clock import SystemClock, is_synchronised
numbers = {"x86_64": (159, 305), "aarch64": (171, 266)}[platform.machine()]  # adjtimex, clock_adjtime
ask = [(0x20, 0, 0, 0), (0x15, 1, 0, numbers[0]), (0x15, 0, 1, numbers[1]), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in ask))
libc = ctypes.CDLL(None, use_errno=True)
filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(ask), ctypes.addressof(program)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter_, 0, 0) == 0, ctypes.get_errno()
print(is_synchronised(SystemClock()))
"""


def test_a_clock_that_may_not_be_asked_about_is_not_taken_for_right() -> None:
    """With a filter of system calls, as a service may have one."""
    done = subprocess.run([sys.executable, "-c", REFUSING], capture_output=True, text=True, timeout=patient(20), check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_virtual_time_waits_for_every_member_of_a_crew() -> None:
    async def run() -> list[tuple[str, int]]:
        clock = SteppedClock(START)
        crew = Crew(clock.join("crew"))
        seen: list[tuple[str, int]] = []

        async def member(name: str, hours: list[int], work_s: float) -> None:
            for hour in hours:
                await crew.wait_until(START + hour * HOUR)
                await asyncio.sleep(work_s)
                seen.append((name, (crew.now() - START) // HOUR))

        jobs = [crew.member(member("slow", [1, 2, 6], 0.02)), crew.member(member("quick", [2, 3, 4], 0))]
        await asyncio.wait_for(asyncio.gather(clock_run(clock), crew_run(crew, clock), *jobs), 5)
        return seen

    async def clock_run(clock: SteppedClock) -> None:
        await clock.run()

    async def crew_run(crew: Crew, clock: SteppedClock) -> None:
        await crew.run()
        for participant in list(clock._joined):
            participant.leave()

    assert asyncio.run(run()) == [("slow", 1), ("quick", 2), ("slow", 2), ("quick", 3), ("quick", 4), ("slow", 6)]


def test_on_the_machines_clock_a_slow_member_holds_up_nobody() -> None:
    async def run() -> None:
        crew = Crew(SystemClock())
        begun = crew.now()

        async def slow() -> None:
            await asyncio.sleep(5)

        async def quick() -> None:
            for n in range(3):
                await crew.wait_until(begun + n * timedelta(milliseconds=20))

        busy = asyncio.create_task(crew.member(slow()))
        running = asyncio.create_task(crew.run())
        await asyncio.wait_for(crew.member(quick()), 1)
        for task in (busy, running):
            task.cancel()

    asyncio.run(run())


def test_a_cancelled_member_does_not_hold_up_the_others() -> None:
    async def run() -> None:
        clock = SteppedClock(START)
        crew = Crew(clock.join("crew"))

        async def wait(hours: int) -> None:
            await crew.wait_until(START + hours * HOUR)

        first, second = asyncio.create_task(crew.member(wait(1))), asyncio.create_task(crew.member(wait(2)))
        tasks = [asyncio.create_task(crew.run()), asyncio.create_task(clock.run())]
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait_for(second, 1)
        assert clock.now() == START + 2 * HOUR
        for task in tasks:
            task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_program_takes_part_in_a_stepped_clock_elsewhere_until_it_ends(kind: str, tmp_path: Path) -> None:
    async def run() -> None:
        clock = SteppedClock(START)
        server = ClockServer(clock)
        address = await (server.listen_tcp() if kind == "tcp" else server.listen_unix(tmp_path / "clock"))
        me, other = clock.join("me"), await RemoteClock.join(address, "other")
        running = asyncio.create_task(clock.run(expected=2))
        assert other.now() == START
        mine = asyncio.create_task(me.wait_until(START + 2 * HOUR))
        await other.wait_until(START + HOUR)
        assert other.now() == START + HOUR
        waiting = asyncio.create_task(other.wait_until(START + 90 * HOUR))
        await mine
        await server.close()
        with pytest.raises(ClockEnded):
            await asyncio.wait_for(waiting, 1)
        me.leave()
        await asyncio.wait_for(running, 1)

    asyncio.run(run())


def test_no_clock_there_is_an_error() -> None:
    with pytest.raises(OSError, match=r"Connect|refused"):
        asyncio.run(RemoteClock.join("tcp://127.0.0.1:1", "me"))
