"""Topics, a bucket and writers for one test; messages for the `ledger` topic, and what the ledger must then say."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec
from kafka import KafkaProducer, TopicPartition

from dailyread.config import KafkaConfig, TopicNames
from dailyread.kafka import admin, consumer, create_topics, wanted_topics
from metering.gasday import GasDays
from metering.ledger import AnyRecord
from metering.messages import DeadLetter, LedgerMessage, encode_key
from metering.wire import partition_of
from storage.influx_client import Connection, InfluxClient
from storage.ledger_influx import InfluxLedgerStore
from storage.offset_index import OffsetIndex
from tests.integration.services import GivenKafka, KafkaBroker, Proc
from tests.patience import patient
from tests.storage.ledger_contract import ACTUAL, JAN, RECONCILIATION, REJECTED, TOLERANCE, changed, folded

PARTITIONS = 3
POINTS = [f"point {n}" for n in range(20)]


class LedgerCluster:
    """A `ledger` topic of the test's own on a broker, a bucket, and the configuration of their writer."""

    def __init__(self, kafka: KafkaBroker | GivenKafka, bucket: Connection, folder: Path, name: str) -> None:
        self.folder = folder
        self.sent: list[LedgerMessage] = []
        self._name = name
        self._dice = random.Random(name)
        self._facts_offset = 100
        topics = TopicNames(facts=f"{name}-f", broadcast=f"{name}-b", ledger=f"{name}-l", dead_letter=f"{name}-d")
        self.kafka = KafkaConfig(bootstrap_servers=(kafka.bootstrap,), partitions=PARTITIONS, topics=topics)
        with admin(self.kafka) as client:
            create_topics(client, wanted_topics(self.kafka))
        self._producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, delivery_timeout_ms=86_400_000)
        self.config = folder / "stream.toml"
        self.use(bucket)

    def use(self, bucket: Connection) -> None:
        """Writers write to this bucket from now on."""
        self.bucket = bucket
        self.config.write_text(self._toml())

    def _toml(self) -> str:
        topics = "\n".join(f'{role} = "{name}"' for role, name in msgspec.structs.asdict(self.kafka.topics).items())
        return f"""
            state_dir = "{self.folder / "state"}"
            group = "{self._name}"
            [kafka]
            bootstrap_servers = ["{self.kafka.bootstrap_servers[0]}"]
            partitions = {PARTITIONS}
            [kafka.topics]
            {topics}
            [influx]
            url = "{self.bucket.url}"
            org = "{self.bucket.org}"
            bucket = "{self.bucket.bucket}"
        """

    @property
    def index(self) -> Path:
        """The writer's local index."""
        return self.folder / "state" / "ledger-index.sqlite"

    def writer(self, *arguments: str, log: str = "store", token: str | None = None, command: str = "store") -> Proc:
        """Starts `dailyread store`, or another command."""
        env = {"DAILYREAD_INFLUX__TOKEN": self.bucket.token if token is None else token}
        words = [command, *arguments, "--config", str(self.config)]
        return Proc(*words, log=self.folder / f"{log}.log", env=env)

    def write_all(self, **keywords: str) -> None:
        """Runs a writer until it has written all there is."""
        assert self.writer("--once", **keywords).wait(60) == 0

    def send(self, messages: Sequence[LedgerMessage]) -> None:
        """Appends messages, and remembers them."""
        for message in messages:
            self.sent.append(message)
            self.send_bytes(msgspec.msgpack.encode(message), message.partition, encode_key(message.key))
        self._producer.flush()

    def send_bytes(self, value: bytes, partition: int = 0, key: bytes | None = None) -> None:
        self._producer.send(self.kafka.topics.ledger, value, partition=partition, key=key).get(timeout=45)

    def send_some(self, count: int) -> None:
        """Records, changes and voids of few keys; some rest on older facts, as those of a worker that wakes up late."""
        self.send([self._some() for _ in range(count)])

    def _some(self) -> LedgerMessage:
        self._facts_offset += self._dice.randrange(3)
        late = self._dice.random() < 0.2
        offset = self._facts_offset - self._dice.randrange(1, 100) * late
        point, day = self._dice.choice(POINTS), self._dice.choice(JAN)
        partition = partition_of(point, PARTITIONS)
        record = changed(self._dice.choice([ACTUAL, RECONCILIATION, REJECTED, TOLERANCE]), meter_point=point, gas_day=day)
        if record == changed(ACTUAL, meter_point=point, gas_day=day):
            record = changed(record, start_index=self._dice.choice([None, offset]))
        if self._dice.random() < 0.2:
            return LedgerMessage(partition, offset, None, record.key())
        return LedgerMessage(partition, offset, record)

    def sending(self, pause_s: float = 0.02) -> Sending:
        """Sends messages in the background, as a context manager."""
        return Sending(self, pause_s)

    def expected(self) -> list[AnyRecord]:
        """What the ledger must hold."""
        return folded(self.sent)

    def ledger(self) -> list[AnyRecord]:
        """What InfluxDB holds."""
        with tempfile.TemporaryDirectory() as folder:
            index = OffsetIndex(Path(folder) / "none.sqlite")
            store = InfluxLedgerStore(InfluxClient(self.bucket), index, lambda *_: None, GasDays())
            found = list(store.records())
            store.close()
        return found

    def wait_for_equal(self, timeout_s: float = 30.0) -> None:
        """Waits until InfluxDB holds what it must."""
        until_s = time.monotonic() + patient(timeout_s)
        while (found := self.ledger()) != self.expected():
            if time.monotonic() > until_s:
                assert found == self.expected()
            time.sleep(0.3)

    def dead_letters(self) -> list[DeadLetter]:
        """All dead letters, in order."""
        topic = TopicPartition(self.kafka.topics.dead_letter, 0)
        client = consumer(self.kafka)
        client.assign([topic])
        end, found = client.end_offsets([topic])[topic], []
        while client.position(topic) < end:
            for messages in client.poll(timeout_ms=500).values():
                found += [msgspec.json.decode(message.value, type=DeadLetter) for message in messages]
        client.close()
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.close()


class Sending:
    """Sends messages in the background while a block runs."""

    def __init__(self, cluster: LedgerCluster, pause_s: float) -> None:
        self._cluster = cluster
        self._pause_s = pause_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._end.wait(self._pause_s):
            self._cluster.send_some(20)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
