"""Topics of one test, the configuration of a worker of the real stream job on them, and what stands on its ledger topic."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from kafka import TopicPartition

from dailyread import kafka as clients
from dailyread.config import KafkaConfig, TopicNames
from metering.facts import AnyFact, meter_point_of
from metering.gasday import to_us
from metering.ledger import AnyRecord, Key
from metering.messages import decode_change
from metering.wire import encode_frame, partition_of
from tests.integration.services import free_port

PARTITIONS = 3
SESSION_TIMEOUT_S = 8.0


class Job:
    """Topics of one test, and the configuration of a worker on them."""

    def __init__(self, bootstrap: str, folder: Path, unique: str, time_: str = "simulated") -> None:
        names = {role: f"{role}-{unique}" for role in TopicNames.__struct_fields__}
        self.topics = TopicNames(**names)
        self.kafka = KafkaConfig(
            bootstrap_servers=(bootstrap,), partitions=PARTITIONS, topics=self.topics, time=time_  # type: ignore[arg-type]
        )  # fmt: skip
        self.web = free_port()
        self.group = f"g-{unique}"
        self._published = 0  # on the facts topic, beside what is relayed
        self.config = folder / "stream.toml"
        lines = "\n".join(f'{role} = "{name}"' for role, name in names.items())
        self.config.write_text(
            f'state_dir = "state"\ngroup = "{self.group}"\nweb = "127.0.0.1:{self.web}"\n'
            f"tick_s = 1.0\nsession_timeout_s = {SESSION_TIMEOUT_S}\n[kafka]\n"
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
            self._published += point is not None
            producer.send(topic, encode_frame([fact], "gateway"), partition=number, timestamp_ms=stamp)
        producer.flush()
        producer.close()

    def ledger(self) -> dict[Key, AnyRecord]:
        """What stands on the ledger topic: of one key the greatest offset."""
        offsets: dict[Key, int] = {}
        found: dict[Key, AnyRecord | None] = {}
        for message in self.read(self.topics.ledger):
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
        own = [partitions.get(str(number), {}).get("position") for number in range(PARTITIONS)]
        relayed, *facts = self._ends()
        return own == facts and sum(facts) >= self._published + PARTITIONS * relayed

    def _ends(self) -> list[int]:
        """Where the broadcast topic ends, and each partition of the facts topic."""
        tps = [TopicPartition(self.topics.broadcast, 0), *(TopicPartition(self.topics.facts, n) for n in range(PARTITIONS))]
        consumer = clients.consumer(self.kafka)
        try:
            ends = consumer.end_offsets(tps)
        finally:
            consumer.close()
        return [ends[tp] for tp in tps]

    def read(self, topic: str) -> list[bytes]:
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
