"""One stream worker, from start to end: the Faust app, the relay, the ticks, and the watch over them.

Exit code 0 after SIGTERM or SIGINT, 1 after anything else. Restarting is for whoever started it (systemd): a worker that is
not sure of itself ends, and what it had not acknowledged is read again.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Coroutine
from time import monotonic
from typing import Any, NoReturn

from stream.app import FactsApp, MakeProcessor
from stream.faults import FreezeGuard
from stream.faust_patches import wait_crashed
from stream.health import Health, HealthServer, Notify, PartitionHealth, State
from stream.metrics import METRICS
from stream.relay import Relay
from stream.settings import WorkerSettings
from stream.sink import Sink
from stream.ticks import publish_ticks

log = logging.getLogger(__name__)

STOP_WITHIN_S = 4.0
# While Kafka is away aiokafka logs hundreds of lines a second. The last is Faust's too: it logs under its module's name.
_QUIET = {"faust": logging.ERROR, "mode": logging.ERROR, "stream.faust_patches": logging.ERROR, "aiokafka": logging.CRITICAL}
# How rarely Python looks for cycles of objects: at each so many more objects, at 10 and at 100 times as many for older ones.
# Neither rules nor frames make any, and thousands of points are held, so looking as often as usual takes a third of the time.
CYCLES_EVERY = (50_000, 10, 10)
_LOOK_EVERY_S = 1.0
_KAFKA_EVERY_S = 2.0
_SIZES_EVERY_S = 10.0
RECOVERY = "recovery of the states"


def run_worker(settings: WorkerSettings, make: MakeProcessor, notify: Notify) -> NoReturn:
    """Run until SIGTERM, SIGINT or a failure, and end the process. The topics must be there, and as they must be."""
    gc.set_threshold(*CYCLES_EVERY)
    asyncio.run(_run(settings, make, notify))
    raise AssertionError("the process has ended")


async def _run(settings: WorkerSettings, make: MakeProcessor, notify: Notify) -> NoReturn:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    code = 1
    if not log.isEnabledFor(logging.DEBUG):
        for name, level in _QUIET.items():
            logging.getLogger(name).setLevel(level)
    try:
        code = await _Worker(settings, make, notify).run(stop)
    except Exception as error:
        log.critical("the worker cannot run: %s", error, exc_info=error)
    # Faust's own way to stop takes many seconds, and nothing of ours is left in it.
    logging.shutdown()
    os._exit(code)


class _Worker:
    def __init__(self, settings: WorkerSettings, make: MakeProcessor, notify: Notify) -> None:
        guard = FreezeGuard(settings.session_timeout_s)
        self._settings = settings
        self._notify = notify
        self._sink = Sink(settings.aiokafka)
        self._facts = FactsApp(settings, make, self._sink, guard)
        self._relay = Relay(settings, settings.aiokafka, self._sink, guard)
        self._watch = Watch(settings, self._facts, self._relay, self._sink, notify)
        if settings.web is not None:
            HealthServer(settings.web, self._watch.health)

    async def run(self, stop: asyncio.Event) -> int:
        await self._sink.start()
        tasks = [asyncio.create_task(each) for each in (stop.wait(), *self._services())]
        ended, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        self._notify.stopping()
        for task in ended:
            if not stop.is_set():
                log.critical("the worker cannot go on: %r", task.exception() or task.result())
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await self._facts.close()
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
                await self._sink.stop()
        except Exception as error:
            log.warning("stopped in the middle (%r); what was not acknowledged will be read again", error)
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await self._facts.close_files()
        except Exception as error:
            log.warning("not all states are on the disk yet (%r); if the machine stops now, they are read again", error)
        return 0 if stop.is_set() else 1

    def _services(self) -> list[Coroutine[Any, Any, Any]]:
        watch = self._watch
        services = [
            self._run_app(), self._commit(), self._relay.run(), watch.run(), watch.run_kafka(), watch.run_sizes()
        ]  # fmt: skip
        if self._settings.time == "broker":
            services.append(publish_ticks(self._settings, self._relay, self._sink))
        return services

    async def _run_app(self) -> BaseException | None:
        await self._facts.app.start()
        return await wait_crashed(self._facts.app)

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(self._settings.commit_interval_s)
            if self._facts.recovered:
                await self._facts.commit()


class Watch:
    """Sees that what is to move does move, and tells people, Prometheus and systemd."""

    def __init__(self, settings: WorkerSettings, facts: FactsApp, relay: Relay, sink: Sink, notify: Notify) -> None:
        self._settings = settings
        self._sink = sink
        self._notify = notify
        self._away = False
        self._facts = facts
        self._relay = relay
        self._moved: dict[str, tuple[int, float]] = {}  # what -> where it is, when it got there
        self._stalled: set[str] = set()
        self._started = False

    def health(self) -> Health:
        """The worker now."""
        facts, relay = self._facts, self._relay
        partitions = {
            number: PartitionHealth(
                position=each.position,
                lag=facts.lag(number),
                halted=each.halted,
                stalled=_name(number) in self._stalled,
                dead_past_cap=each.letters.past_cap,
            )
            for number, each in sorted(facts.partitions.copy().items())
        }
        return Health(
            state=self._state(), group=self._settings.group, instance=self._settings.instance, partitions=partitions,
            rules=self._settings.rules, relay=relay.owner, relay_halted=relay.halted,
            relay_dead_past_cap=relay.letters.past_cap,
        )  # fmt: skip

    async def run(self) -> None:
        """Look every second until cancelled."""
        self._notify.ready()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self._look(monotonic())
            self._started |= self._facts.recovered
            if not self._stalled:
                self._notify.alive()

    async def run_sizes(self) -> None:
        """See now and then how large the files are, until cancelled."""
        while True:
            for number in [*self._facts.partitions]:
                states, facts = self._facts.sizes_bytes(number)
                METRICS.state_bytes.labels(number).set(states)
                METRICS.fact_store_bytes.labels(number).set(facts)
            await asyncio.sleep(_SIZES_EVERY_S)

    async def run_kafka(self) -> None:
        """See every few seconds whether Kafka is there, until cancelled; one line when it goes, one when it is back."""
        servers = ", ".join(self._settings.aiokafka["bootstrap_servers"])
        while True:
            away = not await self._sink.reachable()
            if away and not self._away:
                log.warning("Kafka at %s is away; what is being done waits for it", servers)
            elif self._away and not away:
                log.info("Kafka is back")
            self._away = away
            METRICS.kafka_away.set(away)
            await asyncio.sleep(_KAFKA_EVERY_S)

    def _look(self, now_s: float) -> None:
        partitions = self._facts.partitions
        remaining = self._facts.recovery_lag()
        seen = {RECOVERY: self._is_stalled(RECOVERY, remaining, remaining, now_s)}
        for number, partition in partitions.items():
            lag = self._facts.lag(number) or 0
            METRICS.position.labels(number).set(partition.position)
            METRICS.lag_frames.labels(number).set(lag)
            waits = lag if partition.halted is None else 0
            stalled = seen[_name(number)] = self._is_stalled(_name(number), partition.position + partition.beside, waits, now_s)
            METRICS.stalled.labels(number).set(stalled)
        METRICS.recovery_lag.set(remaining)
        METRICS.unacknowledged_seconds.set(self._sink.unacknowledged_s)
        self._moved = {what: at for what, at in self._moved.items() if what in seen}
        self._stalled = {what for what, stalled in seen.items() if stalled}

    def _is_stalled(self, what: str, position: int, lag: int, now_s: float) -> bool:
        """Whether there is lag and nothing has moved for long; says so once."""
        if lag == 0 or self._away or self._moved.get(what, (None, 0.0))[0] != position:
            self._moved[what] = (position, now_s)
        since_s = now_s - self._moved[what][1]
        stalled = since_s > self._settings.stalled_after_s
        if stalled and what not in self._stalled:
            log.error("%s: %d wait, and nothing has moved for %.0f s", what, lag, since_s)
        elif not stalled and what in self._stalled:
            log.info("%s: moves again", what)
        return stalled

    def _state(self) -> State:
        if self._relay.halted or any(each.halted for each in self._facts.partitions.values()):
            return "halted"
        if self._stalled:
            return "stalled"
        if self._away:
            return "kafka_away"
        if self._relay.letters.past_cap or any(each.letters.past_cap for each in self._facts.partitions.values()):
            return "poisoned"
        if self._facts.recovered:
            return "running"
        return "recovering" if self._started else "starting"


def _name(partition: int) -> str:
    return f"facts[{partition}]"
