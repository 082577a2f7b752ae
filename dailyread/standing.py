"""How everything is now: what runs, how far behind it is, what gateways last said of themselves, which Days are missing.

For `dailyread status`; gathered from outside, so that it tells the truth about what does not answer.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import CoordinatorNotAvailableError, KafkaError

from collectors.outbox import Outbox, OutboxError
from collectors.outbox_file import OutboxInUse
from dailyread.config import GatewayConfig, InfluxConfig, KafkaConfig, StreamConfig
from dailyread.edge_told import Told, told_lately
from dailyread.kafka import admin, consumer, differences, trouble, wanted_topics
from metering.facts import GatewayStatus
from metering.gasday import to_datetime, to_us
from metering.ledger import Day
from metering.rules import Rules
from metering.rules_digest import digest
from metering.wire import decode_frame

BROADCAST_LOOKED_AT = 5_000  # messages, from the end: more than three days of ticks
DISK_FREE_MIN = 4 << 20  # bytes
_ANSWER_S = 2.0
_COORDINATOR_S = 10.0


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A consumer group: who is in it (None: it works without members), and how many messages it has not done."""

    name: str
    members: list[str] | None
    lag: dict[int, int]


class GatewayStanding(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway last said of itself; or, with `said_at` null, what its outbox holds now."""

    gateway: str
    said_at: datetime | None
    backlog: int | None
    oldest_unsent_at: datetime | None
    note: str | None = None


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """The Gas Day that ended last, and where its readings are not Valid yet. `points` null: not known, for `reason`."""

    gas_day: date
    points: list[str] | None
    of: int = 0
    reason: str | None = None


class Standing(msgspec.Struct, kw_only=True):
    """All of it. `troubles` are what somebody should see to, a sentence each."""

    at: datetime
    groups: list[Group] = []
    worker: dict[str, Any] | None = None
    gateways: list[GatewayStanding] = []
    edge: list[Told] = []
    missing: Missing | None = None
    troubles: list[str] = []


def stream_standing(config: StreamConfig, rules: Rules) -> Standing:
    """The stream job and what is beside it."""
    standing = Standing(at=datetime.now(UTC))
    with _troubles_of_kafka(config.kafka, standing):
        with admin(config.kafka) as client:
            standing.troubles += differences(client, wanted_topics(config.kafka))
            standing.groups = _groups(client, config)
        client_ = consumer(config.kafka)
        try:
            standing.gateways = _gateways(client_, config.kafka.topics.broadcast)
            standing.at = _now(client_, config.kafka) or standing.at
            standing.edge = told_lately(client_, config.kafka.topics.facts, config.kafka.partitions, standing.at)
        finally:
            client_.close()
    _judge_groups(standing)
    standing.worker = _health(config, standing)
    if standing.worker is not None and standing.worker["rules"] != (configured := digest(rules).hex()):
        standing.troubles.append(f"the worker at {config.web} works by rules {standing.worker['rules']}, not {configured}")
    standing.missing = _missing(config.influx, rules, standing.at)
    return standing


def gateway_standing(config: GatewayConfig) -> Standing:
    """A gateway, seen from its own machine: its outbox, and whether Kafka can be reached."""
    standing = Standing(at=datetime.now(UTC))
    with _troubles_of_kafka(config.kafka, standing), admin(config.kafka) as client:
        standing.troubles += differences(client, wanted_topics(config.kafka, ("facts", "broadcast")))
    path = config.outbox_file
    if not path.exists():
        standing.troubles.append(f"{path}: there is none; the collector has never run here")
        return standing
    standing.troubles += _full_disk(config.state_dir)
    try:
        outbox = Outbox(path, config.gateway)
    except OutboxInUse:
        standing.gateways = _last_said(config, "the collector runs", standing)
        return standing
    except OutboxError as error:
        standing.troubles.append(str(error))
        return standing
    backlog = outbox.backlog()
    outbox.close()
    standing.troubles.append("the collector does not run")
    here = GatewayStanding(
        gateway=config.gateway, said_at=None, backlog=backlog.facts, oldest_unsent_at=backlog.oldest_at
    )  # fmt: skip
    standing.gateways = [here]
    return standing


def _full_disk(folder: Path) -> list[str]:
    """What is wrong with the room that is left for the outbox, which tells of itself only what it had room to write."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free >= DISK_FREE_MIN:
        return []
    return [f"{folder}: {free // 1024} KiB are free on this disk; where it is full, collecting stops until there is room"]


def _last_said(config: GatewayConfig, note: str, standing: Standing) -> list[GatewayStanding]:
    with _troubles_of_kafka(config.kafka, standing):
        client = consumer(config.kafka)
        try:
            said = [each for each in _gateways(client, config.kafka.topics.broadcast) if each.gateway == config.gateway]
        finally:
            client.close()
        return [msgspec.structs.replace(each, note=f"{note}; {each.note}" if each.note else note) for each in said]
    note = f"{note}; how much waits it says to Kafka and at `collect --metrics` only"
    return [GatewayStanding(gateway=config.gateway, said_at=None, backlog=None, oldest_unsent_at=None, note=note)]


@contextmanager
def _troubles_of_kafka(config: KafkaConfig, standing: Standing) -> Iterator[None]:
    try:
        yield
    except (KafkaError, OSError) as error:
        if (said := trouble(config, error)) not in standing.troubles:
            standing.troubles.append(said)


def _groups(client: KafkaAdminClient, config: StreamConfig) -> list[Group]:
    topics = config.kafka.topics
    groups = {config.group: topics.facts, f"{config.group}-relay": topics.broadcast, f"{config.group}-store": topics.ledger}
    found, committed = _ask_coordinator(client, list(groups))
    return [
        Group(
            name=name,
            members=None if name.endswith("-store") else [_member(each) for each in found[name]["members"]],
            lag=_lag(client, topic, committed[name]),
        )
        for name, topic in groups.items()
    ]


def _ask_coordinator(client: KafkaAdminClient, groups: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    deadline = time.monotonic() + _COORDINATOR_S
    while True:
        try:
            return client.describe_groups(groups), client.list_group_offsets(dict.fromkeys(groups))
        except CoordinatorNotAvailableError:  # the broker's first group: it makes room for it now
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _member(member: dict[str, Any]) -> str:
    return f"{member['group_instance_id'] or member['client_id']} at {member['client_host'].lstrip('/')}"


def _lag(client: KafkaAdminClient, topic: str, committed: dict[TopicPartition, Any]) -> dict[int, int]:
    described = client.describe_topics([topic])
    tps = [TopicPartition(topic, number) for number in range(len(described[0]["partitions"]))] if described else []
    ends = _ends(client, tps)
    return {tp.partition: ends[tp] - (committed[tp].offset if tp in committed else 0) for tp in tps}


def _ends(client: KafkaAdminClient, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    found = client.list_partition_offsets(dict.fromkeys(tps, -1))  # -1: the latest
    return {tp: int(entry.offset) for tp, entry in found.items()}


def _judge_groups(standing: Standing) -> None:
    for group in standing.groups:
        if group.members == []:
            standing.troubles.append(f"group {group.name}: nobody is in it; `dailyread stream` does not run")


def _health(config: StreamConfig, standing: Standing) -> dict[str, Any] | None:
    if config.web is None:
        return None
    url = f"http://{config.web}/health"
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_S) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:  # 503: it answers, and is not well
        worker = dict(json.load(error))
        standing.troubles.append(f"the worker at {config.web} is {worker['state']}")
        return worker
    except (OSError, ValueError) as error:
        standing.troubles.append(f"no worker answers at {url}: {error}")
        return None


def _gateways(client: KafkaConsumer, topic: str) -> list[GatewayStanding]:
    tp = TopicPartition(topic, 0)
    client.assign([tp])
    end = client.end_offsets([tp])[tp]
    client.seek(tp, max(client.beginning_offsets([tp])[tp], end - BROADCAST_LOOKED_AT))
    said: dict[str, GatewayStanding] = {}
    while client.position(tp) < end:
        for message in client.poll(timeout_ms=500).get(tp, []):
            for each in _said(message):
                said[each.gateway] = each
    return [said[name] for name in sorted(said)]


def _said(message: Any) -> Iterator[GatewayStanding]:
    try:
        facts = decode_frame(message.value or b"").facts
    except ValueError:
        return
    for fact in facts:
        if isinstance(fact, GatewayStatus):
            yield GatewayStanding(
                gateway=fact.gateway, said_at=to_datetime(message.timestamp * 1000), backlog=fact.backlog,
                oldest_unsent_at=fact.oldest_unsent_at,
                note=_note(fact),
            )  # fmt: skip


def _note(status: GatewayStatus) -> str | None:
    """What of a gateway somebody should know."""
    notes = {
        "its clock is not synchronised": not status.clock_synchronised,
        f"its outbox gave up {status.given_up} readings": status.given_up,
        f"corrupt files of its outbox set aside: {status.files_set_aside}": status.files_set_aside,
    }
    return "; ".join(note for note, holds in notes.items() if holds) or None


def _now(client: KafkaConsumer, config: KafkaConfig) -> datetime | None:
    """In simulated time the latest instant at which something was received; in the broker's time None."""
    if config.time == "broker":
        return None
    tps = [TopicPartition(config.topics.facts, number) for number in range(config.partitions)]
    ends = {tp: end for tp, end in client.end_offsets(tps).items() if end > 0}
    client.assign(list(ends))
    for tp, end in ends.items():
        client.seek(tp, end - 1)
    latest_ms = -1
    deadline = time.monotonic() + _ANSWER_S
    while any(client.position(tp) < end for tp, end in ends.items()) and time.monotonic() < deadline:
        for messages in client.poll(timeout_ms=200).values():
            latest_ms = max(latest_ms, *(message.timestamp for message in messages))
    return None if latest_ms < 0 else to_datetime(latest_ms * 1000)


def _missing(influx: InfluxConfig | None, rules: Rules, now: datetime) -> Missing:
    days = rules.calendar()
    ended = date.fromordinal(days.day_of(to_us(now)) - 1)
    if influx is None:
        return Missing(gas_day=ended, points=None, reason="there is no `[influx]` in the configuration")
    from storage.influx_client import Connection, InfluxClient, InfluxError  # a gateway has no client of InfluxDB
    from storage.ledger_influx import InfluxLedgerStore
    from storage.offset_index import OffsetIndex

    token = influx.token.reveal() if influx.token is not None else ""
    client = InfluxClient(Connection(influx.url, influx.org, influx.bucket, token, influx.ca_file))
    with TemporaryDirectory() as folder:
        ledger = InfluxLedgerStore(client, OffsetIndex(Path(folder) / "index.sqlite"), lambda *_: None, days)
        try:
            found = [record for record in ledger.records(None, ended, ended) if isinstance(record, Day)]
        except InfluxError as error:
            return Missing(gas_day=ended, points=None, reason=f"InfluxDB at {influx.url}: {error}")
        finally:
            ledger.close()
    if not found:
        return Missing(gas_day=ended, points=None, reason=f"InfluxDB at {influx.url} has no record of that Day yet")
    return Missing(gas_day=ended, points=[day.meter_point for day in found if not day.valid], of=len(found))
