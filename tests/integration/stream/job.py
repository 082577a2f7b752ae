"""Topics of one test, the configuration of a worker of the real stream job on them, and what stands on its ledger topic."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

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
        except urllib.error.HTTPError as error:
            return json.load(error)  # type: ignore[no-any-return]
        except OSError:
            return {}

    def beside(self, instance: str, folder: Path) -> Job:
        """The configuration of another worker of the same group, with a folder and an address of its own."""
        other = copy(self)
        other.web = free_port()
        other.config = folder / f"stream-{instance}.toml"
        text = self.config.read_text().replace(f"127.0.0.1:{self.web}", f"127.0.0.1:{other.web}")
        other.config.write_text(f'instance = "{instance}"\n' + text.replace('"state"', f'"state-{instance}"'))
        return other

    def done(self, *beside: Job) -> bool:
        """Whether the worker, together with those beside it, has done all that is in the topics."""
        partitions: dict[str, Any] = {}
        for job in (self, *beside):
            found = job.health().get("partitions") or {}
            assert isinstance(found, dict)
            partitions |= found
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
        """The values of all messages of a topic now."""
        return [message.value for message in self.messages(topic)]

    def messages(self, topic: str) -> list[Any]:
        """All messages of a topic now."""
        consumer = clients.consumer(self.kafka)
        tps = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(tps)
        ends = consumer.end_offsets(tps)
        found: list[Any] = []
        while any(consumer.position(tp) < ends[tp] for tp in tps):
            for messages in consumer.poll(timeout_ms=200).values():
                found += messages
        consumer.close()
        return found
