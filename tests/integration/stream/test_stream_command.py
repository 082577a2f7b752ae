"""`dailyread stream` as a process on the real rules: its ledger is what `replay` finds in the same facts."""

from __future__ import annotations

import json
import random
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from dailyread import kafka as clients
from dailyread.config import KafkaConfig, TopicNames
from metering.facts import AnyFact, Tick, meter_point_of
from metering.gasday import to_us
from metering.ledger import AnyRecord, Key
from metering.replay import replay
from metering.rules import Rules
from metering.wire import decode_change, encode_frame, partition_of
from tests.integration.conftest import Start
from tests.integration.services import GivenKafka, KafkaBroker, Proc, free_port
from tests.integration.stream.toy_cluster import wait_for
from tests.metering.scenarios import Scenario

PARTITIONS = 3


class Job:
    """Topics of one test, and the configuration of a worker on them."""

    def __init__(self, bootstrap: str, folder: Path, unique: str, time_: str = "simulated") -> None:
        names = {role: f"{role}-{unique}" for role in TopicNames.__struct_fields__}
        self.topics = TopicNames(**names)
        self.kafka = KafkaConfig(
            bootstrap_servers=(bootstrap,), partitions=PARTITIONS, topics=self.topics, time=time_  # type: ignore[arg-type]
        )  # fmt: skip
        self.web = free_port()
        self.config = folder / "stream.toml"
        lines = "\n".join(f'{role} = "{name}"' for role, name in names.items())
        self.config.write_text(
            f'state_dir = "state"\ngroup = "g-{unique}"\nweb = "127.0.0.1:{self.web}"\ntick_s = 1.0\n[kafka]\n'
            f'bootstrap_servers = ["{bootstrap}"]\npartitions = {PARTITIONS}\ntime = "{time_}"\n[kafka.topics]\n{lines}\n'
        )

    def make_topics(self) -> None:
        with clients.admin(self.kafka) as admin:
            clients.create_topics(admin, clients.wanted_topics(self.kafka))

    def publish(self, facts: Sequence[AnyFact]) -> None:
        """Each fact in a frame of its own, stamped with when it was received."""
        producer = clients.producer(self.kafka)
        for fact in facts:
            point = meter_point_of(fact)
            topic = self.topics.broadcast if point is None else self.topics.facts
            number = 0 if point is None else partition_of(point, PARTITIONS)
            assert fact.received_at is not None
            stamp = to_us(fact.received_at) // 1000
            producer.send(topic, encode_frame([fact], "gateway"), partition=number, timestamp_ms=stamp)
        producer.flush()
        producer.close()

    def ledger(self) -> dict[Key, AnyRecord]:
        """What stands on the ledger topic: of one key the greatest offset."""
        offsets: dict[Key, int] = {}
        found: dict[Key, AnyRecord | None] = {}
        for message in self._read(self.topics.ledger):
            change = decode_change(message)
            if change.offset >= offsets.get(change.key, -1):
                offsets[change.key] = change.offset
                found[change.key] = change.record
        return {key: record for key, record in found.items() if record is not None}

    def health(self) -> dict[str, object]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.web}/health", timeout=2) as answer:
                return json.load(answer)  # type: ignore[no-any-return]
        except OSError:
            return {}

    def done(self) -> bool:
        """Whether the worker has done all that is in the topics."""
        health = self.health()
        partitions = health.get("partitions") or {}
        assert isinstance(partitions, dict)
        relayed = len(self._read(self.topics.broadcast))
        copies = [_end(self.kafka, self.topics.facts, number) for number in range(PARTITIONS)]
        own = [partitions.get(str(number), {}).get("position") for number in range(PARTITIONS)]
        return own == copies and sum(copies) >= PARTITIONS * relayed

    def _read(self, topic: str) -> list[bytes]:
        consumer = clients.consumer(self.kafka)
        tps = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(tps)
        ends = consumer.end_offsets(tps)
        found = []
        while any(consumer.position(tp) < ends[tp] for tp in tps):
            for messages in consumer.poll(timeout_ms=200).values():
                found += [message.value for message in messages]
        consumer.close()
        return found


@pytest.fixture
def job(kafka: KafkaBroker | GivenKafka, tmp_path: Path, unique: str) -> Job:
    job = Job(kafka.bootstrap, tmp_path, unique)
    job.make_topics()
    return job


