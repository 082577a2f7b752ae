"""Virtual time moves only when all wait, and to the earliest awaited instant."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from simulators.clock import ClockServer, SteppedClock

START = datetime(2026, 10, 1, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_time_moves_to_the_earliest_awaited_instant_and_only_when_all_wait() -> None:
    async def run() -> list[tuple[str, float]]:
        clock = SteppedClock(START)
        seen: list[tuple[str, float]] = []

        async def take_part(name: str, hours: list[int], work_s: float) -> None:
            with clock.join(name) as me:
                for hour in hours:
                    await me.wait_until(START + hour * HOUR)
                    await asyncio.sleep(work_s)
                    seen.append((name, (me.now() - START) / HOUR))

        tasks = [asyncio.create_task(take_part(*args)) for args in (("a", [1, 2, 5], 0.01), ("b", [2, 3], 0.0))]
        await asyncio.wait_for(clock.run(expected=2), 5)
        await asyncio.gather(*tasks)
        return seen

    assert asyncio.run(run()) == [("a", 1), ("b", 2), ("a", 2), ("b", 3), ("a", 5)]


def test_time_stands_still_before_the_expected_have_joined() -> None:
    async def run() -> None:
        clock = SteppedClock(START)
        running = asyncio.create_task(clock.run(expected=2))
        first = clock.join("first")
        wait = asyncio.create_task(first.wait_until(START + HOUR))
        await asyncio.sleep(0.02)
        assert clock.now() == START
        second = clock.join("second")
        await asyncio.sleep(0.02)
        assert clock.now() == START
        assert clock.working() == ("second",)
        second.leave()
        await asyncio.wait_for(wait, 1)
        assert clock.now() == START + HOUR
        first.leave()
        await asyncio.wait_for(running, 1)

    asyncio.run(run())


def test_an_instant_that_has_passed_is_not_waited_for_and_a_cancelled_wait_holds_time() -> None:
    async def run() -> None:
        clock = SteppedClock(START)
        me, other = clock.join("me"), clock.join("other")
        running = asyncio.create_task(clock.run())
        await me.wait_until(START - HOUR)
        cancelled = asyncio.create_task(me.wait_until(START + HOUR))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        wait = asyncio.create_task(other.wait_until(START + HOUR))
        await asyncio.sleep(0.02)
        assert clock.now() == START
        me.leave()
        await wait
        other.leave()
        await asyncio.wait_for(running, 1)

    asyncio.run(run())


def test_one_wait_at_a_time_and_none_after_leaving() -> None:
    async def run() -> None:
        clock = SteppedClock(START)
        me = clock.join("me")
        wait = asyncio.create_task(me.wait_until(START + HOUR))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one wait at a time"):
            await me.wait_until(START + HOUR)
        me.leave()
        with pytest.raises(asyncio.CancelledError):
            await wait
        with pytest.raises(RuntimeError, match="has left"):
            await me.wait_until(START + HOUR)

    asyncio.run(run())


class Remote:
    """A participant's end of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @staticmethod
    async def connect(address: str) -> Remote:
        kind, _, rest = address.partition(":")
        if kind == "unix":
            return Remote(*await asyncio.open_unix_connection(rest))
        host, _, port = rest.rpartition(":")
        return Remote(*await asyncio.open_connection(host, int(port)))

    async def ask(self, **request: object) -> dict[str, str]:
        self.writer.write(json.dumps(request).encode() + b"\n")
        answer: dict[str, str] = json.loads(await asyncio.wait_for(self.reader.readline(), 2))
        return answer


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_other_processes_take_part_over_a_socket(kind: str, tmp_path: Path) -> None:
    async def run() -> None:
        clock = SteppedClock(START)
        server = ClockServer(clock)
        address = await (server.listen_unix(tmp_path / "clock") if kind == "unix" else server.listen_tcp())
        running = asyncio.create_task(clock.run(expected=2))
        a, b, looker = [await Remote.connect(address) for _ in range(3)]
        assert await a.ask(join="a") == {"now": "2026-10-01T04:00:00Z"}
        assert await b.ask(join="b") == {"now": "2026-10-01T04:00:00Z"}
        waiting = asyncio.create_task(a.ask(wait="2026-10-01T05:00:00Z"))
        assert await b.ask(wait="2026-10-01T05:30:00+01:00") == {"now": "2026-10-01T04:30:00Z"}
        assert await looker.ask(now=True) == {"now": "2026-10-01T04:30:00Z"}
        b.writer.close()  # a connection that drops has left: time goes on without it
        assert await waiting == {"now": "2026-10-01T05:00:00Z"}
        assert await a.ask(leave=True) == {"now": "2026-10-01T05:00:00Z"}
        await asyncio.wait_for(running, 1)
        await server.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "request_line",
    [b"nonsense\n", b'{"wait": "2026-10-01T05:00:00Z"}\n', b'{"jump": 1}\n', b"[1]\n", b"x" * 3000 + b"\n"],
)
def test_what_is_not_understood_gets_an_error_and_the_end(request_line: bytes) -> None:
    async def run() -> None:
        server = ClockServer(SteppedClock(START))
        remote = await Remote.connect(await server.listen_tcp())
        remote.writer.write(request_line)
        assert "error" in json.loads(await asyncio.wait_for(remote.reader.readline(), 2))
        assert await asyncio.wait_for(remote.reader.read(), 2) == b""
        await server.close()

    asyncio.run(run())
