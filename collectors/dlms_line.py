"""What a talk with a DLMS/COSEM meter runs over: a TCP connection, or a serial line; and the one loop that does the waiting."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol, TypeVar

from collectors.dlms_poll import Talk
from collectors.serial_port import SerialLine

READ_OCTETS = 4096
T = TypeVar("T")


class Line(Protocol):
    """One line, used by one talk at a time: hold `lock`. All errors are OSError."""

    lock: asyncio.Lock

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
        self.lock = asyncio.Lock()
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
    """A serial line with eight bits and no parity, as HDLC needs it."""

    def __init__(self, path: str, baud: int) -> None:
        self._serial, self._baud = SerialLine(path, "none"), baud
        self.lock = self._serial.lock

    async def open(self) -> None:
        """As `Line.open`."""
        await self._serial.open(self._baud)

    async def write(self, data: bytes) -> None:
        """As `Line.write`."""
        await self._serial.write(data)

    async def read(self, timeout_s: float) -> bytes:
        """As `Line.read`."""
        return await self._serial.read(timeout_s)

    async def reset(self) -> None:
        """As `Line.reset`."""
        await self._serial.reset()


async def talk_over(talk: Talk[T], line: Line, timeout_s: float) -> T:
    """What the talk comes to. Raises RemoteError, and OSError where the line breaks. `timeout_s`: of each silence."""
    try:
        writing = next(talk)
        while True:
            if writing:
                await line.write(writing)
            writing = talk.send(await line.read(timeout_s))
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        talk.close()
