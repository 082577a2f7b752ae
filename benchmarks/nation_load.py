"""Puts a population of `population.py` where a stream job that has run for 30 Days would have left it: the states in the
changelog topic, the facts in each partition's fact store, and one frame in each partition on which all of it rests.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.population import UNTIL_US, Model, Models, name, write_fact_store
from dailyread import kafka as clients
from dailyread.commands.stream import CHANGELOG
from dailyread.config import KafkaConfig, TopicNames
from metering.facts import Tick
from metering.gasday import to_datetime
from metering.wire import encode_frame, partition_of
from storage.fact_store import fact_store_path
from stream.processor import RELAY
from stream.sink import KeyValue, Sink

SENT_TOGETHER = 2_000


class Place(NamedTuple):
    """Where a job works: its topics, consumer group and folder."""

    kafka: KafkaConfig
    group: str
    folder: Path

    @property
    def changelog(self) -> str:
        """The topic of the states."""
        return f"{self.group}-states-changelog"


class People(NamedTuple):
    """A partition's meter points, each with the model that it is like: those that owe a batch, and the others."""

    owing: list[tuple[str, Model]]
    settled: list[tuple[str, Model]]


def place(bootstrap: str, partitions: int, folder: Path) -> Place:
    """New topics, in virtual time."""
    unique = uuid.uuid4().hex[:8]
    names = TopicNames(**{role: f"{role}-{unique}" for role in TopicNames.__struct_fields__})
    config = KafkaConfig(bootstrap_servers=(bootstrap,), partitions=partitions, topics=names, time="simulated")
    made = Place(config, f"nation-{unique}", folder)
    wanted = [*clients.wanted_topics(config), clients.TopicSettings(made.changelog, partitions, CHANGELOG)]
    with clients.admin(config) as admin:
        clients.create_topics(admin, wanted)
    return made


def people(points: int, owing: int, models: Models, partitions: int) -> list[People]:
    """So many points by partition; the first `owing` of them owe a batch."""
    found = [People([], []) for _ in range(partitions)]
    for number in range(points):
        own, meter_point = found[partition_of(name(number), partitions)], name(number)
        if number < owing:
            own.owing.append((meter_point, models.owing[number % len(models.owing)]))
        else:
            own.settled.append((meter_point, models.settled[number % len(models.settled)]))
    return found


def states(own: People, models: Models) -> Iterator[KeyValue]:
    """A partition's states as changelog records."""
    for key, value in models.rules.items():
        yield key.encode(), value
    for meter_point, model in (*own.owing, *own.settled):
        yield meter_point.encode(), model.of(meter_point, model.state)


def load(where: Place, them: Sequence[People], models: Models) -> int:
    """Load all partitions, each in a process of its own; returns the bytes of the states."""
    with ProcessPoolExecutor(len(them)) as pool:
        return sum(pool.map(partial(_load, where), range(len(them)), them, [models] * len(them)))


def _load(where: Place, number: int, own: People, models: Models) -> int:
    return asyncio.run(_load_partition(where, number, own, models))


async def _load_partition(where: Place, number: int, own: People, models: Models) -> int:
    sink = await Sink({"bootstrap_servers": list(where.kafka.bootstrap_servers)}).start()
    rests_on = encode_frame([Tick(now=to_datetime(UNTIL_US))], RELAY, to_datetime(UNTIL_US))
    await sink.send(where.kafka.topics.facts, number, [(None, rests_on)], UNTIL_US // 1000)
    write_fact_store(fact_store_path(where.folder, number), [*own.owing, *own.settled], models.values)
    size, records = 0, list[KeyValue]()
    for record in states(own, models):
        records.append(record)
        if len(records) == SENT_TOGETHER:
            size += await _sent(sink, where.changelog, number, records)
    size += await _sent(sink, where.changelog, number, records)
    await sink.stop()
    return size


async def _sent(sink: Sink, topic: str, partition: int, records: list[KeyValue]) -> int:
    await sink.send(topic, partition, records)
    size = sum(len(value) for _, value in records)
    records.clear()
    return size


def worker_folder(where: Place, instance: int) -> Path:
    """The folder of one of several workers, with all fact stores in it: it is not known who gets which partition."""
    folder = where.folder / f"worker-{instance}"
    folder.mkdir()
    for number in range(where.kafka.partitions):
        fact_store_path(folder, number).symlink_to(fact_store_path(where.folder, number))
    return folder


def config_toml(where: Place, web: str, influx: dict[str, str], instance: int = 1, folder: Path | None = None) -> str:
    """The configuration of `dailyread stream` and `dailyread store`."""
    topics = where.kafka.topics
    return f"""
state_dir = "{folder or where.folder}"
group = "{where.group}"
instance = "{instance}"
web = "{web}"

[kafka]
bootstrap_servers = {list(where.kafka.bootstrap_servers)!r}
partitions = {where.kafka.partitions}
time = "simulated"

[kafka.topics]
facts = "{topics.facts}"
broadcast = "{topics.broadcast}"
ledger = "{topics.ledger}"
dead_letter = "{topics.dead_letter}"

[influx]
url = "{influx["INFLUXDB_URL"]}"
org = "{influx["INFLUXDB_ORG"]}"
bucket = "{influx["INFLUXDB_BUCKET"]}"
"""
