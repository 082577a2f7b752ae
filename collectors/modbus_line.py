"""A line with Modbus meters on it: TCP, a serial line (RTU), or a serial line behind a converter (RTU over TCP).

pymodbus opens the line, frames the questions and reads the answers' registers; which octets are the answer `modbus_frames.py`
says. After anything but a proper answer the line is closed. Over TCP a late answer then meets nobody; over RTU, whose answers
do not tell what was asked, the same unit is asked again only when a late one should have come.
"""

from __future__ import annotations

import asyncio
import logging
import os
import termios
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.client.base import ModbusBaseClient
from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerType
from pymodbus.pdu import ModbusPDU

from collectors.modbus_frames import (
    OCTETS_MAX,
    Framing,
    Garbled,
    LineError,
    NothingCame,
    Question,
    Refused,
    check_unasked,
)
from collectors.modbus_maps import Table
from collectors.os_error import in_words
from collectors.trace import Trace

FUNCTION: dict[Table, int] = {"holding": 3, "input": 4}
BAUD = 19200  # with even parity, after "MODBUS over serial line" 2.5.1
CHARACTER_BITS = 11
FRAME_OCTETS_MAX = 256 + 8  # the longest answer and its question
NOISE_S = 0.05  # silence after noise; a USB adapter hands on what it has every 16 ms
Connect = Callable[[], Coroutine[Any, Any, Any]]
Parity = Literal["none", "even"]


class ModbusLine:
    """One address, with the meters behind it. Hold `lock` for the whole of a poll, and `close` after it: a meter has few
    connections to give, and one that was kept for a Day is as often as not a dead one.

    `timeout_s`: for the connection, and for each answer from its question on.
    """

    baud: int | None = None

    def __init__(self, host: str, port: int, timeout_s: float, framing: Framing = "tcp") -> None:
        self.lock = asyncio.Lock()
        self.trace = Trace()
        self.framing = framing
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._gap_s = 0.0  # between two frames, whatever the meter
        self._client: ModbusBaseClient | None = None
        self._question: Question | None = None  # whose answer is waited for
        self._asking: tuple[int, int, int, int] | None = None
        self._stray: LineError | None = None  # what came in unasked since the line was opened, and is no frame
        self._heard_at = float("-inf")
        self._late_until: dict[int, float] = {}  # by unit
        _quiet()

    async def read(self, unit: int, table: Table, first: int, count: int, pause_s: float = 0.0) -> Sequence[int]:
        """`count` registers from `first` on. Connects where it is not connected. Raises LineError.

        `pause_s`: how long this meter needs the line to be silent before a question.
        """
        function = FUNCTION[table]

        def ask(client: ModbusBaseClient) -> Awaitable[ModbusPDU]:
            request = client.read_holding_registers if function == 3 else client.read_input_registers
            return request(first, count=count, device_id=unit)

        return (await self._exchange((unit, function, first, count), ask, pause_s)).registers

    async def write(self, unit: int, function: Literal[6, 16], first: int, words: Sequence[int], pause_s: float = 0.0) -> None:
        """Write registers from `first` on, with function 16, or one with function 6. Raises LineError."""

        def ask(client: ModbusBaseClient) -> Awaitable[ModbusPDU]:
            if function == 6:
                return client.write_register(first, words[0], device_id=unit)
            return client.write_registers(first, list(words), device_id=unit)

        await self._exchange((unit, function, first, len(words)), ask, pause_s)

    def close(self) -> None:
        """Close the line; the next question opens it again."""
        self._asking = self._stray = None
        if self._client is not None:
            self._client.close()
            self._client = None

    async def _exchange(
        self, asking: tuple[int, int, int, int], ask: Callable[[ModbusBaseClient], Awaitable[ModbusPDU]], pause_s: float
    ) -> ModbusPDU:
        unit = asking[0]
        try:
            client = self._client or await self._connected()
            await self._silence(unit, pause_s)
            if self._stray is not None:
                raise self._stray
            self._asking = asking
            answer = await ask(client)
        except ModbusException as error:
            raise self._failed(unit, self._unanswered()) from error
        except LineError as error:
            raise self._failed(unit, error) from None
        except asyncio.CancelledError:
            self._failed(unit, LineError())
            raise
        self._asking = None
        client.ctx.recv_buffer = b""
        return answer

    async def _connected(self) -> ModbusBaseClient:
        client = self._client = self._made(
            retries=0, reconnect_delay=0, trace_packet=self._passes, trace_connect=self._connection_changed
        )
        client.ctx.max_buffer_size = 2 * OCTETS_MAX  # its own would drop a late answer together with the one behind it
        refused: list[OSError] = []
        client.ctx.call_create = _noting(client.ctx.call_create, refused)
        try:
            is_there = await client.connect()
        except termios.error as error:  # which pyserial lets through
            raise NothingCame(f"the line cannot be set up: {error.args[-1]}") from error
        if not is_there:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # pymodbus takes a cancellation for a refused connection
                raise asyncio.CancelledError
            raise NothingCame(self._absent(refused))
        return client

    def _made(self, **common: Any) -> ModbusBaseClient:
        framer = FramerType.RTU if self.framing == "rtu" else FramerType.SOCKET
        return AsyncModbusTcpClient(self._host, port=self._port, timeout=self._timeout_s, framer=framer, **common)

    def _absent(self, refused: Sequence[OSError]) -> str:
        return f"no connection: {in_words(refused[-1])}" if refused else f"no connection within {self._timeout_s:.3g} s"

    async def _silence(self, unit: int, pause_s: float) -> None:
        """Wait until the line has been silent for long enough, and no late answer of this unit is to be feared."""
        if self.framing == "tcp" and not pause_s:  # whose answers are numbered
            return
        now = asyncio.get_running_loop().time
        patience = now() + 2 * self._timeout_s
        self._late_until = {other: until for other, until in self._late_until.items() if until > now()}
        while (wait_s := max(self._heard_at + max(pause_s, self._gap_s), self._late_until.get(unit, 0.0)) - now()) > 0:
            if now() > patience:
                raise LineError("the line does not fall silent")
            await asyncio.sleep(wait_s)

    def _failed(self, unit: int, error: LineError) -> LineError:
        asked = self._asking is not None
        self.close()
        if self.framing == "rtu" and asked:
            now = asyncio.get_running_loop().time()
            self._heard_at = max(self._heard_at, now + NOISE_S - self._gap_s)
            if not isinstance(error, Refused | Garbled):
                self._late_until[unit] = now + self._timeout_s
        return error

    def _unanswered(self) -> LineError:
        """What a time-out means."""
        heard = self._client.ctx.recv_buffer if self._client is not None else b""
        self.trace.heard(heard)
        if heard and self.framing == "rtu":
            return LineError(f"{len(heard)} octets within {self._timeout_s:.3g} s, and no answer in them")
        return NothingCame(f"no answer within {self._timeout_s:.3g} s")

    def _passes(self, sending: bool, data: bytes) -> bytes:
        """Called by pymodbus with a frame to send, and with all that came in since; what it is to see of that."""
        if sending:
            self._sent(data)
            return data
        self._heard_at = max(self._heard_at, asyncio.get_running_loop().time())
        client, question = self._client, self._question
        if client is None or self._asking is None or question is None:
            self._unasked(data)
            return b""
        try:
            frame = question.answer_in(data)
        except LineError as error:
            self.trace.heard(data)
            self._fail(error)
            return b""
        if frame is not None:
            self.trace.heard(data)
            self._question = None
        return frame or b""

    def _unasked(self, data: bytes) -> None:
        self.trace.heard(data)
        if self._client is not None:
            self._client.ctx.recv_buffer = b""
        try:
            check_unasked(self.framing, data)
        except LineError as error:
            self._stray = error

    def _sent(self, frame: bytes) -> None:
        self.trace.sent(frame)
        self._heard_at = max(self._heard_at, asyncio.get_running_loop().time())
        if self._asking is not None and self._client is not None:
            self._question = Question(self.framing, *self._asking, self._client.ctx.request_transaction_id, frame)

    def _connection_changed(self, connected: bool) -> None:
        if not connected:
            self._fail(NothingCame("the connection was closed"))

    def _fail(self, error: LineError) -> None:
        self._question = None
        if self._asking is not None and self._client is not None and not self._client.ctx.response_future.done():
            self._client.ctx.response_future.set_exception(error)


