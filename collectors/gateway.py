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
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date, timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, TypeVar

import msgspec

from collectors.alarms import CLOCK, KINDS, Alarms, of_clock, of_day
from collectors.clock import Clock, ClockEnded, Crew, SystemClock, is_synchronised
from collectors.clock_mover import ClockMover
from collectors.counters import GatewayCounters
from collectors.meter_clock import ClockSettings
from collectors.outbox import Outbox, OutboxError, Told
from collectors.poll import Polled, make_readers, poll
from collectors.reader import MeterSettings, Reader
from collectors.schedule import MeterState, Outcome, Policy, after, asked_within, next_ask, owed, spread_us
from collectors.store import Store, ToStore
from collectors.trace import Frame
from metering.facts import Alarm, GatewayStatus, PollFailed, Readings
from metering.gasday import SECOND_US, GasDays, to_datetime, to_us

log = logging.getLogger(__name__)
# Polls over TCP at a time: each has a file, and pyserial can use none above the 1,023rd. 64 serial lines have five each.
CONNECTIONS_MAX = 500
HOUR_US = 3600 * SECOND_US
CANCEL_AGAIN_S = 0.5
AFTER_FAULT = timedelta(minutes=1)
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
    @property
    def within_day_s(self) -> float: ...


class GatewaySettings(Protocol):
    """A site gateway's configuration (`dailyread.config.GatewayConfig`)."""

    @property
    def gateway(self) -> str: ...
    @property
    def meters(self) -> Sequence[MeterSettings]: ...
    @property
    def polling(self) -> PollingSettings: ...
    @property
    def meter_clocks(self) -> ClockSettings: ...


Evidence = Callable[[str, date, Sequence[Frame]], None]  # of a meter's Day


def no_evidence(_meter: str, _gas_day: date, _frames: Sequence[Frame]) -> None:
    """Keeps none."""


