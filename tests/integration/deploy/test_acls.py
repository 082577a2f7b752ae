"""The rights in deploy/kafka-acls.toml are enough for each command, on a broker that checks them; without them nothing goes."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType
from kafka.errors import KafkaError

from metering.facts import CalorificValue
from metering.messages import DeadLetter, encode_change, encode_dead_letter
from metering.wire import encode_frame
from tests.integration.conftest import Start
from tests.integration.services import GivenInflux, InfluxServer, KafkaBroker, Proc, free_port
from tests.integration.stream.toy_cluster import wait_for
from tests.storage.ledger_contract import ACTUAL

ACLS = tomllib.loads((Path(__file__).parents[3] / "deploy" / "kafka-acls.toml").read_text())
_LISTENERS = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port},GUARDED://127.0.0.1:{guarded_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},GUARDED://127.0.0.1:{guarded_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_PLAINTEXT
inter.broker.listener.name=PLAINTEXT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
listener.name.guarded.sasl.enabled.mechanisms=PLAIN
listener.name.guarded.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required {users};
"""
_CONFIG = """
state_dir = "{folder}/{user}"
web = "127.0.0.1:{web}"
tick_s = 1.0
provide.folder = "{folder}/users"
provide.gather_s = 0.1
[kafka]
bootstrap_servers = ["127.0.0.1:{port}"]
partitions = 2
{more}
"""
_GATEWAY = """
gateway = "site"
state_dir = "{folder}/gateway"
[kafka]
bootstrap_servers = ["127.0.0.1:{port}"]
partitions = 2
[kafka.sasl]
mechanism = "PLAIN"
user = "gateway"
[[meters]]
meter_point = "MP1"
meter = "M1"
protocol = "modbus"
address = "tcp://127.0.0.1:{nobody}"
device = 1
map = "hourly_log"
"""
REGISTERED = {
    "fact": "registered", "meter_point": "MP1", "gas_day": "2026-01-01", "users": ["U"], "ldz": "SE",
    "annual_quantity_kwh": "1000000", "equipment": "E",
}  # fmt: skip
VALUE = {"fact": "calorific_value", "ldz": "SE", "gas_day": "2026-01-31", "mj_per_m3": "39.4"}


