"""Meters that are dead, mute, slow or babbling, among many that are not: they cost the others nothing.

The bad ones have time-outs far beyond what the test waits for, so they are still being waited for when all others are read.
"""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from collectors.gateway import Gateway
from collectors.outbox import Outbox
from metering.facts import PollFailed, Readings
from simulators.serve import ServedGateway, ServedMeter, ServedPolling, Service
from tests.collectors.virtual import DAY, DAYS, FIRST, START, Shifted, eventually, site, stored
from tests.patience import patient

MORNING = START + DAY + timedelta(hours=2)
GOOD_TCP, GOOD_SERIAL, BAD_SERIAL = 100, 8, 40
LONG_S = 600.0
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "outbox.sqlite", "gateway-1")
    yield opened
    opened.close()


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the question, and says nothing."""
    await reader.read()
    writer.close()


async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The beginning of an answer, and an octet a second."""
    question = await reader.read(4096)
    writer.write(question[:4] + bytes((0, 253)))
    while not writer.is_closing():
        writer.write(b"\x01")
        await asyncio.sleep(1)


async def babbling(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says all the time what nobody asked, as fast as it is taken."""
    try:
        while True:
            writer.write(b"\x00\x01\x00\x00\x00\xff\x01" + os.urandom(4096))
            await writer.drain()
    except OSError:
        writer.close()


def bad(number: int, protocol: str, address: str, map_: str) -> ServedMeter:
    return ServedMeter(
        meter_point=f"BAD{number}", meter=f"B-{number}", protocol=protocol, address=address, device=1, map=map_,  # type: ignore[arg-type]
        timeout_s=LONG_S,
    )  # fmt: skip


class BadPty:
    """A serial line on which nobody talks, or somebody never stops."""

    def __init__(self, *, babbles: bool) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._task = asyncio.create_task(self._babble())
        self._babbles = babbles

    async def _babble(self) -> None:
        while self._babbles:
            with suppress(BlockingIOError):
                os.write(self._master, os.urandom(96))
            await asyncio.sleep(0.1)  # 9,600 Bd

    def close(self) -> None:
        self._task.cancel()
        os.close(self._master)
        os.close(self._slave)


async def serve_all(open_: AsyncExitStack, folder: Path, clock: Shifted) -> tuple[list[ServedMeter], list[ServedMeter]]:
    """The good meters, and the bad ones."""
    service = Service(clock.now, folder, DAYS)
    open_.push_async_callback(service.close)
    for number in range(1, GOOD_TCP + 1):
        await service.add(msgspec.structs.replace(site(number), protocol="dlms" if number % 4 == 0 else "modbus_tcp"))
    for number in range(GOOD_TCP + 1, GOOD_TCP + GOOD_SERIAL + 1):
        await service.add(msgspec.structs.replace(site(number), protocol="iec62056_21"))
    dlms_map, profile = str(service.settings[3].map), str(service.settings[-1].map)
    bads: list[ServedMeter] = []
    for talk in (mute, slow, babbling):
        for protocol, map_ in (("modbus", "hourly_log"), ("dlms", dlms_map)):
            server = await asyncio.start_server(talk, "127.0.0.1", 0)
            open_.callback(server.close)
            bads.append(bad(len(bads), protocol, f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", map_))
    for number in range(BAD_SERIAL):
        line = BadPty(babbles=number % 4 == 0)
        open_.callback(line.close)
        bads.append(bad(len(bads), "iec62056_21", f"serial:{line.path}", profile))
    bads.append(bad(len(bads), "modbus", "tcp://127.0.0.1:1", "hourly_log"))  # nobody there
    return service.settings, bads


def test_bad_meters_cost_a_hundred_others_and_eight_lines_nothing(outbox: Outbox, tmp_path: Path) -> None:
    async def main() -> None:
        clock = Shifted(MORNING)
        async with AsyncExitStack() as open_:
            good, bads = await serve_all(open_, tmp_path, clock)
            polling = ServedPolling(timeout_s=patient(5.0))
            settings = ServedGateway(gateway="g", meters=(*bads, *good), polling=polling)
            gateway = Gateway(settings, clock, outbox, days=DAYS, since=FIRST)
            running = asyncio.create_task(gateway.run())
            wanted = {meter.meter_point for meter in good}
            await eventually(lambda: wanted <= read(outbox), 20)
            gateway.stop()
            await asyncio.wait_for(running, patient(10))

    asyncio.run(main())
    assert {point for point in read(outbox) if point.startswith("BAD")} == set()
    failed = {fact.meter_point for fact in stored(outbox) if isinstance(fact, PollFailed)}
    assert {point for point in failed if not point.startswith("BAD")} == set()
    assert not {"BAD0", "BAD1", "BAD2", "BAD3"} & failed  # mute and slow: they are still waited for
    truth = {f"MP{number}": site(number).build(DAYS) for number in range(1, GOOD_TCP + GOOD_SERIAL + 1)}
    for fact in stored(outbox):
        if isinstance(fact, Readings):
            assert fact.index == tuple(truth[fact.meter_point].true_index_at(at) for at in fact.instants())


def read(outbox: Outbox) -> set[str]:
    return {fact.meter_point for fact in stored(outbox) if isinstance(fact, Readings)}
