"""Kafka clients from the configuration, and the topics as they must be.

The names and settings of the topics are data (`topics.toml`). Who appends or reads facts checks first that the broker keeps
time as the configuration says and that the number of partitions is the configuration's: a wrong one would be silently wrong.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any, Literal

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from collectors.publisher import PRODUCER_OPTIONS
from dailyread.config import KafkaConfig
from dailyread.kafka_trouble import NotReached, listen, told_why
from dailyread.tls import FreshContext

TopicRole = Literal["facts", "broadcast", "ledger", "dead_letter"]
ROLES: tuple[TopicRole, ...] = ("facts", "broadcast", "ledger", "dead_letter")
TIMESTAMP_TYPE = "message.timestamp.type"


class TopicsError(Exception):
    """The topics are not as they must be; `differences` says how, a line each."""

    def __init__(self, differences: Sequence[str]) -> None:
        super().__init__("; ".join(differences))
        self.differences = tuple(differences)


class TopicSettings(msgspec.Struct, frozen=True):
    """A topic as it must be."""

    name: str
    partitions: int
    settings: dict[str, str]


class _TopicEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One topic in `topics.toml`; `partitions` null: the configuration's number."""

    settings: dict[str, str]
    partitions: int | None = None
    broker: dict[str, str] = {}
    simulated: dict[str, str] = {}


def wanted_topics(config: KafkaConfig, roles: Iterable[TopicRole] = ROLES) -> list[TopicSettings]:
    """The topics of these roles as the configuration wants them."""
    entries = _entries()
    return [_wanted(config, getattr(config.topics, role), entries[role]) for role in roles]


def user_topic(config: KafkaConfig, name: str) -> TopicSettings:
    """A User's topic, of that name, as it must be."""
    return _wanted(config, name, _entries()["user"])


def _entries() -> dict[str, _TopicEntry]:
    text = resources.files("dailyread").joinpath("topics.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, _TopicEntry])


def _wanted(config: KafkaConfig, name: str, entry: _TopicEntry) -> TopicSettings:
    settings = entry.settings | (entry.broker if config.time == "broker" else entry.simulated)
    return TopicSettings(name, entry.partitions or config.partitions, settings)


def producer(config: KafkaConfig, roles: Iterable[TopicRole] = ("facts", "broadcast")) -> KafkaProducer:
    """A producer that loses nothing, after a check of these topics; KafkaError where no broker answers, else TopicsError."""
    check_topics(config, roles)
    with told_why(config):
        return KafkaProducer(**client_options(config), **PRODUCER_OPTIONS)


def consumer(config: KafkaConfig, **options: Any) -> KafkaConsumer:
    """A consumer that never makes a topic and stores no offsets unless asked; KafkaError where no broker answers."""
    safe = {"allow_auto_create_topics": False, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
    with told_why(config):
        return KafkaConsumer(**client_options(config), **(safe | options))


@contextmanager
def admin(config: KafkaConfig) -> Iterator[KafkaAdminClient]:
    """An administration client, closed at the end; KafkaError where no broker answers."""
    with told_why(config):
        client = KafkaAdminClient(**client_options(config), request_timeout_ms=10_000)
    try:
        yield client
    finally:
        client.close()


def client_options(config: KafkaConfig) -> dict[str, Any]:
    """What all clients of kafka-python take: addresses, TLS, SASL."""
    listen()
    protocol = ("SASL_" if config.sasl else "") + ("SSL" if config.tls else "PLAINTEXT")
    options: dict[str, Any] = {
        "bootstrap_servers": list(config.bootstrap_servers),
        "security_protocol": protocol,
        "bootstrap_timeout_ms": 5_000,
        "reconnect_backoff_max_ms": 1_000,
    }
    if config.tls:
        options["ssl_context"] = FreshContext.of(config.ca_file, config.certificate_file, config.key_file, config.key_password)
    if config.sasl is not None and config.sasl.password is not None:
        options["sasl_mechanism"] = config.sasl.mechanism
        options["sasl_plain_username"] = config.sasl.user
        options["sasl_plain_password"] = config.sasl.password.reveal()
    return options


def trouble(config: KafkaConfig, error: Exception) -> str:
    """What to tell a person when no broker answers as it should."""
    said = str(error) if isinstance(error, NotReached) else f"{', '.join(config.bootstrap_servers)}: {error}"
    return f"kafka at {said} (-v says more)"


def check_topics(config: KafkaConfig, roles: Iterable[TopicRole]) -> None:
    """TopicsError where a topic is missing, has another number of partitions, or keeps time in another way."""
    wanted = [
        TopicSettings(topic.name, topic.partitions, _only(topic.settings, (TIMESTAMP_TYPE,)))
        for topic in wanted_topics(config, roles)
    ]
    with admin(config) as client:
        if found := differences(client, wanted):
            raise TopicsError(found)


def differences(client: KafkaAdminClient, wanted: Sequence[TopicSettings]) -> list[str]:
    """How the topics on the broker differ from what is wanted, in words; empty where they do not."""
    partitions = existing(client)
    present = [topic for topic in wanted if topic.name in partitions]
    actual = _actual_settings(client, [topic.name for topic in present])
    found = [f"topic {topic.name}: missing" for topic in wanted if topic.name not in partitions]
    for topic in present:
        if partitions[topic.name] != topic.partitions:
            found.append(f"topic {topic.name}: {partitions[topic.name]} partitions; allowed: {topic.partitions}")
        for key, value in topic.settings.items():
            if (is_value := actual[topic.name].get(key)) != value:
                found.append(f"topic {topic.name}: {key} is {is_value}; allowed: {value}")
    return found


def create_topics(client: KafkaAdminClient, wanted: Sequence[TopicSettings], replicas: int = -1) -> list[str]:
    """Make the topics that are missing, with `replicas` copies each (-1: the broker's default); returns their names."""
    present = existing(client)
    missing = [topic for topic in wanted if topic.name not in present]
    if not missing:
        return []
    in_sync = {"min.insync.replicas": str(max(1, replicas - 1))} if replicas > 0 else {}
    request = {
        topic.name: {
            "num_partitions": topic.partitions,
            "replication_factor": replicas,
            "configs": topic.settings | in_sync,
        }
        for topic in missing
    }
    client.create_topics(request, wait_for_metadata=True)
    return [topic.name for topic in missing]


def apply_settings(client: KafkaAdminClient, wanted: Sequence[TopicSettings]) -> list[str]:
    """Change the settings that differ, but how time is kept; returns what was changed, in words."""
    names = [topic.name for topic in wanted if topic.name in existing(client)]
    actual = _actual_settings(client, names)
    changed = []
    for topic in wanted:
        if topic.name not in actual:
            continue
        different = {
            key: value
            for key, value in topic.settings.items()
            if actual[topic.name].get(key) != value and key != TIMESTAMP_TYPE
        }
        if different:
            client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, different)])
            changed += [f"topic {topic.name}: {key} = {value}" for key, value in different.items()]
    return changed


def existing(client: KafkaAdminClient) -> dict[str, int]:
    """The broker's topics, and how many partitions each has."""
    return {topic["name"]: len(topic["partitions"]) for topic in client.describe_topics() if not topic["error_code"]}


def _actual_settings(client: KafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources_ = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answer = client.describe_configs(resources_, config_filter="all")["topic"]
    return {name: {key: str(entry["value"]) for key, entry in answer[name].items()} for name in names}


def _only(settings: dict[str, str], keys: Sequence[str]) -> dict[str, str]:
    return {key: settings[key] for key in keys if key in settings}
