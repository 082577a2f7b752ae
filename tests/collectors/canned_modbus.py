"""A Modbus TCP server for tests: registers from a dictionary, and a hook that spoils what is sent."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from collectors.modbus_maps import WORDS, RegisterMap
from collectors.modbus_registers import count_words, flags_word, instant_words, number_words

# Takes the frame that would be sent and how many were before it; gives the frames to send, or None to close the connection.
Spoil = Callable[[bytes, int], Iterable[bytes] | None]


def as_it_is(frame: bytes, _number: int) -> list[bytes]:
    return [frame]


class CannedModbus:
    """Answers reads of known registers (others: exception 2), on one port, for all units. Counts requests and connections."""

    def __init__(self, registers: Mapping[int, int], spoil: Spoil = as_it_is) -> None:
        self.registers, self.spoil = registers, spoil
        self.requests: list[tuple[int, int]] = []
        self.connections = 0
        self.port = 0

    @asynccontextmanager
    async def serving(self):  # type: ignore[no-untyped-def]
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readexactly(8)
                first, count = struct.unpack(">HH", await reader.readexactly(4))
                self.requests.append((first, count))
                frames = self.spoil(self._answer(head, first, count), len(self.requests) - 1)
                if frames is None:
                    return
                for frame in frames:
                    writer.write(frame)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def _answer(self, head: bytes, first: int, count: int) -> bytes:
        transaction, _, _, unit, function = struct.unpack(">HHHBB", head)
        wanted = range(first, first + count)
        if any(register in self.registers for register in wanted):
            words = [self.registers.get(register, 0) for register in wanted]
            body = bytes((function, 2 * count)) + struct.pack(f">{count}H", *words)
        else:
            body = bytes((function | 0x80, 2))
        return struct.pack(">HHHB", transaction, 0, len(body) + 1, unit) + body


Row = tuple[int, int | None]


def archive_registers(
    map_: RegisterMap, clock_s: int, rows: Iterable[Row], newest: int, status: Iterable[str] = ()
) -> dict[int, int]:
    """The registers of a meter whose archive holds these (instant in s, index), the last at position `newest` of the ring."""
    rows, archive, order = list(rows), map_.archive, map_.word_order
    found: dict[int, int] = {}

    def put(address: int, words: Iterable[int]) -> None:
        found.update({address + n: word for n, word in enumerate(words)})

    put(map_.clock.address, instant_words(clock_s, map_.clock, order))
    put(map_.status.address, [flags_word(status, map_.status)])
    if archive.newest is not None:
        put(archive.newest.address, count_words(newest, archive.newest, order))
    if map_.interval is not None:
        interval = archive.interval_s // map_.interval.unit_s
        put(map_.interval.address, number_words(interval, WORDS[map_.interval.type], order))
    put(archive.stored.address, count_words(len(rows), archive.stored, order))
    put(archive.newest_at.address, instant_words(rows[-1][0] if rows else 0, archive.newest_at, order))
    for age, (at_s, index) in enumerate(reversed(rows)):
        position = age if archive.newest is None else (newest - age) % archive.capacity
        base = archive.address + position * archive.record_registers
        put(base, [0] * archive.record_registers)
        put(base + archive.at.address, instant_words(at_s, archive.at, order))
        put(base + archive.index.address, count_words(index, archive.index, order))
        for number in (archive.unconverted, archive.own_index):
            if number is not None:
                put(base + number.address, count_words(index, number, order))
    assert all(address + WORDS["u16"] <= 65536 for address in found)
    return found


def run_with(server: CannedModbus, work: Callable[[CannedModbus], Awaitable[None]]) -> None:
    """Run `work` while the server serves."""

    async def main() -> None:
        async with server.serving():
            await work(server)

    asyncio.run(main())
