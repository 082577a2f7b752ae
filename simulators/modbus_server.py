"""A Modbus server for simulated meters: real sockets and pseudo-terminals, real frames, registers laid out by a register map.

Equipment that is silent closes a TCP connection, or, with `mute`, keeps it and says nothing, as real ones do: a client then
waits for its time-out. On a serial line it is always mute.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from pymodbus.framer import FramerRTU

from collectors.modbus_maps import RegisterMap
from simulators.meter import SimulatedMeter
from simulators.modbus_image import RegisterImage
from simulators.pty_line import PtyLine

log = logging.getLogger(__name__)
MBAP: Final = struct.Struct(">HHHBB")
TWO: Final = struct.Struct(">HH")
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
READS, WRITES = (3, 4), (6, 16)
RTU_SILENCE_S: Final = 0.2  # after which what came in before is no beginning of a question
WRITE_AGAIN_S: Final = 0.01


class ModbusServer:
    """Serves the meters of one address, by unit. `now` is the (virtual) present."""

    def __init__(
        self,
        meters: Mapping[int, SimulatedMeter],
        map_: RegisterMap,
        now: Callable[[], datetime],
        *,
        mute: bool = False,
    ) -> None:
        self.map, self.now, self.mute = map_, now, mute
        self.images = {unit: RegisterImage(meter, map_) for unit, meter in meters.items()}
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Serve there; returns the port (a free one where 0 is given)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop serving and close all connections."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.close()

    def answer(self, unit: int, function: int, data: bytes) -> bytes | None:
        """The answer to a request, function code first; None: the equipment is silent."""
        image, now = self.images.get(unit), self.now()
        if image is None or not image.meter.answers(now):
            return None
        if function in READS:
            return self._read(image, function, data, now)
        if function in WRITES:
            return self._write(image, function, data, now)
        return bytes((function | 0x80, ILLEGAL_FUNCTION))

    def _read(self, image: RegisterImage, function: int, data: bytes, now: datetime) -> bytes:
        first, count = TWO.unpack(data) if len(data) == TWO.size else (0, 0)
        if not 1 <= count <= self.map.max_count:
            return bytes((function | 0x80, ILLEGAL_VALUE))
        registers = image.read(function, first, count, now)
        if registers is None:
            return bytes((function | 0x80, ILLEGAL_ADDRESS if image.has(function) else ILLEGAL_FUNCTION))
        spoiled = image.meter.spoils_answer()
        if spoiled == "short":
            registers = registers[:-1]
        answer = bytes((function, 2 * len(registers))) + struct.pack(f">{len(registers)}H", *registers)
        return answer[:-1] if spoiled == "wrong_check" else answer

    def _write(self, image: RegisterImage, function: int, data: bytes, now: datetime) -> bytes:
        first, number = TWO.unpack(data[:4]) if len(data) >= TWO.size else (0, 0)
        octets = data[2:4] if function == 6 else data[5:]
        whole = len(data) == 4 if function == 6 else len(data) > 5 and data[4] == 2 * number == len(octets)
        if not whole:
            return bytes((function | 0x80, ILLEGAL_VALUE))
        words = struct.unpack(f">{len(octets) // 2}H", octets)
        if not image.write(first, words, now):
            return bytes((function | 0x80, ILLEGAL_ADDRESS))
        return bytes((function,)) + data[:4]


class _Connection(asyncio.Protocol):
    """Cuts the bytes of one connection into frames and sends the answers."""

    def __init__(self, server: ModbusServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while len(self._waiting) >= MBAP.size:
            transaction, protocol, length, unit, function = MBAP.unpack_from(self._waiting)
            if protocol != 0 or not 2 <= length <= 254:
                return self.close()
            if len(self._waiting) < 6 + length:
                return None
            body, self._waiting = self._waiting[MBAP.size : 6 + length], self._waiting[6 + length :]
            self._send(transaction, unit, self._server.answer(unit, function, body))
        return None

    def _send(self, transaction: int, unit: int, answer: bytes | None) -> None:
        assert self._transport is not None
        if answer is not None:
            header = struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit)
            self._transport.write(header + answer)
        elif not self._server.mute:
            self._transport.close()


class ModbusPtyServer(PtyLine):
    """Serves a server's meters by Modbus RTU on a pseudo-terminal of its own; `path` is what a collector opens.

    `link`: a path to make a symbolic link to the pty at.
    """

    def __init__(self, server: ModbusServer, link: Path | None = None) -> None:
        super().__init__(link)
        self._server = server
        self._waiting, self._heard_at = b"", 0.0

    def hears(self, data: bytes) -> list[bytes]:
        """What is said to what came in: frames, each the answer to a whole question."""
        self._waiting += data
        answers = []
        while (size := _question_size(self._waiting)) and len(self._waiting) >= size:
            question, self._waiting = self._waiting[:size], self._waiting[size:]
            if question[-2:] != _crc(question[:-2]):
                self._waiting = b""
                break
            answer = self._server.answer(question[0], question[1], question[2:-2])
            if answer is not None:
                answers.append(_framed(question[0], answer))
        return answers

    def _hear(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._heard_at > RTU_SILENCE_S:
            self._waiting = b""
        self._heard_at = now
        for frame in self.hears(os.read(self._master, 4096)):
            self._say(frame)

    def _say(self, frame: bytes) -> None:
        try:
            sent = os.write(self._master, frame)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            log.info("%s: %s", self.path, error)
            return
        if sent < len(frame):
            asyncio.get_running_loop().call_later(WRITE_AGAIN_S, self._say, frame[sent:])


def _question_size(data: bytes) -> int:
    """How long the question at the start of `data` is, by its function; 0 where that is not known yet."""
    if len(data) < 8:
        return 0
    return 9 + data[6] if data[1] == 16 else 8


def _framed(unit: int, answer: bytes) -> bytes:
    """An answer that was cut off to spoil its check gets a wrong CRC instead."""
    body = bytes((unit,)) + answer
    if answer[0] in READS and len(answer) == answer[1] + 1:
        return body + b"\0" + bytes(octet ^ 0x55 for octet in _crc(body + b"\0"))
    return body + _crc(body)


def _crc(body: bytes) -> bytes:
    return FramerRTU.compute_CRC(body).to_bytes(2, "big")
