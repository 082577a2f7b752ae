"""The simulated Modbus meters, asked by pymodbus itself and by plain sockets."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from pymodbus.client import AsyncModbusTcpClient

from collectors.modbus import ModbusMeter
from collectors.modbus_line import ModbusLine
from collectors.modbus_maps import known, register_map
from collectors.modbus_registers import Words, header_of, header_spans
from simulators.consumption import PROFILES, Consumption
from simulators.faults import AnyFault, ClockOffset, Corrupt, Dead, NotLogged
from simulators.meter import Register, SimulatedMeter
from simulators.modbus_server import ModbusServer

FITTED = datetime(2026, 10, 1, 4, tzinfo=UTC)
NOW = datetime(2026, 12, 20, 7, 23, 11, tzinfo=UTC)  # after the ring of 60 Days has gone round
DAY = timedelta(days=1)


def meter(*faults: AnyFault) -> SimulatedMeter:
    return SimulatedMeter(
        name="x",
        consumption=Consumption(PROFILES["process"], 10**12, 7, FITTED, 200),
        register=Register(8, Decimal("0.1"), 99_990_000),
        unconverted=Register(8, Decimal("0.1"), 5),
        fitted_at=FITTED,
        faults=faults,
    )


def with_server(
    work: Callable[[int], Awaitable[None]],
    *faults: AnyFault,
    map_name: str = "hourly_log",
    mute: bool = False,
    now: datetime = NOW,
) -> None:
    async def main() -> None:
        server = ModbusServer({3: meter(*faults)}, register_map(map_name), lambda: now, mute=mute)
        port = await server.listen()
        try:
            await work(port)
        finally:
            await server.close()

    asyncio.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("map_name", known())
@pytest.mark.parametrize("days_ago", [0, 1, 20, 33])
def test_the_collector_reads_the_truth_by_every_map(map_name: str, days_ago: int) -> None:
    start = datetime(2026, 12, 19, 5, tzinfo=UTC) - days_ago * DAY

    async def work(port: int) -> None:
        reader = ModbusMeter(ModbusLine("127.0.0.1", port, 2.0), 3, register_map(map_name), "x")
        answer = await reader.read_day(start, start + DAY, lambda: NOW)
        truth = meter()
        assert answer.readings.index == tuple(truth.true_index_at(start + timedelta(hours=n)) for n in range(25))
        assert answer.readings.clock_offset_s == 0

    with_server(work, map_name=map_name)


def test_the_log_ends_where_it_was_overwritten() -> None:
    start = datetime(2026, 10, 10, 4, tzinfo=UTC)

    async def work(port: int) -> None:
        reader = ModbusMeter(ModbusLine("127.0.0.1", port, 2.0), 3, register_map("hourly_log"), "x")
        answer = await reader.read_day(start, start + DAY, lambda: NOW)
        assert set(answer.readings.index) == {None}
        assert answer.log_from == datetime(2026, 10, 21, 8, tzinfo=UTC)  # 1,440 hours

    with_server(work)


def test_an_hour_that_was_not_logged_is_a_record_without_values() -> None:
    lost = NotLogged(first_day=date(2026, 12, 19), last_day=date(2026, 12, 19))
    start = datetime(2026, 12, 19, 5, tzinfo=UTC)

    async def work(port: int) -> None:
        reader = ModbusMeter(ModbusLine("127.0.0.1", port, 2.0), 3, register_map("hourly_log"), "x")
        index = (await reader.read_day(start, start + DAY, lambda: NOW)).readings.index
        assert [n for n, ticks in enumerate(index) if ticks is not None] == [0, 24]

    with_server(work, lost)


def test_its_clock_is_the_equipments() -> None:
    async def work(port: int) -> None:
        client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=20)
        assert await client.connect()
        map_ = register_map("hourly_log")
        answers = [
            Words(
                span.first, (await client.read_holding_registers(span.first, count=span.length, device_id=3)).registers, "big"
            )
            for span in header_spans(map_)
        ]
        client.close()
        header = header_of(answers, map_)
        assert header.clock_s == int(NOW.timestamp()) + 600
        assert header.newest_at_s == int(NOW.timestamp()) // 3600 * 3600

    with_server(work, ClockOffset(from_=FITTED, until=NOW + DAY, offset_s=600))


@pytest.mark.parametrize(("address", "count", "code"), [(30_000, 2, 2), (0, 125, 0), (999, 1, 2)])
def test_registers_that_are_not_there_are_an_exception_answer(address: int, count: int, code: int) -> None:
    async def work(port: int) -> None:
        client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=20)
        assert await client.connect()
        answer = await client.read_holding_registers(address, count=count, device_id=3)
        assert (answer.exception_code if answer.isError() else 0) == code
        assert (await client.read_input_registers(0, count=1, device_id=3)).exception_code == 1
        client.close()

    with_server(work)


async def say(port: int, request: bytes, within_s: float = 10.0) -> bytes | None:
    """What comes back on a new connection: b"" where it is closed, None where nothing comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(512), within_s)
    except TimeoutError:
        return None
    finally:
        writer.close()


def request(transaction: int = 7, unit: int = 3, first: int = 0, count: int = 7) -> bytes:
    return struct.pack(">HHHBBHH", transaction, 0, 6, unit, 3, first, count)


@pytest.mark.parametrize(("unit", "faults"), [(3, (Dead(),)), (4, ())])
def test_silence_closes_the_connection_or_is_mute(unit: int, faults: tuple[AnyFault, ...]) -> None:
    async def closes(port: int) -> None:
        assert await say(port, request(unit=unit)) == b""

    async def is_mute(port: int) -> None:
        assert await say(port, request(unit=unit), 0.1) is None

    with_server(closes, *faults)
    with_server(is_mute, *faults, mute=True)


def test_requests_in_pieces_and_several_at_once_are_answered_in_order() -> None:
    async def work(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        both = request(1) + request(2, first=2, count=1)
        for byte in both:
            writer.write(bytes([byte]))
            await writer.drain()
        first = await reader.readexactly(9 + 14)
        second = await reader.readexactly(9 + 2)
        assert (first[:2], first[8], second[:2], second[8]) == (b"\0\1", 14, b"\0\2", 2)
        writer.close()

    with_server(work)


@pytest.mark.parametrize(("how", "announced", "length"), [("wrong_check", 14, 9 + 13), ("short", 12, 9 + 12)])
def test_every_second_answer_is_spoiled_if_that_is_its_fault(how: str, announced: int, length: int) -> None:
    async def work(port: int) -> None:
        sound, spoiled = await say(port, request()), await say(port, request())
        assert sound is not None
        assert spoiled is not None
        assert (sound[8], len(sound)) == (14, 9 + 14)
        assert (spoiled[8], len(spoiled)) == (announced, length)

    with_server(work, Corrupt(every=2, how=how))  # type: ignore[arg-type]


def test_what_is_no_modbus_ends_the_connection() -> None:
    async def work(port: int) -> None:
        assert await say(port, b"GET / HTTP/1.1\r\n\r\n") == b""

    with_server(work)
