"""Days of bad lines in virtual time: whatever happens on a line, each reading delivered is the truth, if late.

One meter of each way to speak over TCP, each with a script of its own: a trouble in every morning, in an order that the seed
draws. Where a trouble lets nothing through, the Day comes after it; where answers are spoiled now and then, it comes all
the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from pymodbus.framer import FramerRTU

from collectors import iec62056_21_reader
from collectors.dlms_base import NeedData
from collectors.dlms_hdlc import Address, Frame, FrameReader
from collectors.gateway import Gateway
from collectors.iec62056_21_session import Timing
from collectors.modbus_maps import register_map
from collectors.outbox import Outbox
from metering.facts import Readings
from metering.gasday import to_datetime
from simulators.bad_line import BadLine, Kind, Trouble
from simulators.clock import SteppedClock
from simulators.iec62056_21_server import ConverterServer, MeterSide
from simulators.meter import SimulatedMeter
from simulators.modbus_server import ModbusPtyServer, ModbusServer
from simulators.serve import REGISTER_MAP, ServedGateway, ServedMeter, ServedPolling, Service
from simulators.sites import Site
from tests.collectors.virtual import DAY, DAYS, FIRST, START, days_read, site, stored
from tests.patience import patient

HOUR = timedelta(hours=1)
NEVER_THROUGH = ("silence", "wrong_speed", "other_unit", "reset", "late")
TIMEOUT_S = 0.1
AT_ONCE = Timing(answer_timeout_s=TIMEOUT_S, reaction_s=0.0, attempts=2)  # no line has to be turned round
# What can happen on which line. TCP itself has neither noise nor a speed; an echo is of two wires. Over IEC 62056-21 an
# answer does not say whose it is; over one connection of Modbus TCP or DLMS there is nobody else to hear late.
CONVERTER: tuple[Kind, ...] = ("noise", "silence", "wrong_speed", "late", "reset")
TROUBLES: dict[str, tuple[Kind, ...]] = {
    "modbus": ("silence", "other_unit", "late", "reset"),
    "rtu": (*CONVERTER, "echo", "other_unit"),
    "iec62056_21": (*CONVERTER, "echo"),
    "wrapper": ("silence", "other_unit", "reset"),
    "hdlc": (*CONVERTER, "other_unit"),
}


def modbus_of_another(answer: bytes) -> bytes:
    return answer[:6] + bytes((answer[6] % 247 + 1,)) + answer[7:]


def rtu_of_another(answer: bytes) -> bytes:
    body = bytes((answer[0] % 247 + 1,)) + answer[1:-2]
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


def wrapper_of_another(answer: bytes) -> bytes:
    return answer[:2] + (int.from_bytes(answer[2:4], "big") + 1).to_bytes(2, "big") + answer[4:]


def hdlc_of_another(answer: bytes) -> bytes:
    frames, said = FrameReader(), b""
    frames.receive_data(answer)
    while not isinstance(frame := frames.next_frame(), NeedData):
        other = Address(frame.source.upper + 1, frame.source.lower, frame.source.size)
        said += Frame(frame.destination, other, frame.control, frame.information, frame.segmented).encode()
    return said


AS_OTHER_UNIT: dict[str, Callable[[bytes], bytes]] = {
    "modbus": modbus_of_another, "rtu": rtu_of_another, "wrapper": wrapper_of_another, "hdlc": hdlc_of_another
}  # fmt: skip


class RtuConverter:
    """A converter before a line of Modbus RTU."""

    def __init__(self, meters: ModbusServer) -> None:
        self._line = ModbusPtyServer(meters)
        self._server: asyncio.Server | None = None

    async def listen(self) -> int:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(b"".join(self._line.hears(data)))
        writer.close()

    def close(self) -> None:
        assert self._server is not None
        self._server.close()


class Lines:
    """Meters behind bad lines, and what a gateway is to know of them."""

    def __init__(self, service: Service, clock: SteppedClock, seed: int, open_: AsyncExitStack) -> None:
        self.service, self.clock, self.open = service, clock, open_
        self.dice = random.Random(seed)
        self.scripts: dict[str, list[Trouble]] = {}
        self.lines: list[BadLine] = []
        self.settings: list[ServedMeter] = []

    async def add(self, way: str, number: int) -> None:
        """Serve a meter that speaks this way, behind a line of its own."""
        wanted = msgspec.structs.replace(site(number), **SITES[way])
        port, settings = await self._served(way, wanted)
        troubles = self.scripts[wanted.meter_point] = script(TROUBLES[way], self.dice)
        line = BadLine(port, troubles, self.clock.now, self.dice.randrange(2**32), AS_OTHER_UNIT.get(way))
        scheme = settings.address.partition(":")[0]
        self.settings.append(msgspec.structs.replace(settings, address=f"{scheme}://127.0.0.1:{await line.listen()}"))
        self.open.push_async_callback(line.close)
        self.lines.append(line)

    async def _served(self, way: str, wanted: Site) -> tuple[int, ServedMeter]:
        await self.service.add(wanted)
        settings, meter = self.service.settings[-1], self.service.meters[wanted.name]
        if way == "rtu":
            rtu = RtuConverter(ModbusServer({1: meter}, register_map(REGISTER_MAP), self.clock.now))
            self.open.callback(rtu.close)
            return await rtu.listen(), msgspec.structs.replace(settings, address="rtu+tcp:")
        if way == "iec62056_21":
            converter = ConverterServer(MeterSide(meter, wanted, self.clock.now, opening_baud=9600))
            port = await converter.listen()
            self.open.push_async_callback(converter.close)
            return port, msgspec.structs.replace(settings, address="tcp:", baud=9600)
        return int(settings.address.rpartition(":")[2]), settings


SITES: dict[str, dict[str, object]] = {
    "modbus": {},
    "rtu": {},
    "iec62056_21": {"protocol": "iec62056_21"},
    "wrapper": {"protocol": "dlms"},
    "hdlc": {"protocol": "dlms", "link": "hdlc"},
}


def script(kinds: tuple[Kind, ...], dice: random.Random) -> list[Trouble]:
    """Each of the kinds in one morning, for half an hour from the Day's end on."""
    found = []
    for number, kind in enumerate(dice.sample(kinds, len(kinds)), 1):
        end = to_datetime(DAYS.start_us(FIRST.toordinal() + number))
        found.append(Trouble(kind=kind, from_=end, until=end + HOUR / 2, every=3 if kind == "noise" else 1))
    return found


