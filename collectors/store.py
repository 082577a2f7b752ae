"""What stands between the gateway's many tasks and its outbox: what they have to store at a time goes in one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar

from collectors.counters import GatewayCounters
from collectors.outbox import Outbox, OutboxError, Told
from metering.facts import AnyFact

log = logging.getLogger(__name__)
DISK_RETRY_S = 2.0
P = ParamSpec("P")
R = TypeVar("R")


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
        self._putting, self._beside = _threads()

    async def put(self, what: ToStore) -> None:
        """Return when it is on disk. Raises what the outbox raises where it will never take it."""
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((what, stored))
        self._filled.set()
        await stored

    async def beside(self, work: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R:
        """What other work on the disk brings, in a thread; one at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._beside, partial(work, *arguments, **keywords))

    async def run(self) -> None:
        """Write what tasks put, until cancelled."""
        try:
            while True:
                await self._filled.wait()
                self._filled.clear()
                batch, self._waiting = self._waiting, []
                await self._settle(batch)
        finally:
            self._putting.shutdown(wait=False)
            self._beside.shutdown(wait=False)
            self._putting, self._beside = _threads()  # there may be another run

    async def _settle(self, batch: Sequence[tuple[ToStore, asyncio.Future[None]]]) -> None:
        """What the outbox will never take is the trouble of whoever puts it: what the others have is stored without it."""
        failed: Exception | None = None
        try:
            await self._write([what for what, _ in batch])
        except Exception as error:
            if len(batch) > 1:
                for one in batch:
                    await self._settle([one])
                return
            failed = error
        for _, stored in batch:
            if not stored.done():
                stored.set_exception(failed) if failed else stored.set_result(None)

    async def _write(self, batch: Sequence[ToStore]) -> None:
        facts = [fact for what in batch for fact in what.facts]
        done = [day for what in batch for day in what.done]
        told = [alarms for what in batch for alarms in what.told]
        counters = self._counters
        while True:
            try:
                put = partial(self._outbox.put, facts, self._now(), done, told)
                await asyncio.get_running_loop().run_in_executor(self._putting, put)
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


def _threads() -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
    """For the outbox, and for what is written beside it; both begin when there is work.

    Not the loop's own threads: there the names of meters' addresses are looked up, which may take minutes.
    """
    return ThreadPoolExecutor(1, thread_name_prefix="outbox"), ThreadPoolExecutor(1, thread_name_prefix="beside the outbox")
