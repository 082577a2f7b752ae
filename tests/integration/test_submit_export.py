"""`dailyread submit`, `topics` and `export` as processes on a real broker: what goes in comes out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from collectors.publisher import give_up
from dailyread import kafka as clients
from dailyread.config import KafkaConfig, TopicNames
from metering.facts import CalorificValue, Readings, Tick
from metering.wire import encode_frame, partition_of
from tests.integration.services import GivenKafka, KafkaBroker

VALUE = {"fact": "calorific_value", "ldz": "NW", "gas_day": "2026-01-31", "mj_per_m3": "39.5"}
REGISTERED = {
    "fact": "registered", "meter_point": "P1", "gas_day": "2026-01-01", "users": ["U"], "ldz": "NW",
    "annual_quantity_kwh": "800000", "equipment": "E1",
}  # fmt: skip
FITTED = {
    "fact": "meter_fitted", "meter_point": "P1", "meter": "m", "at": "2026-01-01T05:00:00Z", "index": 0, "digits": 8,
    "m3_per_tick": "0.1", "conversion_factor": "1.02264", "q_max_m3_per_h": "160",
}  # fmt: skip
READINGS = {
    "fact": "readings", "meter_point": "P1", "meter": "m", "gas_day": "2026-01-31",
    "first_at": "2026-01-31T05:00:00Z", "interval_s": 43200, "index": [5, None, 7],
}  # fmt: skip


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Stack:
    """A configuration of its own topics, and the commands on it."""

    def __init__(self, broker: KafkaBroker | GivenKafka, folder: Path, unique: str, time: str) -> None:
        names = {name: f"{name}-{unique}" for name in TopicNames.__struct_fields__}
        topics = TopicNames(**names)
        self.kafka = KafkaConfig(bootstrap_servers=(broker.bootstrap,), partitions=3, topics=topics, time=time)  # type: ignore[arg-type]
        self.folder = folder
        lines = "\n".join(f'{role} = "{name}"' for role, name in names.items())
        (folder / "stream.toml").write_text(
            f'[kafka]\nbootstrap_servers = ["{broker.bootstrap}"]\npartitions = 3\ntime = "{time}"\n[kafka.topics]\n{lines}\n'
        )

    def run(self, *arguments: str, stdin: str = "", **environ: str) -> Done:
        command = [sys.executable, "-m", "dailyread", *arguments, "--config", str(self.folder / "stream.toml")]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=os.environ | environ, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    def submit(self, *facts: dict[str, Any] | str) -> Done:
        lines = [fact if isinstance(fact, str) else json.dumps(fact) for fact in facts]
        return self.run("submit", "-", stdin="\n".join(lines))

    def export(self) -> list[dict[str, Any]]:
        done = self.run("export")
        assert done.code == 0, done.err
        return [json.loads(line) for line in done.out.splitlines()]

    def append(self, topic: str, partition: int, value: bytes) -> None:
        client = clients.producer(self.kafka)
        client.send(topic, value=value, partition=partition).get(timeout=10)
        give_up(client)


@pytest.fixture
def broker_time(kafka: KafkaBroker | GivenKafka, tmp_path: Path, unique: str) -> Stack:
    stack = Stack(kafka, tmp_path, unique, "broker")
    assert stack.run("topics", "--create").code == 0
    return stack


@pytest.fixture
def simulated(kafka: KafkaBroker | GivenKafka, tmp_path: Path, unique: str) -> Stack:
    stack = Stack(kafka, tmp_path, unique, "simulated")
    assert stack.run("topics", "--create").code == 0
    return stack


def at(fact: dict[str, Any], instant: str) -> dict[str, Any]:
    return fact | {"received_at": instant}


def test_what_was_submitted_is_exported_with_the_brokers_instant(broker_time: Stack) -> None:
    before = datetime.now(UTC)
    done = broker_time.submit(VALUE, REGISTERED, FITTED, READINGS)
    assert (done.code, done.out) == (0, "4 facts acknowledged by Kafka\n")
    exported = broker_time.export()
    assert sorted(fact["fact"] for fact in exported) == ["calorific_value", "meter_fitted", "readings", "registered"]
    for fact in exported:
        received = datetime.fromisoformat(fact.pop("received_at"))
        assert abs((received - before).total_seconds()) < 60
        assert {key: fact[key] for key in fact} in [VALUE, REGISTERED, FITTED, READINGS]


def test_simulated_facts_come_out_as_they_went_in_and_in_order(simulated: Stack) -> None:
    facts = [
        at(REGISTERED, "2040-01-01T00:00:00Z"),
        at(READINGS, "2040-02-01T06:00:00.250000Z"),
        at(VALUE, "2040-02-01T06:00:00.125000Z"),
        at(FITTED, "2039-12-31T00:00:00Z"),
    ]
    assert simulated.submit(*facts).code == 0
    assert simulated.export() == sorted(facts, key=lambda fact: fact["received_at"])
    assert simulated.submit(*facts).code == 0  # again: copies at the same instant are one line
    assert simulated.export() == sorted(facts, key=lambda fact: fact["received_at"])


def test_a_wrong_line_is_named_and_the_others_go(broker_time: Stack) -> None:
    done = broker_time.submit(
        VALUE, '{"fact": "readigs"}', REGISTERED | {"users": []}, at(VALUE, "2026-01-01T00:00:00Z"), "{", REGISTERED
    )
    assert done.code == 2
    assert done.out == "2 facts acknowledged by Kafka; 4 lines were wrong\n"
    wrong = [line for line in done.err.splitlines() if line.startswith("line")]
    assert [line.partition(":")[0] for line in wrong] == ["line 2", "line 3", "line 4", "line 5"]
    assert "readigs" in wrong[0]
    assert "users" in wrong[1]
    assert "received_at" in wrong[2]
    assert "leave it out" in wrong[2]
    assert len(broker_time.export()) == 2


def test_simulated_facts_must_say_when_they_were_received(simulated: Stack) -> None:
    done = simulated.submit(VALUE, at(VALUE, "2026-01-01T00:00:00.000001Z"))
    assert done.code == 2
    assert "line 1: received_at: missing" in done.err
    assert "line 2: received_at" in done.err
    assert "whole milliseconds" in done.err
    assert simulated.export() == []


def test_relayed_copies_are_exported_once_and_what_is_no_fact_is_reported(broker_time: Stack) -> None:
    topics = broker_time.kafka.topics
    assert broker_time.submit(VALUE).code == 0
    (exported,) = broker_time.export()
    received_at = datetime.fromisoformat(exported["received_at"])
    value = CalorificValue(ldz="NW", gas_day=date(2026, 1, 31), mj_per_m3=Decimal("39.5"))
    relayed = encode_frame([value], "broadcast", received_at)
    for partition in range(3):
        broker_time.append(topics.facts, partition, relayed)
    assert broker_time.export() == [exported]

    point = Readings(meter_point="P", meter="m", gas_day=received_at.date(), first_at=received_at, interval_s=60, index=(1, 2))
    ahead = Tick(now=datetime(2090, 1, 1, tzinfo=UTC))
    wrong = (partition_of("P", 3) + 1) % 3
    broker_time.append(topics.facts, 0, b"no frame")
    broker_time.append(topics.facts, 1, encode_frame([value], "gw", received_at))  # backdated by who may not
    broker_time.append(topics.facts, wrong, encode_frame([point], "gw"))
    broker_time.append(topics.facts, 0, encode_frame([ahead], "gw"))
    broker_time.append(topics.broadcast, 0, encode_frame([point, ahead], "gw"))
    done = broker_time.run("export")
    assert done.code == 0
    assert "2 facts from 9 messages; 5 left out" in done.err
    assert f"{topics.facts}[0] offset 1: left out: not a frame" in done.err
    assert f"{topics.facts}[1] offset 1: left out: gateway gw says when it was received" in done.err
    assert f"belongs into partition {partition_of('P', 3)}" in done.err
    tick = json.loads(done.out.splitlines()[1])
    assert tick["now"] == tick["received_at"]


def test_a_frame_of_a_later_version_stops_the_export(broker_time: Stack, tmp_path: Path) -> None:
    frame = bytearray(encode_frame([], "gw"))
    assert frame[1] == 1  # the envelope's version, after the head of the array
    frame[1] = 2
    broker_time.append(broker_time.kafka.topics.facts, 1, bytes(frame))
    (tmp_path / "out.jsonl").write_text("old\n")
    done = broker_time.run("export", "-o", str(tmp_path / "out.jsonl"))
    assert done.code == 1
    assert "[1] offset 0: frame version 2" in done.err
    assert (tmp_path / "out.jsonl").read_text() == "old\n"


def test_an_export_to_a_file_is_whole(broker_time: Stack, tmp_path: Path) -> None:
    broker_time.submit(VALUE, REGISTERED)
    assert broker_time.run("export", "-o", str(tmp_path / "out.jsonl")).code == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    assert broker_time.run("export", "-o", str(tmp_path / "nowhere" / "out.jsonl")).code == 1


def test_topics_are_verified_and_corrected_but_for_time_and_partitions(broker_time: Stack) -> None:
    topics = broker_time.kafka.topics
    assert broker_time.run("topics").code == 0
    with clients.admin(broker_time.kafka) as admin:
        changed = ConfigResource(ConfigResourceType.TOPIC, topics.facts, {"retention.ms": "1000"})
        admin.alter_configs([changed])
    done = broker_time.run("topics", "--verify")
    assert (done.code, done.err) == (1, f"topic {topics.facts}: retention.ms is 1000; allowed: -1\n")
    done = broker_time.run("topics", "--create")
    assert (done.code, done.err) == (0, "")
    assert f"topic {topics.facts}: retention.ms = -1" in done.out

    done = broker_time.run("topics", "--create", DAILYREAD_KAFKA__PARTITIONS="4", DAILYREAD_KAFKA__TIME="simulated")
    assert done.code == 1
    assert f"topic {topics.facts}: 3 partitions; allowed: 4" in done.err
    assert f"topic {topics.facts}: message.timestamp.type is LogAppendTime; allowed: CreateTime" in done.err
    done = broker_time.run("submit", "-", DAILYREAD_KAFKA__TIME="simulated")
    assert done.code == 1
    assert "message.timestamp.type is LogAppendTime" in done.err


def test_no_broker_is_a_clear_error(broker_time: Stack) -> None:
    for command in (("topics",), ("submit", "-"), ("export",)):
        done = broker_time.run(*command, DAILYREAD_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")
        assert done.code == 1
        assert "kafka at 127.0.0.1:1" in done.err
        assert "Traceback" not in done.err
