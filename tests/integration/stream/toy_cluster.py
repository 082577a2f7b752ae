"""Topics, facts and toy workers for one test, and what the ledger must then say."""

from __future__ import annotations

import json
import random
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from metering.facts import AnyFact, CalorificValue, Registered
from metering.ledger import Tolerance
from metering.messages import LedgerMessage, decode_change
from metering.wire import decode_frame, encode_frame, partition_of
from tests.integration.services import Proc, free_port
from tests.patience import patient

PARTITIONS = 4
POINTS = 40
SESSION_TIMEOUT_S = 6.0  # the least that a broker allows by default

At = tuple[int, int, str]  # partition, offset, meter point


def fact(point: str, number: object) -> Registered:
    """A fact that the toy rules count by its number."""
    return Registered(
        meter_point=point, gas_day=date(2026, 1, 1), users=("u",), ldz="SC", annual_quantity_kwh=Decimal(1),
        equipment=str(number),
    )  # fmt: skip


def calorific(name: str) -> CalorificValue:
    """A fact that the toy rules count for every point."""
    return CalorificValue(ldz=name, gas_day=date(2026, 1, 1), mj_per_m3=Decimal("39.5"))


class ToyCluster:
    """Everything of one test: topics of its own on a shared broker, workers of its own."""

    def __init__(self, bootstrap: str, name: str, folder: Path) -> None:
        self.bootstrap, self.name, self.folder = bootstrap, name, folder
        self.topics = {role: f"{name}-{role}" for role in ("facts", "broadcast", "ledger", "dead_letter")}
        self._producer = KafkaProducer(bootstrap_servers=bootstrap)
        self._workers: list[Proc] = []
        self._next = 0
        with self._admin() as admin:
            append_time = {"message.timestamp.type": "LogAppendTime"}
            admin.create_topics(
                {
                    self.topics["facts"]: _topic(PARTITIONS, append_time),
                    self.topics["broadcast"]: _topic(1, append_time),
                    self.topics["ledger"]: _topic(PARTITIONS, {}),
                    self.topics["dead_letter"]: _topic(1, {}),
                    f"{name}-states-changelog": _topic(PARTITIONS, {"cleanup.policy": "compact"}),
                },
                wait_for_metadata=True,
            )

    def close(self) -> None:
        for worker in self._workers:
            worker.end()
        self._producer.close()

    def worker(self, instance: str = "1", disk: str | None = None, **settings: Any) -> Proc:
        """Start a worker; `disk` names its state folder (default: its instance)."""
        path = self.folder / f"{instance}.json"
        given: dict[str, Any] = {
            "kafka": {"bootstrap_servers": [self.bootstrap], "security_protocol": "PLAINTEXT"},
            "topics": self.topics,
            "partitions": PARTITIONS,
            "group": self.name,
            "instance": instance,
            "state_dir": str(self.folder / f"state-{disk or instance}"),
            "time": "simulated",  # no ticks
            "session_timeout_s": SESSION_TIMEOUT_S,
            "commit_interval_s": 0.5,
            "web": ["127.0.0.1", free_port()],
        }
        path.write_bytes(msgspec.json.encode(given | settings))
        command = (sys.executable, "-m", "tests.integration.stream.toy_worker")
        worker = Proc(path, log=self.folder / f"worker-{instance}.log", command=command)
        worker.web = (given | settings)["web"]  # type: ignore[attr-defined]
        self._workers.append(worker)
        return worker

    def send(self, facts: Sequence[AnyFact], partition: int | None = None, **frame: Any) -> None:
        """One frame of facts of one partition."""
        if partition is None:
            partition = partition_of(facts[0].meter_point, PARTITIONS)  # type: ignore[union-attr]
        self.send_bytes(encode_frame(facts, "gateway", **frame), partition)

    def send_bytes(self, value: bytes, partition: int, topic: str = "facts") -> None:
        self._producer.send(self.topics[topic], value, partition=partition)

    def send_numbers(self, count: int) -> None:
        """So many facts of random points, in frames of one to three; some facts twice."""
        for _ in range(count):
            self._next += 1
            point = f"point-{random.randrange(POINTS)}"
            again = max(1, self._next - random.randrange(100))
            self.send([fact(point, self._next), fact(point, again)][: random.randint(1, 2)])
        self._producer.flush()

    def sending(self, per_second: int) -> Sending:
        """Sends numbers in the background, as a context manager."""
        return Sending(self, per_second)

    def expected(self) -> dict[At, int]:
        """How many different facts a point has had with each frame that concerns it, from the facts topic itself."""
        had: dict[str, set[str]] = defaultdict(set)
        expected = {}
        for message in self.read("facts"):
            try:
                facts = decode_frame(message.value).facts
            except ValueError:
                continue
            for each in facts:
                if isinstance(each, Registered):
                    had[each.meter_point].add(each.equipment)
                    expected[(message.partition, message.offset, each.meter_point)] = len(had[each.meter_point])
        return expected

    def ledger(self) -> Iterator[tuple[At, int]]:
        """Every record on the ledger topic, in the order in which it stands there."""
        for message in self.read("ledger"):
            change: LedgerMessage = decode_change(message.value)
            assert isinstance(change.record, Tolerance)
            yield (change.partition, change.offset, change.record.meter_point), int(change.record.a)

    def check(self, timeout_s: float = 30.0) -> None:
        """Wait until the ledger has a record for each frame and point; each must say what followed from the topic then."""
        expected = self.expected()
        deadline = time.monotonic() + patient(timeout_s)
        while missing := expected.keys() - {at for at, _ in self.ledger()}:
            assert time.monotonic() < deadline, f"{len(missing)} of {len(expected)} records missing: {sorted(missing)[:5]}"
            time.sleep(0.5)
        wrong = {(at, count, expected.get(at)) for at, count in self.ledger() if expected.get(at) != count}
        assert not wrong, f"{len(wrong)} wrong records, such as {sorted(wrong)[:5]}"

    def read(self, role: str) -> list[Any]:
        """All messages of a topic now."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False, group_id=None)
        try:
            return _read_all(consumer, self.topics.get(role, role))
        finally:
            consumer.close()

    def committed(self, role: str = "facts", group: str = "") -> dict[int, int]:
        """A group's offsets in a topic by partition, by default those of the workers."""
        with self._admin() as admin:
            offsets = admin.list_group_offsets({group or self.name: None})[group or self.name]
        return {tp.partition: found.offset for tp, found in offsets.items() if tp.topic == self.topics[role]}

    def _admin(self) -> Any:
        return _Closing(KafkaAdminClient(bootstrap_servers=self.bootstrap))


