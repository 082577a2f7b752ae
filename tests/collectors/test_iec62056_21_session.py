"""Sessions on real lines: waking up, quick and slow meters, HDLC by mode E, converters, and what the trace shows of it all."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
import serial
import serial.rfc2217

from collectors.iec62056_21_messages import WAKE_UP, Password, SignOn, encode
from collectors.iec62056_21_mode_e import open_hdlc
from collectors.iec62056_21_poll import read_day
from collectors.iec62056_21_session import HEARD_OCTETS_MAX, Iec62056Meter, Session, Timing
from collectors.reading import PollError
from collectors.serial_port import READ_BYTES, SerialLine, TcpSerialLine
from collectors.trace import OCTETS_MAX
from simulators.iec62056_21_server import ConverterServer, Make, MeterSide
from tests.collectors.iec62056_21_rig import DAY, PTY_TIMING, SITE, Rig, boundaries, rig, run, truth
from tests.patience import patient

SHORT = Timing(answer_timeout_s=0.3, reaction_s=0.0, attempts=1, wake_up_s=0.0)
WITH_HDLC = Make(hdlc=lambda data: b"~" + data[::-1] + b"\xff~")


def said(it: Rig) -> list[bytes]:
    return [frame.octets for frame in it.line.trace.frames if frame.sent]


def heard(it: Rig) -> list[bytes]:
    return [frame.octets for frame in it.line.trace.frames if not frame.sent]


def test_a_sleeping_meter_is_woken_up(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, make=Make(sleeps=True), wake_up=True) as it:
            assert (await it.read(timing=replace(PTY_TIMING, wake_up_s=0.0))).complete
            assert said(it)[:2] == [WAKE_UP, encode(SignOn(""))]
        async with rig(tmp_path, make=Make(sleeps=True)) as it:
            with pytest.raises(PollError, match="sign-on: no answer"):
                await it.read(timing=SHORT)

    run(work)


def test_a_slow_meter_is_given_its_time(tmp_path: Path) -> None:
    """Of 200 ms before we speak; only what is at least so can be measured on a machine that is busy."""

    async def work() -> None:
        async with rig(tmp_path) as it:
            await it.read(timing=Timing(answer_timeout_s=patient(0.5)))
            frames = it.line.trace.frames
            gaps = [later.at - earlier.at for earlier, later in pairwise(frames) if later.sent]
            assert min(gaps[:-1]) >= timedelta(seconds=0.19)  # the break waits for nobody

    run(work)


@pytest.mark.parametrize(("maker", "reaction_s"), [("EMh", 0.02), ("EMH", 0.2)])
def test_a_quick_meter_says_that_it_is(maker: str, reaction_s: float, tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path) as it:
            identified = f"/{maker}5\\@DRE-10\r\n".encode()
            it.server._side._identify = lambda message, at_baud: identified  # type: ignore[method-assign]
            session = Session(it.line, it.known, Timing(answer_timeout_s=0.5, attempts=1))
            await it.line.open(300)
            it.server._side._select = lambda message: b""  # type: ignore[method-assign]
            with pytest.raises(PollError, match="option select"):
                await session.program()
            assert session._reaction_s == reaction_s

    run(work)


def test_the_trace_is_messages_and_has_no_password(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path) as it:
            await it.read()
            password = SITE.password
            assert password is not None
            assert b"\x01P1\x02(" + b"*" * len(password) + b")\x03*" in said(it)
            assert not any(password.encode() in frame.octets for frame in it.line.trace.frames)
            assert heard(it)[0] == b"/DRY5\\@DRE-10\r\n"
            assert heard(it)[1].startswith(b"\x01P0\x02(M-1010)\x03")

    run(work)


def test_an_echo_of_the_password_is_not_shown_either(tmp_path: Path) -> None:
    class Echo(MeterSide):
        def hears(self, data: bytes, at_baud: int | None = None) -> bytes:
            return data + super().hears(data, at_baud)

    async def work() -> None:
        async with rig(tmp_path) as it:
            it.server._side = Echo(it.meter, it.site, lambda: it.now)
            assert (await it.read()).complete
            assert it.site.password is not None
            assert not any(it.site.password.encode() in frame.octets for frame in it.line.trace.frames)
            it.known = replace(it.known, password="12345678")
            it.line.trace.clear()
            with pytest.raises(PollError):
                await it.read()
            assert not any(b"12345678"[:4] in frame.octets for frame in it.line.trace.frames)

    run(work)


@pytest.mark.parametrize("level", [1, 2])
def test_a_password_has_a_level(level: int, tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, password_level=level) as it:
            assert (await it.read()).complete
            assert any(octets.startswith(b"\x01P%d\x02" % level) for octets in said(it))

    run(work)
    assert encode(Password("x", lock="4:171.0")).startswith(b"\x01W1\x024:171.0(x)")


def test_hdlc_is_opened_by_mode_e(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, make=WITH_HDLC) as it:
            for baud_max in (4800, 9600):  # and called anew from HDLC
                assert await open_hdlc(it.line, baud_max=baud_max, timing=PTY_TIMING) == baud_max
                assert it.line.parity == "none"
                await it.line.write(b"\x80\x01\x7f")
                echoed = b""
                while len(echoed) < 6:
                    echoed += await it.line.read(patient(1))
                assert echoed == b"~\x7f\x01\x80\xff~"
            assert b"\x06252\r\n" in said(it)
            assert b"\x06252\r\n" in heard(it)

    run(work)


def test_a_meter_that_offers_no_hdlc_says_so_and_the_line_is_left_as_it_was(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path) as it:
            with pytest.raises(PollError, match=r"offers no HDLC \(mode E\)"):
                await open_hdlc(it.line, timing=PTY_TIMING)
            assert it.line.parity == "none"
            it.line.parity = "even"
            assert (await it.read()).complete

    run(work)


def test_hdlc_that_is_not_confirmed_is_not_taken_for_opened(tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path, make=WITH_HDLC) as it:
            it.server._side._select = lambda message: b"\x06251\r\n"  # type: ignore[method-assign]
            with pytest.raises(PollError, match="option select: Malformed: a confirmation of HDLC that is none"):
                await open_hdlc(it.line, timing=replace(PTY_TIMING, attempts=1))

    run(work)


@pytest.mark.parametrize("parity", ["even", "none"])
def test_a_meter_behind_a_converter(parity: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with rig(tmp_path) as it:
            server = ConverterServer(MeterSide(it.meter, it.site, lambda: it.now), parity=parity == "even")
            line = TcpSerialLine("127.0.0.1", await server.listen(), parity)  # type: ignore[arg-type]
            first, last = boundaries(DAY)
            it.now = last + timedelta(minutes=10)
            for _ in range(2):  # a connection each
                readings = await read_day(line, it.known, first, last, lambda: it.now, PTY_TIMING)
                assert readings.index == truth(it, readings.at)
            await server.close()
            with pytest.raises(PollError, match=r"line tcp://127\.0\.0\.1:\d+: Connect"):
                await read_day(line, it.known, first, last, lambda: it.now, PTY_TIMING)

    run(work)


def test_a_converter_that_hangs_up_in_the_middle_is_a_failed_poll(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async def work() -> None:
        async with rig(tmp_path) as it:
            server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
            line = TcpSerialLine("127.0.0.1", server.sockets[0].getsockname()[1])
            first, last = boundaries(DAY)
            with pytest.raises(PollError, match=r"line tcp://127\.0\.0\.1:\d+: "):
                await read_day(line, it.known, first, last, lambda: it.now, PTY_TIMING)
            server.close()

    run(work)


def test_a_serial_line_that_was_never_opened_says_so() -> None:
    async def work() -> None:
        for line in (SerialLine("/dev/nothing"), TcpSerialLine("127.0.0.1", 1)):
            with pytest.raises(OSError, match="is not open"):
                await line.write(b"x")

    run(work)


class PtyPort(serial.Serial):
    """A pty has no modem lines."""

    cts = dsr = ri = cd = False

    def _update_rts_state(self) -> None:
        pass

    def _update_dtr_state(self) -> None:
        pass


class Rfc2217:
    """pyserial's own server of RFC 2217, in a thread, for one client on a pty."""

    def __init__(self, path: str) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.serial = PtyPort(path, 300, timeout=0)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Wait for the client's end; listen no more."""
        self._thread.join()
        self._listening.close()
        self.serial.close()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        with connection, connection.makefile("rwb", buffering=0) as stream:
            manager = serial.rfc2217.PortManager(self.serial, stream)
            while True:
                if select.select([connection], [], [], 0.005)[0]:
                    octets = connection.recv(1024)
                    if not octets:
                        return
                    self.serial.write(b"".join(manager.filter(octets)))
                elif self.serial.in_waiting:
                    stream.write(b"".join(manager.escape(self.serial.read(self.serial.in_waiting))))


