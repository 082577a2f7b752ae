"""A serial line with asyncio: pyserial in one thread of its own, 8N1 on the wire's driver, 7E1 in software; or one behind a
converter, by TCP.

Pseudo-terminals have no parity bits, and some USB adapters do them wrong; so the port is opened with 8 data bits, and parity
is added, checked and stripped here. A character whose parity is wrong is handed on as 0xFF, which no 7-bit protocol knows, so
that the protocol sees the damage where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import termios
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal, Protocol, TypeVar

import serial

from collectors.trace import Trace

BAD_PARITY = 0xFF
BITS_OF_CHARACTER = 10
REMOTE = "rfc2217://"
READ_BYTES = 4096
CONNECT_TIMEOUT_S = 10.0
_R = TypeVar("_R")


def _even(character: int) -> int:
    return character | 0x80 if character.bit_count() % 2 else character


ADD_EVEN_PARITY = bytes(_even(character & 0x7F) for character in range(256))
STRIP_EVEN_PARITY = bytes(character & 0x7F if character.bit_count() % 2 == 0 else BAD_PARITY for character in range(256))


class CharacterLine(Protocol):
    """One line of characters, used by one session at a time: hold `lock`. All errors are OSError.

    `trace` is kept by who talks over the line, who knows where a message ends, and what of it is secret.
    """

    lock: asyncio.Lock
    trace: Trace
    path: str

    async def open(self, baud: int) -> None:
        """Make it ready at this speed, with nothing left of another session."""

    async def set_baud(self, baud: int) -> None:
        """Go on at another speed, once what was written has left."""

    async def write(self, data: bytes) -> None:
        """Send it all."""

    async def read(self, timeout_s: float) -> bytes:
        """What has come in, at least one byte; nothing where `timeout_s` passes without."""

    async def done(self) -> None:
        """The session is over."""

    async def reset(self) -> None:
        """Close it; the next `open` begins afresh."""


class SerialLine:
    """One serial line, or one of a converter that speaks RFC 2217 (`path` is `rfc2217://host:port`), opened at first use and
    after any failure again. One user at a time: hold `lock`.

    `parity`: `even`, in software, with 7-bit characters; `none`: 8-bit characters as they are. All errors are OSError. It may
    be changed between messages.
    """

    def __init__(self, path: str, parity: Literal["even", "none"] = "even") -> None:
        self.path = path
        self.lock = asyncio.Lock()
        self.trace = Trace()
        self.parity = parity
        self._port: serial.Serial | None = None
        self._written = 0  # characters of the last message
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"line {path}")

    async def open(self, baud: int) -> None:
        """As `CharacterLine.open`: opened where it is closed; what came in unasked is dropped."""
        await self._run(partial(self._open, baud))

    async def set_baud(self, baud: int) -> None:
        """As `CharacterLine.set_baud`."""
        await self._run(partial(self._set_baud, baud))

    async def write(self, data: bytes) -> None:
        """As `CharacterLine.write`."""
        if self.parity == "even":
            data = data.translate(ADD_EVEN_PARITY)
        await self._run(partial(self._write, data))

    async def read(self, timeout_s: float) -> bytes:
        """As `CharacterLine.read`."""
        try:
            data = await self._run(partial(self._read, timeout_s))
        except asyncio.CancelledError:
            if self._port is not None:
                getattr(self._port, "cancel_read", int)()  # RFC 2217 has none, and waits for its time-out
            raise
        return data.translate(STRIP_EVEN_PARITY) if self.parity == "even" else data

    async def done(self) -> None:
        """Nothing: the port stays open for the next session."""

    async def reset(self) -> None:
        """As `CharacterLine.reset`."""
        await self._run(self._close)

    async def close(self) -> None:
        """Close it for good, with its thread."""
        await self._run(self._close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], _R]) -> _R:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except termios.error as error:  # which pyserial lets through, and is no OSError
            raise OSError(*error.args) from error

    def _open(self, baud: int) -> None:
        if self._port is None:
            self._port = serial.serial_for_url(self.path, baud, exclusive=True)
        elif self._port.baudrate != baud:
            self._port.baudrate = baud
        self._port.reset_input_buffer()

    def _set_baud(self, baud: int) -> None:
        port = self._opened()
        port.flush()
        if self.path.startswith(REMOTE):  # where `flush` cannot tell when the last character has left
            time.sleep(self._written * BITS_OF_CHARACTER / port.baudrate)
        port.baudrate = baud

    def _write(self, data: bytes) -> None:
        self._opened().write(data)
        self._written = len(data)

    def _read(self, timeout_s: float) -> bytes:
        port = self._opened()
        if port.timeout != timeout_s:
            port.timeout = timeout_s
        first: bytes = port.read(1)
        return first + bytes(port.read(port.in_waiting)) if first else first

    def _close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(OSError):
                port.close()

    def _opened(self) -> serial.Serial:
        if self._port is None:
            raise OSError(f"{self.path} is not open")
        return self._port


class TcpSerialLine:
    """A serial line behind a converter that passes characters on as they are (raw TCP).

    `parity` is of the characters within the stream: `even` where the converter knows nothing of parity, `none` where it adds,
    checks and strips it itself. The speed is the converter's own: `set_baud` does nothing. A connection lasts one session.
    """

    def __init__(
        self, host: str, port: int, parity: Literal["even", "none"] = "even", connect_timeout_s: float = CONNECT_TIMEOUT_S
    ) -> None:
        self.path = f"tcp://{host}:{port}"
        self.lock = asyncio.Lock()
        self.trace = Trace()
        self.parity = parity
        self._host, self._port, self._connect_timeout_s = host, port, connect_timeout_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self, baud: int) -> None:
        """As `CharacterLine.open`; a connection that is there is kept, and what came in unasked dropped."""
        if self._streams is not None:
            while await self._received(0.0):
                pass
            return
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                self._streams = await asyncio.open_connection(self._host, self._port, limit=READ_BYTES)
        except TimeoutError as error:
            raise ConnectionError(f"no connection within {self._connect_timeout_s:g} s") from error

    async def set_baud(self, baud: int) -> None:
        """Nothing: the converter has its own speed, or follows the option select by itself."""

    async def write(self, data: bytes) -> None:
        """As `CharacterLine.write`."""
        if self._streams is None:
            raise ConnectionResetError(f"{self.path} is not open")
        self._streams[1].write(data.translate(ADD_EVEN_PARITY) if self.parity == "even" else data)
        await self._streams[1].drain()

    async def read(self, timeout_s: float) -> bytes:
        """As `CharacterLine.read`. ConnectionResetError where the other side has closed."""
        data = await self._received(timeout_s)
        return data.translate(STRIP_EVEN_PARITY) if self.parity == "even" else data

    async def done(self) -> None:
        """Closed, so that a late answer cannot meet a later question."""
        await self.reset()

    async def reset(self) -> None:
        """As `CharacterLine.reset`."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with contextlib.suppress(OSError):
                await streams[1].wait_closed()

    async def _received(self, timeout_s: float) -> bytes:
        if self._streams is None:
            raise ConnectionResetError(f"{self.path} is not open")
        try:
            async with asyncio.timeout(timeout_s):
                data = await self._streams[0].read(READ_BYTES)
        except TimeoutError:
            return b""
        if not data:
            raise ConnectionResetError("the connection was closed")
        return data
