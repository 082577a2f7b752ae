"""What stands between the gateway's many tasks and its outbox: what they have to store at a time goes in one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import NamedTuple

from collectors.counters import GatewayCounters
from collectors.outbox import Outbox, OutboxError, Told
from metering.facts import AnyFact

log = logging.getLogger(__name__)
DISK_RETRY_S = 2.0


class ToStore(NamedTuple):
    """What one task has to store, all or none of it: facts, the (meter, Gas Day) that are done, what alarms are told."""

    facts: Sequence[AnyFact] = ()
    done: Sequence[tuple[str, date]] = ()
    told: Sequence[tuple[str, frozenset[Told]]] = ()


class Store:
    """Puts what the tasks have to store, all that waits at a time in one transaction; while the disk refuses, again."""

    def __init__(self, outbox: Outbox, now: Callable[[], datetime], counters: GatewayCounters) -> None:
        self._outbox, self._now, self._counters = outbox, now, counters
        self._waiting: list[tuple[ToStore, asyncio.Future[None]]] = []
        self._filled = asyncio.Event()

    async def put(self, what: ToStore) -> None:
        """Return when it is on disk."""
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((what, stored))
        self._filled.set()
        await stored

    async def run(self) -> None:
        """Write what tasks put, until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            batch, self._waiting = self._waiting, []
            await self._write([what for what, _ in batch])
            for _, stored in batch:
                if not stored.done():
                    stored.set_result(None)

    async def _write(self, batch: Sequence[ToStore]) -> None:
        facts = [fact for what in batch for fact in what.facts]
        done = [day for what in batch for day in what.done]
        told = [alarms for what in batch for alarms in what.told]
        counters = self._counters
        while True:
            try:
                await asyncio.to_thread(self._outbox.put, facts, self._now(), done, told)
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