def test_the_ledger_of_a_worker_that_is_killed_is_that_of_replay(job: Job, start: Start) -> None:
    seed = random.randrange(10**6)
    scenario = Scenario(random.Random(seed), points=8)
    facts = sorted(scenario.facts, key=lambda fact: fact.received_at)  # type: ignore[arg-type,return-value]
    latest = facts[-1].received_at
    assert latest is not None
    facts.append(Tick(now=latest, received_at=latest))
    for part in range(4):
        job.publish(facts[part * len(facts) // 4 : (part + 1) * len(facts) // 4])
        worker = start("stream", "--config", job.config)
        worker.wait_for_log("working on facts")
        time.sleep(random.uniform(0, 0.5))
        worker.kill()
    start("stream", "--config", job.config)
    wait_for(lambda: job.done(), "all is done", 30)
    expected = replay(facts, to_us(latest), Rules())
    found = job.ledger()
    differences = {key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)}
    assert not differences, f"seed {seed}: {[(found.get(key), expected.get(key)) for key in sorted(differences)[:3]]}"


def test_health_metrics_ticks_and_an_orderly_end(
    kafka: KafkaBroker | GivenKafka, tmp_path: Path, unique: str, start: Start
) -> None:
    job = Job(kafka.bootstrap, tmp_path, unique, "broker")
    job.make_topics()
    worker = start("stream", "--config", job.config)
    wait_for(lambda: job.health().get("state") == "running" and job.health()["relay"], "the worker runs")
    wait_for(lambda: job.done() and len(job._read(job.topics.facts)) >= 2 * PARTITIONS, "ticks are in every partition")
    with urllib.request.urlopen(f"http://127.0.0.1:{job.web}/metrics", timeout=2) as answer:
        metrics = answer.read().decode()
    assert "dailyread_stream_relay_owner 1.0" in metrics
    assert 'dailyread_stream_lag_frames{partition="2"} 0.0' in metrics
    assert worker.terminate(5) == 0


def test_it_refuses_topics_that_keep_another_time(job: Job, start: Start) -> None:
    with clients.admin(job.kafka) as admin:
        wrong = ConfigResource(ConfigResourceType.TOPIC, job.topics.facts, {"message.timestamp.type": "LogAppendTime"})
        admin.alter_configs([wrong])
    worker = start("stream", "--config", job.config)
    assert worker.wait(20) == 1
    assert f"topic {job.topics.facts}: message.timestamp.type is LogAppendTime; allowed: CreateTime" in worker.output()


def test_it_waits_for_kafka_and_says_so_once(tmp_path: Path, unique: str, start: Start) -> None:
    job = Job(f"127.0.0.1:{free_port()}", tmp_path, unique)
    worker = start("stream", "--config", job.config)
    worker.wait_for_log("is away")
    time.sleep(5)
    assert worker.output().count("is away") == 1
    assert worker.terminate(5) == 0


def test_an_outage_of_the_broker_loses_nothing(own_kafka: KafkaBroker, tmp_path: Path, unique: str, start: Start) -> None:
    job = Job(own_kafka.bootstrap, tmp_path, unique)
    job.make_topics()
    scenario = Scenario(random.Random(4), points=6)
    facts = sorted(scenario.facts, key=lambda fact: fact.received_at)  # type: ignore[arg-type,return-value]
    latest = facts[-1].received_at
    assert latest is not None
    worker = start("stream", "--config", job.config)
    worker.wait_for_log("working on facts")
    job.publish(facts)
    own_kafka.stop()
    time.sleep(8)
    own_kafka.start()
    worker = _again(worker, start, job)
    job.publish([Tick(now=latest, received_at=latest)])
    wait_for(lambda: job.done(), "all is done", 30)
    assert job.ledger() == replay([*facts, Tick(now=latest, received_at=latest)], to_us(latest), Rules())


def _again(worker: Proc, start: Start, job: Job) -> Proc:
    """The worker, or where it has ended, as systemd would, another one."""
    time.sleep(3)
    return worker if worker.running else start("stream", "--config", job.config)


def _end(config: KafkaConfig, topic: str, number: int) -> int:
    consumer: KafkaConsumer = clients.consumer(config)
    try:
        return int(consumer.end_offsets([TopicPartition(topic, number)])[TopicPartition(topic, number)])
    finally:
        consumer.close()
