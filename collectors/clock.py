"""Clocks, handed in at the edge of the program: the machine's own, and a stepped one of simulated runs.

A stepped clock (`simulators/clock.py`) moves only when all who take part wait, so whoever works must not be waiting. One
program takes part once; its tasks share that place through a `Crew`.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import itertools
import json
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

TIME_ERROR = 5  # what adjtimex answers where nothing synchronises the clock
REFUSED = -1  # where we may not ask


class Clock(Protocol):
    """What time it is, and waiting for a later time."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""

    async def wait_until(self, instant: datetime) -> None:
        """Return when it is `instant`; at once where it is that late already."""


class ClockEnded(Exception):
    """The stepped clock has gone: virtual time is over."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def wait_until(self, instant: datetime) -> None:
        # In slices: the wall clock may be set while we sleep, and a sleep does not notice.
        while (left_s := (instant - self.now()).total_seconds()) > 0:
            await asyncio.sleep(min(left_s, 30.0))


def is_synchronised(clock: Clock) -> bool:
    """Whether the clock is known to be right: a stepped one is by definition, the machine's when its kernel says so. Where the
    kernel may not be asked, nothing is known."""
    if not isinstance(clock, SystemClock) or sys.platform != "linux":
        return True
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256))  # all zero: set nothing, only tell
    return state not in (TIME_ERROR, REFUSED)


class RemoteClock:
    """One participant of a stepped clock in another process: JSON lines on a socket.

    `now()` is what the clock last said, which holds for as long as this participant does not wait.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._now: datetime | None = None

    @classmethod
    async def join(cls, address: str, name: str) -> RemoteClock:
        """Take part, under `name`, in the clock at `tcp://HOST:PORT` or `unix:PATH`. OSError where there is none."""
        if address.startswith("unix:"):
            reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        else:
            url = urlsplit(address if "//" in address else address.replace("tcp:", "tcp://", 1))
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
        clock = cls(reader, writer)
        await clock._ask({"join": name})
        return clock

    def now(self) -> datetime:
        assert self._now is not None
        return self._now

    async def wait_until(self, instant: datetime) -> None:
        """As `Clock`; raises ClockEnded where the clock goes meanwhile."""
        if instant > self.now():
            await self._ask({"wait": instant.astimezone(UTC).isoformat()})

    def leave(self) -> None:
        """Take part no longer: time does not wait for us."""
        self._writer.close()

    async def _ask(self, request: dict[str, str]) -> None:
        try:
            self._writer.write(json.dumps(request).encode() + b"\n")
            line = await self._reader.readline()
        except ConnectionError as error:
            raise ClockEnded("the stepped clock has gone") from error
        if not line:
            raise ClockEnded("the stepped clock has gone")
        answer = json.loads(line)
        if "error" in answer:
            raise ClockEnded(f"the stepped clock refused: {answer['error']}")
        self._now = datetime.fromisoformat(answer["now"])


class Crew:
    """The tasks of one program on one clock. Each member either works or waits.

    On the machine's clock each waits by itself. On any other the crew waits, for the earliest awaited instant, once all its
    members wait; so a slow member holds virtual time back, never a real-time one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._alone = isinstance(clock, SystemClock)
        self._working = 0
        self._waits: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._idle = asyncio.Event()

    def now(self) -> datetime:
        """The clock's present instant."""
        return self._clock.now()

    def member(self, job: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
        """The job as a member, which works from now on until it ends. Make all members before any of them runs."""
        self._working += 1
        return self._leaving_after(job)

    async def _leaving_after(self, job: Coroutine[Any, Any, None]) -> None:
        try:
            await job
        finally:
            self._rest()

    async def wait_until(self, instant: datetime) -> None:
        """A member waits."""
        if self._alone:
            return await self._clock.wait_until(instant)
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waits, (instant, next(self._order), wake))
        self._rest()
        try:
            await wake
        except asyncio.CancelledError:
            if not wake.done() or wake.cancelled():
                self._working += 1  # it will leave, as a working member does
            raise

    async def run(self) -> None:
        """Wait on the clock for all members, for as long as there are any. Raises what the clock raises."""
        if self._alone:
            await asyncio.Event().wait()
        while True:
            while self._working:
                self._idle.clear()
                await self._idle.wait()
            waits = self._waits
            while waits and waits[0][2].done():
                heapq.heappop(waits)
            if not waits:
                return
            await self._clock.wait_until(waits[0][0])
            while waits and waits[0][0] <= self._clock.now():
                wake = heapq.heappop(waits)[2]
                if not wake.done():
                    self._working += 1
                    wake.set_result(None)

    def _rest(self) -> None:
        self._working -= 1
        if not self._working:
            self._idle.set()