class Sending:
    """Sends facts until the block ends."""

    def __init__(self, cluster: ToyCluster, per_second: int) -> None:
        self._cluster, self._per_second = cluster, per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self._cluster.send_numbers(self._per_second // 10)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class _Closing:
    def __init__(self, client: KafkaAdminClient) -> None:
        self._client = client

    def __enter__(self) -> KafkaAdminClient:
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.close()


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 20.0) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + patient(timeout_s)
    while not condition():
        assert time.monotonic() < deadline, f"after {patient(timeout_s)} s still not: {what}"
        time.sleep(0.25)


def health(worker: Proc) -> dict[str, Any]:
    """What a toy worker says of itself; empty where it does not answer."""
    host, port = worker.web  # type: ignore[attr-defined]
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/health", timeout=2) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        return dict(json.load(error))
    except OSError:
        return {}


def _topic(partitions: int, configs: dict[str, str]) -> dict[str, Any]:
    return {"num_partitions": partitions, "replication_factor": 1, "configs": configs}


def _read_all(consumer: KafkaConsumer, topic: str) -> list[Any]:
    tps = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    consumer.assign(tps)
    ends = consumer.end_offsets(tps)
    consumer.seek_to_beginning(*tps)
    found: list[Any] = []
    while any(consumer.position(tp) < ends[tp] for tp in tps):
        for messages in consumer.poll(timeout_ms=200).values():
            found += messages
    return found
