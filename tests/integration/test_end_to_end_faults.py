"""Broker time, real processes, and each of them killed or stopped in turn: nothing lost, nothing counted twice.

Simulated meters hold the logs of some Gas Days before today. Virtual time is the collector's and the meters' only, and the test
holds it, so that it can do harm at any Day; Kafka says when a fact was received. When all is quiet, a last tick, and InfluxDB's
ledger must be `replay` of `export`, record for record.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import pytest

from metering.facts import AnyFact, CalorificValue
from metering.gasday import to_datetime
from storage.influx_client import Connection
from tests.integration.cluster import Cluster, VirtualTime
from tests.integration.conftest import Start
from tests.integration.services import GivenKafka, InfluxServer, KafkaBroker, Proc
from tests.integration.storage.buckets import Influx, fresh_bucket
from tests.integration.truth import GAS_DAYS, check_nothing_lost_nor_doubled, check_truth, mistaken, some_sites
from tests.patience import patient

DAYS = 16
DAY_S = 0.4  # of real time, at least
Kafka = KafkaBroker | GivenKafka


class Chain:
    """A cluster with the sites, and who serves and polls them."""

    def __init__(self, kafka: Kafka, bucket: Connection, folder: Path, name: str, start: Start) -> None:
        self.cluster = Cluster(kafka, bucket, folder, name, start, time="broker")
        self.sites = some_sites(folder / "sites.toml", DAYS)
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
