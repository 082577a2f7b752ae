"""A bad line to a simulated meter: a TCP relay that spoils what the meter says, as a script of troubles has it.

It stands where a converter to a serial line would: what comes from the line late goes to whoever is connected then, if that
is soon. Which octets are hit is drawn from the seed; when, is virtual time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Literal

import msgspec

Kind = Literal["noise", "silence", "wrong_speed", "echo", "late", "other_unit", "reset"]


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a line from an instant until before another; of `every` n-th answer, 1: of all.

    noise: an octet is changed, lost or too many. silence: the question is lost. wrong_speed: octets, but none that were said.
    echo: the question comes back before the answer. late: the answer comes with the next one. other_unit: another meter's
    answer comes instead. reset: half of it, and the connection is gone.
    """

    kind: Kind
    from_: datetime
    until: datetime
    every: int = 1


class BadLine:
    """The relay to the meter at `port` of this machine. `as_other_unit` makes of an answer another meter's."""

    def __init__(
        self,
        port: int,
        troubles: Sequence[Trouble],
        now: Callable[[], datetime],
        seed: int,
        as_other_unit: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.spoiled = 0  # answers so far, for who wants to know whether anything happened at all
        self._port, self._troubles, self._now = port, troubles, now
        self._dice = random.Random(seed)  # a script of faults keeps no secret
        self._as_other_unit = as_other_unit
        self._answers = 0
        self._held_back, self._held_at = b"", now()
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def listen(self) -> int:
        """Listen on a port of this machine, and say on which."""
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Hang up."""
        if self._server is not None:
            self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)
        with suppress(OSError, asyncio.CancelledError):
            meter_reader, meter_writer = await asyncio.open_connection("127.0.0.1", self._port)
            ways = (self._questions(reader, writer, meter_writer), self._spoiled_answers(meter_reader, writer))
            pumps = [asyncio.create_task(way) for way in ways]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                meter_writer.close()
        writer.close()

    async def _questions(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, meter: asyncio.StreamWriter) -> None:
        while question := await reader.read(4096):
            trouble = self._trouble()
            if trouble is not None and trouble.kind == "silence":
                self.spoiled += 1
                continue
            if trouble is not None and trouble.kind == "echo":
                self.spoiled += 1
                writer.write(question)
            meter.write(question)

    async def _spoiled_answers(self, meter: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while answer := await meter.read(65536):
            self._answers += 1
            trouble = self._trouble()
            if self._held_at != self._now():
                self._held_back = b""  # hours ago, by the virtual clock
            if trouble is None or trouble.kind in ("silence", "echo") or self._answers % trouble.every:
                writer.write(self._held_back + answer)
                self._held_back = b""
                continue
            self.spoiled += 1
            if trouble.kind == "reset":
                writer.write(answer[: len(answer) // 2])
                return
            writer.write(self._spoiled(trouble.kind, answer))

    def _trouble(self) -> Trouble | None:
        now = self._now()
        return next((trouble for trouble in self._troubles if trouble.from_ <= now < trouble.until), None)

    def _spoiled(self, kind: Kind, answer: bytes) -> bytes:
        match kind:
            case "wrong_speed":
                return self._dice.randbytes(self._dice.randint(1, len(answer)))
            case "late":
                self._held_back, self._held_at, said = answer, self._now(), self._held_back
                return said
            case "other_unit":
                assert self._as_other_unit is not None
                return self._as_other_unit(answer)
        place = self._dice.randrange(len(answer))
        changed = bytes((answer[place] ^ 1 << self._dice.randrange(8),))
        hit = self._dice.choice((b"", changed, answer[place : place + 1] + b"U"))
        return answer[:place] + hit + answer[place + 1 :]
