"""How many Modbus TCP meters one collector process polls in a second, beside a bare pymodbus loop of the same requests.

    python -m benchmarks.collector [--meters 1 100 1000 10000] [--rounds 10]

A server process of its own gives canned answers; each meter has a loopback address (127.x.y.z), its own connection and three
requests: clock with status, and an hourly archive's Day in two. The bare loop connects, asks and closes, and throws the
registers away; the collector decodes them, checks them, and has every Day's batch on disk (an SQLite outbox, synchronous
writes) before it counts. Ratios within one run are what counts. The two take turns, and the best rounds are compared, because
whatever else a machine does only ever slows a round down; beside it the processor time, which that does not touch. Where
there are few meters a round asks them again and again. Memory per meter is the difference between the runs of most and of
fewest meters.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pymodbus.client import AsyncModbusTcpClient

from collectors.gateway import Gateway
from collectors.modbus_maps import register_map
from collectors.modbus_registers import header_spans, instant_words, number_words, record_spans
from collectors.outbox import Outbox
from dailyread.commands.collect import look_for_garbage_less_often
from simulators.serve import ServedGateway, ServedMeter, ServedPolling

MAP = register_map("hourly_log")
NOW = datetime(2026, 10, 5, 4, 5, tzinfo=UTC)
NEWEST_S = int(NOW.timestamp()) // 3600 * 3600
NEWEST, STORED, INTERVAL_MIN = 700, 1000, 60
TIMEOUT_S = 30.0
POLLS_MIN = 200  # in a round
SHARED_FROM = 1000  # so many meters at a time share a transaction's wait for the disk


def spans() -> list[tuple[int, int]]:
    """The requests of one poll."""
    archive = MAP.archive
    return [*header_spans(MAP), *record_spans(archive, NEWEST - 24, 25, MAP.max_count)]


def host(number: int) -> str:
    """The loopback address of a meter."""
    return f"127.0.{1 + number // 200}.{1 + number % 200}"


class Answers:
    """Canned answers by (first register, count), without the transaction identifier."""

    def __init__(self) -> None:
        archive, registers = MAP.archive, {}
        clock, newest_at = instant_words(int(NOW.timestamp()), MAP.clock, "big"), number_words(NEWEST_S, 2, "big")
        registers.update(enumerate([*clock, 0, NEWEST, STORED, *newest_at, INTERVAL_MIN]))
        for age in range(30):
            at_s, index = NEWEST_S - age * 3600, 5_000_000 - 40 * age
            words = [word for value in (at_s, index, index, index) for word in number_words(value, 2, "big")]
            registers.update(enumerate([*words, 0], archive.address + (NEWEST - age) * archive.record_registers))
        self.by_request = {}
        for first, count in spans():
            body = struct.pack(f">{count}H", *(registers[first + n] for n in range(count)))
            head = struct.pack(">HHBBB", 0, 3 + len(body), 1, 3, len(body))
            self.by_request[struct.pack(">BBHH", 1, 3, first, count)] = head + body


def serve(port: int) -> None:
    """The canned server: one thread, epoll, nothing but a look-up. A request is always one segment here."""
    answers = Answers().by_request
    listener = socket.create_server(("0.0.0.0", port), backlog=4096)  # the addresses of the meters are all loopback
    listener.setblocking(False)
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    print("ready", flush=True)
    while True:
        for number, _ in poller.poll():
            if number == listener.fileno():
                try:
                    accepted, _ = listener.accept()
                except BlockingIOError:
                    continue
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[accepted.fileno()] = accepted
                poller.register(accepted, select.EPOLLIN)
                continue
            connection = connections[number]
            try:
                data = connection.recv(4096)
            except ConnectionError:
                data = b""
            if not data:
                poller.unregister(number)
                connections.pop(number).close()
                continue
            connection.sendall(b"".join(data[n : n + 2] + answers[data[n + 6 : n + 12]] for n in range(0, len(data), 12)))


def measure_server(port: int, meters: int) -> float:
    """Polls a second that the server answers by itself: asked by plain sockets, whose requests and answers cost next to
    nothing to make, 50 connections at a time."""
    requests = b"".join(struct.pack(">HHHBBHH", n, 0, 6, 1, 3, *span) for n, span in enumerate(spans(), 1))
    length = sum(9 + 2 * count for _, count in spans())
    begun_s = time.perf_counter()
    for begin in range(0, meters, 50):
        opened = [socket.create_connection((host(number), port)) for number in range(begin, min(meters, begin + 50))]
        for connection in opened:
            connection.sendall(requests)
        for connection in opened:
            received = 0
            while received < length:
                received += len(connection.recv(65536))
            connection.close()
    return meters / (time.perf_counter() - begun_s)


async def bare(port: int, meters: int) -> float:
    """Polls a second of the bare loop."""

    async def ask(number: int) -> None:
        client = AsyncModbusTcpClient(host(number), port=port, timeout=TIMEOUT_S, retries=0, reconnect_delay=0)
        assert await client.connect()
        for first, count in spans():
            answer = await client.read_holding_registers(first, count=count, device_id=1)
            assert not answer.isError()
        client.close()

    begun_s = time.perf_counter()
    for _ in range(times(meters)):
        await asyncio.gather(*(ask(number) for number in range(meters)))
    return meters * times(meters) / (time.perf_counter() - begun_s)


class StandingClock:
    """A clock at which it is always the same time: that of the canned answers."""

    def now(self) -> datetime:
        return NOW

    async def wait_until(self, instant: datetime) -> None:
        await asyncio.sleep(max(0.0, (instant - NOW).total_seconds()))


async def collect(port: int, meters: int) -> float:
    """Polls a second of the collector, each with its Day on disk."""
    settings = ServedGateway(
        gateway="benchmark",
        meters=tuple(
            ServedMeter(
                meter_point=f"MP{number:06}", meter=f"M-{number}", protocol="modbus",
                address=f"tcp://{host(number)}:{port}", device=1, map="hourly_log",
            )
            for number in range(meters)
        ),
        polling=ServedPolling(timeout_s=TIMEOUT_S),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder) / "outbox.sqlite", "benchmark")
        gateway = Gateway(settings, StandingClock(), outbox)
        begun_s = time.perf_counter()
        for _ in range(times(meters)):
            failed = await gateway.poll_once()
        took_s = time.perf_counter() - begun_s
        assert failed == 0, f"{failed} polls failed: {outbox.pending(1)}"
        assert outbox.backlog().facts == meters * times(meters)
        outbox.close()
    return meters * times(meters) / took_s


def times(meters: int) -> int:
    """How often in a round they are asked, one after another: where there are few, a round would be too short."""
    return max(1, POLLS_MIN // meters)


def child(kind: str, port: int, meters: int, rounds: int) -> None:
    """One process: a warm-up round, then each round when told to; prints meters a second, processor time and memory."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    work = bare
    if kind == "collect":
        work = collect
        look_for_garbage_less_often()  # as `dailyread collect` does at its start
    asyncio.run(work(port, min(meters, 100)))
    print("ready", flush=True)
    for _ in range(rounds):
        sys.stdin.readline()
        begun_s = time.process_time()
        rate = asyncio.run(work(port, meters))
        cpu_us = (time.process_time() - begun_s) / (meters * times(meters)) * 1e6
        print(json.dumps([rate, cpu_us, resident_kib()]), flush=True)


