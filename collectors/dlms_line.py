"""What a talk with a DLMS/COSEM meter runs over: a TCP connection, or a serial line; and the one loop that does the waiting."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol, TypeVar

from collectors.dlms_poll import Session, Talk
from collectors.iec62056_21_mode_e import open_hdlc
from collectors.serial_port import SerialLine
from collectors.trace import Trace

READ_OCTETS = 4096
BABBLE_TIMES = 4
HEAD_OCTETS = 8
HEARD_OCTETS_MAX = 0x10000
T = TypeVar("T")


class Line(Protocol):
    """One line, used by one talk at a time: hold `lock`. All errors are OSError."""

    lock: asyncio.Lock
    trace: Trace

    async def open(self) -> None:
        """Make it ready for a talk, with nothing left of another."""

    async def write(self, data: bytes) -> None:
        """Send it all."""

    async def read(self, timeout_s: float) -> bytes:
        """What has come in; nothing where `timeout_s` passes without."""

    async def reset(self) -> None:
        """Close it; the next `open` begins afresh."""


class TcpLine:
    """A TCP address; a connection lasts one talk, so that a late answer cannot meet a later question."""

    def __init__(self, host: str, port: int, connect_timeout_s: float) -> None:
        self.lock, self.trace = asyncio.Lock(), Trace()
        self._host, self._port, self._connect_timeout_s = host, port, connect_timeout_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        """As `Line.open`."""
        await self.reset()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                self._streams = await asyncio.open_connection(self._host, self._port, limit=READ_OCTETS)
        except TimeoutError as error:
            raise ConnectionError(f"none within {self._connect_timeout_s:g} s") from error

    async def write(self, data: bytes) -> None:
        """As `Line.write`."""
        _, writer = self._connected()
        writer.write(data)
        await writer.drain()

    async def read(self, timeout_s: float) -> bytes:
        """As `Line.read`. ConnectionResetError where the other side has closed."""
        reader, _ = self._connected()
        try:
            async with asyncio.timeout(timeout_s):
                data = await reader.read(READ_OCTETS)
        except TimeoutError:
            return b""
        if not data:
            raise ConnectionResetError("the connection was closed")
        return data

    async def reset(self) -> None:
        """As `Line.reset`."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with contextlib.suppress(OSError):
                await streams[1].wait_closed()

    def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            raise ConnectionResetError("not connected")
        return self._streams


class SerialHdlcLine:
    """A serial line with eight bits and no parity, as HDLC needs it. `baud`: the speed of HDLC; after an opening by mode E
    the greatest that is taken."""

    def __init__(self, path: str, baud: int) -> None:
        self._serial, self._baud = SerialLine(path, "none"), baud
        self.lock, self.trace = self._serial.lock, self._serial.trace

    async def open(self) -> None:
        """As `Line.open`."""
        await self._serial.open(self._baud)

    async def open_by_mode_e(self) -> None:
        """Have a meter that speaks IEC 62056-21 first go on by HDLC. Raises PollError, with the path as the site."""
        await open_hdlc(self._serial, baud_max=self._baud)

    async def write(self, data: bytes) -> None:
        """As `Line.write`."""
        await self._serial.write(data)

    async def read(self, timeout_s: float) -> bytes:
        """As `Line.read`."""
        return await self._serial.read(timeout_s)

    async def reset(self) -> None:
        """As `Line.reset`."""
        await self._serial.reset()


class Tracing:
    """What the trace of a line is given: the octets, with the password out of them.

    What comes in is given when we speak again, whole, for it comes in pieces of any size; and the echo of what we said, on a
    line that echoes, has the password in it too.
    """

    def __init__(self, trace: Trace, password: bytes = b"") -> None:
        self._trace, self._password = trace, password
        self._said: list[tuple[bytes, bytes]] = []
        self._heard = b""

    def sent(self, octets: bytes, is_secret: bool) -> None:
        """These octets go out; `is_secret`: the password is among them, or a part of it."""
        self.flush()
        shown = self._shown(octets, is_secret)
        if shown != octets:
            self._said.append((octets, shown))
        self._trace.sent(shown)

    def heard(self, octets: bytes) -> None:
        """These octets have come in."""
        self._heard += octets
        if len(self._heard) > HEARD_OCTETS_MAX:
            self.flush()

    def flush(self) -> None:
        """Nothing more comes in before we speak, or at all."""
        heard, self._heard = self._heard, b""
        for octets, shown in self._said:
            heard = heard.replace(octets, shown)
        self._trace.heard(heard)

    def _shown(self, octets: bytes, is_secret: bool) -> bytes:
        if not is_secret or not self._password:
            return octets
        if self._password in octets:
            return octets.replace(self._password, b"*" * len(self._password))
        return octets[:HEAD_OCTETS] + b"*" * len(octets[HEAD_OCTETS:])  # in segments, which may have any part of it


async def talk_over(talk: Talk[T], line: Line, timeout_s: float, session: Session | None = None) -> T:
    """What the talk comes to. Raises RemoteError, and OSError where the line breaks. `timeout_s`: of each silence.

    Where octets come and come, and none of them is an answer, that is a silence too after `BABBLE_TIMES` as long, or a line
    that babbles would be held for ever. `session`: whose password, if it has one, is to be kept out of the trace.
    """
    trace = Tracing(line.trace, session.password if session else b"")
    loop = asyncio.get_running_loop()
    try:
        writing = next(talk)
        until = loop.time() + BABBLE_TIMES * timeout_s
        while True:
            if writing:
                trace.sent(writing, session is not None and session.is_secret)
                await line.write(writing)
            if writing or loop.time() >= until:
                until = loop.time() + BABBLE_TIMES * timeout_s
            left_s = until - loop.time()
            heard = await line.read(min(timeout_s, left_s))
            trace.heard(heard)
            writing = talk.send(heard if loop.time() < until else b"")
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        trace.flush()
        talk.close()
