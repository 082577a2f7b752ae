"""Between a gateway's tasks and its outbox: what one of them cannot store is not the others' trouble, nor are slow names."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from collectors.counters import GatewayCounters
from collectors.outbox import FACT_BYTES_MAX, Outbox
from collectors.store import Store, ToStore
from metering.facts import PollFailed
from tests.patience import patient

NOW = datetime(2026, 10, 1, 5, 4, tzinfo=UTC)


def failure(reason: str) -> PollFailed:
    return PollFailed(meter_point="MP1", meter="M-1", gas_day=date(2026, 9, 30), reason=reason, attempts=1)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "outbox.sqlite", "gateway-1")
    yield opened
    opened.close()


def storing(outbox: Outbox, *puts: ToStore) -> list[Any]:
    """What becomes of each of these, put at the same time."""

    async def main() -> list[Any]:
        store = Store(outbox, lambda: NOW, GatewayCounters())
        running = asyncio.create_task(store.run())
        found = await asyncio.gather(*map(store.put, puts), return_exceptions=True)
        running.cancel()
        return found

    return run(main())


def run(work: Coroutine[Any, Any, list[Any]]) -> list[Any]:
    return asyncio.run(asyncio.wait_for(work, patient(20)))


def test_what_the_outbox_never_takes_holds_nobody_else_up(outbox: Outbox) -> None:
    large = failure("x" * FACT_BYTES_MAX)
    found = storing(outbox, ToStore([failure("one")]), ToStore([large]), ToStore([failure("two")]))
    assert [type(each) for each in found] == [type(None), ValueError, type(None)]
    assert [entry.fact for entry in outbox.pending(10)] == [failure("one"), failure("two")]


def test_the_disk_does_not_wait_for_names_that_are_looked_up(outbox: Outbox) -> None:
    """They are in the event loop's own threads, of which there are few."""
    answered = threading.Event()

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        lookups = [loop.run_in_executor(None, answered.wait) for _ in range(100)]
        store = Store(outbox, lambda: NOW, GatewayCounters())
        running = asyncio.create_task(store.run())
        try:
            async with asyncio.timeout(patient(5)):
                kept = await store.beside(lambda: "kept")
                await store.put(ToStore([failure("one")]))
        finally:
            answered.set()
            running.cancel()
        await asyncio.gather(*lookups)
        return [kept]

    assert run(main()) == ["kept"]
    assert [entry.fact for entry in outbox.pending(10)] == [failure("one")]