def resident_kib() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meters", type=int, nargs="+", default=[1, 100, 1000, 10_000])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--child", choices=("bare", "collect", "serve"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child == "serve":
        serve(args.port)
    elif args.child:
        child(args.child, args.port, args.meters[0], args.rounds)
    else:
        memory_kib = {meters: compare(meters, args.rounds) for meters in sorted(args.meters)}
        report_memory(memory_kib)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def started_server(module: str, *arguments: str) -> Iterator[str]:
    """A module as a process of its own, until the end of the block; the line that it prints when it is ready."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline()
    finally:
        process.kill()
        process.wait()


def compare(meters: int, rounds: int) -> dict[str, int]:
    """Start the processes, let them take turns, print the table; how much memory each had."""
    port = free_port()
    common = [sys.executable, "-m", "benchmarks.collector"]
    common += ["--port", str(port), "--meters", str(meters), "--rounds", str(rounds)]
    started: dict[str, subprocess.Popen[str]] = {}
    try:
        for kind in ("serve", "bare", "collect"):
            started[kind] = subprocess.Popen(
                [*common, "--child", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert started[kind].stdout.readline() == "ready\n"
        rates: dict[str, list[float]] = {"serve": [], "bare": [], "collect": []}
        cpu_us: dict[str, list[float]] = {"bare": [], "collect": []}
        memory_kib = {}
        for _ in range(rounds):
            rates["serve"].append(measure_server(port, meters))
            for kind in ("bare", "collect"):
                started[kind].stdin.write("\n")
                started[kind].stdin.flush()
                rate, used_us, memory_kib[kind] = json.loads(started[kind].stdout.readline())
                rates[kind].append(rate)
                cpu_us[kind].append(used_us)
    finally:
        for process in started.values():
            process.kill()
            process.wait()
    report(meters, rates, cpu_us, memory_kib)
    return memory_kib


def report(meters: int, rates: dict[str, list[float]], cpu_us: dict[str, list[float]], memory_kib: dict[str, int]) -> None:
    """The best rounds, and their ratios."""
    best = {kind: max(values) for kind, values in rates.items()}
    least_us = {kind: min(values) for kind, values in cpu_us.items()}
    print(
        f"\n{meters} Modbus TCP meters, {len(spans())} requests and a connection each; the best of {len(rates['bare'])} rounds"
    )
    print(f"canned server, asked by plain sockets  {best['serve']:6.0f} polls/s")
    for kind, name in (("bare", "bare pymodbus loop"), ("collect", "collector, on disk")):
        used = f"{least_us[kind]:4.0f} us of processor time a poll, {memory_kib[kind] / 1024:.0f} MiB resident"
        print(f"{name:38} {best[kind]:6.0f} polls/s  {used}")
    print(f"server / bare loop     {best['serve'] / best['bare']:5.2f}{'  (at least 3 wanted)' if meters > 1 else ''}")
    ratio, ratio_cpu = best["collect"] / best["bare"], least_us["bare"] / least_us["collect"]
    wanted = (
        "  (at least 0.70 wanted)" if meters >= SHARED_FROM else ""
    )  # below it each poll waits for the disk, not for a share
    print(f"collector / bare loop  {ratio:5.2f}{wanted}; by processor time {ratio_cpu:.2f}", flush=True)


def report_memory(memory_kib: dict[int, dict[str, int]]) -> None:
    """Memory for each meter more, of whoever polls all of them at a time."""
    few, many = min(memory_kib), max(memory_kib)
    if few < many:
        each = {kind: (memory_kib[many][kind] - memory_kib[few][kind]) / (many - few) for kind in memory_kib[many]}
        print(f"\nmemory a meter, all asked at a time: collector {each['collect']:.1f} KiB, bare loop {each['bare']:.1f} KiB")


if __name__ == "__main__":
    main()