class SerialModbusLine(ModbusLine):
    """A serial line with meters that speak Modbus RTU: 8 data bits, 1 stop bit."""

    def __init__(self, path: str, baud: int, parity: Parity, timeout_s: float) -> None:
        longest_s = FRAME_OCTETS_MAX * CHARACTER_BITS / baud
        super().__init__(path, 0, timeout_s + longest_s, "rtu")
        self.baud = baud
        self._parity = parity
        self._gap_s = max(3.5 * CHARACTER_BITS / baud, 0.00175)  # "MODBUS over serial line" 2.5.1.1

    def _made(self, **common: Any) -> ModbusBaseClient:
        is_pty = os.path.realpath(self._host).startswith("/dev/pts/")  # which has no parity
        parity = "E" if self._parity == "even" and not is_pty else "N"
        return AsyncModbusSerialClient(self._host, baudrate=self.baud or BAUD, parity=parity, timeout=self._timeout_s, **common)

    def _absent(self, refused: Sequence[OSError]) -> str:
        if not os.path.exists(self._host):
            return f"there is no {self._host}"
        if not os.access(self._host, os.R_OK | os.W_OK):
            return f"{self._host} may not be opened: no permission"
        return f"{self._host} cannot be opened" + (f": {in_words(refused[-1])}" if refused else "")


def _noting(create: Connect, refused: list[OSError]) -> Connect:
    """As `create`; why it failed is added to `refused`, for pymodbus only logs it."""

    async def noted() -> Any:
        try:
            return await create()
        except OSError as error:
            refused.append(error)
            raise

    return noted


def modbus_line(address: str, timeout_s: float, baud: int | None = None, parity: Parity | None = None) -> ModbusLine:
    """The line at `tcp://host:port`, `rtu+tcp://host:port` (a converter) or `serial:/dev/NAME`. ValueError where it is none.

    A serial line has 19,200 Bd and even parity unless said otherwise.
    """
    if address.startswith("serial:") and len(address) > len("serial:"):
        return SerialModbusLine(address.removeprefix("serial:"), baud or BAUD, parity or "even", timeout_s)
    url = urlsplit(address)
    if url.scheme not in ("tcp", "rtu+tcp") or url.hostname is None or url.port is None:
        allowed = "tcp://host:port, rtu+tcp://host:port, serial:/dev/NAME"
        raise ValueError(f'address: found "{address}"; allowed with modbus: {allowed}')
    return ModbusLine(url.hostname, url.port, timeout_s, "tcp" if url.scheme == "tcp" else "rtu")


def _quiet() -> None:
    """What pymodbus logs about each failed request is in the error that we raise, once. All of it with `--verbose`."""
    level = logging.NOTSET if logging.getLogger().isEnabledFor(logging.DEBUG) else logging.CRITICAL
    if (log := logging.getLogger("pymodbus")).level != level:  # setting it empties every logger's cache
        log.setLevel(level)
