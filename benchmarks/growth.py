"""What a meter-Day costs a partition that has few points, and one that has many.

    python -m benchmarks.growth [--sizes 1000 20000] [--days 5000] [--folder FOLDER]
    python -m benchmarks.growth --sizes 1000 100000 1000000 --days 8000       # the whole: 8 GB in --folder, ten minutes

Each partition has so many points with 30 Days of state on disk and 30 Days of facts in its fact store (`population.py`), and
is worked on in a process of its own. To it come frames of 64 points' Days, the points in a random order that is the same each
Day: first a sound Day of every point, which does not count, as some still have to do with what was wrong before; then
`--days` meter-Days, of several Days where there are fewer points. It is `stream/partition.py` with its processor and its
states, and a broker behind them; only Faust's fetcher is left out. Printed: how long opening takes; microseconds of processor
time and by the clock that a meter-Day takes, and the first as a multiple of the first size's; memory; bytes on disk of a
point's state.
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


class Said(msgspec.Struct, frozen=True):
    """What one size took."""

    points: int
    open_s: float
    cpu_us: float
    wall_us: float
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


async def work(where: Place, points: int, days: int, made: Models) -> Said:
    """Open the partition, and work on all frames."""
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
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    await take(partition, coming)
    cpu_s, wall_s = time.process_time() - began_cpu_s, time.perf_counter() - began_s
    await partition.close()
    await sink.stop()
    file.close()
    done = days // a_day * a_day
    return Said(points, open_s, cpu_s / done * 1e6, wall_s / done * 1e6, resident_mib(), disk_bytes(where.folder) / points)


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


def one(points: int, days: int, models_file: Path, folder: Path, bootstrap: str) -> Said:
    """One size, in this process."""
    made = msgspec.msgpack.decode(models_file.read_bytes(), type=Models)
    gc.set_threshold(*CYCLES_EVERY)
    where = place(bootstrap, 1, folder)
    prepare(folder, points, made)
    return asyncio.run(work(where, points, days, made))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 20_000])
    parser.add_argument("--days", type=int, default=5000, help="meter-Days that count; at most nine a point")
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--folder", type=Path, help="for all data; default: a temporary one; removed at the end")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        models_file, folder, bootstrap = args.one
        said = one(args.sizes[0], args.days, Path(models_file), Path(folder), bootstrap)
        print(msgspec.json.encode(said).decode(), flush=True)
        return
    with tempfile.TemporaryDirectory(prefix="dailyread-growth-", dir=args.folder) as scratch:
        models_file = Path(scratch) / "models"
        models_file.write_bytes(msgspec.msgpack.encode(models(1, args.models)))
        heads = ("points", "opened, s", "cpu us a Day", "ratio", "by the clock", "MiB", "a state, B")
        print("{:>10}{:>11}{:>13}{:>7}{:>13}{:>7}{:>12}".format(*heads))
        first = None
        with KafkaBroker(Path(scratch) / "kafka") as kafka:
            for points in args.sizes:
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    options = ["--sizes", str(points), "--days", str(args.days), "--one", models_file, folder, kafka.bootstrap]
                    command = [sys.executable, "-m", "benchmarks.growth", *map(str, options)]
                    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
                said = msgspec.json.decode(output.splitlines()[-1], type=Said)
                first = first or said
                print(f"{said.points:10,}{said.open_s:11.1f}{said.cpu_us:13.0f}{said.cpu_us / first.cpu_us:7.2f}"
                      f"{said.wall_us:13.0f}{said.resident_mib:7.0f}{said.state_bytes:12.0f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
