"""The publisher on a real broker: whatever stops, every fact is in the topic, and copies are identical facts."""

from __future__ import annotations

import logging
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition

from collectors.frames import Route
from collectors.outbox import Outbox
from collectors.publisher import Publisher
from dailyread import kafka as clients
from dailyread.config import KafkaConfig, TopicNames
from metering.facts import AnyFact, CalorificValue, Readings
from metering.wire import canonical, decode_frame, partition_of
from tests.integration.services import GivenKafka, KafkaBroker
from tests.integration.stream.toy_cluster import wait_for
from tests.patience import patient

DAY = date(2026, 2, 28)
NOW = datetime(2026, 3, 1, 5, tzinfo=UTC)
PARTITIONS = 4


def config_for(broker: KafkaBroker | GivenKafka, unique: str, **settings: Any) -> KafkaConfig:
    topics = TopicNames(**{name: f"{name}-{unique}" for name in TopicNames.__struct_fields__})
    config = KafkaConfig(bootstrap_servers=(broker.bootstrap,), partitions=PARTITIONS, topics=topics, **settings)
    with clients.admin(config) as admin:
        clients.create_topics(admin, clients.wanted_topics(config))
    return config


def route_for(config: KafkaConfig) -> Route:
    return Route(
        facts_topic=config.topics.facts,
        broadcast_topic=config.topics.broadcast,
        partitions=config.partitions,
        gateway="gw",
        simulated=config.time == "simulated",
    )


def readings(n: int, points: int = 12) -> Readings:
    at = NOW + timedelta(minutes=n)
    return Readings(meter_point=f"P{n % points}", meter="m", gas_day=DAY, first_at=at, interval_s=360, index=(n, n + 1))


class Appended:
    """A message of the topic, decoded."""

    def __init__(self, message: Any) -> None:
        self.partition, self.key, self.timestamp_ms = message.partition, message.key, message.timestamp
        self.size = len(message.value)
        self.facts = decode_frame(message.value).facts


def read_all(config: KafkaConfig, topic: str) -> list[Appended]:
    consumer = clients.consumer(config)
    partitions = [TopicPartition(topic, n) for n in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    found: list[Appended] = []
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for messages in consumer.poll(timeout_ms=1000).values():
            found += [Appended(message) for message in messages]
    consumer.close()
    return found


def assert_all_there(config: KafkaConfig, put: list[Readings], outbox_id: str) -> None:
    """Every fact that was put is in the topic, in the order of its meter point, and nothing else but copies."""
    first_seen: dict[str, list[int]] = defaultdict(list)
    copies: Counter[bytes] = Counter()
    for message in read_all(config, config.topics.facts):
        for fact in message.facts:
            assert isinstance(fact, Readings)
            assert fact.outbox == outbox_id
            assert fact.sequence is not None
            assert message.partition == partition_of(fact.meter_point, PARTITIONS)
            if not copies[canonical(fact)]:
                first_seen[fact.meter_point].append(fact.sequence)
            copies[canonical(fact)] += 1
    assert set(copies) == {canonical(fact) for fact in put}
    for sequences in first_seen.values():
        assert sequences == list(range(len(sequences)))


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "outbox.db", "gw")
    yield opened
    opened.close()


Publish = Callable[..., Publisher]


@pytest.fixture
def publish(outbox: Outbox) -> Iterator[Publish]:
    running: list[Publisher] = []

    def start(config: KafkaConfig, **options: Any) -> Publisher:
        publisher = Publisher(outbox, lambda: clients.producer(config), route_for(config), **options)
        running.append(publisher)
        publisher.start()
        return publisher

    yield start
    for publisher in running:
        publisher.stop()


def test_facts_go_to_their_partition_and_leave_the_outbox(
    kafka: KafkaBroker | GivenKafka, unique: str, outbox: Outbox, publish: Publish
) -> None:
    config = config_for(kafka, unique)
    value = CalorificValue(ldz="NW", gas_day=DAY, mj_per_m3=Decimal("39.5"))
    put = [readings(n) for n in range(3000)]
    outbox.put([value, *put[:1500]], NOW)
    publisher = publish(config)
    outbox.put(put[1500:], NOW)
    assert publisher.wait_empty(patient(30))
    assert_all_there(config, put, outbox.id)
    assert publisher.counters.facts_acknowledged == 3001
    assert publisher.counters.producers_made == 1
    messages = read_all(config, config.topics.facts)
    assert all(message.key is None and message.size <= 256 * 1024 for message in messages)
    assert len(messages) < 100  # meter points of a partition share frames
    assert min(message.timestamp_ms for message in messages) > 1000 * (time.time() - 60)  # the broker's, not ours
    assert [message.facts for message in read_all(config, config.topics.broadcast)] == [[value]]


