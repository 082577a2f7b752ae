"""What deploy/backup.md says of Kafka, done: a copy of the brokers' disks, the daily archive, a ledger that is lost."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dailyread import kafka as clients
from dailyread.jsonlines import write_fact
from metering.facts import AnyFact, Tick
from metering.gasday import to_us
from metering.replay import replay
from metering.rules import Rules
from tests.integration.conftest import Start
from tests.integration.services import KafkaBroker
from tests.integration.stream.job import Job
from tests.integration.stream.toy_cluster import wait_for
from tests.metering.scenarios import Scenario


@pytest.fixture
def facts() -> list[AnyFact]:
    """Facts of some weeks at two meter points, the last of them a tick."""
    found = sorted(Scenario(random.Random(11), points=2).facts, key=lambda fact: to_us(fact.received_at))  # type: ignore[arg-type]
    latest = found[-1].received_at
    assert latest is not None
    return [*found, Tick(now=latest, received_at=latest)]


@pytest.fixture
def job(own_kafka: KafkaBroker, tmp_path: Path, unique: str) -> Job:
    job = Job(own_kafka.bootstrap, tmp_path, unique)
    job.make_topics()
    return job


def dailyread(*arguments: str | Path) -> bytes:
    command = [sys.executable, "-m", "dailyread", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_copy_of_a_stopped_brokers_disk_brings_every_fact_back(
    own_kafka: KafkaBroker, job: Job, facts: list[AnyFact], tmp_path: Path
) -> None:
    job.publish(facts)
    archive = dailyread("export", "--config", job.config)
    disk, copy = own_kafka.data_dir / "kafka-logs", tmp_path / "copy"
    own_kafka.stop()
    shutil.copytree(disk, copy)
    own_kafka.start()
    job.publish(facts[:50])  # what came after the copy, and is lost with the disk
    own_kafka.kill()
    shutil.rmtree(disk)
    shutil.copytree(copy, disk)
    own_kafka.start()
    assert dailyread("topics", "--verify", "--config", job.config)
    assert dailyread("export", "--config", job.config) == archive


def test_archive_alone_gives_the_ledger(job: Job, facts: list[AnyFact], tmp_path: Path) -> None:
    job.publish(facts)
    archive = tmp_path / "facts.jsonl"
    dailyread("export", "--config", job.config, "-o", archive)
    given = tmp_path / "given.jsonl"
    given.write_bytes(b"".join(line + b"\n" for line in map(write_fact, facts)))
    assert dailyread("replay", archive) == dailyread("replay", given) != b""


def test_lost_ledger_topic_is_made_anew_by_another_group(job: Job, facts: list[AnyFact], tmp_path: Path, start: Start) -> None:
    job.publish(facts)
    worker = start("stream", "--config", job.config)
    wait_for(job.done, "the worker has done all", 60)
    before = job.ledger()
    assert before == replay(facts, to_us(facts[-1].received_at), Rules())  # type: ignore[arg-type]
    assert worker.terminate() == 0

    with clients.admin(job.kafka) as admin:
        admin.delete_topics([job.topics.ledger])
    wait_for(lambda: _made_again(job), "the topic is there again", 30)
    assert job.ledger() == {}
    job.config.write_text(job.config.read_text().replace(f'group = "{job.group}"', f'group = "{job.group}-2"'))
    shutil.rmtree(tmp_path / "state")
    start("stream", "--config", job.config, log=tmp_path / "second.log")
    wait_for(lambda: job.done() and job.ledger() == before, "the ledger is there again", 60)


def _made_again(job: Job) -> bool:
    try:
        return b"as they must be" in dailyread("topics", "--create", "--replicas", "1", "--config", job.config)
    except subprocess.CalledProcessError:
        return False  # Kafka deletes a topic some time after it said so
