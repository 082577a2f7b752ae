"""A nation's morning on one machine: Kafka -> rules -> ledger -> InfluxDB, all of it here, at the pace of the day.

    python -m benchmarks.nation [--points 66660] [--seconds 60] [--workers 2] [--partitions 4] [--a-frame 64]
    python -m benchmarks.nation --points 666600 --seconds 600       # the whole: some 6 GB in --folder

24 million meter points' Days between 05:00 and 11:00 are 1,111 a second. Each point has 30 Days of state, and sends one Day's
hourly readings; in the first fifth of the time it is still before 05:00, and those come that owe the Day before. Then it turns
05:00: a tick says so, a Day begins at every point and another one is closed out, and the Days that have ended come. The frames
are sent when they are due, whatever becomes of them.

Starts a broker, an InfluxDB, workers and a `dailyread store` of its own. Virtual time goes as fast as the clock. Says
how long frames waited for their records, how long InfluxDB was behind, what the processes took; and compares what InfluxDB has
of some points with what the rules say, computed anew from all their facts. Exit code 1 where that differs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks.nation_load import People, Place, config_toml, load, people, place, worker_folder
from benchmarks.nation_watch import Watch, show
from benchmarks.population import MODELS, RULES, TURN_US, UNTIL_US, Model, Models, frame, models
from dailyread import kafka as clients
from metering.facts import AnyFact, Tick
from metering.gasday import GasDays, to_datetime
from metering.replay import FactsByPoint, replay
from metering.wire import decode_fact, encode_frame
from storage.influx_client import Connection, InfluxClient
from storage.ledger_influx import InfluxLedgerStore
from storage.offset_index import OffsetIndex
from stream.processor import RELAY
from tests.integration.services import InfluxServer, KafkaBroker, Proc, free_port

OWING = 0.2  # of the points, and of the time
TICK_S = 60.0
CHECKED = 20
DRAIN_S = 1800.0
Sent = dict[str, int]  # meter point -> when its frame says that it was received, us


def batches(them: Sequence[People], a_frame: int) -> Iterator[tuple[int, list[tuple[str, Model]]]]:
    """The frames: those that owe first; of all partitions in turn."""
    for owing in (True, False):
        queues = [[*(own.owing if owing else own.settled)] for own in them]
        for first in range(0, max(map(len, queues)), a_frame):
            for number, queue in enumerate(queues):
                if some := queue[first : first + a_frame]:
                    yield number, some


def tick(where: Place, at_us: int) -> None:
    """Say how late it is."""
    value = encode_frame([Tick(now=to_datetime(at_us))], RELAY)
    with closing(clients.producer(where.kafka)) as producer:
        producer.send(where.kafka.topics.broadcast, value, partition=0, timestamp_ms=at_us // 1000).get(60)


def feed(where: Place, them: Sequence[People], seconds: float, a_frame: int, watch: Watch) -> Sent:
    """Send all frames and ticks when they are due."""
    producer, topics, sent = clients.producer(where.kafka), where.kafka.topics, Sent()
    rate = sum(len(own.owing) + len(own.settled) for own in them) / seconds
    began_s, ticks, count = time.monotonic(), 0, 0
    from_us = TURN_US - int(OWING * seconds * 1e6)
    first_tick_s = (OWING * seconds) % TICK_S
    watch.begin(began_s)
    for number, some in batches(them, a_frame):
        due_s = count / rate
        time.sleep(max(0.0, began_s + due_s - time.monotonic()))
        if due_s >= first_tick_s + ticks * TICK_S:
            at = to_datetime(from_us + int((first_tick_s + ticks * TICK_S) * 1e6))
            told = encode_frame([Tick(now=at)], RELAY)
            producer.send(topics.broadcast, told, partition=0, timestamp_ms=int(at.timestamp() * 1000))
            ticks += 1
            watch.ticked()
        at_ms = (from_us + int(due_s * 1e6)) // 1000
        value = frame([model.of(meter_point, model.following[0]) for meter_point, model in some], f"gateway-{number}")
        producer.send(topics.facts, value, partition=number, timestamp_ms=at_ms)
        sent.update((meter_point, at_ms * 1000) for meter_point, _ in some)
        count += len(some)
        watch.sent(count)
    producer.flush()
    watch.fed()
    producer.close()
    return sent


def differing(them: Sequence[People], values: list[AnyFact], sent: Sent, influx: InfluxServer, folder: Path) -> list[str]:
    """What InfluxDB has of some points and the rules do not say, or the other way round, of the Days of this morning."""
    index, found = OffsetIndex(folder / "check.sqlite"), []
    store = InfluxLedgerStore(
        InfluxClient(Connection(influx.url, influx.org, influx.bucket, influx.token)), index, lambda *_: None, GasDays()
    )
    everybody = [each for own in them for each in (*own.owing, *own.settled)]
    for meter_point, model in random.Random(2).sample(everybody, CHECKED):
        own = [decode_fact(model.of(meter_point, packed), to_datetime(at)) for at, packed in model.facts]
        own.append(decode_fact(model.of(meter_point, model.following[0]), to_datetime(sent[meter_point])))
        facts = FactsByPoint([*own, *values]).concerning(meter_point)
        wanted = replay(facts, max(*sent.values(), TURN_US), RULES)
        has = {record.key(): record for record in store.records(meter_point)}
        found += [f"{key}: {record}, not {wanted.get(key)}" for key, record in has.items() if wanted.get(key) != record]
        found += [f"{meter_point}: InfluxDB has {len(has)} records"] if len(has) < 3 else []
    store.close()
    return found


def _worker(where: Place, number: int, web: str, influx: InfluxServer, env: dict[str, str]) -> Proc:
    config = where.folder.parent / f"stream-{number}.toml"
    config.write_text(config_toml(where, web, influx.env, number, worker_folder(where, number)))
    return Proc("stream", "--config", config, log=config.with_suffix(".log"), env=env)


def run(args: argparse.Namespace, folder: Path) -> int:
    """All of it; the exit code."""
    made: Models = models(args.models // 5, args.models - args.models // 5)
    with KafkaBroker(folder / "kafka") as kafka, InfluxServer(folder / "influxdb") as influx:
        where = place(kafka.bootstrap, args.partitions, folder / "job")
        them = people(args.points, int(args.points * OWING), made, args.partitions)
        began_s = time.monotonic()
        size = load(where, them, made)
        print(f"{args.points:,} points with 30 Days: states of {size / args.points:,.0f} bytes on average, made and loaded in "
              f"{time.monotonic() - began_s:.0f} s", flush=True)  # fmt: skip
        env = os.environ | {"DAILYREAD_INFLUX__TOKEN": influx.token}
        store_web, *webs = [f"127.0.0.1:{free_port()}" for _ in range(1 + args.workers)]
        workers = {f"stream {n}": _worker(where, n, web, influx, env) for n, web in enumerate(webs, 1)}
        store = Proc("store", "--config", folder / "stream-1.toml", "--metrics", store_web, log=folder / "store.log", env=env)
        servers = {"store": store.pid, "kafka": kafka.pid, "influxdb": influx.pid}
        watch = Watch(webs, store_web, {who: each.pid for who, each in workers.items()} | servers, args.partitions)
        try:
            opened_s = watch.wait_open(partial(tick, where, UNTIL_US), DRAIN_S)
            print(f"recovered from the changelog and opened in {opened_s:.0f} s", flush=True)
            sent = feed(where, them, args.seconds, args.a_frame, watch)
            watch.drain(DRAIN_S)
            show(watch, folder)
            values = [decode_fact(packed, to_datetime(at)) for _, at, packed in made.values]
            found = differing(them, values, sent, influx, folder)
        finally:
            watch.close()
            for each in (*workers.values(), store):
                print(each.output()[-2000:], file=sys.stderr)
                each.end()
    print(*found[:3], sep="\n")
    print(f"{CHECKED} points in InfluxDB compared with their facts: {'they differ' if found else 'the same'}")
    return 1 if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=66_660)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--a-frame", type=int, default=64, help="meter points in a frame")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--folder", type=Path, help="for all data; default: a temporary one, removed at the end")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dailyread-nation-", dir=args.folder))
    try:
        return run(args, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