@dataclass
class _Meter:
    """One meter at work. `sent` says which readings of a partial Day were stored last; `reload`: what is settled is to be
    read from the outbox. `told`: its alarms; `newest_read`: the newest Day of which there was an answer."""

    settings: MeterSettings
    reader: Reader
    policy: Policy
    offset_us: int
    clock: ClockMover
    told: frozenset[Told] = frozenset()
    newest_read: int = 0
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
        self._clocks = settings.meter_clocks
        self._crew = Crew(clock)
        self._store = Store(outbox, self._crew.now, self.counters)
        self._stop = asyncio.Event()
        self._connections = asyncio.Semaphore(CONNECTIONS_MAX)
        readers = make_readers(settings.meters, polling.timeout_s)
        self._meters = [self._at_work(*pair) for pair in zip(settings.meters, readers, strict=True)]
        equipment: set[tuple[str, str]] = set()  # one with several meters has one clock, which one of them moves
        for meter in self._meters:
            if (where := (meter.settings.address, str(meter.settings.device))) in equipment:
                meter.clock.leave_alone()
            equipment.add(where)

    def _at_work(self, meter: MeterSettings, reader: Reader) -> _Meter:
        policy = _policy(self._settings.polling, meter)
        clock = ClockMover(meter, self._clocks, self._days)
        return _Meter(meter, reader, policy, spread_us(meter.meter_point, policy), clock)

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
        oldest = newest - meter.policy.backfill_days
        before = range(oldest, self._since.toordinal()) if self._since else range(0)
        done = self._outbox.done_days(meter.settings.meter, date.fromordinal(oldest))
        settled = frozenset(day.toordinal() for day in done).union(before)
        meter.state = msgspec.structs.replace(meter.state, settled=settled)
        meter.told = self._outbox.told(meter.settings.meter)
        meter.sent.clear()
        meter.reload = False

    async def _polls(self, meter: _Meter) -> None:
        while True:
            try:
                await self._turn(meter)
            except ClockEnded:
                raise
            except Exception:  # a fault of ours with one meter, or of the disk, must not end the others' polls
                log.exception("%s: meter %s is left alone for a while", meter.settings.meter_point, meter.settings.meter)
                await self._crew.wait_until(self._crew.now() + AFTER_FAULT)

    async def _turn(self, meter: _Meter) -> None:
        """Wait for what is next with this meter, and do it."""
        now_us = to_us(self._crew.now())
        if self._days.day_of(now_us) - 1 < meter.state.morning:
            meter.state, meter.newest_read, meter.reload = MeterState(), 0, True  # the clock has gone back
        if meter.reload:
            self._load(meter)
        ask = next_ask(meter.state, now_us, self._days, meter.policy, meter.offset_us)
        look_us = self._next_status_us(now_us) + SECOND_US  # by then the meter may owe more
        step_us = meter.clock.step_us or look_us + 1
        await self._crew.wait_until(to_datetime(first_us := min(ask.at_us, step_us, look_us)))
        if meter.reload:
            return
        if first_us == ask.at_us:
            await self._poll(meter, ask.day)
        elif first_us == step_us:
            await self._move_clock(meter)

    async def _poll(self, meter: _Meter, day: int) -> None:
        connections = self._connections if "tcp://" in meter.settings.address else nullcontext()
        async with meter.reader.lock, connections:
            meter.reader.trace.clear()
            now_us = to_us(self._crew.now())
            until_us = _whole_intervals_us(now_us, day, meter.settings.interval_s, self._days)
            synchronised = self.counters.clock_synchronised = is_synchronised(self._clock)
            polled = await poll(meter.settings, meter.reader, day, self._days, self._crew.now, synchronised, until_us)
            frames = meter.reader.trace.frames
        # Before the readings: evidence without them does no harm. A thread for nothing costs a tenth of a poll.
        if isinstance(polled.fact, Readings) and self._evidence is not no_evidence:
            await self._store.beside(self._evidence, meter.settings.meter, date.fromordinal(day), frames)
        await self._settle(meter, day, polled, within=until_us < self._days.end_us(day))

    async def _settle(self, meter: _Meter, day: int, polled: Polled, within: bool) -> None:
        """Store what a poll brought, and only then take it as done. `within`: the Day has not ended, and stays owed."""
        now_us = to_us(self._crew.now())
        if within:
            state = asked_within(meter.state, now_us)
        else:
            state = after(meter.state, day, polled.outcome, now_us, self._days, meter.policy)
        which = polled.which
        is_new = polled.outcome is Outcome.SILENT or (which is not None and which != meter.sent.get(day))
        days = sorted(state.settled - meter.state.settled)
        if polled.outcome is Outcome.PARTIAL and not self.counters.clock_synchronised:
            days = []  # is its close-out past? By a clock that is months ahead it is, of Days that are still to come
        done = [(meter.settings.meter, date.fromordinal(one)) for one in days]
        alarms = self._alarms(meter, day, polled)
        told = [(meter.settings.meter, alarms.told)] if alarms.told != meter.told else []
        if is_new or done or told:
            await self._store.put(ToStore([*([polled.fact] if is_new else []), *alarms.facts], done, told))
        meter.state, meter.told = state, alarms.told
        if which is not None:
            meter.sent[day] = which
        for settled in meter.sent.keys() & state.settled:
            del meter.sent[settled]
        self._report(meter, day, polled)
        self._report_alarms(meter, alarms.facts)

    def _alarms(self, meter: _Meter, day: int, polled: Polled) -> Alarms:
        """What is to be told of the equipment beside its readings, and what is counted of it."""
        fact, counters = polled.fact, self.counters
        if not isinstance(fact, Readings):
            return Alarms((), meter.told)
        point, serial, now = meter.settings.meter_point, meter.settings.meter, self._crew.now()
        if day >= meter.newest_read:
            meter.newest_read = day
            for kind in KINDS:
                _keep(counters.reported.setdefault(kind, set()), point, kind in fact.status)
        at = min(now, to_datetime(self._days.end_us(day)))
        oldest = self._days.day_of(to_us(now)) - meter.policy.backfill_days - 1
        found = of_day(point, serial, day, at, fact.status, meter.told, oldest)
        if fact.clock_offset_s is None:
            return found
        meter.clock.was_read(fact.clock_offset_s, to_us(now))
        clock = of_clock(point, serial, day, now, fact.clock_offset_s, self._clocks.alarm_s, found.told)
        _keep(counters.clocks_off, point, any(each.kind == CLOCK for each in clock.told))
        return Alarms(found.facts + clock.facts, clock.told)

    def _report_alarms(self, meter: _Meter, facts: Sequence[Alarm]) -> None:
        self.counters.alarms += len(facts)
        for fact in facts:
            log.warning("%s: meter %s: %s", fact.meter_point, fact.meter, fact.detail or fact.kind)

    async def _move_clock(self, meter: _Meter) -> None:
        async with meter.reader.lock:
            meter.reader.trace.clear()
            if is_synchronised(self._clock):
                self.counters.clock_steps += await meter.clock.move(meter.reader, self._crew.now)

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
            left = sum(1 for _ in owed(meter.state, newest, meter.policy))
            log.info("%s: meter %s answers again; %d Days to fetch", point, meter.settings.meter, left)

    async def _statuses(self) -> None:
        """How the gateway is: now, then every hour; in virtual time, where a Day takes a moment, at every Day's start."""
        outbox = self._outbox.id
        while True:
            try:
                await self._store.put(ToStore([await self._status()]))
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
        self.counters.clock_synchronised = is_synchronised(self._clock)
        return GatewayStatus(
            gateway=self._settings.gateway,
            backlog=backlog.facts,
            oldest_unsent_at=backlog.oldest_at,
            clock_synchronised=self.counters.clock_synchronised,
            version=_version(),
            given_up=given_up.readings,
            files_set_aside=self._outbox.files_set_aside(),
        )


def _policy(polling: PollingSettings, meter: MeterSettings) -> Policy:
    """When this meter is asked. Within the Day only where it does not take long: over a serial line where that is wanted."""
    within = meter.within_day if meter.within_day is not None else meter.address.startswith("tcp:")
    return Policy(
        retry_first_s=polling.retry_first_s,
        retry_max_s=polling.retry_max_s,
        slow_s=4 * polling.retry_max_s,
        backfill_days=polling.backfill_days,
        within_day_s=polling.within_day_s if within and meter.interval_s <= polling.within_day_s else 0,
    )


def _whole_intervals_us(now_us: int, day: int, interval_s: int, days: GasDays) -> int:
    """Up to when readings of a Day can be had: its end, or while it has not ended the last whole interval."""
    start_us, end_us = days.start_us(day), days.end_us(day)
    return min(end_us, now_us - (now_us - start_us) % (interval_s * SECOND_US))


def _keep(points: set[str], point: str, holds: bool) -> None:
    points.discard(point)
    if holds:
        points.add(point)


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
