"""Virtual time, and its one owner.

Participants join; each works as long as it likes at the present instant and then waits for a later one. Time moves, to the
earliest awaited instant, only when all who have joined wait: so a month runs as fast as the work in it allows, and nothing
depends on how fast that was. A participant's `now()` stands still while it works.

Another process takes part over a socket, in JSON lines, one participant a connection (`ClockServer`):

    {"join": "gateway-1"}                      -> {"now": "2026-10-01T04:00:00Z"}
    {"wait": "2026-10-01T04:10:00Z"}           -> {"now": "2026-10-01T04:10:00Z"}, when time has got there
    {"now": true}                              -> {"now": ...}; also before joining, and without
    {"leave": true}                            -> {"now": ...}; so does a connection that ends, for whatever reason

What is not understood is answered with {"error": ...} and the connection is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

log = logging.getLogger(__name__)
LINE_BYTES_MAX = 1024


class Participant:
    """One who takes part in virtual time: a `Clock` of its own, with one wait at a time."""

    def __init__(self, clock: SteppedClock, name: str) -> None:
        self._clock = clock
        self.name = name
        self.awaited: datetime | None = None
        self.wake: asyncio.Future[None] | None = None

    def now(self) -> datetime:
        """The present virtual instant; it does not move before this participant waits."""
        return self._clock.now()

    async def wait_until(self, instant: datetime) -> None:
        """Return when virtual time is `instant`; at once where it is that late already."""
        await self._clock.wait(self, instant)

    def leave(self) -> None:
        """Take part no longer: time does not wait for this one any more. Leaving twice is leaving once."""
        self._clock.leave(self)

    def __enter__(self) -> Participant:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.leave()


class SteppedClock:
    """The owner of virtual time. It stands at `start` until `run()`, so that everybody can join before it moves."""

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError(f"start: {start} has no time zone")
        self._now = start.astimezone(UTC)
        self._joined: list[Participant] = []
        self._running = False
        self._changed = asyncio.Event()

    def now(self) -> datetime:
        """The present virtual instant, in UTC."""
        return self._now

    def join(self, name: str) -> Participant:
        """A new participant; from now on time waits for it. Several may have one name."""
        participant = Participant(self, name)
        self._joined.append(participant)
        self._changed.set()
        return participant

    def leave(self, participant: Participant) -> None:
        """What `Participant.leave` does; a wait under way ends as cancelled."""
        if participant not in self._joined:
            return
        self._joined.remove(participant)
        if participant.wake is not None:
            participant.wake.cancel()
        self._changed.set()
        self._step()

    def working(self) -> tuple[str, ...]:
        """The names of those for whom time waits: whoever has joined and does not wait."""
        return tuple(participant.name for participant in self._joined if participant.wake is None)

    async def run(self, expected: int = 1) -> None:
        """Let time move, as soon as `expected` participants have joined, until nobody is joined."""
        await self._until(lambda: len(self._joined) >= expected)
        self._running = True
        try:
            self._step()
            await self._until(lambda: not self._joined)
        finally:
            self._running = False

    async def wait(self, participant: Participant, instant: datetime) -> None:
        """What `Participant.wait_until` does."""
        if participant not in self._joined:
            raise RuntimeError(f"{participant.name} has left, and cannot wait")
        if participant.awaited is not None:
            raise RuntimeError(f"{participant.name} waits already: one wait at a time, or join twice")
        if instant <= self._now:
            await asyncio.sleep(0)
            return
        participant.awaited = instant
        participant.wake = asyncio.get_running_loop().create_future()
        self._step()
        try:
            await participant.wake
        finally:
            participant.awaited = participant.wake = None

    def _step(self) -> None:
        """Move on if all wait: to the earliest awaited instant, and wake those who wait for it, in the order they joined."""
        if not self._running or not self._joined:
            return
        if any(participant.wake is None or participant.wake.done() for participant in self._joined):
            return  # a wait that was cancelled a moment ago is work too
        waits = [(p.awaited, p.wake) for p in self._joined if p.awaited is not None and p.wake is not None]
        self._now = max(self._now, min(awaited for awaited, _ in waits).astimezone(UTC))
        for awaited, wake in waits:
            if awaited <= self._now:
                wake.set_result(None)

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self._changed.clear()
            await self._changed.wait()


class ClockServer:
    """Lets other processes take part, on a Unix socket or on a loopback TCP port."""

    def __init__(self, clock: SteppedClock) -> None:
        self._clock = clock
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.address = ""

    async def listen_unix(self, path: Path) -> str:
        """Serve on a Unix socket; returns the address, `unix:PATH`."""
        self._server = await asyncio.start_unix_server(self._serve, path, limit=LINE_BYTES_MAX)
        self.address = f"unix:{path}"
        return self.address

    async def listen_tcp(self, port: int = 0) -> str:
        """Serve on 127.0.0.1; returns the address, `tcp:127.0.0.1:PORT` (a free port where 0 is given)."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=LINE_BYTES_MAX)
        self.address = "tcp:127.0.0.1:" + str(self._server.sockets[0].getsockname()[1])
        return self.address

    async def close(self) -> None:
        """Stop serving; whoever is connected has left."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await _Connection(self._clock, reader, writer).run()
        except asyncio.CancelledError:  # by close(); asyncio's streams would log a cancelled handler as an error
            pass
        finally:
            self._connections.discard(task)
            writer.close()


class _Connection:
    """One remote participant. Reads on while it waits, so that a connection that ends is seen at once."""

    def __init__(self, clock: SteppedClock, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clock = clock
        self._reader = reader
        self._writer = writer
        self._participant: Participant | None = None
        self._wait: asyncio.Task[None] | None = None

    async def run(self) -> None:
        try:
            while line := await self._reader.readline():
                await self._answer(json.loads(line))
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            await self._send({"error": str(error)})
        except ConnectionError as error:
            log.info("clock: %s has gone: %s", self._participant and self._participant.name, error)
        finally:
            if self._wait is not None:
                self._wait.cancel()
            if self._participant is not None:
                self._participant.leave()

    async def _answer(self, request: Any) -> None:
        verbs: dict[str, Callable[[Any], Awaitable[None]]] = {
            "join": self._join, "wait": self._begin_wait, "now": self._tell, "leave": self._leave,
        }  # fmt: skip
        if not isinstance(request, dict) or len(request) != 1 or next(iter(request)) not in verbs:
            raise ValueError(f"not understood: {request!r}; allowed: one of {', '.join(verbs)}")
        verb, value = next(iter(request.items()))
        await verbs[verb](value)

    async def _join(self, name: str) -> None:
        if self._participant is not None:
            raise ValueError(f"joined already, as {self._participant.name}")
        self._participant = self._clock.join(str(name))
        log.info("clock: %s takes part", name)
        await self._tell(True)

    async def _begin_wait(self, instant: str) -> None:
        if self._participant is None:
            raise ValueError("wait: join first")
        if self._wait is not None and not self._wait.done():
            raise ValueError("wait: one wait at a time")
        until = datetime.fromisoformat(instant)
        if until.tzinfo is None:
            raise ValueError(f"wait: {instant} has no offset")
        self._wait = asyncio.create_task(self._wait_until(self._participant, until))

    async def _wait_until(self, participant: Participant, instant: datetime) -> None:
        await participant.wait_until(instant)
        with contextlib.suppress(ConnectionError):  # run() sees the end of the connection, and leaves
            await self._tell(True)

    async def _leave(self, _: Any) -> None:
        if self._participant is not None:
            self._participant.leave()
        await self._tell(True)

    async def _tell(self, _: Any) -> None:
        await self._send({"now": format_instant(self._clock.now())})

    async def _send(self, answer: dict[str, str]) -> None:
        with contextlib.suppress(ConnectionError):
            self._writer.write(json.dumps(answer).encode() + b"\n")
            await self._writer.drain()


def format_instant(instant: datetime) -> str:
    """RFC 3339 in UTC with `Z`."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
