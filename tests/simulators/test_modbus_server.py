"""The simulated Modbus meters, asked by pymodbus itself and by plain sockets."""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal

import pytest
from pymodbus.client import AsyncModbusTcpClient

from collectors.modbus import ModbusMeter
from collectors.modbus_line import ModbusLine, modbus_line
from collectors.modbus_maps import RegisterMap, known, register_map
from collectors.modbus_registers import Words, header_of, header_spans
from collectors.reader import Unable
from collectors.reading import PollError
from simulators.consumption import PROFILES, Consumption
from simulators.faults import AnyFault, ClockOffset, Corrupt, Dead, NotLogged, Reports
from simulators.meter import Register, SimulatedMeter
from simulators.modbus_server import ModbusPtyServer, ModbusServer
from tests.patience import patient

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


class Later:
    """A virtual present that a test moves on."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@asynccontextmanager
async def at_the_meter(
    simulated: SimulatedMeter, map_: RegisterMap, now: Callable[[], datetime], kind: str, interval_s: int = 3600
) -> AsyncIterator[ModbusMeter]:
    """A reader of this meter, over TCP or a pseudo-terminal."""
    server = ModbusServer({3: simulated}, map_, now)
    port = await server.listen()
    line = ModbusPtyServer(server)
    line.start()
    address = f"serial:{line.path}" if kind == "rtu" else f"tcp://127.0.0.1:{port}"
    reader = ModbusMeter(modbus_line(address, patient(5)), 3, map_, "x", interval_s)
    try:
        yield reader
    finally:
        await reader.close()
        line.close()
        await server.close()


KINDS = pytest.mark.parametrize("kind", ["tcp", "rtu"])
SETTABLE = [name for name in known() if register_map(name).interval]


@KINDS
@pytest.mark.parametrize("map_name", known())
def test_the_collector_reads_the_truth_and_its_time_over_both_kinds_of_line(map_name: str, kind: str) -> None:
    start = datetime(2026, 12, 19, 5, tzinfo=UTC)

    async def main() -> None:
        truth = meter()
        async with at_the_meter(meter(), register_map(map_name), lambda: NOW, kind) as reader:
            answer = await reader.read_day(start, start + DAY, lambda: NOW)
        hours = [start + timedelta(hours=n) for n in range(25)]
        assert answer.readings.at == tuple(hours)
        assert answer.readings.index == tuple(truth.true_index_at(hour) for hour in hours)
        if register_map(map_name).archive.unconverted:
            rows = truth.log(hours[0], hours[-1], NOW)
            assert answer.readings.unconverted == tuple(row.unconverted for row in rows)
        assert answer.readings.clock_offset_s == 0

    asyncio.run(asyncio.wait_for(main(), patient(20)))


@KINDS
@pytest.mark.parametrize("map_name", SETTABLE)
def test_the_interval_is_set_read_back_and_kept_to(map_name: str, kind: str) -> None:
    """M4.1.3: set from afar, six minutes or more. The Day in which it was set has both kinds of record."""
    later = Later()
    end = datetime(2026, 12, 21, 5, tzinfo=UTC)

    async def main() -> None:
        truth = meter()
        async with at_the_meter(meter(), register_map(map_name), later, kind, 360) as reader:
            assert await reader.set_interval(360) == 360
            later.now = end + timedelta(minutes=5)
            readings = (await reader.read_day(end - DAY, end, later)).readings
            instants = [end - DAY + n * timedelta(seconds=360) for n in range(241)]
            had = [at > NOW or at.minute == 0 for at in instants]
            expected = [truth.true_index_at(at) if is_there else None for at, is_there in zip(instants, had, strict=True)]
            assert list(readings.index) == expected
            assert await reader.set_interval(3600) == 3600
            later.now = end + DAY
            reader.interval_s = 3600
            assert (await reader.read_day(end, end + DAY, later)).readings.complete
            assert (await reader.read_day(end - DAY, end, later)).readings.complete  # looked for at the other pace

    asyncio.run(asyncio.wait_for(main(), patient(20)))


@pytest.mark.parametrize(
    ("map_name", "interval_s", "cause"),
    [
        ("pulse_recorder", 360, "does not say where the interval is set"),
        ("hourly_log", 300, "an interval of 300 s; allowed with its register map: 360 to 43200 s in steps of 60 s"),
        ("hourly_log", 400, "an interval of 400 s"),
        ("paged_convertor", 7200, "an interval of 7200 s"),
    ],
)
def test_an_interval_that_the_map_does_not_have_is_not_sent(map_name: str, interval_s: int, cause: str) -> None:
    async def main() -> None:
        async with at_the_meter(meter(), register_map(map_name), lambda: NOW, "tcp") as reader:
            with pytest.raises(Unable, match=cause):
                await reader.set_interval(interval_s)
            assert reader.trace.frames == []

    asyncio.run(asyncio.wait_for(main(), patient(20)))


@KINDS
@pytest.mark.parametrize("map_name", SETTABLE)
def test_the_clock_is_moved_by_no_more_than_a_step_and_its_offset_read_again(map_name: str, kind: str) -> None:
    later = Later()
    wrong = ClockOffset(from_=FITTED, until=NOW + 9 * DAY, offset_s=-100)

    async def main() -> None:
        async with at_the_meter(meter(wrong), register_map(map_name), later, kind) as reader:
            assert [await reader.set_clock(later, 45.0) for _ in range(4)] == [-55, -10, 0, 0]
            later.now += timedelta(seconds=0.4)
            assert await reader.set_clock(later, 45.0) == pytest.approx(-0.4)  # less than its registers can say
            sent = [frame for frame in reader.trace.frames if frame.sent]
            assert len([frame for frame in sent if "write" in reader.describe(frame)]) == 3

    asyncio.run(asyncio.wait_for(main(), patient(20)))


def test_a_clock_that_the_map_cannot_set_is_left_alone() -> None:
    async def main() -> None:
        async with at_the_meter(meter(), register_map("pulse_recorder"), lambda: NOW, "tcp") as reader:
            with pytest.raises(Unable, match="does not say where the clock is set"):
                await reader.set_clock(lambda: NOW, 30)

    asyncio.run(asyncio.wait_for(main(), patient(20)))


@KINDS
def test_the_octets_of_a_poll_are_kept_and_described(kind: str) -> None:
    start = datetime(2026, 12, 19, 5, tzinfo=UTC)

    async def main() -> list[str]:
        async with at_the_meter(meter(), register_map("hourly_log"), lambda: NOW, kind) as reader:
            await reader.read_day(start, start + DAY, lambda: NOW)
            return [reader.describe(frame) for frame in reader.trace.frames]

    described = asyncio.run(asyncio.wait_for(main(), patient(20)))
    first = meter().true_index_at(start)
    assert described[:2] == [
        "to unit 3: read 8 holding registers from 0 on",
        "from unit 3: 8 registers from 0 on: clock 2026-12-20 07:23:11Z; newest record of 2026-12-20 07:00:00Z; "
        "status good; interval 3600 s",
    ]
    assert re.fullmatch(r"to unit 3: read 117 holding registers from \d+ on", described[2])
    assert f"13 records; 2026-12-19 05:00:00Z index {first}; " in described[3]
    assert len(described) == 6


@pytest.mark.parametrize("how", ["wrong_check", "short"])
def test_a_spoiled_answer_on_a_line_is_a_failed_poll(how: str) -> None:
    start = datetime(2026, 12, 19, 5, tzinfo=UTC)

    async def main() -> None:
        spoiled = meter(Corrupt(every=3, how=how))  # type: ignore[arg-type]
        async with at_the_meter(spoiled, register_map("hourly_log"), lambda: NOW, "rtu") as reader:
            with pytest.raises(PollError, match="CRC is wrong" if how == "wrong_check" else "short answer"):
                await reader.read_day(start, start + DAY, lambda: NOW)

    asyncio.run(asyncio.wait_for(main(), patient(30)))


@KINDS
@pytest.mark.parametrize("map_name", known())
def test_what_the_equipment_reports_comes_with_the_day(map_name: str, kind: str) -> None:
    start = datetime(2026, 12, 19, 5, tzinfo=UTC)
    statuses: tuple[Literal["tamper", "battery_low"], ...] = ("tamper", "battery_low")
    faults = [Reports(from_=start + DAY / 2, until=NOW + DAY, status=status) for status in statuses]

    async def main() -> None:
        async with at_the_meter(meter(*faults), register_map(map_name), lambda: NOW, kind) as reader:
            assert (await reader.read_day(start, start + DAY, lambda: NOW)).readings.status == ("battery_low", "tamper")
            if register_map(map_name).archive.status is not None:  # else it is that of now
                assert (await reader.read_day(start - DAY, start, lambda: NOW)).readings.status == ()

    asyncio.run(asyncio.wait_for(main(), patient(20)))