async def days_of_bad_lines(outbox: Outbox, seed: int, folder: Path) -> tuple[Lines, Gateway]:
    clock = SteppedClock(START)
    async with AsyncExitStack() as open_:
        service = Service(clock.now, folder, DAYS)
        open_.push_async_callback(service.close)
        lines = Lines(service, clock, seed, open_)
        for number, way in enumerate(TROUBLES, 1):
            await lines.add(way, number)
        settings = ServedGateway(gateway="g", meters=tuple(lines.settings), polling=ServedPolling(timeout_s=TIMEOUT_S))
        gateway = Gateway(settings, clock.join("gateway"), outbox, days=DAYS, since=FIRST)
        end = clock.join("end")
        moving, running = asyncio.create_task(clock.run(expected=2)), asyncio.create_task(gateway.run())
        await end.wait_until(START + 8 * DAY)
        gateway.stop()
        await running
        end.leave()
        moving.cancel()
    return lines, gateway


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_delivered_over_bad_lines_is_the_truth_late_where_it_must_be(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time-outs are real, and short here: an answer that misses one on a busy machine is one more trouble."""
    monkeypatch.setattr(iec62056_21_reader, "_timing", lambda _line, _timeout_s: AT_ONCE)
    outbox = Outbox(tmp_path / "outbox.sqlite", "gateway-1")
    lines, gateway = asyncio.run(asyncio.wait_for(days_of_bad_lines(outbox, seed, tmp_path), patient(40)))
    assert all(line.spoiled for line in lines.lines)
    assert gateway.counters.failed > 10
    for number, way in enumerate(TROUBLES, 1):
        check(outbox, lines.scripts[f"MP{number}"], site(number).build(DAYS), f"MP{number}", way)
    outbox.close()


def check(outbox: Outbox, troubles: list[Trouble], meter: SimulatedMeter, point: str, way: str) -> None:
    batches = [fact for fact in stored(outbox) if isinstance(fact, Readings) and fact.meter_point == point]
    for batch in batches:
        for index, at in zip(batch.index, batch.instants(), strict=True):
            assert index is None or index == meter.true_index_at(at), (way, at)
        assert batch.status == (), way
        assert batch.clock_offset_s is not None
        assert abs(batch.clock_offset_s) <= 1, way
    whole = {batch.gas_day: batch for batch in batches if None not in batch.index}
    assert set(whole) >= {FIRST + n * DAY for n in range(7)}, (way, troubles)
    put_at: dict[int, datetime] = {}
    for day, at in days_read(outbox, point):
        put_at.setdefault(day, at)
    for number, trouble in enumerate(troubles):
        if trouble.kind in NEVER_THROUGH:
            assert put_at[(FIRST + number * DAY).day] >= trouble.until, (way, trouble)