def test_in_simulated_time_the_timestamp_says_when_a_fact_was_put(
    kafka: KafkaBroker | GivenKafka, unique: str, outbox: Outbox, publish: Publish
) -> None:
    config = config_for(kafka, unique, time="simulated")
    future = datetime(2050, 6, 1, tzinfo=UTC)
    for n in range(20):
        outbox.put([readings(2 * n), readings(2 * n + 1)], future + timedelta(milliseconds=n))
    assert publish(config).wait_empty(patient(30))
    at = {fact.first_at: message.timestamp_ms for message in read_all(config, config.topics.facts) for fact in message.facts}
    assert at == {readings(n).first_at: int(future.timestamp() * 1000) + n // 2 for n in range(40)}


def test_large_facts_share_no_frame_that_would_be_too_large(
    kafka: KafkaBroker | GivenKafka, unique: str, outbox: Outbox, publish: Publish
) -> None:
    config = config_for(kafka, unique)
    many = tuple(str(n) for n in range(14_000))
    outbox.put(
        [Readings(meter_point="P", meter="m", gas_day=DAY, first_at=NOW, interval_s=n, index=many) for n in (1, 2, 3, 4, 5)],
        NOW,
    )
    assert publish(config).wait_empty(patient(30))
    messages = read_all(config, config.topics.facts)
    assert sum(len(message.facts) for message in messages) == 5
    assert all(100_000 < message.size <= 256 * 1024 for message in messages)


def put_steadily(outbox: Outbox, put: list[Readings], stop: threading.Event) -> threading.Thread:
    def work() -> None:
        while not stop.is_set():
            facts = [readings(len(put) + n) for n in range(3)]
            outbox.put(facts, NOW)
            put.extend(facts)
            time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("way", ["stop", "kill", "pause"])
def test_a_broker_that_goes_away_and_comes_back_loses_nothing(
    own_kafka: KafkaBroker, unique: str, outbox: Outbox, publish: Publish, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "collectors.publisher")
    config = config_for(own_kafka, unique)
    publisher = publish(config, stall_s=4.0)
    put: list[Readings] = []
    stop = threading.Event()
    thread = put_steadily(outbox, put, stop)
    time.sleep(1.5)
    {"stop": own_kafka.stop, "kill": own_kafka.kill, "pause": own_kafka.pause}[way]()
    wait_for(lambda: publisher.counters.away, "the publisher knows that the broker is away", 30)
    time.sleep(3)
    own_kafka.resume() if way == "pause" else own_kafka.start()
    time.sleep(2)
    stop.set()
    thread.join()
    assert publisher.wait_empty(patient(40))
    assert_all_there(config, put, outbox.id)
    lines = [record.getMessage() for record in caplog.records if record.name == "collectors.publisher"]
    assert [line.partition(" (")[0].partition(";")[0] for line in lines] == ["nothing goes to Kafka", "Kafka takes facts again"]


def test_a_producer_that_has_stopped_is_replaced(kafka: KafkaBroker | GivenKafka, unique: str, outbox: Outbox) -> None:
    """The trap in kafka-python, made at will: a producer whose thread has ended keeps its futures for good."""
    config = config_for(kafka, unique)
    made: list[Any] = []

    def make() -> Any:
        made.append(clients.producer(config))
        return made[-1]

    publisher = Publisher(outbox, make, route_for(config), stall_s=1.0)
    publisher.start()
    outbox.put([readings(0)], NOW)
    assert publisher.wait_empty(patient(20))
    made[0]._sender.force_close()
    put = [readings(n) for n in range(500)]
    outbox.put(put[1:], NOW)
    assert publisher.wait_empty(patient(30))
    publisher.stop()
    assert len(made) >= 2
    assert_all_there(config, put, outbox.id)


def test_topics_that_do_not_fit_are_not_written_to(
    kafka: KafkaBroker | GivenKafka, unique: str, outbox: Outbox, publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    config_for(kafka, unique)
    config = KafkaConfig(
        bootstrap_servers=(kafka.bootstrap,),
        partitions=PARTITIONS + 1,
        topics=TopicNames(**{name: f"{name}-{unique}" for name in TopicNames.__struct_fields__}),
    )
    outbox.put([readings(0)], NOW)
    publisher = publish(config)
    wait_for(lambda: "4 partitions; allowed: 5" in caplog.text, "it says what does not fit")
    assert not publisher.wait_empty(4)
    assert outbox.backlog().facts == 1


PUBLISHER = """
import sys, time
from pathlib import Path
from collectors.outbox import Outbox
from collectors.publisher import Publisher
from dailyread import kafka as clients
from tests.integration.test_publisher import NOW, KafkaConfig, TopicNames, readings, route_for

path, bootstrap, unique, n = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
topics = TopicNames(**{name: f"{name}-{unique}" for name in TopicNames.__struct_fields__})
config = KafkaConfig(bootstrap_servers=(bootstrap,), partitions=4, topics=topics)
outbox = Outbox(path, "gw")
Publisher(outbox, lambda: clients.producer(config), route_for(config)).start()
while True:
    outbox.put([readings(n)], NOW)
    print(n, flush=True)
    n += 1
    time.sleep(0.002)
"""


def test_a_publisher_that_is_killed_and_restarted_loses_nothing(
    kafka: KafkaBroker | GivenKafka, unique: str, tmp_path: Path
) -> None:
    config = config_for(kafka, unique)
    path = tmp_path / "killed.db"
    last = -1
    seed = random.Random(3)
    for _ in range(4):
        command = [sys.executable, "-c", PUBLISHER, str(path), kafka.bootstrap, unique, str(last + 1)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seed.uniform(0.5, 1.5))
        process.send_signal(signal.SIGKILL)
        last = max(int(word) for word in (first + process.stdout.read()).split())
        process.wait()
    outbox = Outbox(path, "gw")
    # The last fact before a kill may be stored though it was not said; the next run put it again, as a copy.
    put = [readings(n) for n in range(last + 1)]
    stored: list[AnyFact] = [entry.fact for entry in outbox.pending(100_000)]
    put += [readings(last + 1)] * any(canonical(fact) == canonical(readings(last + 1)) for fact in stored)
    publisher = Publisher(outbox, lambda: clients.producer(config), route_for(config))
    publisher.start()
    assert publisher.wait_empty(patient(30))
    publisher.stop()
    outbox.close()
    messages = read_all(config, config.topics.facts)
    found = {canonical(fact) for message in messages for fact in message.facts}
    assert {canonical(fact) for fact in put} <= found <= {canonical(fact) for fact in [*put, readings(last + 1)]}
