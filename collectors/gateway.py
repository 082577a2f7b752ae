"""The gateway's loop: for every meter a task that waits for its next poll, polls, and puts what came of it on disk.

A task waits only for its own meter and line, so a dead meter slows nobody else down. What several tasks have to store at a
time is stored in one transaction. A Day is settled in the outbox together with its readings, so what is owed survives
a restart; everything else is worked out from the clock. While the disk is full, tasks wait where they are: collecting
stops, and goes on by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, TypeVar

import msgspec

from collectors.clock import Clock, ClockEnded, Crew, SystemClock, is_synchronised
from collectors.outbox import Outbox, OutboxError
from collectors.poll import Polled, make_readers, poll
from collectors.reader import MeterSettings, Reader
from collectors.schedule import MeterState, Outcome, Policy, after, next_ask, owed, spread_us
from collectors.trace import Frame
from metering.facts import AnyFact, GatewayStatus, PollFailed, Readings
from metering.gasday import SECOND_US, GasDays, to_datetime, to_us

log = logging.getLogger(__name__)
DISK_RETRY_S = 2.0
HOUR_US = 3600 * SECOND_US
CANCEL_AGAIN_S = 0.5
R = TypeVar("R")


class PollingSettings(Protocol):
    """When meters are asked (`dailyread.config.PollingConfig`)."""

    @property
    def timeout_s(self) -> float: ...
    @property
    def retry_first_s(self) -> float: ...
    @property
    def retry_max_s(self) -> float: ...
    @property
    def backfill_days(self) -> int: ...


class GatewaySettings(Protocol):
    """A site gateway's configuration (`dailyread.config.GatewayConfig`)."""

    @property
    def gateway(self) -> str: ...
    @property
    def meters(self) -> Sequence[MeterSettings]: ...
    @property
    def polling(self) -> PollingSettings: ...


Evidence = Callable[[str, date, Sequence[Frame]], None]  # of a meter's Day


def no_evidence(_meter: str, _gas_day: date, _frames: Sequence[Frame]) -> None:
    """Keeps none."""


@dataclass
class GatewayCounters:
    """What happened since the start, for status and metrics."""

    polls: int = 0
    failed: int = 0
    readings: int = 0
    away: set[str] = field(default_factory=set)
    disk_refuses: bool = False


@dataclass
class _Meter:
    """One meter at work. `sent` holds how many readings of a partial Day are stored already; `reload`: what is settled is to
    be read from the outbox."""

    settings: MeterSettings
    reader: Reader
    offset_us: int
    state: MeterState = field(default_factory=MeterState)
    sent: dict[int, int] = field(default_factory=dict)
    reload: bool = True


