"""How long a worker that has lost its disk takes until it works again: from the changelog, and from the facts alone.

    python -m benchmarks.recovery [--points 10000] [--again 500]
    python -m benchmarks.recovery --points 100000 --again 5000       # 2 GB in --folder

`dailyread stream` is started without states on disk, for points with 30 Days of history (`population.py`). First their states
are in the changelog, and their facts in the fact store: the time is from the start of the process until all partitions work.
Then, in other topics, there are only the facts, of `--again` such points, in frames of 64 points' registrations, meters and
batches, and calorific values between them: the time is from the first frame to the last, without the start. Printed: both, and
what each is a point.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.nation_load import People, Place, config_toml, load, people, place
from benchmarks.nation_watch import metrics
from benchmarks.population import MODELS, Models, frame, models
from metering.facts import CalorificValue
from metering.gasday import to_datetime
from metering.wire import decode_fact, encode_frame
from stream.processor import RELAY
from stream.sink import KeyValue, Sink
from tests.integration.services import KafkaBroker, Proc, free_port

PARTITIONS = 4
A_FRAME = 64
HOURS_US = 6 * 3_600_000_000  # what a point is told within so long comes in one frame
LIMIT_S = 3600.0
NO_INFLUX = {"INFLUXDB_URL": "http://127.0.0.1:1", "INFLUXDB_ORG": "none", "INFLUXDB_BUCKET": "none"}


def frames(own: People, made: Models) -> Iterator[tuple[int, KeyValue]]:
    """A partition's frames in the order of their receipt, each with when it was received, us."""
    found: defaultdict[int, list[bytes]] = defaultdict(list)
    for first in range(0, len(own.settled), A_FRAME):
        entries: defaultdict[int, list[bytes]] = defaultdict(list)
        for meter_point, model in own.settled[first : first + A_FRAME]:
            for at_us, packed in model.facts:
                entries[at_us // HOURS_US].append(model.of(meter_point, packed))
        for span, some in entries.items():
            found[span].append(frame(some, "gateway"))
    values: defaultdict[int, list[CalorificValue]] = defaultdict(list)
    for _, at_us, packed in made.values:
        value = decode_fact(packed)
        assert isinstance(value, CalorificValue)
        values[at_us // HOURS_US].append(value)
    for span in sorted({*found, *values}):
        at_us = (span + 1) * HOURS_US
        for each in found[span]:
            yield at_us, (None, each)
        if values[span]:
            yield at_us, (None, encode_frame(values[span], RELAY, to_datetime(at_us)))


async def publish(where: Place, them: Sequence[People], made: Models) -> int:
    """Put all facts on the facts topic; how many frames they are."""
    sink, count = await Sink({"bootstrap_servers": list(where.kafka.bootstrap_servers)}).start(), 0
    for number, own in enumerate(them):
        together: list[KeyValue] = []
        last_us = 0
        for at_us, each in frames(own, made):
            if at_us != last_us and together:
                await sink.send(where.kafka.topics.facts, number, together, last_us // 1000)
                together = []
            together.append(each)
            last_us = at_us
            count += 1
        await sink.send(where.kafka.topics.facts, number, together, last_us // 1000)
    await sink.stop()
    return count


def worked_off_s(where: Place, folder: Path, wanted: int) -> tuple[float, float]:
    """Run a worker until it has done so many frames: the seconds from its start, and from its first frame."""
    web, config = f"127.0.0.1:{free_port()}", folder / f"{where.group}.toml"
    config.write_text(config_toml(where, web, NO_INFLUX))
    began_s = time.monotonic()
    env = os.environ | {"DAILYREAD_INFLUX__TOKEN": "none"}
    worker, first_s = Proc("stream", "--config", config, log=folder / f"{where.group}.log", env=env), began_s
    try:
        while time.monotonic() < began_s + LIMIT_S:
            done = _frames_done(web)
            if done == 0:
                first_s = time.monotonic()
            if done >= wanted:
                return time.monotonic() - began_s, time.monotonic() - first_s
            if not worker.running:
                break
            time.sleep(0.1)
        raise RuntimeError(f"the worker does not get there:\n{worker.output()[-2000:]}")
    finally:
        worker.end()


def _frames_done(web: str) -> float:
    try:
        return sum(metrics(web)["dailyread_stream_frames_total"].values())
    except OSError:
        return 0.0


def measure(folder: Path, points: int, made: Models, put: Callable[[Place, Sequence[People]], int]) -> tuple[float, float]:
    """Both times of a worker on new topics, after `put` has filled them and said how many frames they hold."""
    with KafkaBroker(folder / "kafka") as kafka:
        where = place(kafka.bootstrap, PARTITIONS, folder / "job")
        return worked_off_s(where, folder, put(where, people(points, 0, made, PARTITIONS)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=10_000, help="points whose states are in the changelog")
    parser.add_argument("--again", type=int, default=500, help="points that are made anew from their facts")
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--folder", type=Path, help="for all data; default: a temporary one; removed at the end")
    args = parser.parse_args()
    made = models(1, args.models)
    batches = sum(len(each.facts) for each in made.settled) / len(made.settled)

    def states(where: Place, them: Sequence[People]) -> int:
        size = load(where, them, made)
        print(f"{args.points:,} states, {size / 2**20:,.0f} MiB", flush=True)
        return PARTITIONS

    def facts(where: Place, them: Sequence[People]) -> int:
        return asyncio.run(publish(where, them, made))

    with tempfile.TemporaryDirectory(prefix="dailyread-recovery-", dir=args.folder) as scratch:
        recovered_s, _ = measure(Path(scratch) / "changelog", args.points, made, states)
        print(f"recovered from the changelog in {recovered_s:.1f} s, start of the worker included:"
              f" {recovered_s / args.points * 1e6:,.0f} us a point", flush=True)  # fmt: skip
        _, again_s = measure(
            Path(scratch) / "facts", args.again, made, lambda where, them: asyncio.run(publish(where, them, made))
        )
        print(f"{args.again:,} points made anew from {args.again * batches:,.0f} facts in {again_s:.1f} s, without the start:"
              f" {again_s / args.again * 1e6:,.0f} us a point")  # fmt: skip
    ratio = (recovered_s / args.points) / (again_s / args.again)
    print(f"recovery takes {ratio:.3f} of the time that the facts take")
    return 0 if ratio <= 0.1 else 1


if __name__ == "__main__":
    sys.exit(main())