def test_a_converter_of_rfc_2217_changes_its_speed(tmp_path: Path) -> None:
    """The simulator says what follows the option select only once the pty behind the converter has the new speed."""

    async def work() -> None:
        async with rig(tmp_path) as it:
            server = Rfc2217(str(it.link))
            it.line = SerialLine(f"rfc2217://127.0.0.1:{server.port}")
            readings = await it.read()
            assert readings.index == truth(it, readings.at)
            assert server.serial.baudrate == 9600
            await it.line.close()
            await asyncio.to_thread(server.close)
            it.line = SerialLine(f"rfc2217://127.0.0.1:{server.port}")
            with pytest.raises(PollError, match=r"line rfc2217://"):
                await it.read()

    run(work)


def test_of_a_line_that_babbles_no_more_is_held_than_the_trace_takes() -> None:
    """Behind a converter noise comes as fast as the network is."""

    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"\x55" * 65_536)
                await writer.drain()

    async def work() -> None:
        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        line = TcpSerialLine("127.0.0.1", server.sockets[0].getsockname()[1])
        session = Session(line, Iec62056Meter(site="x", m3_per_tick=Decimal("0.1")), replace(SHORT, exchange_timeout_s=1.0))
        await line.open(300)
        with pytest.raises(PollError, match="sign-on"):
            await session.program()
        await line.done()
        server.close()
        assert line.trace.left_out > OCTETS_MAX
        assert max(len(frame.octets) for frame in line.trace.frames) <= HEARD_OCTETS_MAX + READ_BYTES

    run(work)
