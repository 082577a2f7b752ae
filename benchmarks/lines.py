"""Serial lines: how near to the wire's own limit a gateway comes on one, and whether bad lines cost others anything.

    python -m benchmarks.lines share [--baud 9600] [--rounds 3]
    python -m benchmarks.lines isolation [--meters 10000] [--lines 64] [--rounds 3]

A server process gives canned answers of Modbus RTU meters on pseudo-terminals, no faster than a wire of that speed carries
them: a character is 11 bits, and what both sides say shares the line. `share` is the time that the characters of the requests
and answers take on the wire, over the time that the polls took, each Day on disk; for one meter on the line and for ten, and
beside it a bare pymodbus loop of the same requests on the same line.

`isolation` has one gateway process poll Modbus TCP meters and serial lines all at a time, in turn with and without three bad
ones of each: dead (takes the connection or hears the request, and says nothing), slow (answers after seconds), babbling
(random octets without end). What counts is when the others are done, and how long the lines took among them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import tempfile
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pymodbus.client import AsyncModbusSerialClient
from pymodbus.framer import FramerRTU

from benchmarks.collector import Answers, StandingClock, free_port, host, spans, started_server
from collectors.gateway import Gateway
from collectors.outbox import Outbox
from dailyread.commands.collect import look_for_garbage_less_often
from simulators.serve import ServedGateway, ServedMeter, ServedPolling

CHARACTER_BITS = 11
TICK_S = 0.02  # in steps of which a line carries characters
SLOW_S = 3.0
TIMEOUT_S = 60.0  # all at a time wait for each other
REQUEST_OCTETS = 8


def octets_of_a_poll() -> int:
    """Requests and answers of one poll."""
    return sum(REQUEST_OCTETS + 5 + 2 * count for _, count in spans())


class Line:
    """One pseudo-terminal with canned meters on it. `kind`: sound, dead, slow or babbling."""

    def __init__(self, kind: str, baud: int, answers: dict[bytes, bytes]) -> None:
        self._kind, self._character_s, self._answers = kind, CHARACTER_BITS / baud, answers
        self._master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(slave)
        self._slave, self._heard = slave, b""
        asyncio.get_running_loop().add_reader(self._master, self._hear)
        if kind == "babbling":
            asyncio.get_running_loop().create_task(self._babble())

    def _hear(self) -> None:
        with contextlib.suppress(OSError):
            self._heard += os.read(self._master, 4096)
        while len(self._heard) >= REQUEST_OCTETS:
            request, self._heard = self._heard[:REQUEST_OCTETS], self._heard[REQUEST_OCTETS:]
            if self._kind in ("sound", "slow"):
                asyncio.get_running_loop().create_task(self._answer(request))

    async def _answer(self, request: bytes) -> None:
        body = request[:1] + self._answers[request[1:6]]
        answer = body + FramerRTU.compute_CRC(body).to_bytes(2, "big")
        await asyncio.sleep(REQUEST_OCTETS * self._character_s + (SLOW_S if self._kind == "slow" else 0.0))
        await self._say(answer)

    async def _say(self, said: bytes) -> None:
        """As the wire would carry it: a character is there when its last bit is."""
        begun_s, done = time.monotonic(), 0
        while done < len(said):
            left_s = (len(said) - done) * self._character_s
            await asyncio.sleep(min(left_s, TICK_S))
            carried = min(len(said), int((time.monotonic() - begun_s) / self._character_s + 1e-6))
            with contextlib.suppress(OSError):
                os.write(self._master, said[done:carried])
            done = carried

    async def _babble(self) -> None:
        while True:
            await self._say(random.randbytes(64))


async def serve_lines(kinds: Sequence[str], baud: int) -> None:
    """Serve them, and print their paths."""
    answers = {request[1:]: answer[5:] for request, answer in Answers().by_request.items()}
    lines = [Line(kind, baud, answers) for kind in kinds]
    print(json.dumps([line.path for line in lines]), flush=True)
    await asyncio.Event().wait()


async def serve_bad_tcp(port: int) -> None:
    """A meter at `host(0)` that is dead, at `host(1)` slow, at `host(2)` babbling."""
    answers = Answers().by_request

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = writer.get_extra_info("sockname")[0]
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while kind == host(2):
                writer.write(random.randbytes(256))
                await writer.drain()
                await asyncio.sleep(TICK_S)
            while True:
                request = await reader.readexactly(12)
                if kind == host(1):
                    await asyncio.sleep(SLOW_S)
                    writer.write(request[:2] + answers[request[6:]])
        writer.close()

    server = await asyncio.start_server(serve, "0.0.0.0", port)
    print("ready", flush=True)
    await server.serve_forever()


def meters_on(line: str, count: int, first: int, baud: int | None = None) -> list[ServedMeter]:
    """The settings of so many meters on a line."""
    return [
        ServedMeter(
            meter_point=f"MP{first + unit:06}", meter=f"M-{first + unit}", protocol="modbus", address=line, device=unit,
            map="hourly_log", baud=baud, parity=None if baud is None else "none",
        )
        for unit in range(1, count + 1)
    ]  # fmt: skip


async def polled_s(meters: Sequence[ServedMeter]) -> float:
    """How long the gateway takes to poll them once, with each Day on disk."""
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder) / "outbox.sqlite", "benchmark")
        settings = ServedGateway(gateway="benchmark", meters=tuple(meters), polling=ServedPolling(timeout_s=5.0))
        gateway = Gateway(settings, StandingClock(), outbox)
        begun_s = time.perf_counter()
        assert await gateway.poll_once() == 0, outbox.pending(1)
        took_s = time.perf_counter() - begun_s
        outbox.close()
    return took_s


async def bare_s(path: str, baud: int, count: int) -> float:
    """How long a bare pymodbus loop takes for the same requests."""
    client = AsyncModbusSerialClient(path, baudrate=baud, parity="N", timeout=5.0, retries=0)
    begun_s = time.perf_counter()
    assert await client.connect()
    for unit in range(1, count + 1):
        for first, registers in spans():
            assert not (await client.read_holding_registers(first, count=registers, device_id=unit)).isError()
    client.close()
    return time.perf_counter() - begun_s


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """A server process of this module; the line that it prints when it is ready."""
    with started_server("benchmarks.lines", *arguments) as said:
        yield said


def share(baud: int, rounds: int) -> None:
    """Print the table."""
    wire_s = octets_of_a_poll() * CHARACTER_BITS / baud
    print(f"{baud} Bd, Modbus RTU, {octets_of_a_poll()} characters of {CHARACTER_BITS} bits a poll: {wire_s:.3f} s on the wire")
    with serving("serve-lines", "--baud", str(baud), "--kinds", "sound") as said:
        (path,) = json.loads(said)
        for count in (1, 10):
            meters = meters_on(f"serial:{path}", count, 0, baud)
            ours_s, others_s = [], []
            for _ in range(rounds):
                ours_s.append(asyncio.run(polled_s(meters)))
                others_s.append(asyncio.run(bare_s(path, baud, count)))
            shares = [count * wire_s / min(took_s) for took_s in (ours_s, others_s)]
            print(f"{count:3} meters: gateway {shares[0]:6.1%} of the wire's limit, bare pymodbus {shares[1]:6.1%}", end="; ")
            print(f"ratio {shares[0] / shares[1]:.2f}", flush=True)


async def others_done_s(meters: Sequence[ServedMeter], bad: set[str]) -> tuple[float, float]:
    """When the last of the others was polled, from the start; and the middle one of how long a poll of a serial line took."""
    done = asyncio.Event()
    loop, waiting = asyncio.get_running_loop(), {meter.meter for meter in meters} - bad
    serial = {meter.meter for meter in meters if meter.address.startswith("serial:")}
    took_s: list[float] = []

    def polled(meter: str, _gas_day: object, frames: Sequence[object]) -> None:
        waiting.discard(meter)
        if meter in serial - bad:
            took_s.append(time.perf_counter() - begun_s)
        if not waiting:
            loop.call_soon_threadsafe(done.set)

    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder) / "outbox.sqlite", "benchmark")
        settings = ServedGateway(gateway="benchmark", meters=tuple(meters), polling=ServedPolling(timeout_s=TIMEOUT_S))
        gateway = Gateway(settings, StandingClock(), outbox, evidence=polled)
        begun_s = time.perf_counter()
        polls = asyncio.create_task(gateway.poll_once())
        await done.wait()
        last_s = time.perf_counter() - begun_s
        polls.cancel()
        await asyncio.gather(polls, return_exceptions=True)
        outbox.close()
    return last_s, statistics.median(took_s)


def isolation(tcp: int, lines: int, rounds: int) -> None:
    """Print the table."""
    look_for_garbage_less_often()  # as `dailyread collect` does at its start
    port, bad_port = free_port(), free_port()
    kinds = ["sound"] * lines + ["dead", "slow", "babbling"]
    with (
        started_server("benchmarks.collector", "--child", "serve", "--port", str(port)),
        serving("serve-bad-tcp", "--port", str(bad_port)),
        serving("serve-lines", "--baud", "9600", "--kinds", *kinds) as said,
    ):
        sound, bad = _settings(json.loads(said), tcp, lines, port, bad_port)
        names = {meter.meter for meter in bad}
        without, with_bad = [], []
        for _ in range(rounds):
            without.append(asyncio.run(others_done_s(sound, names)))
            with_bad.append(asyncio.run(others_done_s([meter for meter in sound if meter.meter not in names] + bad, names)))
    print(f"one gateway, {tcp} TCP meters and {lines} serial lines at 9600 Bd, all at a time; the best of {rounds} rounds")
    for n, what in enumerate(("the last of the others is polled after", "half of the other lines are polled after")):
        alone, beside = min(times[n] for times in without), min(times[n] for times in with_bad)
        print(f"{what}: {alone:6.2f} s without, {beside:6.2f} s with the bad ones; ratio {beside / alone:.2f}")


def _settings(
    paths: Sequence[str], tcp: int, lines: int, port: int, bad_port: int
) -> tuple[list[ServedMeter], list[ServedMeter]]:
    """All meters while they are sound; and the first three of each kind as they are bad."""
    sound, bad = [], []
    for number in range(tcp):
        (meter,) = meters_on(f"tcp://{host(number)}:{port}", 1, number)
        sound.append(meter)
        if number < 3:
            bad += meters_on(f"tcp://{host(number)}:{bad_port}", 1, number)
    for number in range(lines):
        sound += meters_on(f"serial:{paths[number]}", 1, tcp + number, 9600)
        if number < 3:
            bad += meters_on(f"serial:{paths[lines + number]}", 1, tcp + number, 9600)
    return sound, bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("share", "isolation", "serve-lines", "serve-bad-tcp"))
    parser.add_argument("--baud", type=int, default=9600)
    parser.add_argument("--meters", type=int, default=10_000)
    parser.add_argument("--lines", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    match args.what:
        case "share":
            share(args.baud, args.rounds)
        case "isolation":
            isolation(args.meters, args.lines, args.rounds)
        case "serve-lines":
            asyncio.run(serve_lines(args.kinds, args.baud))
        case "serve-bad-tcp":
            asyncio.run(serve_bad_tcp(args.port))


if __name__ == "__main__":
    main()