class GuardedBroker(KafkaBroker):
    """A broker with one more listener, on which users have passwords (their names) and the rights of the table alone."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.guarded_port = free_port()

    def command(self) -> list[str]:
        made = super().command()
        properties = self.data_dir / "server.properties"
        users = " ".join(f'user_{user}="{user}"' for user in [*ACLS, "nobody"])
        ports = {"port": self.port, "controller_port": self._controller_port, "guarded_port": self.guarded_port}
        # In a properties file the last of several lines counts.
        properties.write_text(properties.read_text() + _LISTENERS.format(**ports, users=users))
        return made


def rights() -> Iterator[ACL]:
    whole, begin = ACLResourcePatternType.LITERAL, ACLResourcePatternType.PREFIXED
    kinds = {
        "topics": (ResourceType.TOPIC, whole), "prefixes": (ResourceType.TOPIC, begin), "groups": (ResourceType.GROUP, whole),
    }  # fmt: skip
    for user, table in ACLS.items():
        for kind, names in table.items():
            for name, operations in names.items():
                for operation in operations:
                    resource, how = kinds[kind]
                    pattern = ResourcePattern(resource, name, how)
                    yield ACL(f"User:{user}", "*", ACLOperation[operation], ACLPermissionType.ALLOW, pattern)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedBroker]:
    with GuardedBroker(tmp_path_factory.mktemp("guarded") / "kafka") as broker:
        with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
            assert not admin.create_acls(list(rights()))["failed"]
        yield broker


class Users:
    """Starts commands as the users of the table."""

    def __init__(self, broker: GuardedBroker, start: Start, folder: Path) -> None:
        self.broker, self.start, self.folder = broker, start, folder

    def run(self, user: str, *arguments: str | Path, env: dict[str, str] | None = None) -> Proc:
        secret = {"DAILYREAD_KAFKA__SASL__PASSWORD": user}
        command, *others = arguments
        return self.start(command, "--config", self.config(user), *others, env=secret | (env or {}))

    def config(self, user: str) -> Path:
        sasl = f'[kafka.sasl]\nmechanism = "PLAIN"\nuser = "{user}"'
        path = self.folder / f"{user}.toml"
        text = _GATEWAY if user == "gateway" else _CONFIG
        port, free = self.broker.guarded_port, free_port()
        path.write_text(text.format(folder=self.folder, user=user, web=free, nobody=free, port=port, more=sasl))
        return path

    def make_topics(self) -> None:
        """As the administrator, who is whoever comes by the other listener."""
        path = self.folder / "admin.toml"
        port = self.broker.port
        path.write_text(_CONFIG.format(folder=self.folder, user="admin", web=free_port(), port=port, more=""))
        made = self.start("topics", "--config", path, "--create", "--replicas", "1")
        assert made.wait(30) == 0, made.output()

    def in_ledger(self) -> int:
        """How many messages the ledger topic has."""
        consumer = KafkaConsumer(bootstrap_servers=self.broker.bootstrap)
        try:
            return sum(consumer.end_offsets([TopicPartition("ledger", number) for number in range(2)]).values())
        finally:
            consumer.close()

    def facts(self) -> Path:
        path = self.folder / "facts.jsonl"
        path.write_text(json.dumps(REGISTERED) + "\n" + json.dumps(VALUE) + "\n")
        return path


@pytest.fixture
def users(guarded: GuardedBroker, start: Start, tmp_path: Path) -> Users:
    users = Users(guarded, start, tmp_path)
    users.make_topics()
    return users


def test_clerk_submits_and_auditor_exports(users: Users) -> None:
    submitted = users.run("clerk", "submit", users.facts())
    assert submitted.wait(40) == 0, submitted.output()
    exported = users.run("auditor", "export")
    assert exported.wait(40) == 0, exported.output()
    assert '"fact":"registered"' in exported.output()
    assert '"fact":"calorific_value"' in exported.output()


def test_gateway_publishes_what_it_has(users: Users) -> None:
    collected = users.run("gateway", "collect", "--once")
    collected.wait(60)  # its meter is dead, so not 0
    exported = users.run("auditor", "export")
    assert exported.wait(40) == 0, exported.output()
    assert '"fact":"poll_failed"' in exported.output()


def test_stream_worker_and_writer_do_their_work(users: Users, influx: InfluxServer | GivenInflux) -> None:
    submitted = users.run("clerk", "submit", users.facts())
    assert submitted.wait(40) == 0, submitted.output()
    worker = users.run("stream", "stream")
    worker.wait_for_log("working on facts", timeout_s=60)
    wait_for(lambda: users.in_ledger() > 0, "the worker has emitted records", 60)
    store = {
        "DAILYREAD_INFLUX__URL": influx.url, "DAILYREAD_INFLUX__ORG": influx.org, "DAILYREAD_INFLUX__BUCKET": influx.bucket,
        "DAILYREAD_INFLUX__TOKEN": influx.token, "DAILYREAD_INFLUX__SECURITY": "plaintext",
    }  # fmt: skip
    written = users.run("writer", "store", "--once", env=store)
    assert written.wait(60) == 0, written.output()
    assert re.search(r"written [1-9]", written.output())
    assert worker.terminate() == 0, worker.output()


def test_mender_puts_back_what_could_not_be_used(guarded: GuardedBroker, users: Users) -> None:
    fact = CalorificValue(ldz="SE", gas_day=date(2026, 1, 1), mj_per_m3=Decimal("39.5"))
    letter = DeadLetter(topic="facts", partition=0, offset=0, number=0, reason="belongs on the broadcast topic", payload=b"")
    with KafkaProducer(bootstrap_servers=guarded.bootstrap) as producer:
        producer.send("facts", encode_frame([fact], "site"), partition=0).get(timeout=10)
        producer.send("dead-letter", encode_dead_letter(letter)).get(timeout=10)
    redriven = users.run("mender", "redrive", "--yes")
    assert redriven.wait(40) == 0, redriven.output()
    assert "1 facts put back" in redriven.output()
    again = users.run("mender", "redrive", "--dry-run")
    assert again.wait(40) == 0, again.output()
    assert "0 facts can be put back" in again.output()


def test_provider_makes_a_users_topic_which_that_user_reads_and_no_other(guarded: GuardedBroker, users: Users) -> None:
    gas_day = datetime.now(UTC).date() - timedelta(days=3)
    for user in ("GasCo", "Other"):
        record = msgspec.structs.replace(ACTUAL, meter_point=user, gas_day=gas_day, users=(user,))
        with KafkaProducer(bootstrap_servers=guarded.bootstrap) as producer:
            producer.send("ledger", encode_change(record, 0, 1)[1], partition=0).get(timeout=10)
    provide = users.run("provider", "provide", "--once")
    assert provide.wait(60) == 0, provide.output()
    secret = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_plain_username": "GasCo"}
    reader = KafkaConsumer(
        bootstrap_servers=f"127.0.0.1:{guarded.guarded_port}", sasl_plain_password="GasCo", group_id="GasCo", **secret
    )
    try:
        assert reader.end_offsets([TopicPartition("readings-GasCo", 0)]) == {TopicPartition("readings-GasCo", 0): 1}
        with pytest.raises(KafkaError):
            reader.end_offsets([TopicPartition("readings-Other", 0)], timeout_ms=5000)
    finally:
        reader.close()


@pytest.mark.parametrize(("user", "arguments"), [("gateway", ["export"]), ("auditor", ["submit"]), ("nobody", ["submit"])])
def test_others_are_refused(users: Users, user: str, arguments: list[str]) -> None:
    files = [users.facts()] if arguments == ["submit"] else []
    config = users.config("nobody" if user == "nobody" else "auditor")
    config.write_text(config.read_text().replace('user = "auditor"', f'user = "{user}"'))
    done = users.start(*arguments, "--config", config, *files, env={"DAILYREAD_KAFKA__SASL__PASSWORD": user})
    assert done.wait(60) == 1, done.output()
