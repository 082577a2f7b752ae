"""What a meter-Day costs a partition that has few points, and one that has many.

    python -m benchmarks.growth [--sizes 1000 20000] [--days 5000] [--folder FOLDER]
    python -m benchmarks.growth --sizes 1000 100000 1000000 --days 8000       # the whole: 8 GB in --folder, ten minutes

Each partition has so many points with 30 Days of state on disk and 30 Days of facts in its fact store (`population.py`), and
is worked on in a process of its own. To it come frames of 64 points' Days, the points in a random order that is the same each
Day: first a sound Day of every point, which does not count, as some still have to do with what was wrong before; then
`--days` meter-Days, of several Days where there are fewer points. These the partitions do by turns, a thousand each, so that a
machine that is now fast and now slow is so to all of them. It is `stream/partition.py` with its processor and its states, and
a broker behind them; only Faust's fetcher is left out. Printed: how long opening takes; microseconds that a meter-Day takes,
of processor time and by the clock, in all and as a multiple of the first size's, and the least and the greatest multiple of a
turn; memory; bytes on disk of a point's state.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec

from benchmarks.nation_load import Place, place
from benchmarks.population import MODELS, RULES, TURN_US, Models, frame, models, name, write_fact_store
from metering.gasday import to_datetime
from storage.fact_store import fact_store_path
from storage.fact_store_rocksdb import RocksFactStore
from stream.faults import FreezeGuard
from stream.opening import Opened, Opening
from stream.partition import Frame, Partition
from stream.processor import Processor
from stream.settings import Topics, WorkerSettings
from stream.sink import Sink
from stream.state_file import StateFile, state_file_path
from stream.states import States
from stream.worker import CYCLES_EVERY
from tests.integration.services import KafkaBroker

A_FRAME = 64
A_TURN = 1000  # meter-Days
T = TypeVar("T")


class Turn(msgspec.Struct, frozen=True):
    """What a turn took, for a meter-Day."""

    cpu_us: float
    wall_us: float


class Stands(msgspec.Struct, frozen=True):
    """How one size stands, before its turns and after them."""

    open_s: float
    resident_mib: float
    state_bytes: float


def frames(points: int, day: int, made: Models, most: int) -> Iterator[Frame]:
    """The frames of a Day after those that the states have had, of so many points at most."""
    numbers = [*range(points)]
    random.Random(3).shuffle(numbers)
    at, offset = to_datetime(TURN_US + day * 86_400_000_000 + 600_000_000), 1 + day * -(-points // A_FRAME)
    for first in range(0, min(points, most), A_FRAME):
        some = [(name(n), made.settled[n % len(made.settled)]) for n in numbers[first : min(first + A_FRAME, most)]]
        yield Frame(offset, at, frame([model.of(who, model.following[day]) for who, model in some], "gateway"))
        offset += 1


def prepare(folder: Path, points: int, made: Models) -> None:
    """States and fact store of so many points."""
    own = [(name(n), made.settled[n % len(made.settled)]) for n in range(points)]
    write_fact_store(fact_store_path(folder, 0), own, made.values)
    file = StateFile(state_file_path(folder, 0))
    file.write([(key.encode(), value) for key, value in made.rules.items()], None)
    random.Random(4).shuffle(own)  # as they come to be known: in no order
    for first in range(0, points, 1000):
        some = own[first : first + 1000]
        file.write([(meter_point.encode(), model.of(meter_point, model.state)) for meter_point, model in some], None)
    file.close()


async def work(where: Place, points: int, days: int, made: Models) -> None:
    """Open the partition and, a turn for each line that comes in, work on all frames."""
    topics = where.kafka.topics
    settings = WorkerSettings(
        kafka={"bootstrap_servers": list(where.kafka.bootstrap_servers)}, partitions=1, group=where.group, instance="1",
        topics=Topics(topics.facts, topics.broadcast, topics.ledger, topics.dead_letter), state_dir=where.folder,
    )  # fmt: skip
    sink, file = await Sink(settings.aiokafka).start(), StateFile(state_file_path(where.folder, 0))
    states = States(lambda: file, where.changelog, 0, sink)
    a_day = min(points, days)
    coming = [each for day in range(days // a_day) for each in frames(points, day + 1, made, a_day)]
    gc.collect()
    gc.freeze()
    processors: list[Processor] = []

    def make() -> Opened:
        store = RocksFactStore(fact_store_path(where.folder, 0))
        processors.append(Processor(0, store, states, RULES, settings.topics.facts, 1))
        return Opened(processors[0], store)

    partition, began_s = Partition(0, 1, settings.topics, sink, FreezeGuard(1e9)), time.perf_counter()
    partition.open(states, Opening(settings.kafka, settings.topics.facts, 0, make))
    while not processors:
        await asyncio.sleep(0.01)
    open_s = time.perf_counter() - began_s
    await take(partition, frames(points, 0, made, points))
    say(Stands(open_s, resident_mib(), disk_bytes(where.folder) / points))
    turns = days // A_TURN
    for n in range(turns):
        await asyncio.to_thread(sys.stdin.readline)
        some = coming[n * len(coming) // turns : (n + 1) * len(coming) // turns]
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        await take(partition, some)
        cpu_s, wall_s = time.process_time() - began_cpu_s, time.perf_counter() - began_s
        say(Turn(cpu_s / A_TURN * 1e6, wall_s / A_TURN * 1e6))
    say(Stands(open_s, resident_mib(), disk_bytes(where.folder) / points))
    await partition.close()
    await sink.stop()
    file.close()


def say(what: Turn | Stands) -> None:
    """Tell the process that gives the turns."""
    print(msgspec.json.encode(what).decode(), flush=True)


async def take(partition: Partition, coming: Iterable[Frame]) -> None:
    """Give the partition frames as it wants them, until all are done."""
    last = 0
    while some := [*islice(coming := iter(coming), 20)]:
        while not partition.wants:
            await asyncio.sleep(0.002)
        partition.accept(some)
        last = some[-1].offset
    while partition.position <= last:
        await asyncio.sleep(0.002)


def disk_bytes(folder: Path) -> int:
    """Of the states."""
    return sum(each.stat().st_size for each in state_file_path(folder, 0).iterdir())


def resident_mib() -> float:
    """Of this process, without the files that it has mapped."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def one(points: int, days: int, models_file: Path, folder: Path, bootstrap: str) -> None:
    """One size, in this process."""
    made = msgspec.msgpack.decode(models_file.read_bytes(), type=Models)
    gc.set_threshold(*CYCLES_EVERY)
    where = place(bootstrap, 1, folder)
    prepare(folder, points, made)
    asyncio.run(work(where, points, days, made))


