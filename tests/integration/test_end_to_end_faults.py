"""Broker time, real processes, and each of them killed or stopped in turn: nothing lost, nothing counted twice.

Simulated meters hold the logs of some Gas Days before today. Virtual time is the collector's and the meters' only, and the test
holds it, so that it can do harm at any Day; Kafka says when a fact was received. When all is quiet, a last tick, and InfluxDB's
ledger must be `replay` of `export`, record for record.
"""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metering.facts import AnyFact, CalorificValue, MeterFitted, Readings
from metering.gasday import GasDays, to_datetime
from metering.wire import identity
from simulators.faults import Corrupt, ReadsLow, StartDiffers
from simulators.sites import Site, Sites, load_sites
from storage.influx_client import Connection
from tests.integration.cluster import Cluster, Lines, VirtualTime, decoded
from tests.integration.conftest import Start
from tests.integration.services import GivenKafka, InfluxServer, KafkaBroker, Proc
from tests.integration.storage.buckets import Influx, fresh_bucket
from tests.patience import patient

DAYS = 16
DAY_S = 0.4  # of real time, at least
MISTAKEN = "MP000012b"
GAS_DAYS = GasDays()
Kafka = KafkaBroker | GivenKafka


class Chain:
    """A cluster with the sites, and who serves and polls them."""

    def __init__(self, kafka: Kafka, bucket: Connection, folder: Path, name: str, start: Start) -> None:
        self.cluster = Cluster(kafka, bucket, folder, name, start, time="broker")
        self.sites = some_sites(folder / "sites.toml")
        topics = {f"DAILYREAD_KAFKA__TOPICS__{role.upper()}": topic for role, topic in self.cluster.topics.items()}
        self._env = kafka.env | topics | {
            "DAILYREAD_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap,
            "DAILYREAD_KAFKA__PARTITIONS": str(self.cluster.kafka.partitions),
            "DAILYREAD_KAFKA__TIME": "broker",
        }  # fmt: skip
        self.began_s = time.monotonic()

    def start(self, workers: Sequence[str] = ("1",)) -> None:
        """Start everything; people have entered what is known before the first Day."""
        self.store = self.cluster.store()
        started = [self.cluster.worker(instance) for instance in workers]
        self.simulate = self.cluster.simulate(self.cluster.folder / "sites.toml", "--collectors", "2")
        self.collect()
        self.time = VirtualTime(self.cluster.virtual_clock)
        self.cluster.submit(mistaken(fact) for fact in self._entered() if not isinstance(fact, CalorificValue))
        for worker in started:
            worker.wait_for_log("working on facts", timeout_s=60)

    def collect(self) -> Proc:
        """Start the collector, or start it again; returns when it takes part in virtual time."""
        mark = self.simulate.mark()
        self.collector = self.cluster.collect(self.sites.first_day, self._env)
        self.simulate.wait_for_log("gateway-1 takes part", since=mark)
        return self.collector

    @contextmanager
    def days_pass(self) -> Iterator[None]:
        """While the block runs Gas Days end and are read; it ends when they all have, or a little before the last ones."""
        with ThreadPoolExecutor(1) as pool:
            passing = pool.submit(self._pass_days)
            yield
            passing.result(patient(60))

    def enter_calorific_values(self, days: Sequence[date]) -> None:
        """As somebody does who knows them."""
        self.cluster.submit(fact for fact in self._entered() if isinstance(fact, CalorificValue) and fact.gas_day in days)

    def correct_mistake(self) -> None:
        """What had been entered wrong; the rejections that followed from it are void."""
        self.cluster.submit(fact for fact in self._entered() if mistaken(fact) != fact)

    def _entered(self) -> list[AnyFact]:
        return self.sites.reference_facts()

    def _pass_days(self) -> None:
        for day in self.sites.gas_days():
            self.time.wait_until(to_datetime(GAS_DAYS.end_us(day.toordinal())) + timedelta(minutes=30))
            time.sleep(DAY_S)

    def check(self) -> None:
        """Let virtual time end; when all is quiet, hold the ledger to the facts, and the facts to the meters."""
        self.time.__exit__()
        assert self.simulate.wait(60) == 0
        assert self.collector.wait(60) == 0  # Kafka has all of the outbox
        collected_s = time.monotonic()
        self.correct_mistake()
        facts = self.cluster.equals_replay(90)
        quiet_s = time.monotonic()
        check_nothing_lost_nor_doubled(self.sites, facts)
        check_truth(self.sites, self.cluster.ledger())
        assert self.cluster.dead_letters() == 0
        assert self.store.terminate() == 0
        print(
            f"{len(facts)} facts: {collected_s - self.began_s:.1f} s until all was collected,"
            f" {quiet_s - collected_s:.1f} s more until all was compared"
        )


