"""A Modbus TCP server for simulated meters: real sockets, real frames, registers laid out by a register map.

The registers are made when they are asked for, from what the meter's log says at that virtual instant. The archive has a
place for every hour; an hour that was not logged is a record without values. Equipment that is silent closes the
connection, or, with `mute`, keeps it and says nothing, as real ones do: a client then waits for its time-out.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from collectors.modbus_maps import RegisterMap
from collectors.modbus_registers import count_words, flags_word, instant_words
from simulators.meter import LogRow, SimulatedMeter

MBAP: Final = struct.Struct(">HHHBB")
READ: Final = struct.Struct(">HH")
HOUR_S: Final = 3600
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3


class RegisterImage:
    """The registers of one meter, as they are at an instant."""

    def __init__(self, meter: SimulatedMeter, map_: RegisterMap) -> None:
        self.meter, self.map = meter, map_

    def read(self, first: int, count: int, now: datetime) -> list[int] | None:
        """`count` registers from `first` on; None where there are none."""
        archive = self.map.archive
        end = archive.address + archive.capacity * archive.record_registers
        if archive.address <= first and first + count <= end:
            return self._archive(first - archive.address, count, now)
        known = self._header(now)
        if not any(register in known for register in range(first, first + count)):
            return None
        return [known.get(register, 0) for register in range(first, first + count)]

    def _extent(self, now: datetime) -> tuple[int, int]:
        """The hours (since 1970) of the archive's oldest and newest record."""
        shows = self.meter.clock(now)
        newest = int(shows.timestamp()) // HOUR_S
        kept_from = max(self.meter.fitted_at, shows - self.meter.log_for)
        oldest = -(-int(kept_from.timestamp()) // HOUR_S)
        return max(oldest, newest - self.map.archive.capacity + 1), newest

    def _header(self, now: datetime) -> dict[int, int]:
        map_, archive, order = self.map, self.map.archive, self.map.word_order
        oldest, newest = self._extent(now)
        stored = max(0, newest - oldest + 1)
        parts = {
            map_.clock.address: instant_words(int(self.meter.clock(now).timestamp()), map_.clock, order),
            map_.status.address: [flags_word(self.meter.row_now(now).status, map_.status)],
            archive.newest.address: count_words(newest % archive.capacity, archive.newest, order),
            archive.stored.address: count_words(stored, archive.stored, order),
            archive.newest_at.address: instant_words(newest * HOUR_S, archive.newest_at, order),
        }
        return {address + n: word for address, words in parts.items() for n, word in enumerate(words)}

    def _archive(self, offset: int, count: int, now: datetime) -> list[int]:
        size = self.map.archive.record_registers
        first = offset // size
        records = range(first, (offset + count - 1) // size + 1)
        words = [word for position in records for word in self._record(position, now)]
        return words[offset - first * size : offset - first * size + count]

    def _record(self, position: int, now: datetime) -> list[int]:
        archive, order = self.map.archive, self.map.word_order
        oldest, newest = self._extent(now)
        hour = newest - (newest - position) % archive.capacity
        if hour < oldest:
            return [0] * archive.record_registers
        at = datetime.fromtimestamp(hour * HOUR_S, UTC)
        found = self.meter.log(at, at, now)
        row: LogRow | None = found[0] if found else None
        words = [0] * archive.record_registers
        _place(words, archive.at.address, instant_words(hour * HOUR_S, archive.at, order))
        for number, ticks in (
            (archive.index, row.index if row else None),
            (archive.unconverted, row.unconverted if row else None),
            (archive.own_index, row.reference if row else None),
        ):
            if number is not None:
                _place(words, number.address, count_words(ticks, number, order))
        if archive.status is not None:
            _place(words, archive.status.address, [flags_word(row.status if row else (), archive.status)])
        return words


def _place(words: list[int], address: int, part: list[int]) -> None:
    words[address : address + len(part)] = part


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
        if function != (3 if self.map.table == "holding" else 4):
            return bytes((function | 0x80, ILLEGAL_FUNCTION))
        first, count = READ.unpack(data) if len(data) == READ.size else (0, 0)
        if not 1 <= count <= self.map.max_count:
            return bytes((function | 0x80, ILLEGAL_VALUE))
        registers = image.read(first, count, now)
        if registers is None:
            return bytes((function | 0x80, ILLEGAL_ADDRESS))
        spoiled = image.meter.spoils_answer()
        if spoiled == "short":
            registers = registers[:-1]
        answer = bytes((function, 2 * len(registers))) + struct.pack(f">{len(registers)}H", *registers)
        return answer[:-1] if spoiled == "wrong_check" else answer


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
