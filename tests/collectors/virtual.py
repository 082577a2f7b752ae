"""A gateway on simulated sites, in virtual time or with the clock put on: what its tests run on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from collectors.clock import SystemClock
from collectors.gateway import Gateway
from collectors.outbox import Outbox
from metering.facts import AnyFact, Readings
from metering.gasday import GasDays, to_datetime
from simulators.clock import SteppedClock
from simulators.faults import AnyFault
from simulators.serve import ServedGateway, Service, serve
from simulators.sites import Convertor, Site
from tests.patience import patient

FIRST = date(2026, 10, 23)  # summer time ends on the 25th
DAYS = GasDays()
START = to_datetime(DAYS.start_us(FIRST.toordinal()))
DAY = timedelta(days=1)


def site(number: int, *faults: AnyFault) -> Site:
    return Site(
        name=f"site-{number}", protocol="modbus_tcp", meter_point=f"MP{number}", meter=f"M-{number}", equipment=f"E-{number}",
        users=("Alder",), ldz="NW", registered=FIRST, annual_quantity_kwh=Decimal(20_000_000), profile="process", seed=number,
        fitted_at=START, digits=8, m3_per_tick=Decimal("0.1"), start_index=1000, q_max_m3_per_h=Decimal(900),
        convertor=Convertor(unconverted_digits=8, unconverted_m3_per_tick=Decimal("0.1")), faults=faults,
    )  # fmt: skip


def stored(outbox: Outbox) -> list[AnyFact]:
    return [entry.fact for entry in outbox.pending(100_000)]


def days_read(outbox: Outbox, point: str) -> list[tuple[int, datetime]]:
    """(Day of the month, when it was put) of each batch."""
    entries = outbox.pending(100_000)
    return [
        (entry.fact.gas_day.day, entry.committed_at)
        for entry in entries
        if isinstance(entry.fact, Readings) and entry.fact.meter_point == point
    ]


async def virtual_run(settings: ServedGateway, clock: SteppedClock, outbox: Outbox, until: datetime) -> Gateway:
    """Run a gateway in virtual time until an instant."""
    gateway = Gateway(settings, clock.join("gateway"), outbox, days=DAYS)
    with clock.join("end") as end:
        moving = asyncio.create_task(clock.run(expected=2))
        running = asyncio.create_task(gateway.run())
        await end.wait_until(until)
        while set(clock.working()) > {"end"}:
            await asyncio.sleep(0.01)
        gateway.stop()
        await running
        moving.cancel()
    return gateway


def virtually(
    sites: list[Site],
    outbox: Outbox,
    hours: float,
    work: Callable[[Service], Awaitable[None]] | None = None,
    since: timedelta = timedelta(),
    **changed: Any,
) -> Gateway:
    """Run a gateway on these sites for some hours, from `since` after START on. `changed`: settings of it, otherwise than
    served ones have them."""

    async def main() -> Gateway:
        clock = SteppedClock(START + since)
        service = await serve(sites, clock.now)
        try:
            if work is not None:
                await work(service)
            settings = msgspec.structs.replace(service.gateway(), **changed)
            return await virtual_run(settings, clock, outbox, START + since + timedelta(hours=hours))
        finally:
            await service.close()

    return asyncio.run(asyncio.wait_for(main(), patient(60)))


class Shifted(SystemClock):
    """The machine's clock, but that it was `instant` when it was made."""

    def __init__(self, instant: datetime) -> None:
        self._ahead = instant - super().now()

    def now(self) -> datetime:
        return super().now() + self._ahead


async def eventually(reached: Callable[[], bool], within_s: float) -> None:
    """Wait for it, with more patience than it takes on a machine that is not busy."""
    async with asyncio.timeout(patient(within_s)):
        while not reached():
            await asyncio.sleep(0.02)