@contextmanager
def chain_of(kafka: Kafka, influx: Influx, folder: Path, name: str, start: Start) -> Iterator[Chain]:
    with fresh_bucket(influx) as bucket:
        chain = Chain(kafka, bucket, folder, name, start)
        yield chain
        chain.cluster.print_logs()


@pytest.fixture
def chain(kafka: Kafka, influx: Influx, tmp_path: Path, unique: str, start: Start) -> Iterator[Chain]:
    with chain_of(kafka, influx, tmp_path, unique, start) as made:
        yield made


@pytest.fixture
def frail_kafka(own_kafka: KafkaBroker, influx: Influx, tmp_path: Path, unique: str, start: Start) -> Iterator[Chain]:
    """A chain whose broker the test may stop."""
    with chain_of(own_kafka, influx, tmp_path, unique, start) as made:
        yield made


@pytest.fixture
def frail_influx(kafka: Kafka, own_influx: InfluxServer, tmp_path: Path, unique: str, start: Start) -> Iterator[Chain]:
    """A chain whose InfluxDB the test may stop."""
    with chain_of(kafka, own_influx, tmp_path, unique, start) as made:
        yield made


def test_the_broker_stopped_under_the_collector(frail_kafka: Chain, own_kafka: KafkaBroker) -> None:
    chain = frail_kafka
    chain.start()
    with chain.days_pass():
        time.sleep(random.uniform(0, 3 * DAY_S))
        own_kafka.stop()
        chain.collector.wait_for_log("nothing goes to Kafka .*; [1-9][0-9]* facts wait on disk")
        own_kafka.start()
        chain.collector.wait_for_log("Kafka takes facts again", timeout_s=60)
    chain.enter_calorific_values(chain.sites.gas_days())
    chain.check()


def test_the_collector_killed_and_restarted(frail_kafka: Chain, own_kafka: KafkaBroker) -> None:
    chain = frail_kafka
    chain.start()
    with chain.days_pass():
        own_kafka.stop()
        time.sleep(random.uniform(DAY_S, 2 * DAY_S))  # what is read now, only the disk has
        chain.collector.kill()
        own_kafka.start()
        chain.collect()
        for _ in range(3):
            time.sleep(random.uniform(0, DAY_S))
            chain.collector.kill()
            chain.collect()
    chain.enter_calorific_values(chain.sites.gas_days())
    chain.check()


def test_the_stream_worker_killed_and_restarted(chain: Chain) -> None:
    chain.start()
    days = chain.sites.gas_days()
    with chain.days_pass():
        for number in range(4):
            chain.enter_calorific_values(days[number::4])
            chain.cluster.kill_worker("1")
            worker = chain.cluster.worker("1")
            if number % 2:
                worker.wait_for_log("working on facts", timeout_s=60)
            time.sleep(random.uniform(0, 1))
    chain.check()


def test_influxdb_stopped_and_started(frail_influx: Chain, own_influx: InfluxServer) -> None:
    chain = frail_influx
    chain.start()
    with chain.days_pass():
        time.sleep(random.uniform(0, 3 * DAY_S))
        own_influx.stop()
        chain.store.wait_for_log("InfluxDB at .* is away")
        chain.enter_calorific_values(chain.sites.gas_days())
        own_influx.start()
        chain.store.wait_for_log("InfluxDB at .* is back", timeout_s=60)
    chain.check()


def test_one_of_two_stream_workers_killed(chain: Chain) -> None:
    chain.start(workers=("1", "2"))
    chain.cluster.wait_shared("1", "2")
    days = chain.sites.gas_days()
    with chain.days_pass():
        chain.enter_calorific_values(days[::2])
        time.sleep(random.uniform(0, 2 * DAY_S))
        chain.cluster.kill_worker(random.choice("12"))
        chain.enter_calorific_values(days[1::2])
    chain.check()


