"""A simulated meter on a pty or behind a converter, and what a collector knows of it, for the tests of IEC 62056-21."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from collectors.iec62056_21_data import MeterTime
from collectors.iec62056_21_poll import read_day
from collectors.iec62056_21_reader import IecReader
from collectors.iec62056_21_session import Iec62056Meter, Timing
from collectors.reading import DayReadings
from collectors.serial_port import SerialLine
from metering.gasday import GasDays, to_datetime
from simulators.faults import AnyFault
from simulators.iec62056_21_server import MODE_C, Make, MeterSide, PtyServer
from simulators.sites import Site, load_sites
from tests.patience import patient

PTY_TIMING = Timing(answer_timeout_s=patient(0.3), exchange_timeout_s=patient(5.0), reaction_s=0.0, attempts=2)
DAYS = GasDays()
DAY = date(2026, 10, 5)
LONG_DAY = date(2026, 10, 24)
SITES = {site.name: msgspec.structs.replace(site, faults=()) for site in load_sites().sites}
SITE = SITES["junction-mill"]


def boundaries(day: date) -> tuple[datetime, datetime]:
    return to_datetime(DAYS.start_us(day.toordinal())), to_datetime(DAYS.end_us(day.toordinal()))


class Rig:
    """A meter of a site on a pty, and what a collector knows of it. `now` is ten minutes after the Day that is read."""

    def __init__(self, site: Site, path: Path, make: Make = MODE_C, **known: Any) -> None:
        self.site, self.meter = site, site.build()
        self.link = path / "line"
        self.make = make
        self.now = datetime(2026, 10, 1, tzinfo=UTC)
        self.line = SerialLine(str(self.link))
        main = "7-0:13.2.0" if site.convertor else "7-0:13.0.0"
        self.known = Iec62056Meter(
            **{
                "site": site.name,
                "m3_per_tick": site.m3_per_tick,
                "index_code": main,
                "unconverted_code": "7-0:13.0.0" if site.convertor else None,
                "unconverted_m3_per_tick": site.convertor.unconverted_m3_per_tick if site.convertor else None,
                "device_address": site.device_address,
                "password": site.password,
                "time": MeterTime(site.meter_time),
                **known,
            }
        )
        self.serve()

    def serve(self) -> None:
        self.server = PtyServer(MeterSide(self.meter, self.site, lambda: self.now, make=self.make), link=self.link)
        self.server.start()

    async def read(self, day: date = DAY, after: timedelta = timedelta(minutes=10), timing: Timing = PTY_TIMING) -> DayReadings:
        first, last = boundaries(day)
        self.now = last + after
        async with self.line.lock:
            return await read_day(self.line, self.known, first, last, lambda: self.now, timing)

    def reader(self) -> IecReader:
        """The reader that a gateway would have of it."""
        return IecReader(self.line, self.known, PTY_TIMING)


@contextlib.asynccontextmanager
async def rig(path: Path, *faults: AnyFault, site: Site = SITE, make: Make = MODE_C, **known: Any) -> AsyncIterator[Rig]:
    it = Rig(msgspec.structs.replace(site, faults=faults), path, make, **known)
    try:
        yield it
    finally:
        it.server.close()
        await it.line.close()


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), patient(30)))


def truth(it: Rig, at: tuple[datetime, ...]) -> tuple[int, ...]:
    return tuple(it.meter.true_index_at(instant) for instant in at)