class Size:
    """The process of one size."""

    def __init__(self, points: int, days: int, models_file: Path, scratch: Path, bootstrap: str) -> None:
        self.points = points
        self.turns: list[Turn] = []
        folder = Path(tempfile.mkdtemp(dir=scratch))
        options = ["--sizes", str(points), "--days", str(days), "--one", str(models_file), str(folder), bootstrap]
        command = [sys.executable, "-m", "benchmarks.growth", *options]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hear(self, what: type[T]) -> T:
        """What it says next."""
        assert self._process.stdout is not None
        return msgspec.json.decode(self._process.stdout.readline(), type=what)

    def turn(self) -> None:
        """Let it do its turn."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        self.turns.append(self.hear(Turn))

    def mean(self, of: str) -> float:
        """The mean of its turns."""
        return sum(getattr(turn, of) for turn in self.turns) / len(self.turns)

    def end(self) -> None:
        """Wait for its end."""
        self._process.communicate(timeout=600)


def compare(sizes: list[Size], days: int) -> None:
    """Let all have their turns, and print what they took."""
    for size in sizes:
        size.hear(Stands)
    for _ in range(days // A_TURN):
        for size in sizes:
            size.turn()
    heads = ("points", "opened, s", "cpu us a Day", "ratio", "of turns", "by the clock", "ratio", "MiB", "a state, B")
    print("{:>10}{:>11}{:>14}{:>7}{:>12}{:>14}{:>7}{:>7}{:>12}".format(*heads))
    first = sizes[0]
    for size in sizes:
        stands = size.hear(Stands)
        ratios = sorted(own.cpu_us / its.cpu_us for own, its in zip(size.turns, first.turns, strict=True))
        cpu_us, wall_us = size.mean("cpu_us"), size.mean("wall_us")
        print(f"{size.points:10,}{stands.open_s:11.1f}{cpu_us:14.0f}{cpu_us / first.mean('cpu_us'):7.2f}"
              f"{f'{ratios[0]:.2f} {ratios[-1]:.2f}':>12}{wall_us:14.0f}{wall_us / first.mean('wall_us'):7.2f}"
              f"{stands.resident_mib:7.0f}{stands.state_bytes:12.0f}", flush=True)  # fmt: skip
        size.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 20_000])
    parser.add_argument("--days", type=int, default=5000, help="meter-Days that count, in thousands; at most nine a point")
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--folder", type=Path, help="for all data; default: a temporary one; removed at the end")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        models_file, folder, bootstrap = args.one
        one(args.sizes[0], args.days, Path(models_file), Path(folder), bootstrap)
        return
    with tempfile.TemporaryDirectory(prefix="dailyread-growth-", dir=args.folder) as scratch:
        models_file = Path(scratch) / "models"
        models_file.write_bytes(msgspec.msgpack.encode(models(1, args.models)))
        with KafkaBroker(Path(scratch) / "kafka") as kafka:
            compare([Size(n, args.days, models_file, Path(scratch), kafka.bootstrap) for n in args.sizes], args.days)


if __name__ == "__main__":
    main()