def some_sites(path: Path) -> Sites:
    """The demo's sites twice, on the Gas Days that ended before yesterday, with a few troubles; written to a file."""
    demo = load_sites()
    first = datetime.now(UTC).date() - timedelta(days=DAYS + 1)
    sites = [_site(site, half, first, first - demo.first_day) for half in "ab" for site in demo.sites]
    path.write_text(
        f"first_day = {first}\ndays = {DAYS}\nldz = {_toml(demo.ldz)}\nsites = [\n"
        + "".join(f"  {_toml(msgspec.to_builtins(site))},\n" for site in sites)
        + "]\n"
    )
    return load_sites(path)


def _site(site: Site, half: str, first: date, moved: timedelta) -> Site:
    troubles = {
        "eastgate-school": StartDiffers(day=first + timedelta(days=3), ticks=1500),
        "ingot-foundry": ReadsLow(first_day=first + timedelta(days=4), last_day=first + timedelta(days=5), percent=3),
        "junction-mill": Corrupt(every=6),
    }
    return msgspec.structs.replace(
        site,
        name=f"{site.name}-{half}",
        meter_point=f"{site.meter_point}{half}",
        meter=f"{site.meter}{half}",
        equipment=f"{site.equipment}{half}",
        registered=site.registered + moved,
        fitted_at=site.fitted_at + moved,
        faults=(troubles[site.name],) if site.name in troubles else (),
    )


def mistaken(fact: AnyFact) -> AnyFact:
    """As it is entered at first: one meter with fewer digits than it has."""
    if not isinstance(fact, MeterFitted) or fact.meter_point != MISTAKEN:
        return fact
    return msgspec.structs.replace(fact, digits=5, index=fact.index % 10**5)


def healthy(sites: Sites) -> list[Site]:
    """Those of which every reading is right, whenever it is read."""
    return [site for site in sites.sites if not any(isinstance(fault, StartDiffers | ReadsLow) for fault in site.faults)]


def check_nothing_lost_nor_doubled(sites: Sites, lines: Lines) -> None:
    """What the outboxes numbered is there without a gap, and of each Day of a healthy meter one batch, the meter's own."""
    readings = [fact for fact in decoded(lines) if isinstance(fact, Readings)]
    numbered: defaultdict[tuple[str | None, str], dict[int, bytes]] = defaultdict(dict)
    batches: defaultdict[tuple[str, date], dict[bytes, Readings]] = defaultdict(dict)
    for fact in readings:
        assert fact.sequence is not None, fact
        before = numbered[fact.outbox, fact.meter_point].setdefault(fact.sequence, identity(fact))
        assert before == identity(fact), f"one number, two facts: {fact}"
        batches[fact.meter_point, fact.gas_day][identity(fact)] = fact
    for outbox, numbers in numbered.items():
        assert sorted(numbers) == list(range(len(numbers))), f"{outbox}: numbers missing, there are {sorted(numbers)}"
    for site in healthy(sites):
        meter = site.build(GAS_DAYS)
        for day in sites.gas_days():
            found = list(batches[site.meter_point, day].values())
            assert len(found) == 1, f"{site.meter_point}, {day}: {len(found)} different batches"
            assert found[0].index == tuple(map(meter.true_index_at, found[0].instants())), f"{site.meter_point}, {day}"
    print(f"{len(readings)} batches of readings, {len(readings) - sum(map(len, batches.values()))} of them copies")


def check_truth(sites: Sites, ledger: Lines) -> None:
    """Each Day of a healthy meter is Valid, and its volume is what passed."""
    days = {(record["meter_point"], record["gas_day"]): record for record in map(_decode, ledger) if record["record"] == "day"}
    for site in healthy(sites):
        meter = site.build(GAS_DAYS)
        for day in sites.gas_days():
            record = days[site.meter_point, day.isoformat()]
            assert record["valid"], record
            assert record["volume_m3"] == f"{meter.true_volume_l(day) / 1000:.3f}", record
            assert record["quantity_kwh"] is not None, record


def _decode(line: bytes) -> dict[str, Any]:
    return msgspec.json.decode(line)  # type: ignore[no-any-return]


def _toml(value: object) -> str:
    """Plain data as a TOML value on one line; what is null is left out."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items() if item is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, default=str)
