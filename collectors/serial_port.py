"""A serial line with asyncio: pyserial in one thread of its own, 8N1 on the wire's driver, 7E1 in software.

Pseudo-terminals have no parity bits, and some USB adapters do them wrong; so the port is opened with 8 data bits, and parity
is added, checked and stripped here. A character whose parity is wrong is handed on as 0xFF, which no 7-bit protocol knows, so
that the protocol sees the damage where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import termios
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal, TypeVar

import serial

from collectors.trace import Trace

BAD_PARITY = 0xFF
_R = TypeVar("_R")


def _even(character: int) -> int:
    return character | 0x80 if character.bit_count() % 2 else character


ADD_EVEN_PARITY = bytes(_even(character & 0x7F) for character in range(256))
STRIP_EVEN_PARITY = bytes(character & 0x7F if character.bit_count() % 2 == 0 else BAD_PARITY for character in range(256))


class SerialLine:
    """One serial line, opened at first use and after any failure again. One user at a time: hold `lock`.

    `parity`: `even`, in software, with 7-bit characters; `none`: 8-bit characters as they are. All errors are OSError.
    `trace` is kept by who talks over the line, who knows where a message ends, and what of it is secret.
    """

    def __init__(self, path: str, parity: Literal["even", "none"] = "even") -> None:
        self.path = path
        self.lock = asyncio.Lock()
        self.trace = Trace()
        self._parity = parity
        self._port: serial.Serial | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"line {path}")

    async def open(self, baud: int) -> None:
        """Open it where it is closed; set the speed; drop what came in unasked."""
        await self._run(partial(self._open, baud))

    async def set_baud(self, baud: int) -> None:
        """Go on at another speed, once what was written has left."""
        await self._run(partial(self._set_baud, baud))

    async def write(self, data: bytes) -> None:
        """Send it all."""
        if self._parity == "even":
            data = data.translate(ADD_EVEN_PARITY)
        await self._run(partial(self._write, data))

    async def read(self, timeout_s: float) -> bytes:
        """What has come in, at least one byte; nothing where `timeout_s` passes without."""
        try:
            data = await self._run(partial(self._read, timeout_s))
        except asyncio.CancelledError:
            if self._port is not None:
                self._port.cancel_read()
            raise
        return data.translate(STRIP_EVEN_PARITY) if self._parity == "even" else data

    async def reset(self) -> None:
        """Close it; the next `open` begins afresh."""
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
            self._port = serial.Serial(self.path, baud, exclusive=True)
        elif self._port.baudrate != baud:
            self._port.baudrate = baud
        self._port.reset_input_buffer()

    def _set_baud(self, baud: int) -> None:
        port = self._opened()
        port.flush()
        port.baudrate = baud

    def _write(self, data: bytes) -> None:
        self._opened().write(data)

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
