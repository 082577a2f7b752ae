"""Modbus peers that we did not write: libmodbus and pyModbusTCP are read by our client, `mbpoll` reads our simulator."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from pyModbusTCP.server import DataBank
from pyModbusTCP.server import ModbusServer as IndependentServer

from collectors.modbus import ModbusMeter
from collectors.modbus_line import modbus_line
from collectors.modbus_maps import RegisterMap, register_map
from collectors.modbus_registers import Span, Words, header_of, header_spans
from collectors.reader import Unanswered
from simulators.meter import SimulatedMeter
from simulators.modbus_server import ModbusPtyServer, ModbusServer
from tests.collectors.canned_modbus import archive_registers
from tests.collectors.modbus_peers import libmodbus, null_modem
from tests.patience import patient
from tests.simulators.test_modbus_server import NOW as SIMULATED_NOW
from tests.simulators.test_modbus_server import meter

START = datetime(2026, 10, 1, 4, tzinfo=UTC)
END = START + timedelta(days=1)
NOW = END + timedelta(minutes=3)
STRAIGHT = ["hourly_log", "pulse_recorder", "flow_computer"]  # whose archive lies in registers as it is, without pages


def tables(map_: RegisterMap, clock_off_s: int = 0) -> dict[str, dict[int, int]]:
    start_s = int(START.timestamp())
    rows = [(start_s + n * 3600, 70_000 + n) for n in range(-40, 25)]
    found = archive_registers(map_, int(NOW.timestamp()) + clock_off_s, rows, 12)
    return {"holding": found, "input": {}} if map_.table == "holding" else {"holding": {}, "input": found}


async def reads_the_day(address: str, map_: RegisterMap) -> None:
    reader = ModbusMeter(modbus_line(address, patient(5), 115200, "none"), 1, map_, "x")
    readings = (await reader.read_day(START, END, lambda: NOW)).readings
    assert readings.index == tuple(range(70_000, 70_025))
    assert readings.clock_offset_s == 0


async def sets(address: str, map_: RegisterMap) -> None:
    reader = ModbusMeter(modbus_line(address, patient(5), 115200, "none"), 1, map_, "x")
    assert await reader.set_interval(360) == 360
    assert await reader.set_interval(1800) == 1800


def run(work: Awaitable[None]) -> None:
    async def main() -> None:
        await asyncio.wait_for(work, patient(30))

    asyncio.run(main())


@pytest.mark.parametrize("name", STRAIGHT)
def test_libmodbus_is_read_over_tcp(name: str) -> None:
    map_ = register_map(name)
    with libmodbus("tcp", "0", tables(map_)) as port:
        run(reads_the_day(f"tcp://127.0.0.1:{port}", map_))


@pytest.mark.parametrize("name", STRAIGHT)
def test_libmodbus_is_read_and_set_over_a_serial_line(name: str) -> None:
    map_ = register_map(name)

    async def work() -> None:
        async with null_modem() as (ours, theirs):
            with libmodbus("rtu", theirs, tables(map_)):
                await reads_the_day(f"serial:{ours}", map_)
                if map_.interval:
                    await sets(f"serial:{ours}", map_)

    run(work())


def test_the_clock_of_libmodbus_is_set_in_steps() -> None:
    map_ = register_map("hourly_log")  # it reads the registers that it writes: what is written stays

    async def work(address: str) -> None:
        reader = ModbusMeter(modbus_line(address, patient(5)), 1, map_, "x")
        assert [await reader.set_clock(lambda: NOW, 30) for _ in range(4)] == [-50, -20, 0, 0]

    with libmodbus("tcp", "0", tables(map_, clock_off_s=-80)) as port:
        run(work(f"tcp://127.0.0.1:{port}"))


@pytest.mark.parametrize("name", STRAIGHT)
def test_pymodbustcp_is_read_and_set(name: str) -> None:
    map_ = register_map(name)
    bank = DataBank(h_regs_size=0x10000, i_regs_size=0x10000)
    for address, word in tables(map_)["holding"].items():
        bank.set_holding_registers(address, [word])
    for address, word in tables(map_)["input"].items():
        bank.set_input_registers(address, [word])
    server = IndependentServer("127.0.0.1", 0, no_block=True, data_bank=bank)
    server.start()
    try:
        address = f"tcp://127.0.0.1:{server._service.server_address[1]}"
        run(reads_the_day(address, map_))
        if map_.interval:
            run(sets(address, map_))
    finally:
        server.stop()


# `mbpoll` as the client.


async def mbpoll(*arguments: str) -> tuple[int, dict[int, int], str]:
    """Exit code, what it shows of each register (by address, from 0), and all that it says."""
    command = ["mbpoll", "-0", "-1", "-o", "10", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    said = (await process.communicate())[0].decode()
    shown = {int(at): int(value) & 0xFFFF for at, value in re.findall(r"^\[(\d+)\]:\s+(-?\d+)", said, re.MULTILINE)}
    assert process.returncode is not None
    return process.returncode, shown, said


async def on_both_lines(map_: RegisterMap, work: Callable[[tuple[str, ...], SimulatedMeter], Awaitable[None]]) -> None:
    """Do it with a simulated meter on TCP, and with another one on a pseudo-terminal."""
    for is_serial in (False, True):
        simulated = meter()
        server = ModbusServer({3: simulated}, map_, lambda: SIMULATED_NOW)
        port = await server.listen()
        line = ModbusPtyServer(server)
        line.start()
        where = ("-m", "rtu", "-P", "none", line.path) if is_serial else ("-p", str(port), "127.0.0.1")
        try:
            await work((*where, "-a", "3"), simulated)
        finally:
            line.close()
            await server.close()


def test_mbpoll_reads_what_the_simulator_says() -> None:
    map_ = register_map("hourly_log")

    async def work(where: tuple[str, ...], simulated: SimulatedMeter) -> None:
        code, shown, said = await mbpoll("-t", "4", "-r", "0", "-c", "8", *where)
        assert code == 0, said
        assert header_spans(map_) == [Span(0, 8)]
        header = header_of([Words(0, [shown[n] for n in range(8)], "big")], map_)
        now_s = int(SIMULATED_NOW.timestamp())
        assert (shown[0], shown[1], shown[7]) == (now_s >> 16, now_s & 0xFFFF, 60)
        assert header.clock_s == now_s
        first = 1000 + 9 * header.newest
        _, record, _ = await mbpoll("-t", "4", "-r", str(first), "-c", "9", *where)
        newest_at = SIMULATED_NOW.replace(minute=0, second=0)
        assert record[first] << 16 | record[first + 1] == int(newest_at.timestamp())
        assert record[first + 2] << 16 | record[first + 3] == simulated.true_index_at(newest_at)

    run(on_both_lines(map_, work))


@pytest.mark.parametrize(
    ("name", "register", "value", "seconds"), [("hourly_log", 7, 6, 360), ("paged_convertor", 500, 15, 900)]
)
def test_mbpoll_sets_the_simulators_interval_and_our_client_reads_it(
    name: str, register: int, value: int, seconds: int
) -> None:
    map_ = register_map(name)

    async def work(where: tuple[str, ...], _simulated: SimulatedMeter) -> None:
        code, _, said = await mbpoll("-t", "4", "-r", str(register), *where, str(value))
        assert code == 0, said
        code, shown, _ = await mbpoll("-t", "4", "-r", str(register), *where)
        assert (code, shown) == (0, {register: value})
        code, _, said = await mbpoll("-t", "4", "-r", str(register), *where, "1")  # a minute: not with this meter
        assert code != 0, said
        is_serial = "rtu" in where
        address = f"serial:{where[4]}" if is_serial else f"tcp://127.0.0.1:{where[1]}"
        reader = ModbusMeter(modbus_line(address, patient(5), 115200, "none"), 3, map_, "x", 3600)
        assert (await reader._interval_words()).unsigned(register, 1) * 60 == seconds
        await reader.close()

    run(on_both_lines(map_, work))


def test_mbpoll_gets_nothing_from_a_unit_that_is_not_there_and_an_exception_for_no_register() -> None:
    async def work(where: tuple[str, ...], _simulated: SimulatedMeter) -> None:
        code, shown, said = await mbpoll("-o", "0.5", "-t", "4", "-r", "0", *where[:-1], "9")
        assert (code != 0, shown) == (True, {}), said
        code, shown, said = await mbpoll("-t", "4", "-r", "40000", *where)
        assert (code != 0, shown) == (True, {})
        assert "Illegal data address" in said

    run(on_both_lines(register_map("hourly_log"), work))


def test_a_unit_that_is_not_there_is_silent_on_a_simulated_line() -> None:
    async def work(where: tuple[str, ...], _simulated: SimulatedMeter) -> None:
        if "rtu" in where:
            reader = ModbusMeter(modbus_line(f"serial:{where[4]}", 0.5), 4, register_map("hourly_log"), "x")
            with pytest.raises(Unanswered, match="no answer within"):
                await reader.read_day(START, END, lambda: NOW)

    run(on_both_lines(register_map("hourly_log"), work))