class Gateway:
    """Polls the meters of `settings` until it is stopped or the clock ends. ValueError where the settings do not fit.

    `since`: the first Gas Day to ask for; without it as far back as `polling.backfill_days`. `evidence` is called with the
    octets of each poll that brought readings, in a thread; it must not raise.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        clock: Clock,
        outbox: Outbox,
        *,
        days: GasDays | None = None,
        since: date | None = None,
        evidence: Evidence = no_evidence,
    ) -> None:
        polling = settings.polling
        self.counters = GatewayCounters()
        self._settings, self._clock, self._outbox = settings, clock, outbox
        self._days = days or GasDays()
        self._since = since
        self._evidence = evidence
        self._policy = Policy(
            retry_first_s=polling.retry_first_s,
            retry_max_s=polling.retry_max_s,
            slow_s=4 * polling.retry_max_s,
            backfill_days=polling.backfill_days,
        )
        self._crew = Crew(clock)
        self._store = _Store(outbox, self._crew.now, self.counters)
        self._stop = asyncio.Event()
        readers = make_readers(settings.meters, polling.timeout_s)
        self._meters = [
            _Meter(meter, reader, spread_us(meter.meter_point, self._policy))
            for meter, reader in zip(settings.meters, readers, strict=True)
        ]

    def stop(self) -> None:
        """End `run` soon: polls under way are given up, what is being written is written."""
        self._stop.set()

    async def run(self) -> None:
        """Poll until `stop`, or until the clock ends."""
        members = [self._polls(meter) for meter in self._meters]
        members.append(self._statuses())
        jobs = [asyncio.create_task(self._crew.member(job)) for job in members]
        others = [asyncio.create_task(job) for job in (self._crew.run(), self._store.run(), self._until_stopped())]
        try:
            await asyncio.wait([*jobs, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = [*await _ended(jobs), *await _ended(others)]  # who stores first, then what stores for them
            await asyncio.gather(*(meter.reader.close() for meter in self._meters))
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, ClockEnded):
                raise error

    async def poll_once(self) -> int:
        """Ask every meter for the newest ended Gas Day, now, and store what comes; returns how many polls failed."""
        for meter in self._meters:
            self._load(meter)
        newest = self._days.day_of(to_us(self._crew.now())) - 1
        store = asyncio.create_task(self._store.run())
        try:
            await asyncio.gather(*(self._poll(meter, newest) for meter in self._meters))
        finally:
            store.cancel()
            await asyncio.gather(*(meter.reader.close() for meter in self._meters))
        return self.counters.failed

    async def at_meter(self, meter: str, work: Callable[[Reader], Awaitable[R]]) -> R:
        """What `work` brings from the reader of the meter with this serial number, between two polls of its line.

        Raises KeyError where there is no such meter, and what `work` raises.
        """
        reader = next((each.reader for each in self._meters if each.settings.meter == meter), None)
        if reader is None:
            raise KeyError(meter)
        async with reader.lock:
            reader.trace.clear()
            return await work(reader)

    async def _until_stopped(self) -> None:
        await self._stop.wait()

    def _load(self, meter: _Meter) -> None:
        """What is settled, from the outbox."""
        newest = self._days.day_of(to_us(self._crew.now())) - 1
        oldest = newest - self._policy.backfill_days
        before = range(oldest, self._since.toordinal()) if self._since else range(0)
        done = self._outbox.done_days(meter.settings.meter, date.fromordinal(oldest))
        settled = frozenset(day.toordinal() for day in done).union(before)
        meter.state = msgspec.structs.replace(meter.state, settled=settled)
        meter.sent.clear()
        meter.reload = False

    async def _polls(self, meter: _Meter) -> None:
        while True:
            if meter.reload:
                self._load(meter)
            now_us = to_us(self._crew.now())
            ask = next_ask(meter.state, now_us, self._days, self._policy, meter.offset_us)
            look_us = self._next_status_us(now_us) + SECOND_US  # by then the meter may owe more
            await self._crew.wait_until(to_datetime(min(ask.at_us, look_us)))
            if not meter.reload and ask.at_us <= look_us:
                await self._poll(meter, ask.day)

    async def _poll(self, meter: _Meter, day: int) -> None:
        async with meter.reader.lock:
            meter.reader.trace.clear()
            synchronised = is_synchronised(self._clock)
            polled = await poll(meter.settings, meter.reader, day, self._days, self._crew.now, synchronised)
            frames = meter.reader.trace.frames
        if isinstance(polled.fact, Readings):  # before the readings: evidence without them does no harm
            await asyncio.to_thread(self._evidence, meter.settings.meter, date.fromordinal(day), frames)
        await self._settle(meter, day, polled)

    async def _settle(self, meter: _Meter, day: int, polled: Polled) -> None:
        """Store what a poll brought, and only then take it as done."""
        state = after(meter.state, day, polled.outcome, to_us(self._crew.now()), self._days, self._policy)
        is_new = polled.outcome is Outcome.SILENT or polled.readings > meter.sent.get(day, 0)
        done = [(meter.settings.meter, date.fromordinal(one)) for one in sorted(state.settled - meter.state.settled)]
        if is_new or done:
            await self._store.put([polled.fact] if is_new else [], done)
        meter.state = state
        meter.sent[day] = max(polled.readings, meter.sent.get(day, 0))
        for settled in meter.sent.keys() & state.settled:
            del meter.sent[settled]
        self._report(meter, day, polled)

    def _report(self, meter: _Meter, day: int, polled: Polled) -> None:
        """Counts, and a line in the log when a meter goes away and when it is back."""
        counters, point = self.counters, meter.settings.meter_point
        counters.polls += 1
        counters.readings += polled.readings
        if isinstance(polled.fact, PollFailed):
            counters.failed += 1
            if point not in counters.away:
                where = f"meter {meter.settings.meter} at {meter.settings.address}"
                log.warning("%s: %s does not answer: %s", point, where, polled.fact.reason)
            counters.away.add(point)
        elif point in counters.away:
            counters.away.discard(point)
            newest = self._days.day_of(to_us(self._crew.now())) - 1
            left = sum(1 for _ in owed(meter.state, newest, self._policy))
            log.info("%s: meter %s answers again; %d Days to fetch", point, meter.settings.meter, left)

    async def _statuses(self) -> None:
        """How the gateway is: now, then every hour; in virtual time, where a Day takes a moment, at every Day's start."""
        outbox = self._outbox.id
        while True:
            try:
                await self._store.put([await self._status()], [])
                outbox = await self._owe_again(outbox)
            except OutboxError as error:  # the next hour will tell
                log.error("how the gateway is cannot be told: %s", error)
            await self._crew.wait_until(to_datetime(self._next_status_us(to_us(self._crew.now()))))

    def _next_status_us(self, now_us: int) -> int:
        if isinstance(self._clock, SystemClock):
            return (now_us // HOUR_US + 1) * HOUR_US
        return self._days.end_us(self._days.day_of(now_us))

    async def _owe_again(self, outbox: str) -> str:
        """Meters owe again what the outbox gave up, once it has room, and all of it where it is not the outbox of before."""
        own = {meter.settings.meter: meter for meter in self._meters}
        wanted = await asyncio.to_thread(self._outbox.days_to_ask, self._crew.now())
        again = [(meter, day) for meter, day in wanted if meter in own]
        if again:
            await asyncio.to_thread(self._outbox.ask_again, again)
            log.info("%d Days of %d meters are asked for again", len(again), len({meter for meter, _ in again}))
        for meter in own if self._outbox.id != outbox else {meter for meter, _ in again}:
            own[meter].reload = True
        return self._outbox.id

    async def _status(self) -> GatewayStatus:
        backlog = await asyncio.to_thread(self._outbox.backlog)
        given_up = await asyncio.to_thread(self._outbox.given_up)
        return GatewayStatus(
            gateway=self._settings.gateway,
            backlog=backlog.facts,
            oldest_unsent_at=backlog.oldest_at,
            clock_synchronised=is_synchronised(self._clock),
            version=_version(),
            given_up=given_up.readings,
            files_set_aside=self._outbox.files_set_aside(),
        )


class _Store:
    """Puts what the tasks have to store, all that waits at a time in one transaction; while the disk refuses, again."""

    def __init__(self, outbox: Outbox, now: Callable[[], datetime], counters: GatewayCounters) -> None:
        self._outbox, self._now, self._counters = outbox, now, counters
        self._waiting: list[tuple[Sequence[AnyFact], Sequence[tuple[str, date]], asyncio.Future[None]]] = []
        self._filled = asyncio.Event()

    async def put(self, facts: Sequence[AnyFact], done: Sequence[tuple[str, date]]) -> None:
        """Return when it is on disk."""
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((facts, done, stored))
        self._filled.set()
        await stored

    async def run(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            batch, self._waiting = self._waiting, []
            await self._write([fact for facts, _, _ in batch for fact in facts], [day for _, days, _ in batch for day in days])
            for _, _, stored in batch:
                if not stored.done():
                    stored.set_result(None)

    async def _write(self, facts: Sequence[AnyFact], done: Sequence[tuple[str, date]]) -> None:
        counters = self._counters
        while True:
            try:
                await asyncio.to_thread(self._outbox.put, facts, self._now(), done)
            except OutboxError as error:
                if not counters.disk_refuses:
                    log.critical("collecting has stopped: %s", error)
                counters.disk_refuses = True
                await asyncio.sleep(DISK_RETRY_S)
                continue
            if counters.disk_refuses:
                log.warning("collecting goes on: the outbox takes facts again")
            counters.disk_refuses = False
            return


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> list[BaseException | None]:
    """Cancel the tasks until they have ended, for a library in between may swallow a cancellation; how each ended."""
    waiting: set[asyncio.Task[None]] = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)
    return await asyncio.gather(*tasks, return_exceptions=True)


def _version() -> str:
    try:
        return version("dailyread")
    except PackageNotFoundError:
        return "unknown"
